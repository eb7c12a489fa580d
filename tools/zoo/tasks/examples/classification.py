"""Sentences with an intent or a sentiment."""

import re

from .names import word
from .noise import fill, noisy
from .said import a_time
from .tables import T


def said_values(template, rng, part):
    def one(m):
        k = m.group(1)
        if k == "time":
            return a_time(rng, part)[0]
        k = {"P": "good", "N": "bad", "s": "subject", "S": "whose"}.get(k, k)
        return word(k, rng, part, 0.4 if k in ("person", "city") else 0)
    return re.sub(r"\{(\w+)\}", one, template)


def plain(label, said):
    """Whether the word of the label is there, and not its opposite."""
    own, other = ("{P}", "{N}") if label == "positive" else ("{N}", "{P}")
    return own in said and other not in said


def bare(text):
    return re.sub(r"[^a-z{}]+", " ", text.lower()).strip()


KEPT = {bare(text) for p, _, text in T.lines["intent.said"] if p != "train"}
VERBS = set("Set Wake Make Ring Get Cancel Delete Turn Remove Stop Drop Play Put Start Let Tell Send Write Text Call "
            "Phone Give Switch Remind Add Light Bring Dial Say Pass Clear".split())


def classification(kind, rng, part, noise):
    straight = part == "train" and kind == "sentiment" and rng.random() < 0.5
    label, said = T.pick(kind + ".said", part, rng)
    # With all sentences equally often, negations cancel out what a word alone says, and nothing is learnt.
    while straight and not plain(label, said):
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
