"""The test and dev sets."""

import random

from .mix import TASKS, example
from .tables import HERE

EVAL = {  # file: (kinds in turn, prompts, noise)
    "qa": (("qa.capital", "qa.currency", "qa.language"), 300, 0.0),
    "qa-context": (("qa.context",), 300, 0.0),
    "qa-unknown": (("qa.unknown",), 100, 0.0),
    "qa-noise": (("qa.capital", "qa.currency", "qa.language"), 300, 1.0),
    "dialogue": (("dialogue.slot", "dialogue.slot", "dialogue.book", "dialogue.say"), 300, 0.0),
    "generation": (("generation.count", "generation.count", "generation.letters", "generation.repeat",
                    "generation.pairs", "generation.calendar", "generation.grow"), 300, 0.0),
    "translation": (("translation.name", "translation.name", "translation.phrase"), 300, 0.0),
    "numbers": (("translation.number",), 300, 0.0),
    "intents": (("classification.intent",), 300, 0.0),
    "sentiment": (("classification.sentiment",), 300, 0.0),
    "extraction": (("extraction.slots",), 300, 0.0),
}
TASK_OF = {"qa-context": "qa", "qa-unknown": "qa", "qa-noise": "qa", "numbers": "translation", "intents": "classification",
           "sentiment": "classification"}


def eval_set(name, part="test", count=None):
    """Distinct prompts of a test (or dev) set: [(kind, prompt, answers)]."""
    kinds, total, noise = EVAL[name]
    total = count or total
    rng = random.Random(f"{part} {name}")
    out, seen, misses = [], set(), 0
    while len(out) < total and misses < 2000:
        kind = kinds[len(out) % len(kinds)]
        if misses > 200:  # a kind that has no new prompts left
            kind = rng.choice(kinds)
        prompt, answers = example(kind, rng, part, noise)
        if prompt in seen:
            misses += 1
            continue
        seen.add(prompt)
        misses = 0
        out.append((kind, prompt, answers))
    return out


def write_eval(folder=HERE / "eval"):
    folder.mkdir(exist_ok=True)
    small = {}
    for name in EVAL:
        rows = eval_set(name)
        lines = ["\t".join((p, *a)) for _, p, a in rows]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if name not in ("qa-noise",):
            small.setdefault(TASK_OF.get(name, name), []).append(lines)
        print(f"{name}.tsv: {len(lines)} prompts")
    few = []
    for task in TASKS:  # 20 of each task, its files in turn
        lists = small[task]
        share = [[14, 4, 2]] if task == "qa" else [[10, 10]] if len(lists) == 2 else [[20]]
        for lines, n in zip(lists, share[0]):
            few += lines[:n]
    (folder / "heldout20.tsv").write_text("\n".join(few) + "\n", encoding="utf-8")
    print(f"heldout20.tsv: {len(few)} prompts")
