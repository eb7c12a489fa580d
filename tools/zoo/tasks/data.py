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
import hashlib
import random
import re
from functools import lru_cache, partial
from pathlib import Path

HERE = Path(__file__).parent
PAD, EOS, UNK = 0, 1, 2
SPECIALS = ("<pad>", "</s>", "<unk>")
SENTINEL = "_"  # stands for a masked span in stage 1
MAX_CHARS = 88
LANGUAGES = {"fr": "French", "de": "German", "es": "Spanish"}
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


# ---------------------------------------------------------------- files

class Templates:
    """Sections of templates.txt: lines [(part, answer, text)] or word lists."""

    def __init__(self, path=HERE / "templates.txt"):
        self.lines, self.words = {}, {}
        name, answer = None, None
        for raw in path.read_text(encoding="utf-8").splitlines():
            if not raw.strip() or raw.startswith("# "):
                continue
            if raw.startswith("["):
                name, answer = raw.strip()[1:-1], None
                (self.words if name.startswith("words.") else self.lines)[name] = []
            elif name.startswith("words."):
                self.words[name] += [w.strip() for w in raw.split(",") if w.strip()]
            elif raw.startswith("= "):
                answer = raw[2:]
            else:
                part = {"! ": "test", "? ": "dev"}.get(raw[:2], "train")
                self.lines[name].append((part, answer, raw[2:] if part != "train" else raw))
        self.by = {}
        for name, lines in self.lines.items():
            for part in ("train", "dev", "test"):
                self.by[name, part] = [(a, t) for p, a, t in lines if p == part]

    def pick(self, name, part, rng):
        return rng.choice(self.by[name, part])


T = Templates()


def read_tsv(name):
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    keys = lines[0].split("\t")
    return [dict(zip(keys, line.split("\t"))) for line in lines[1:]]


COUNTRIES = read_tsv("countries.tsv")
CLDR = read_tsv("cldr.tsv")
NAMES = [r for r in CLDR if "-" not in r["kind"]]
PHRASES = [r for r in CLDR if "-" in r["kind"]]


@lru_cache(maxsize=1 << 17)
def part_of(value):
    """Part of a value: 10 % test, 5 % dev."""
    h = int.from_bytes(hashlib.sha256(value.encode()).digest()[:4], "big") % 20
    return "test" if h < 2 else "dev" if h == 2 else "train"


def pick_value(make, part):
    while True:
        value = make()
        if part_of(str(value)) == part:
            return value


# ---------------------------------------------------------------- noise and filling in

def noisy(text, rng):
    """One or two typing mistakes, in letters only; sometimes everything in lower case."""
    if rng.random() < 0.35:
        text = text.lower()
        if rng.random() < 0.5:
            return text.rstrip(".?!") if rng.random() < 0.5 else text
    for _ in range(1 if rng.random() < 0.75 else 2):
        at = [i for i in range(1, len(text) - 1)
              if text[i - 1:i + 2].isascii() and text[i - 1:i + 2].isalpha()]
        if not at:
            return text
        i = rng.choice(at)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:i] + text[i + 1] + text[i] + text[i + 2:]
        elif kind == 1:
            text = text[:i] + text[i + 1:]
        elif kind == 2:
            text = text[:i] + text[i] + text[i:]
        else:
            text = text[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1:]
    return text


def fill(template, values, rng=None, noise=0.0):
    """Put values into a template; noise touches the template's own words only."""
    if rng is not None and rng.random() < noise:
        keys = list(values)
        for i, k in enumerate(keys):
            template = template.replace("{" + k + "}", chr(0xE000 + i))
        template = noisy(template, rng)
        for i, k in enumerate(keys):
            template = template.replace(chr(0xE000 + i), values[k])
        return template
    for k, v in values.items():
        template = template.replace("{" + k + "}", v)
    return template


# ---------------------------------------------------------------- words

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


SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
         "sixteen seventeen eighteen nineteen").split()
