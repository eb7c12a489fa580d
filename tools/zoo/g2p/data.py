"""CMUdict as in ../g2p-switch, whose reading, filtering, split and vocabulary are used."""

import importlib.util
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))     # the package palm_moe

_spec = importlib.util.spec_from_file_location("g2p_switch_data", HERE.parent / "g2p-switch/data.py")
base = importlib.util.module_from_spec(_spec)
sys.modules["g2p_switch_data"] = base
_spec.loader.exec_module(base)

from g2p_switch_data import (  # noqa: E402
    PAD, Batches, DataError, build_vocab, encode_word, filter_words, find_cmudict, read_cmudict,
    read_tsv, sha, split)


def load(path=None):
    """(words of train, dev, test as {word: pronunciations}, vocabulary, filtered by reason)."""
    words = read_tsv(path) if path else read_cmudict(find_cmudict())
    words, dropped = filter_words(words, any_symbol=bool(path))
    parts = split(words)
    if not parts["train"]:
        raise DataError("no training words left after the split")
    return parts, build_vocab(words), dropped


def collate(batch):
    """(source, decoder input, labels, no source mask, real target positions)."""
    src = torch.tensor([s for s, _ in batch])
    longest = max(len(t) for _, t in batch)
    labels = torch.tensor([t + [-100] * (longest - len(t)) for _, t in batch])
    keep = labels != -100
    start = torch.full((len(batch), 1), PAD)
    return src, torch.cat([start, labels.masked_fill(~keep, PAD)[:, :-1]], 1), labels, None, keep
