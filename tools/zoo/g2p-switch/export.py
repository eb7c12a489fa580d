#!/usr/bin/env python3
"""Writing a Hugging Face model folder; every file appears whole or not at all.

    python export.py OUT/checkpoint.pt FOLDER [--bf16]

writes the averaged weights of a checkpoint, finished or not, as a model folder. The trainer
does the same by itself at the end of a run.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from data import EOS, LETTERS, PAD, SPECIALS, UNK


def config(args, vocab_size):
    """The whole config.json as a dictionary."""
    keys = ("d_model", "d_kv", "num_heads", "d_ff", "num_layers", "num_decoder_layers",
            "num_sparse_encoder_layers", "num_sparse_decoder_layers", "num_experts")
    cfg = {k: getattr(args, k) for k in keys}
    if cfg["num_layers"] % max(1, cfg["num_sparse_encoder_layers"]) or \
            cfg["num_decoder_layers"] % max(1, cfg["num_sparse_decoder_layers"]):
        raise SystemExit("the number of layers must be a multiple of the number of sparse layers")
    return dict(
        architectures=["SwitchTransformersForConditionalGeneration"],
        model_type="switch_transformers", vocab_size=vocab_size, **cfg,
        expert_capacity=64, router_bias=False, router_jitter_noise=0.01, router_dtype="float32",
        router_ignore_padding_tokens=False, router_z_loss_coef=0.001, router_aux_loss_coef=0.01,
        add_router_probs=False, relative_attention_num_buckets=32,
        relative_attention_max_distance=128, dropout_rate=args.dropout, layer_norm_epsilon=1e-6,
        dense_act_fn="relu", is_encoder_decoder=True, use_cache=True, tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
        torch_dtype="float32", transformers_version="4.56.2",
    )


def replace(path, write):
    """Call write(temporary path), then rename it to `path`."""
    tmp = Path(f"{path}.part")
    write(tmp)
    os.chmod(tmp, 0o644)
    os.replace(tmp, path)


def tokenizer(vocab):
    """tokenizer.json: lower case, one token a character, </s> appended."""
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, t in enumerate(SPECIALS)],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated",
                          "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]}}},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }


def folder(out, cfg, weights, vocab, test, dtype=torch.float32):
    """Write config, weights, tokenizer and test split into `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    def text(name, content):
        replace(out / name, lambda p: p.write_text(content, encoding="utf-8"))

    def as_json(name, obj):
        text(name, json.dumps(obj, indent=2, ensure_ascii=False) + "\n")

    cfg = dict(cfg, torch_dtype=str(dtype).removeprefix("torch."))
    tensors = {k: v.detach().to(dtype).contiguous().clone() for k, v in weights.items()}
    replace(out / "model.safetensors", lambda p: save_file(tensors, p, metadata={"format": "pt"}))
    as_json("config.json", cfg)
    as_json("generation_config.json", {
        "decoder_start_token_id": PAD, "pad_token_id": PAD, "eos_token_id": EOS,
        "max_new_tokens": 40, "do_sample": False, "num_beams": 1, "transformers_version": "4.56.2"})
    as_json("tokenizer.json", tokenizer(vocab))
    as_json("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>",
        "unk_token": "<unk>", "clean_up_tokenization_spaces": False, "model_max_length": 64,
        "padding_side": "right", "model_input_names": ["input_ids", "attention_mask"]})
    text("test.tsv", "".join(
        word + "".join("\t" + " ".join(p) for p in prons) + "\n"
        for word, prons in sorted(test.items())))


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
        sys.exit(f"export.py: cannot read {args.checkpoint}: {e}")
    folder(args.folder, saved["config"], saved["ema"], saved["vocab"], saved["test"],
           torch.bfloat16 if args.bf16 else torch.float32)


if __name__ == "__main__":
    main()
