#!/usr/bin/env python3
"""Train the model of the six tasks, or the dense one it is compared with.

    python train.py --minutes 100 --out my-model            # span denoising, then the six tasks
    python train.py --resume --minutes 100 --out my-model   # go on after a stop
    python train.py --dense --follow my-model --out my-dense   # dense, with equal active MACs: same
                                                            # examples, same schedule, beside it or later
    python train.py --mix mix.json ...                      # other shares: {"qa.capital": 7, ...}

The clock decides: the first --stage1 part of the time is span denoising, and the learning rate
reaches zero at the end. OUT gets checkpoint.pt, curve.tsv and, at the end, a model folder in
OUT/model; --snapshot FOLDER is refreshed after every dev score.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import data
from palm_moe import export, trainer
from palm_moe.model import config

SHAPE = dict(
    d_model=128, num_heads=4, num_kv_heads=1, head_dim=32, num_encoder_layers=4, num_decoder_layers=3,
    d_ff=256, max_positions=96,
)
SPARSE = dict(
    num_experts=4, num_experts_per_tok=2, expert_d_ff=128, encoder_sparse_layers=[1, 3], decoder_sparse_layers=[1],
    mixture=dict(num_experts=4, num_experts_per_tok=2, kind="feed_forward", d_ff=224),
)
# The same active multiply-adds: two experts of 128 are as wide as d_ff, two of 224 as one block of 448.
DENSE = dict(mixture=dict(num_experts=1, num_experts_per_tok=1, kind="feed_forward", d_ff=448))


def batches(rows, tokens, rng):
    """Batches of (source ids, target ids) with little padding, `tokens` of both together."""
    rows = [(data.encode(p), data.encode(a)) for _, p, a in rows]
    rng.shuffle(rows)
    rows.sort(key=lambda r: (len(r[0]) // 3, len(r[1])))
    out, batch, wide, high = [], [], 0, 0
    for src, tgt in rows:
        w, h = max(wide, len(src)), max(high, len(tgt))
        if batch and (len(batch) + 1) * (w + h) > tokens:
            out.append(batch)
            batch, w, h = [], len(src), len(tgt)
        batch.append((src, tgt))
        wide, high = w, h
    out.append(batch)
    rng.shuffle(out)
    return out


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([r + [fill] * (width - len(r)) for r in rows])


def collate(batch):
    src = padded([s for s, _ in batch], data.PAD)
    labels = padded([t for _, t in batch], -100)
    dec_in = padded([[data.PAD] + t[:-1] for _, t in batch], data.PAD)
    mask, keep = src != data.PAD, labels != -100
    return src, dec_in, labels, None if mask.all() else mask, None if keep.all() else keep


@torch.no_grad()
def answer(model, prompts, size=48):
    """Greedy answers, in the order of the prompts."""
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out = [None] * len(prompts)
    for i in range(0, len(order), size):
        at = order[i:i + size]
        src = padded([data.encode(prompts[j]) for j in at], data.PAD)
        for j, ids in zip(at, model.greedy(src, data.MAX_CHARS + 1, src != data.PAD)):
            out[j] = data.decode(ids)
    return out


def write(out, cfg, weights, dtype=torch.bfloat16):
    """A model folder. Its tokenizer joins characters without a space between them."""
    export.folder(out, cfg, weights, data.vocabulary(), dtype, data.MAX_CHARS, lower=False)
    path = Path(out) / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["decoder"] = {"type": "Fuse"}
    export.replace(path, lambda p: p.write_text(
        json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainer.options(p)
    p.add_argument("--dense", action="store_true", help="the dense model with equal active MACs")
    p.add_argument("--stage1", type=float, default=0.13, help="share of the time for span denoising (default: 0.13)")
    p.add_argument("--chunk", type=int, default=12000, help="examples made at a time (default: 12000)")
    p.add_argument("--tokens", type=int, default=4000, help="source and target tokens of a step (default: 4000)")
    p.add_argument("--mix", help="JSON file of shares, read again before every chunk")
    p.add_argument("--snapshot", help="folder refreshed with the averaged weights")
    p.add_argument("--show", type=int, default=1, help="dev answers printed per set (default: 1)")
    args = p.parse_args()

    vocab = data.vocabulary()
    cfg = config(vocab_size=len(vocab), **SHAPE, **(DENSE if args.dense else SPARSE))
    run = trainer.Trainer(cfg, args, dict(vocab=vocab, max_new_tokens=data.MAX_CHARS, lower=False))
    dev = {name: data.eval_set(name, "dev", 40) for name in data.EVAL}
    counts = Path(args.out) / "examples.json"

    def epoch(seed):
        mix = dict(data.MIX)
        if args.mix and os.path.exists(args.mix):
            mix.update(json.loads(Path(args.mix).read_text()))
        masked = run.done < args.stage1
        make = data.denoising_chunk if masked else data.chunk
        # What was trained on: examples by stage, with the mix in use.
        log = json.loads(counts.read_text()) if counts.exists() else []
        last = log[-1] if log else None
        if not last or last["masked"] != masked or last["mix"] != mix:
            log.append(dict(masked=masked, mix=mix, first_epoch=run.state["epoch"], first_step=run.state["step"],
                            examples=0, at=time.strftime("%H:%M:%S")))
        log[-1]["examples"] += args.chunk
        counts.write_text(json.dumps(log))
        return batches(make(seed, args.chunk, mix), args.tokens, random.Random(seed))

    def evaluate(model):
        scores, right, total = {}, 0, 0
        for name, rows in dev.items():
            said = answer(model, [p for _, p, _ in rows])
            good = [s in a for s, (_, _, a) in zip(said, rows)]
            scores[name] = round(100 * sum(good) / len(good), 1)
            right, total = right + sum(good), total + len(good)
            wrong = [i for i, g in enumerate(good) if not g][:args.show]
            for i in wrong:
                print(f"    {name}: {rows[i][1]} -> {said[i]} (not {rows[i][2][0]})")
        if args.snapshot:
            new, old = args.snapshot + ".new", args.snapshot + ".old"
            write(new, cfg, model.state_dict())
            shutil.rmtree(old, ignore_errors=True)
            if os.path.exists(args.snapshot):
                os.rename(args.snapshot, old)
            os.rename(new, args.snapshot)
            shutil.rmtree(old, ignore_errors=True)
        return {"all": round(100 * right / total, 1), **scores}

    run.fit(epoch, collate, evaluate)
    write(Path(args.out) / "model", cfg, run.ema.state_dict())


if __name__ == "__main__":
    main()
