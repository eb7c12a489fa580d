"""Which part a value belongs to: "train", "dev" or "test"."""

import hashlib
from functools import lru_cache


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
