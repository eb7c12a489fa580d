"""Reference outputs of a trained character model, such as a grapheme-to-phoneme BART.

    python tools/reference/trained.py CHECKPOINT_DIR WORDS.tsv OUT

The checkpoint folder's config.json carries its tokenizer as two strings, `grapheme_chars` and
`phoneme_chars`: a character's index is its id. The input is bos, characters, eos; id 3 stands for an
unknown character; ids up to 3 print nothing. OUT becomes a folder with

    greedy.tsv             word, greedy output of the float32 model, for every word
    w8a8.tsv               the same for the W8A8 simulation (with --simulation)
    reference.safetensors  ids, encoder states and logits of some words, named as in the fixtures
    manifest.json          which words these are, and the figures that were printed
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from generate import case_tensors, distances, make_readable, rounded
from rounding import round_matrices_to_f16, simulate_w8a8
from running import load, run_stepwise

UNKNOWN = 3
LAST_SILENT = 3


class CharacterTokenizer:
    """The two strings of config.json."""

    def __init__(self, config):
        for key in ("grapheme_chars", "phoneme_chars"):
            if not hasattr(config, key):
                raise SystemExit(f"config.json has no `{key}`: this script reads character models only")
        self.ids = {c: i for i, c in enumerate(config.grapheme_chars) if i > LAST_SILENT}
        self.symbols = config.phoneme_chars
        self.bos, self.eos = config.bos_token_id, config.eos_token_id

    def encode(self, word):
        return torch.tensor([self.bos, *(self.ids.get(c, UNKNOWN) for c in word), self.eos])

    def decode(self, ids):
        return "".join(self.symbols[i] for i in ids if i > LAST_SILENT)


@torch.no_grad()
def greedy(model, source, longest):
    """Greedy output: the start token and what follows it, without eos, at most `longest` ids."""
    config = model.config
    encoder = BaseModelOutput(last_hidden_state=model.get_encoder()(input_ids=source[None])[0])
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids = [config.decoder_start_token_id]
    while len(ids) < longest:
        step = model(
            encoder_outputs=encoder,
            decoder_input_ids=torch.tensor([[ids[-1]]]),
            past_key_values=cache,
            use_cache=True,
        )
        best = int(step.logits[0, 0].argmax())
        if best == config.eos_token_id:
            break
        ids.append(best)
    return ids


def read_words(path):
    """The first column, and the second where there is one."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row[0], row[1] if len(row) > 1 else None) for row in rows]


def transcribe(model, tokenizer, words, longest):
    """{word: (ids, text)} by greedy search, for the words that fit the model's positions."""
    outputs = {}
    for word, _ in words:
        source = tokenizer.encode(word)
        if len(source) > longest:
            raise SystemExit(f"`{word}` is longer than the model's {longest} positions")
        ids = greedy(model, source, longest)
        outputs[word] = (ids, tokenizer.decode(ids))
    return outputs


def reference(variants, tokenizer, words, outputs):
    """Tensors and manifest entries of `words`: the decoder is fed the float32 model's own output."""
    tensors, entries = {}, []
    for number, word in enumerate(words):
        source, target = tokenizer.encode(word), torch.tensor(outputs[word][0])
        run = {name: run_stepwise(model, source, target) for name, model in variants.items()}
        tensors |= case_tensors(f"case{number}", source, target, run)
        entry = {"word": word, "output": outputs[word][1], "source": len(source), "target": len(target)}
        entries.append(entry | distances(run))
    return tensors, entries


def write_tsv(path, words, outputs):
    path.write_text("".join(f"{word}\t{outputs[word][1]}\n" for word, _ in words), encoding="utf-8")


def agreement(words, one, other):
    """Share of words, in percent, on which two columns are equal."""
    return rounded(100 * sum(one(word, gold) == other(word, gold) for word, gold in words) / len(words))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Reference outputs of a trained character model.")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT_DIR")
    parser.add_argument("words", type=Path, metavar="WORDS.tsv", help="word, tab, reference pronunciation (optional)")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not exist yet")
    parser.add_argument("--logits", type=int, default=20, metavar="N", help="words with logits (default: 20)")
    parser.add_argument("--also", nargs="*", default=[], metavar="WORD", help="print the outputs of these words too")
    parser.add_argument("--simulation", action="store_true", help="greedy outputs of the W8A8 simulation as well")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    variants = {name: load(arguments.checkpoint) for name in ("f32", "f16", "w8a8")}
    round_matrices_to_f16(variants["f16"])
    simulate_w8a8(variants["w8a8"])
    config = variants["f32"].config
    tokenizer, longest = CharacterTokenizer(config), config.max_position_embeddings

    for word in arguments.also:
        print(f"{word}\t{tokenizer.decode(greedy(variants['f32'], tokenizer.encode(word), longest))}")
    words = read_words(arguments.words)
    plain = transcribe(variants["f32"], tokenizer, words, longest)
    stride = max(1, len(words) // arguments.logits)
    chosen = [word for word, _ in words[::stride]][: arguments.logits]
    tensors, entries = reference(variants, tokenizer, chosen, plain)
    figures = {
        "words": len(words),
        "f32_equals_second_column_percent": agreement(words, lambda w, _: plain[w][1], lambda _, gold: gold),
        "stopped_by_length": sum(len(ids) == longest for ids, _ in plain.values()),
    }
    draft = arguments.out.with_name(f".{arguments.out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_tsv(draft / "greedy.tsv", words, plain)
    if arguments.simulation:
        quantized = transcribe(variants["w8a8"], tokenizer, words, longest)
        write_tsv(draft / "w8a8.tsv", words, quantized)
        figures["w8a8_equals_f32_percent"] = agreement(
            words, lambda w, _: quantized[w][1], lambda w, _: plain[w][1]
        )
        figures["w8a8_equals_second_column_percent"] = agreement(
            words, lambda w, _: quantized[w][1], lambda _, gold: gold
        )
    save_file(tensors, draft / "reference.safetensors")
    manifest = {"figures": figures, "cases": entries}
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    make_readable(draft)
    draft.rename(arguments.out)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
