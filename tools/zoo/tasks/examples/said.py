"""Numbers, times and dates as people say them."""

from .parts import pick_value

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
