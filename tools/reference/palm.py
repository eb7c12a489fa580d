"""The PaLM-style family as the other files here expect a model: around its definition in tools/zoo/palm_moe."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from palm_numpy import PalmNumpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zoo"))
from palm_moe import model as definition  # noqa: E402

MODEL_TYPE = "palm_moe"
WEIGHTS = "model.safetensors"
LARGEST_DISAGREEMENT = 1e-5


class Config:
    """config.json as attributes."""

    is_encoder_decoder = True

    def __init__(self, **keys):
        vars(self).update(definition.config(**keys))


class Palm(definition.PalmMoe):
    """The model, with the methods of a transformers model that are used here."""

    def __init__(self, config):
        super().__init__(vars(config))
        self.config = config

    def get_encoder(self):
        return self.encoder

    def get_decoder(self):
        return self.decoder

    def get_input_embeddings(self):
        return self.shared

    def tie_weights(self):
        """There is one embedding."""

    def encoder_attention(self, source):
        """Attention weights [layers × heads, S, S] of the encoder."""
        other = self.in_numpy()
        other.encode(source.tolist())
        return torch.from_numpy(np.stack(other.attention))

    def in_numpy(self):
        return PalmNumpy(vars(self.config), {name: tensor.numpy() for name, tensor in self.state_dict().items()})

    def quantize_head_input(self, rows):
        """Put `rows`, a module, between the last norm and the head, which is no module of its own."""
        self.decoder.final_norm = torch.nn.Sequential(self.decoder.final_norm, rows)


def save(model, folder):
    """config.json and weights as the family's description names them; hash tables as bytes."""
    tensors = {n: t.to(torch.uint8) if n.endswith("router.table") else t for n, t in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = vars(model.config)
    special = {key: config[key] for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", config), ("generation_config.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def load(folder, config):
    """The model of a folder, in float32; every tensor must be there, and no other."""
    model = Palm(Config(**config))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def check(model, source, target, run, distance):
    """Compare a run with the second reading of the description; gives the largest differences."""
    other = model.in_numpy()
    found = other.run(source.tolist(), target.tolist())
    differences = {
        "encoder": distance(run.encoder, torch.from_numpy(found["encoder_last_hidden_state"])),
        "logits": distance(run.logits, torch.from_numpy(found["logits"])),
    }
    if max(differences.values()) > LARGEST_DISAGREEMENT:
        raise AssertionError(f"the two definitions of the family differ by {differences}")
    for side in ("encoder", "decoder", "mixture"):
        routed = [choice for name, choice in found["routes"].items() if name.startswith(side)]
        if not routed:
            continue
        experts, kept, gates = (torch.from_numpy(np.stack(parts)) for parts in zip(*routed))
        expected = {"choices": experts, "routes": torch.where(kept, experts, -1), "gates": gates}
        for key, tensor in expected.items():
            actual, tensor = run.routes[f"{side}_{key}"], tensor[0, 0] if side == "mixture" else tensor
            equal = torch.allclose(actual, tensor.float(), atol=1e-5) if key == "gates" else torch.equal(actual, tensor.int())
            if not equal:
                raise AssertionError(f"the two definitions of the family route differently: {side}_{key}")
    return differences
