"""Model folders: writing and reading. Every file appears whole or not at all.

    python -m palm_moe.export CHECKPOINT FOLDER [--bf16]

writes the averaged weights of a checkpoint, of a finished run or not, as a model folder.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .model import PalmMoe

SPECIALS = ["<pad>", "</s>", "<unk>"]


def replace(path, write):
    """Call write(temporary path), then rename it to `path`."""
    tmp = Path(f"{path}.part")
    write(tmp)
    os.chmod(tmp, 0o644)
    os.replace(tmp, path)


def tokenizer(vocab, lower=True):
    """tokenizer.json: one token a character, lower-cased, </s> appended. vocab: {token: id}, the
    SPECIALS first."""
    special = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": s, "type_id": 0}} for s in "AB")
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, t in enumerate(SPECIALS)],
        "normalizer": {"type": "Lowercase"} if lower else None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated",
                          "invert": False},
        "post_processor": {
            "type": "TemplateProcessing", "single": [first, special],
            "pair": [first, special, second, special],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }


def folder(out, cfg, weights, vocab, dtype=torch.float32, max_new_tokens=None, lower=True,
           texts=None):
    """Write a model folder. texts: {file name: content} of more files, such as test data."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if any(vocab.get(t) != i for i, t in enumerate(SPECIALS)):
        raise ValueError(f"the vocabulary must begin with {SPECIALS}")

    def text(name, content):
        replace(out / name, lambda p: p.write_text(content, encoding="utf-8"))

    def as_json(name, obj):
        text(name, json.dumps(obj, indent=2, ensure_ascii=False) + "\n")

    tensors = {k: (v.detach().to(dtype) if v.is_floating_point() else v.to(torch.uint8))
               .contiguous().clone() for k, v in weights.items()}
    replace(out / "model.safetensors", lambda p: save_file(tensors, p, metadata={"format": "pt"}))
    as_json("config.json", dict(cfg, torch_dtype=str(dtype).removeprefix("torch.")))
    ids = {k: cfg[k] for k in ("decoder_start_token_id", "pad_token_id", "eos_token_id")}
    as_json("generation_config.json", dict(
        ids, max_new_tokens=max_new_tokens or cfg["max_positions"], do_sample=False, num_beams=1))
    as_json("tokenizer.json", tokenizer(vocab, lower))
    as_json("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>",
        "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
        "model_max_length": cfg["max_positions"], "padding_side": "right",
        "model_input_names": ["input_ids", "attention_mask"]})
    for name, content in (texts or {}).items():
        text(name, content)


def load(path):
    """(model in float32 and evaluation mode, {token: id}) of a model folder."""
    path = Path(path)
    cfg = json.loads((path / "config.json").read_text())
    vocab = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    model = PalmMoe(cfg)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v.long()
                           for k, v in load_file(path / "model.safetensors").items()})
    return model.eval(), vocab


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("folder")
    p.add_argument("--bf16", action="store_true", help="round the weights to bfloat16")
    args = p.parse_args()
    try:
        saved = torch.load(args.checkpoint, weights_only=True)
    except (OSError, RuntimeError, EOFError) as e:
        sys.exit(f"export: cannot read {args.checkpoint}: {e}")
    folder(args.folder, saved["config"], saved["ema"],
           dtype=torch.bfloat16 if args.bf16 else torch.float32, **saved["export"])


if __name__ == "__main__":
    main()
