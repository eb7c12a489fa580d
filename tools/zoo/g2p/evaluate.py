#!/usr/bin/env python3
"""Word and phoneme error rates of a model folder on its test.tsv, by greedy decoding.

    python evaluate.py [FOLDER] [--words test.tsv] [--limit N] [--failures N] [--experts N]

WER: share of words whose output is none of the listed pronunciations. PER: sum of the
smallest edit distance per word, over the sum of the lengths of those same variants.
--experts: also force one expert of a layer, and knock one out, and score N words again.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import torch

import data
from palm_moe import export


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


def decode_words(model, words, vocab, size=512):
    """{word: phonemes}, decoded greedily in batches of equal length."""
    names = {i: t for t, i in vocab.items()}
    groups = {}
    for w in words:
        groups.setdefault(len(w), []).append(w)
    out = {}
    for _, group in sorted(groups.items()):
        for at in range(0, len(group), size):
            part = group[at:at + size]
            ids = model.greedy(torch.tensor([data.encode_word(w, vocab) for w in part]), 40)
            out.update((w, tuple(names[i] for i in row)) for w, row in zip(part, ids))
    return out


def score(outputs, words):
    """Error rates in per cent, with stress and without."""
    result = {}
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


def routing(model, words, outputs, vocab):
    """By layer: share of the choices that each expert got, mean weight of the best, and for each
    expert the symbols that chose it first most often, with the share of them that did."""
    pairs = {w: [outputs[w]] for w in words}
    names = {i: t for t, i in vocab.items()}
    count = {n: torch.zeros(g.m) for n, g in model.gates().items()}
    best = {n: [0.0, 0] for n in count}
    by_symbol = {n: torch.zeros(len(vocab), g.m) for n, g in model.gates().items()}
    with torch.no_grad():
        for batch in data.Batches(pairs, vocab, 4096).epoch(0):
            src, dec_in, _, _, keep = data.collate(batch)
            for g in model.gates().values():
                g.record, g.log = True, []
            model(src, dec_in)
            for name, g in model.gates().items():
                expert, w = (t.flatten(0, 1) for t in g.log[0])
                ids = src.flatten()
                if name.startswith("decoder"):
                    real = keep.flatten()
                    expert, w, ids = expert[real], w[real], dec_in.flatten()[real]
                by_symbol[name].index_put_((ids, expert[:, 0]), torch.ones(len(ids)),
                                           accumulate=True)
                count[name] += torch.bincount(expert.flatten(), minlength=g.m)
                best[name][0] += float(w[..., 0].sum())
                best[name][1] += w[..., 0].numel()
                g.record, g.log = False, []

    def favourites(table, e):
        total = table.sum(1)
        part = torch.where(total >= 50, table[:, e] / total.clamp(min=1), 0)
        top = part.argsort(descending=True)[:8].tolist()
        return [[names[i], round(float(part[i]), 2)] for i in top if part[i] >= 0.5]

    return {n: {"share": (100 * c / c.sum()).tolist(), "best": best[n][0] / best[n][1],
                "symbols": [favourites(by_symbol[n], e) for e in range(len(c))]}
            for n, c in count.items()}


def experiments(model, words, vocab):
    """WER without stress when one expert of a layer takes everything, or is never chosen."""
    out = {}
    for name, g in model.gates().items():
        rows = {"force": [], "knock_out": []}
        for what, row in rows.items():
            for e in range(g.m):
                setattr(g, what, e)
                row.append(score(decode_words(model, words, vocab), words)["wer_nostress"])
                setattr(g, what, None)
        out[name] = rows
        print(f"{name}: one expert alone " + " ".join(f"{x:.1f}" for x in rows["force"])
              + ", without one " + " ".join(f"{x:.1f}" for x in rows["knock_out"]), flush=True)
    return out


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", default=str(Path(__file__).parent))
    p.add_argument("--words", help="TSV of words and pronunciations (default: FOLDER/test.tsv)")
    p.add_argument("--limit", type=int, default=0, help="score only the first N words by hash")
    p.add_argument("--failures", type=int, default=20, help="how many failures to print")
    p.add_argument("--experts", type=int, metavar="N", default=0,
                   help="experiments with single experts on the first N words by hash")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    p.add_argument("--json", help="also write the figures to this file")
    args = p.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        model, vocab = export.load(args.folder)
    except OSError as e:
        sys.exit(f"evaluate.py: {args.folder} is not a model folder: {e}")
    words = data.read_tsv(args.words or Path(args.folder) / "test.tsv")
    by_hash = sorted(words, key=data.sha)
    if args.limit:
        words = {w: words[w] for w in by_hash[:args.limit]}
    outputs = decode_words(model, list(words), vocab)
    result = dict(words=len(words), **score(outputs, words))
    result["routing"] = routing(model, words, outputs, vocab)
    print(f"{result['words']} words")
    print(f"with stress     WER {result['wer']:.2f}  PER {result['per']:.2f}")
    print(f"without stress  WER {result['wer_nostress']:.2f}  PER {result['per_nostress']:.2f}")
    for name, r in result["routing"].items():
        print(f"{name}: " + " ".join(f"{s:.1f}" for s in r["share"])
              + f" % of choices; mean weight of the best {r['best']:.2f}")
        for e, symbols in enumerate(r["symbols"]):
            print(f"    expert {e} first: " + " ".join(f"{t} {s:.2f}" for t, s in symbols))
    shown = [w for w in by_hash if w in words
             and strip_stress(outputs[w]) not in map(strip_stress, words[w])][:args.failures]
    for w in shown:
        print(f"  {w}: {' '.join(outputs[w])}   listed: " + " | ".join(map(" ".join, words[w])))
    if args.experts:
        some = {w: words[w] for w in by_hash[:args.experts] if w in words}
        whole = score({w: outputs[w] for w in some}, some)["wer_nostress"]
        print(f"single experts, {len(some)} words, {whole:.1f} % WER without stress as it is")
        result["experts"] = dict(experiments(model, some, vocab), words=len(some), whole=whole)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except data.DataError as e:
        sys.exit(f"evaluate.py: {e}")
