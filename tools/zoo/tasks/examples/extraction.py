"""Sentences with slots."""

import re

from .names import word
from .noise import fill
from .said import a_date, a_time, people
from .tables import T


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
