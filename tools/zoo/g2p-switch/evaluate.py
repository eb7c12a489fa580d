#!/usr/bin/env python3
"""Word and phoneme error rates of a model folder on its test.tsv, by greedy decoding.

    python evaluate.py FOLDER [--words test.tsv] [--limit N] [--failures N] [--json FILE]

WER: share of words whose output is none of the listed pronunciations. PER: sum of the
smallest edit distance per word, over the sum of the lengths of those same variants.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import torch

import data
from model import Switch


def strip_stress(pron):
    return tuple(re.sub(r"\d$", "", p) for p in pron)


def distance(a, b):
    """Levenshtein distance of two sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


def decode_words(model, words, vocab, size=256, progress=None):
    """{word: phonemes}, decoded greedily in batches of equal length."""
    names = {i: t for t, i in vocab.items()}
    groups = {}
    for w in words:
        groups.setdefault(len(w), []).append(w)
    out = {}
    for _, group in sorted(groups.items()):
        for at in range(0, len(group), size):
            part = group[at:at + size]
            ids = model.greedy(torch.tensor([data.encode_word(w, vocab) for w in part]))
            out.update((w, tuple(names[i] for i in row)) for w, row in zip(part, ids))
            if progress:
                progress(len(out))
    return out


def score(outputs, words):
    """Error rates in per cent, with stress and without."""
    result = {"words": len(words)}
    for tag, view in (("", tuple), ("_nostress", strip_stress)):
        wrong = edits = length = 0
        for word, prons in words.items():
            hyp = view(outputs[word])
            best = min((distance(hyp, view(p)), len(p)) for p in prons)
            wrong += best[0] > 0
            edits += best[0]
            length += best[1]
        result["wer" + tag] = 100 * wrong / len(words)
        result["per" + tag] = 100 * edits / length
    return result


def load(folder):
    """(model, vocabulary) of a model folder."""
    from safetensors.torch import load_file
    folder = Path(folder)
    try:
        cfg = json.loads((folder / "config.json").read_text())
        vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        weights = load_file(folder / "model.safetensors")
    except OSError as e:
        raise data.DataError(f"{folder} is not a model folder: {e}")
    model = Switch(cfg)
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    return model.eval(), vocab


def routing(model, words, outputs, vocab):
    """Share of tokens per expert, layer by layer, over the words and their outputs."""
    counts = {name: torch.zeros(m.n) for name, m in model.sparse_layers()}
    pairs = {w: [outputs[w]] for w in words}
    with torch.no_grad():
        for batch in data.Batches(pairs, vocab, 4096).epoch(0):
            src, dec_in, labels = data.collate(batch)
            model(src, dec_in, labels != data.PAD)
            for name, m in model.sparse_layers():
                counts[name] += m.counts
    return {k: (100 * c / c.sum()).tolist() for k, c in counts.items()}


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", default=str(Path(__file__).parent))
    p.add_argument("--words", help="TSV of words and pronunciations (default: FOLDER/test.tsv)")
    p.add_argument("--limit", type=int, default=0, help="score only the first N words by hash")
    p.add_argument("--failures", type=int, default=20, help="how many failures to print")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    p.add_argument("--json", help="also write the figures to this file")
    args = p.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model, vocab = load(args.folder)
    words = data.read_tsv(args.words or Path(args.folder) / "test.tsv")
    by_hash = sorted(words, key=data.sha)
    if args.limit:
        words = {w: words[w] for w in by_hash[:args.limit]}

    def progress(n):
        if sys.stderr.isatty():
            print(f"\r{n}/{len(words)} words", end="\n" if n == len(words) else "", file=sys.stderr)

    outputs = decode_words(model, list(words), vocab, progress=progress)
    result = score(outputs, words)
    result["routing"] = routing(model, words, outputs, vocab)
    print(f"{result['words']} words")
    print(f"with stress     WER {result['wer']:.2f}  PER {result['per']:.2f}")
    print(f"without stress  WER {result['wer_nostress']:.2f}  PER {result['per_nostress']:.2f}")
    for name, share in result["routing"].items():
        print(f"{name}: " + " ".join(f"{s:.1f}" for s in share) + " % of tokens")
    shown = 0
    for w in by_hash:
        if shown >= args.failures:
            break
        if w in words and strip_stress(outputs[w]) not in map(strip_stress, words[w]):
            print(f"  {w}: {' '.join(outputs[w])}   listed: "
                  + " | ".join(" ".join(p) for p in words[w]))
            shown += 1
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except data.DataError as e:
        sys.exit(f"evaluate.py: {e}")
