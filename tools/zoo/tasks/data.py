#!/usr/bin/env python3
"""Examples of the six tasks, made from templates.txt, countries.tsv and cldr.tsv.

    python data.py --show 5          # five training examples of every kind
    python data.py --write-eval      # write eval/*.tsv again
    python data.py --stats           # lengths, vocabulary, distinct prompts

An example is (prompt, answers). Nothing is stored: chunk(seed, n) makes the n examples of a chunk,
the same ones each time. Three parts never meet: "train", "dev" and "test". Wordings of the last two
are marked in templates.txt; numbers, patterns, dates and times fall to a part by a hash of their
value; first names and towns of the tests are in lists of their own.
"""

import argparse
import random

from examples.characters import EOS, MAX_CHARS, PAD, SPECIALS, UNK, decode, encode, vocabulary  # noqa: F401
from examples.mix import MIX, NOISE, TASKS, chunk, denoising_chunk, example  # noqa: F401
from examples.names import made_up_countries
from examples.sets import EVAL, TASK_OF, eval_set, write_eval  # noqa: F401
from examples.tables import HERE


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--show", type=int, metavar="N", help="print N training examples of each kind")
    p.add_argument("--part", default="train", choices=("train", "dev", "test"), help="of which part (default: train)")
    p.add_argument("--write-eval", action="store_true", help="write eval/*.tsv")
    p.add_argument("--write-unknown", action="store_true", help="write unknown.txt, the made-up countries")
    p.add_argument("--stats", action="store_true")
    args = p.parse_args()
    if args.write_unknown:
        (HERE / "unknown.txt").write_text("\n".join(made_up_countries()) + "\n", encoding="utf-8")
    if args.write_eval:
        write_eval()
    if args.show:
        rng = random.Random(5)
        for kind in MIX:
            for _ in range(args.show):
                prompt, answers = example(kind, rng, args.part)
                print(f"{kind:26} {prompt}  ->  {' / '.join(answers)}")
        for kind, prompt, answer in denoising_chunk(1, 2 * args.show):
            print(f"{'mask ' + kind:26} {prompt}  ->  {answer}")
    if args.stats:
        rows = chunk(0, 20000)
        print("distinct prompts", len({p for _, p, _ in rows}), "of", len(rows))
        print("mean length", sum(len(p) for _, p, _ in rows) / len(rows), sum(len(a) for _, _, a in rows) / len(rows))
        for kind in MIX:
            mine = [(len(p), len(a)) for k, p, a in rows if k == kind]
            print(f"{kind:26} {len(mine):6} source {sum(m[0] for m in mine) / len(mine):5.1f} target {sum(m[1] for m in mine) / len(mine):5.1f}")
        print("vocabulary", len(vocabulary()), "".join(list(vocabulary())[3:]))


if __name__ == "__main__":
    main()
