"""What the examples are made of: templates.txt, countries.tsv and cldr.tsv."""

from pathlib import Path

HERE = Path(__file__).parent.parent
LANGUAGES = {"fr": "French", "de": "German", "es": "Spanish"}


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
