"""Examples of all kinds, in their shares."""

import random
from functools import partial

from .characters import MAX_CHARS
from .classification import classification
from .dialogue import dialogue_book, dialogue_say, dialogue_slot
from .extraction import extraction
from .generation import KINDS as SERIES
from .generation import generation
from .masking import mask
from .qa import qa, qa_context, qa_unknown
from .translation import translation_name, translation_number, translation_phrase

TASKS = ("qa", "dialogue", "generation", "translation", "classification", "extraction")

# Share of each kind among the supervised examples, in parts.
MIX = {
    "qa.capital": 4, "qa.currency": 4, "qa.language": 4, "qa.unknown": 4, "qa.context": 4,
    "dialogue.say": 2, "dialogue.slot": 6, "dialogue.book": 2,
    "generation.count": 18, "generation.letters": 7, "generation.repeat": 6, "generation.pairs": 2,
    "generation.calendar": 2, "generation.grow": 2,
    "translation.name": 10, "translation.phrase": 3, "translation.number": 8,
    "classification.intent": 10, "classification.sentiment": 9,
    "extraction.slots": 12,
}
NOISE = {"qa": 0.4, "dialogue": 0.1, "translation": 0.1, "classification": 0.15}

MAKERS = {
    **{"qa." + relation: partial(qa, relation) for relation in ("capital", "currency", "language")},
    "qa.unknown": qa_unknown, "qa.context": qa_context,
    "dialogue.say": dialogue_say, "dialogue.slot": dialogue_slot, "dialogue.book": dialogue_book,
    **{"generation." + kind: partial(generation, kind) for kind in SERIES},
    "translation.name": translation_name, "translation.phrase": translation_phrase,
    "translation.number": translation_number,
    **{"classification." + kind: partial(classification, kind) for kind in ("intent", "sentiment")},
    "extraction.slots": extraction,
}


def example(kind, rng, part="train", noise=None):
    """(prompt, [answers]) of a kind; noise None: as usual in training, none in dev and test."""
    if noise is None:
        noise = NOISE.get(kind.split(".")[0], 0) if part == "train" else 0
    while True:
        pair = MAKERS[kind](rng, part, noise)
        if len(pair[0]) <= MAX_CHARS and max(map(len, pair[1])) <= MAX_CHARS:
            return pair


def chunk(seed, n, mix=MIX):
    """The n training examples of chunk `seed`: [(kind, prompt, answer)]."""
    rng = random.Random(f"chunk {seed}")
    kinds = rng.choices(list(mix), list(mix.values()), k=n)
    return [(k, p, a[0]) for k in kinds for p, a in (example(k, rng),)]


def denoising_chunk(seed, n, mix=MIX):
    """Stage 1 on the same text: prompt and answer together where they fit, else one of them."""
    rng = random.Random(f"mask {seed}")
    out = []
    for kind, prompt, answer in chunk(f"{seed} of stage 1", n, mix):
        both = prompt + " " + answer
        text = both if len(both) <= MAX_CHARS else rng.choice((prompt, answer))
        out.append((kind, *mask(text, rng)))
    return out
