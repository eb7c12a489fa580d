#!/usr/bin/env python3
"""Scores of a model folder on eval/*.tsv, as Markdown tables.

    python evaluate.py                                  # the model of this folder
    python evaluate.py MODEL --dense DENSE --nearest    # beside a dense model and a lookup
    python evaluate.py MODEL --experts --failures 4     # routing, forced and missing experts

Exact match with one of the expected answers, greedy decoding, the stored weights computed in
float32. Slots are also scored by F1 over `name=value` pairs. --nearest answers with the answer of the training
prompt that is most alike (cosine of tf-idf weighted 3-grams of characters) among the first
300,000 training examples.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import data
from palm_moe.export import load
from train import answer

HERE = Path(__file__).parent
EXAMPLES = ("What is the capital of France?", "My name is Anna. | What is my name?", "Continue: 7 14 21 28",
            "Translate Germany to Spanish.", "Write 342 in words.",
            "Sentiment: I thought the film would be boring, but it was great.",
            "Slots: Book a flight from Oslo to Rome on 3 May 2027.")


def read_set(name):
    """[(prompt, [expected])]"""
    lines = (HERE / "eval" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [(f[0], f[1:]) for f in (line.split("\t") for line in lines)]


def exact(said, rows):
    return 100 * sum(s in a for s, (_, a) in zip(said, rows)) / len(rows)


def slot_f1(said, rows):
    hit = have = want = 0
    for s, (_, answers) in zip(said, rows):
        a, b = Counter(s.split("; ")), Counter(answers[0].split("; "))
        hit += sum((a & b).values())
        have += sum(a.values())
        want += sum(b.values())
    return 200 * hit / max(1, have + want)


def nearest(sets, examples=300_000, chunk=12_000):
    """{set: answers} by lookup."""
    known = {}
    for seed in range(1020, 1020 + math.ceil(examples / chunk)):  # chunks of the training run
        for _, prompt, reply in data.chunk(seed, chunk):
            known.setdefault(prompt, reply)
    prompts, replies = list(known), list(known.values())
    grams = {}

    def count(text, grow):
        text = f"\x02{text}\x03"
        found = Counter(text[i:i + 3] for i in range(len(text) - 2))
        return {grams.setdefault(g, len(grams)) if grow else grams[g]: n for g, n in found.items()
                if grow or g in grams}

    rows = [count(p, True) for p in prompts]
    seen = Counter(g for row in rows for g in row)
    idf = [math.log(len(rows) / seen[g]) for g in range(len(grams))]

    def vector(row):
        v = {g: (1 + math.log(n)) * idf[g] for g, n in row.items()}
        length = math.sqrt(sum(x * x for x in v.values())) or 1.0
        return {g: x / length for g, x in v.items()}

    start, columns, values = [0], [], []
    for row in map(vector, rows):
        columns += row
        values += row.values()
        start.append(len(columns))
    known = torch.sparse_csr_tensor(start, columns, torch.tensor(values), (len(rows), len(grams)))
    out = {}
    for name, tests in sets.items():
        out[name] = []
        for i in range(0, len(tests), 50):
            part = tests[i:i + 50]
            q = torch.zeros(len(grams), len(part))
            for j, (prompt, _) in enumerate(part):
                for g, x in vector(count(prompt, False)).items():
                    q[g, j] = x
            out[name] += [replies[k] for k in (known @ q).argmax(0).tolist()]
    return out, len(prompts)


def table(head, rows):
    print("| " + " | ".join(map(str, head)) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(c) for c in row) + " |")
    print(flush=True)


def shares(model, sets, said):
    """{gate: {task or "all": share of every expert}}: of tokens in the layers, of inputs in the mixture block."""
    gates = model.gates()
    counts = {g: {} for g in gates}
    for name, rows in sets.items():
        task = data.TASK_OF.get(name, name)
        for (prompt, _), reply in zip(rows, said[name]):
            src, ids = torch.tensor([data.encode(prompt)]), data.encode(reply)[:-1]
            for gate in gates.values():
                gate.record, gate.log = True, []
            with torch.no_grad():
                model(src, torch.tensor([[data.PAD, *ids]]))
            for g, gate in gates.items():
                gate.record = False
                for expert, _ in gate.log:
                    c = torch.bincount(expert.flatten(), minlength=gate.m)
                    for key in (task, "all"):
                        counts[g][key] = counts[g].get(key, 0) + c
    return {g: {t: (100 * c / c.sum()).tolist() for t, c in by.items()} for g, by in counts.items()}


def experts(model, sets, said, limit=40):
    part = shares(model, sets, said)
    for g, by in part.items():
        print(f"Expert shares, {g}:\n")
        m = len(by["all"])
        table(["", *range(m)], [(t, *(f"{x:.1f} %" for x in by[t])) for t in ("all", *data.TASKS) if t in by])
    few = {n: rows[:limit] for n, rows in sets.items()}

    def score():
        got = {n: exact(answer(model, [p for p, _ in rows]), rows) for n, rows in few.items()}
        return [sum(got.values()) / len(got), *got.values()]

    lines = [("as trained", *score())]
    layers = [g for n, g in model.gates().items() if n != "mixture"]
    for place, gates in (("layers", layers), ("mixture block", [model.mixture])):
        for what in ("force", "knock_out"):
            for e in range(gates[0].m):
                for gate in gates:
                    setattr(gate, what, e)
                lines.append((f"{place}: {'only expert' if what == 'force' else 'without expert'} {e}", *score()))
                for gate in gates:
                    setattr(gate, what, None)
    print(f"Exact match (%) on the first {limit} prompts of every set:\n")
    table(["", "mean", *few], [(r[0], *(f"{x:.1f}" for x in r[1:])) for r in lines])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", nargs="?", default=str(HERE), help="model folder (default: this one)")
    p.add_argument("--dense", help="a dense model folder to compare with")
    p.add_argument("--nearest", action="store_true", help="compare with the nearest training prompt")
    p.add_argument("--experts", action="store_true", help="shares, forced and missing experts")
    p.add_argument("--failures", type=int, default=0, metavar="N", help="print the first N wrong answers of every set")
    p.add_argument("--only", nargs="*", choices=sorted(data.EVAL), help="these sets only")
    args = p.parse_args()
    sets = {n: read_set(n) for n in (args.only or data.EVAL)}

    model, _ = load(args.model)
    for prompt, said in zip(EXAMPLES, answer(model, list(EXAMPLES))):
        print(f"    {prompt}\n    {said}\n")
    said = {n: answer(model, [q for q, _ in rows]) for n, rows in sets.items()}
    columns = [("model", said)]
    if args.dense:
        dense, _ = load(args.dense)
        columns.append(("dense", {n: answer(dense, [q for q, _ in rows]) for n, rows in sets.items()}))
    if args.nearest:
        found, size = nearest(sets)
        columns.append((f"nearest of {size:,} prompts", found))
    lines = []
    for n, rows in sets.items():
        lines.append((n, len(rows), *(f"{exact(s[n], rows):.1f} %" for _, s in columns)))
        if n == "extraction":
            lines.append(("extraction, F1", len(rows), *(f"{slot_f1(s[n], rows):.1f} %" for _, s in columns)))
    table(["set", "prompts", *(c for c, _ in columns)], lines)

    if args.experts:
        experts(model, sets, said)
    if args.failures:
        table(["set", "prompt", "answer", "expected"],
              [(n, q.replace("|", "\\|"), s, " / ".join(a)) for n, rows in sets.items()
               for (q, a), s in [(r, s) for r, s in zip(rows, said[n]) if s not in r[1]][:args.failures]])


if __name__ == "__main__":
    main()
