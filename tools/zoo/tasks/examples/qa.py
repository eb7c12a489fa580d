"""Questions on countries, real ones and others."""

from .names import distance, made_up, unknown_countries
from .noise import fill, noisy
from .parts import part_of
from .tables import COUNTRIES, T


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
