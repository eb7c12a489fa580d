"""Writing a model as a Hugging Face folder, in the forms in which such folders are found."""

import json

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
UNEXPECTED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def save_plain(model, folder):
    """As `save_pretrained` writes it: one float32 file, tied tensors once."""
    model.save_pretrained(folder, safe_serialization=True)


def save_bf16(model, folder):
    """All tensors in bf16, norms and biases as well."""
    save_plain(model.to(torch.bfloat16), folder)


def save_f16(model, folder):
    """All tensors in f16, norms and biases as well."""
    save_plain(model.to(torch.float16), folder)


def save_sharded(model, folder):
    """Several shards and their `model.safetensors.index.json`."""
    model.save_pretrained(folder, safe_serialization=True, max_shard_size="48KB")


def save_with_unexpected(model, folder):
    """With the tensor that the first T5 checkpoints carry and that no model has a place for."""
    save_plain(model, folder)
    tensors = load_file(folder / WEIGHTS)
    config = model.config
    shape = (config.relative_attention_num_buckets, config.num_heads)
    tensors[UNEXPECTED] = torch.full(shape, 3.0)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def save_with_copies(model, folder):
    """With the tied embedding written out under each of its names, as older T5 and Flan folders do."""
    save_plain(model, folder)
    tensors = load_file(folder / WEIGHTS)
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def save_without_prefix(model, folder):
    """The state of the inner BartModel: no `model.` prefix, no head, no `final_logits_bias`."""
    save_plain(model, folder)
    tensors = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    set_config(folder, architectures=["BartModel"])


def set_config(folder, **values):
    """Change entries of config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(values)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
