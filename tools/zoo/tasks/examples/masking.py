"""Span denoising."""

from .characters import MAX_CHARS, SENTINEL


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
