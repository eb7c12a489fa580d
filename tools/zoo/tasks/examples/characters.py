"""The tokens: characters."""

from functools import lru_cache

from .tables import T, read_tsv

PAD, EOS, UNK = 0, 1, 2
SPECIALS = ("<pad>", "</s>", "<unk>")
SENTINEL = "_"  # stands for a masked span in stage 1
MAX_CHARS = 88


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
