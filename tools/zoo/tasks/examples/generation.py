"""Series to continue: the last three items are asked for. Tests show four items of a series of
numbers, letters or pairs, training three to six."""

from .noise import fill
from .parts import pick_value
from .said import MONTHS
from .tables import T

LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
ASKED = 3


def count(rng, part, n):
    train = part == "train"

    def make():
        wide = train and rng.random() < 0.3  # a wider range, so that sums are learnt, not a list of them
        step = rng.randint(1, 20 if wide else 12)
        start = rng.randint(0, 300 if wide else 150)
        return start, (step if rng.random() < 0.6 or start < (n + 2) * step else -step)
    start, step = pick_value(make, part)
    return [start + step * i for i in range(n + ASKED)]


def letters(rng, part, n):
    downwards = (-1, -2, -3) if part == "train" else ()

    def make():
        step = rng.choice((1, 1, 2, 2, 3, -1, -2, *downwards))
        while (n + 2) * abs(step) > 25:
            step = rng.choice((1, -1, 2, -2))
        return rng.randrange(max(0, -(n + 2) * step), min(26, 26 - (n + 2) * step)), step
    start, step = pick_value(make, part)
    return [LETTERS[start + step * i] for i in range(n + ASKED)]


def repeat(rng, part, n):
    words = T.words["words.motif"]

    def make():
        size = rng.choice((2, 2, 3, 3, 4))
        pool = rng.choice((LETTERS, [*"0123456789"], words))
        return tuple(rng.sample(pool, min(size, 3) if pool is words else size))
    motif = pick_value(make, part)
    size = len(motif)
    shown = 2 * size + rng.randrange(size) + (1 if size == 2 else 0)
    return [motif[i % size] for i in range(shown + ASKED)]


def pairs(rng, part, n):
    letter, start = pick_value(lambda: (rng.randrange(24 - n), rng.randint(1, 40)), part)
    return [f"{LETTERS[letter + i]}{start + i}" for i in range(n + ASKED)]


def calendar(rng, part, n):
    names = T.words["words.day"] if rng.random() < 0.5 else MONTHS
    start, back = rng.randrange(len(names)), rng.random() < 0.25
    return [names[(start - i if back else start + i) % len(names)] for i in range(3 + ASKED)]


def grow(rng, part, n):
    unit = pick_value(lambda: rng.choice(LETTERS) + rng.choice(["", "", *LETTERS]), part)
    return [unit * i for i in range(1, 6 if len(unit) == 2 else 7)]


KINDS = dict(count=count, letters=letters, repeat=repeat, pairs=pairs, calendar=calendar, grow=grow)


def generation(kind, rng, part, noise):
    wording = T.pick("pattern", part, rng)[1]
    n = rng.choice((3, 4, 4, 4, 5, 6)) if part == "train" else 4
    items = [str(item) for item in KINDS[kind](rng, part, n)]
    return fill(wording, {"p": " ".join(items[:-ASKED])}), [" ".join(items[-ASKED:])]