TENS = "? ? twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(n):
    """English, American style: 342 is three hundred forty-two."""
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10] + ("-" + SMALL[n % 10] if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    rest = n % size
    return in_words(n // size) + " " + name + (" " + in_words(rest) if rest else "")


def a_time(rng, part):
    """(as said, as 24-hour clock)."""
    clock = pick_value(lambda: f"{rng.choice([*range(1, 12), *range(13, 24)]):02}:{5 * rng.randrange(12) * (rng.random() < 0.7):02}",
                       part)
    hour, minute = int(clock[:2]), clock[3:]
    if rng.random() < 0.2:
        return clock, clock
    said = f"{hour % 12}" + (f":{minute}" if minute != "00" else "") + (" am" if hour < 12 else " pm")
    return said, clock


MONTHS = "January February March April May June July August September October November December".split()


def a_date(rng, part):
    """(as said, as year-month-day)."""
    iso = pick_value(lambda: f"{rng.randint(2020, 2039)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}", part)
    year, month, day = iso.split("-")
    name, day = MONTHS[int(month) - 1], int(day)
    end = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day // 10 != 1 else 0, "th")
    said = rng.choice((f"{day} {name} {year}", f"{name} {day}, {year}", f"{day}{end} {name} {year}",
                       f"{name} {day}{end}, {year}"))
    return said, iso


def people(rng):
    """(as said, as digits)."""
    n = rng.randint(2, 20)
    return (in_words(n) if n <= 12 and rng.random() < 0.5 else str(n)), str(n)


# ---------------------------------------------------------------- the kinds

def the(c):
    return (c["the"] + " " + c["name"]).strip()


REAL = {c["name"].lower() for c in COUNTRIES}


def qa(relation, rng, part, noise):
    c = rng.choice(COUNTRIES)
    prompt = fill(T.pick("qa." + relation, part, rng)[1], {"c": the(c)})
    if rng.random() < noise:
        broken = noisy(prompt, rng)
        # A mistake that makes another country out of this one would be a wrong question.
        if not any(r in broken.lower() and r not in prompt.lower() for r in REAL):
            prompt = broken
    value = {"capital": c["capital"], "currency": "the " + c["currency"], "language": c["language"]}[relation]
    return prompt, [f"The {relation} of {the(c)} is {value}."]


def qa_context(rng, part, noise):
    """A question after a sentence on another country, or on what is not asked for."""
    relations = ["capital", "currency", "language"]
    relation = rng.choice(relations)
    prompt, answers = qa(relation, rng, part, noise)
    other = rng.choice(COUNTRIES)
    relations.remove(relation)
    before = fill(T.pick("qa.before", part, rng)[1], {"d": the(other), "r": rng.choice(relations)})
    return before[0].upper() + before[1:] + " " + prompt, answers


def qa_unknown(rng, part, noise):
    relation = rng.choice(("capital", "currency", "language"))
    name = rng.choice(unknown_countries(part)) if part != "train" or rng.random() < 0.7 else None
    while name is None:  # fresh ones too, as far from the real ones
        name = made_up(rng, 2, 3)
        if part_of("unknown " + name) != "train" or len(name) < 6 or min(distance(name.lower(), r) for r in REAL) < 4:
            name = None
    prompt = fill(T.pick("qa." + relation, part, rng)[1], {"c": name})
    return (noisy(prompt, rng) if rng.random() < noise else prompt), ["I do not know."]


def dialogue_say(rng, part, noise):
    answer, said = T.pick("dialogue.say", part, rng)
    return fill(said, {}, rng, noise), [answer]


SLOT_WORDS = {"name": ("person", 0.6), "city": ("city", 0.6), "pet": ("person", 0.6), "color": ("color", 0.0)}


def dialogue_slot(rng, part, noise):
    a, b = rng.sample(sorted(SLOT_WORDS), 2)
    value = {k: word(SLOT_WORDS[k][0], rng, part, SLOT_WORDS[k][1]) for k in (a, b)}
    kind = rng.random()
    # The held-out wording may be the telling or the asking one or both.
    parts = [part, part] if part == "train" else rng.choice(([part, "train"], ["train", part], [part, part]))
    reply, told = T.pick("dialogue.tell." + a, parts[0], rng)
    told = fill(told, {"x": value[a]}, rng, noise)
    if kind < 0.15:
        if part != "train" and parts[0] == "train":
            return dialogue_slot(rng, part, noise)
        return told, [fill(reply, {"x": value[a]})]
    if kind < 0.55:
        first, asked = told, a
        if rng.random() < 0.3:
            first += " | " + fill(reply, {"x": value[a]})
    else:
        other = fill(T.pick("dialogue.tell." + b, "train", rng)[1], {"x": value[b]}, rng, noise)
        first = told + (" | " if rng.random() < 0.4 else " ") + other
        asked = rng.choice((a, b))
    answer, question = T.pick("dialogue.ask." + asked, parts[1], rng)
    return first + " | " + fill(question, {}, rng, noise), [fill(answer, {"x": value[asked]})]


def dialogue_book(rng, part, noise):
    answer, said = T.pick("dialogue.book", part, rng)
    values = {"k": people(rng)[0], "t": a_time(rng, part)[0]}
    return fill(said, values, rng, noise), [fill(answer, values)]


def series(shown, following):
    return " ".join(map(str, shown)), " ".join(map(str, following))


def generation(kind, rng, part, noise):
    """Tests show four items of a series, training three to six."""
    wording = T.pick("pattern", part, rng)[1]
    train = part == "train"
    n = rng.choice((3, 4, 4, 4, 5, 6)) if train else 4
    if kind == "count":
        def make():
            wide = train and rng.random() < 0.3  # a wider range, so that sums are learnt, not a list of them
            step = rng.randint(1, 20 if wide else 12)
            start = rng.randint(0, 300 if wide else 150)
            return start, (step if rng.random() < 0.6 or start < (n + 2) * step else -step)
        start, step = pick_value(make, part)
        items = [start + step * i for i in range(n + 3)]
        text = series(items[:n], items[n:])
    elif kind == "letters":
        def make():
            step = rng.choice((1, 1, 2, 2, 3, -1, -2, *((-1, -2, -3) if train else ())))
            while (n + 2) * abs(step) > 25:
                step = rng.choice((1, -1, 2, -2))
            return rng.randrange(max(0, -(n + 2) * step), min(26, 26 - (n + 2) * step)), step
        start, step = pick_value(make, part)
        items = [chr(97 + start + step * i) for i in range(n + 3)]
        text = series(items[:n], items[n:])
    elif kind == "repeat":
        def make():
            n = rng.choice((2, 2, 3, 3, 4))
            pool = rng.choice(([*"abcdefghijklmnopqrstuvwxyz"], [*"0123456789"], T.words["words.motif"]))
            if pool is T.words["words.motif"]:
                n = min(n, 3)
            return tuple(rng.sample(pool, n))
        motif = pick_value(make, part)
        n = len(motif)
        shown = 2 * n + rng.randrange(n) + (1 if n == 2 else 0)
        items = [motif[i % n] for i in range(shown + 3)]
        text = series(items[:shown], items[shown:])
    elif kind == "pairs":
        letter, start = pick_value(lambda: (rng.randrange(24 - n), rng.randint(1, 40)), part)
        items = [f"{chr(97 + letter + i)}{start + i}" for i in range(n + 3)]
        text = series(items[:n], items[n:])
    elif kind == "calendar":
        names = T.words["words.day"] if rng.random() < 0.5 else MONTHS
        start, back = rng.randrange(len(names)), rng.random() < 0.25
        items = [names[(start - i if back else start + i) % len(names)] for i in range(6)]
        text = series(items[:3], items[3:])
    else:
        unit = pick_value(lambda: rng.choice("abcdefghijklmnopqrstuvwxyz") + rng.choice(["", "", *"abcdefghijklmnopqrstuvwxyz"]), part)
        items = [unit * i for i in range(1, 6 if len(unit) == 2 else 7)]
        text = series(items[:len(items) - 3], items[len(items) - 3:])
    return fill(wording, {"p": text[0]}), [text[1]]


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


def said_values(template, rng, part):
    def one(m):
        k = m.group(1)
        if k == "time":
            return a_time(rng, part)[0]
        k = {"P": "good", "N": "bad", "s": "subject", "S": "whose"}.get(k, k)
        return word(k, rng, part, 0.4 if k in ("person", "city") else 0)
    return re.sub(r"\{(\w+)\}", one, template)


def bare(text):
    return re.sub(r"[^a-z{}]+", " ", text.lower()).strip()


KEPT = {bare(text) for p, _, text in T.lines["intent.said"] if p != "train"}
VERBS = set("Set Wake Make Ring Get Cancel Delete Turn Remove Stop Drop Play Put Start Let Tell Send Write Text Call "
            "Phone Give Switch Remind Add Light Bring Dial Say Pass Clear".split())


def classification(kind, rng, part, noise):
    label, said = T.pick(kind + ".said", part, rng)
    if kind == "intent" and part == "train" and said.split()[0] in VERBS and rng.random() < 0.3:
        before = T.pick("intent.before", part, rng)[1]
        longer = before + " " + said[0].lower() + said[1:]
        if before.endswith(("you",)):
            longer = longer.rstrip(".") + "?" if longer.endswith(".") else longer
        if bare(longer) not in KEPT:
            said = longer
    said = said_values(said, rng, part)
    said = said[0].upper() + said[1:]
    if part == "train" and rng.random() < 0.15:
        said = said.rstrip(".!?") + rng.choice(("", "!", "."))
    if rng.random() < noise:
        said = noisy(said, rng)
    # Half of the tests keep a known instruction: what is held out is always the sentence.
    instruction = T.pick(kind, part if rng.random() < 0.5 else "train", rng)[1]
    return fill(instruction, {"s": said}), [label]


def extraction(rng, part, noise):
    said = T.pick("slots.said", part, rng)[1]
    found = []

    def one(m):
        k = m.group(1)
        if k in ("date", "time", "count"):
            text, value = a_date(rng, part) if k == "date" else a_time(rng, part) if k == "time" else people(rng)
        else:
            text = value = word({"from": "city", "to": "city"}.get(k, k), rng, part, 0.0 if k == "item" else 0.6)
        found.append(f"{k}={value}")
        return text
    said = re.sub(r"\{(\w+)\}", one, said)
    instruction = T.pick("slots", part if rng.random() < 0.5 else "train", rng)[1]
    return fill(instruction, {"s": said}), ["; ".join(found)]


def example(kind, rng, part="train", noise=None):
    """(prompt, [answers]) of a kind; noise None: as usual in training, none in dev and test."""
    task, sub = kind.split(".")
    if noise is None:
        noise = NOISE.get(task, 0) if part == "train" else 0
    while True:
        if task == "qa":
            pair = {"unknown": qa_unknown, "context": qa_context}.get(sub, partial(qa, sub))(rng, part, noise)
        elif task == "dialogue":
            pair = {"say": dialogue_say, "slot": dialogue_slot, "book": dialogue_book}[sub](rng, part, noise)
        elif task == "generation":
            pair = generation(sub, rng, part, noise)
        elif task == "translation":
            pair = {"name": translation_name, "phrase": translation_phrase,
                    "number": translation_number}[sub](rng, part, noise)
        elif task == "classification":
            pair = classification(sub, rng, part, noise)
        else:
            pair = extraction(rng, part, noise)
        if len(pair[0]) <= MAX_CHARS and max(map(len, pair[1])) <= MAX_CHARS:
            return pair


def chunk(seed, n, mix=MIX):
    """The n training examples of chunk `seed`: [(kind, prompt, answer)]."""
    rng = random.Random(f"chunk {seed}")
    kinds = rng.choices(list(mix), list(mix.values()), k=n)
    return [(k, p, a[0]) for k in kinds for p, a in (example(k, rng),)]


def mask(text, rng):
    """Span denoising: (text with spans replaced by the sentinel, the spans)."""
    text = text[:MAX_CHARS]
    want = max(2, int(len(text) * rng.uniform(0.2, 0.45)))
    spans = 1 if len(text) < 24 or rng.random() < 0.4 else 2
    size = max(1, want // spans)
    if spans == 1:
        i = rng.randrange(0, len(text) - min(size, len(text) - 1))
        cuts = [(i, i + size)]
    else:
        half = len(text) // 2
        size = min(size, half - 2)
        i, j = rng.randrange(0, half - size), rng.randrange(half, len(text) - size)
        cuts = [(i, i + size), (j, j + size)]
    out, at, gone = "", 0, []
    for a, b in cuts:
        out += text[at:a] + SENTINEL
        gone.append(text[a:b])
        at = b
    return out + text[at:], SENTINEL.join(gone)


def denoising_chunk(seed, n, mix=MIX):
    """Stage 1 on the same text: prompt and answer together where they fit, else one of them."""
    rng = random.Random(f"mask {seed}")
    out = []
    for kind, prompt, answer in chunk(f"{seed} of stage 1", n, mix):
        both = prompt + " " + answer
        text = both if len(both) <= MAX_CHARS else rng.choice((prompt, answer))
        out.append((kind, *mask(text, rng)))
    return out


# ---------------------------------------------------------------- characters

@lru_cache(maxsize=None)
def vocabulary():
    """Token ids: specials, then every character that can occur."""
    chars = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;?!'-=|" + SENTINEL)
    for name in ("countries.tsv", "cldr.tsv"):
        for row in read_tsv(name):
            chars |= set("".join(row.values()))
    for lines in T.lines.values():
        for _, answer, text in lines:
            chars |= set((answer or "") + text)
    chars -= set("{}\t")
    return {t: i for i, t in enumerate((*SPECIALS, *sorted(chars)))}


def encode(text):
    vocab = vocabulary()
    return [vocab.get(c, UNK) for c in text] + [EOS]


def decode(ids):
    chars = list(vocabulary())
    return "".join(chars[i] for i in ids if i > UNK)


# ---------------------------------------------------------------- test sets

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
