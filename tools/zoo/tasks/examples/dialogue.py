"""Small talk, things told in one turn and asked for in another, booking a table."""

from .names import word
from .noise import fill
from .said import a_time, people
from .tables import T


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
