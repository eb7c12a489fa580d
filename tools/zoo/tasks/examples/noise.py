"""Typing mistakes, and templates filled in."""


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
