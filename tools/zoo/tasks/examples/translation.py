"""Names and phrases into other languages, numbers into words."""

from .noise import fill
from .parts import pick_value
from .said import in_words
from .tables import LANGUAGES, NAMES, PHRASES, T


def translation_name(rng, part, noise):
    row, lang = rng.choice(NAMES), rng.choice(list(LANGUAGES))
    wording = T.pick("translate", part, rng)[1]
    return fill(wording, {"x": row["en"], "l": LANGUAGES[lang]}, rng, noise), [row[lang]]


def translation_phrase(rng, part, noise):
    lang, n = rng.choice(list(LANGUAGES)), rng.randint(1, 99)
    row = rng.choice([r for r in PHRASES if r["kind"].endswith("-one") == (n == 1)])
    wording = T.pick("translate", part, rng)[1]
    values = {"x": row["en"].replace("{0}", str(n)), "l": LANGUAGES[lang]}
    return fill(wording, values, rng, noise), [row[lang].replace("{0}", str(n))]


def translation_number(rng, part, noise):
    def make():
        if part != "train":
            return rng.randrange(10 ** rng.choice((2, 3, 3, 4, 4, 4)))
        digits = [rng.choice("0123456789") for _ in range(rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4, 4)))]
        if rng.random() < 0.25:  # more zeros inside than chance gives
            digits[rng.randrange(len(digits))] = "0"
        return int("".join(digits))
    n = pick_value(make, part)
    return fill(T.pick("number", part, rng)[1], {"n": str(n)}, rng, noise), [in_words(n)]
