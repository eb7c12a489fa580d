"""Names: listed ones and made-up ones, countries that do not exist."""

import random
from functools import lru_cache

from .parts import part_of
from .tables import COUNTRIES, HERE, T

ONSET = "b c d f g h j k l m n p r s t v w z br ch dr fl gr kr pl sh st th tr".split()
VOWEL = "a e i o u a e i o ai ea ia ou".split()
CODA = ["", "", "", "n", "r", "l", "s", "m", "t", "nd", "rk", "x"]


def made_up(rng, low=2, high=3):
    n = rng.randint(low, high)
    word = "".join(rng.choice(ONSET) + rng.choice(VOWEL) for _ in range(n)) + rng.choice(CODA)
    return word.capitalize()


def unheard(rng, known):
    """A name to copy letter by letter: made up, or one of `known` with a letter or two changed."""
    if rng.random() < 0.35:
        return made_up(rng)
    if rng.random() < 0.5:
        name = [*rng.choice(known).lower()]
        for _ in range(rng.choice((1, 1, 2))):
            i = rng.randrange(len(name))
            if name[i] != " ":
                name[i:i + rng.randrange(2)] = rng.choice("abcdefghijklmnoprstuvwy")
        return "".join(name).capitalize()
    name = ""
    for _ in range(rng.randint(2, 3)):
        name += (rng.choice(ONSET) if rng.random() < 0.8 else "") + rng.choice(VOWEL[:9])
        name += rng.choice(("n", "r", "l", "s", "m", "t", "c", "d", "ll", "nn", "rt", "th", "lm")) if rng.random() < 0.4 else ""
    return name.capitalize()


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def made_up_countries(n=2400):
    """Names of countries that do not exist, none close to one that does."""
    rng = random.Random(77)
    real = [c["name"].lower() for c in COUNTRIES]
    out, known = [], set()
    while len(out) < n:
        word = made_up(rng, 1, 3)
        kind = rng.random()
        if kind < 0.35:
            word += rng.choice(("land", "ia", "stan", "nia", "ria", "istan", "a", "onia"))
        elif kind < 0.45:
            word = rng.choice(("North ", "South ", "New ", "West ", "Upper ", "Saint ")) + word
        elif kind < 0.52:
            word = "the " + word + rng.choice((" Islands", " Republic", " Kingdom", " Union"))
        name = word.removeprefix("the ").lower()
        core = name.split()[-1] if name.split()[0] in ("north", "south", "new", "saint") else name.split()[0]
        if len(core) < 4 or word in known:
            continue
        near = min(min(distance(name, r), distance(core, r)) for r in real if abs(len(core) - len(r)) < 5 or len(name) == len(r))
        if near < 3 or near < 0.4 * len(core):
            continue
        known.add(word)
        out.append(word)
    return out


@lru_cache(maxsize=None)
def unknown_countries(part):
    path = HERE / "unknown.txt"
    names = path.read_text(encoding="utf-8").splitlines() if path.exists() else made_up_countries()
    return [n for n in names if part_of("unknown " + n) == part]


def word(name, rng, part="train", invent=0.0):
    """A word of a list; with probability `invent` one that is made up (to learn copying)."""
    if part == "test" and f"words.{name}.test" in T.words:
        return rng.choice(T.words[f"words.{name}.test"])
    if rng.random() < invent:
        while True:  # not by chance a name of the tests
            new = unheard(rng, T.words[f"words.{name}"])
            if new not in T.words.get(f"words.{name}.test", ()):
                return new
    return rng.choice(T.words[f"words.{name}"])
