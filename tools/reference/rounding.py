"""What quantization does to a model: rounding to f16, and a plain W8A8 simulation.

Both change a loaded float32 model in place. Neither touches norms, biases, routers, tables of learned
positions or relative position biases: these stay float32 in a .palm file too.
"""

import torch
from torch import nn

INT8_LIMIT = 127


def round_matrices_to_f16(model):
    """Round linear layers and token embeddings to f16 and back; arithmetic stays float32."""
    matrices = [module.weight for _, module in _linear_layers(model)]
    matrices.append(model.get_input_embeddings().weight)
    with torch.no_grad():
        for weight in matrices:
            rounded = weight.half().float()
            if not torch.isfinite(rounded).all():
                raise ValueError("a weight of this model does not fit into f16")
            weight.copy_(rounded)


def simulate_w8a8(model):
    """Replace every linear layer by its int8 simulation and the token embedding by int8 rows.

    The simulation is the plain one: symmetric int8 weights with a scale per output row, symmetric int8
    activations with a scale per token taken from that token, exact accumulation, everything else
    (attention scores, softmax, norms, routers) in float32. No outlier channel is equalized.
    """
    embedding = model.get_input_embeddings().weight
    if hasattr(model, "quantize_head_input"):
        model.quantize_head_input(Int8Rows())
    replacements = [(name, Int8Linear(module)) for name, module in _linear_layers(model)]
    for name, replacement in replacements:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, replacement)
    with torch.no_grad():
        quantized, scale = quantize_rows(embedding)
        embedding.copy_(quantized * scale)


def quantize_rows(matrix):
    """Symmetric int8 with a scale per row (last axis): values within ±127, half to even."""
    largest = matrix.abs().amax(dim=-1, keepdim=True)
    scale = torch.where(largest > 0, largest / INT8_LIMIT, torch.ones_like(largest))
    quantized = torch.round(matrix / scale).clamp(-INT8_LIMIT, INT8_LIMIT)
    return quantized, scale


class Int8Linear(nn.Module):
    """A linear layer as an int8 engine computes it, with integers held in floats."""

    def __init__(self, linear):
        super().__init__()
        quantized, scale = quantize_rows(linear.weight.detach())
        self.quantized = quantized.double()
        self.row_scale = scale.squeeze(-1)
        self.bias = linear.bias
        self.weight = quantized * scale  # T5's feed-forward block looks at the dtype of `wo.weight`

    def forward(self, activations):
        quantized, token_scale = quantize_rows(activations)
        products = (quantized.double() @ self.quantized.T).float()  # integers: exact
        outputs = products * (token_scale * self.row_scale)
        return outputs if self.bias is None else outputs + self.bias


class Int8Rows(nn.Module):
    """Activations as int8 holds them, for a head that is not a linear layer of its own."""

    def forward(self, activations):
        quantized, token_scale = quantize_rows(activations)
        return quantized * token_scale


def _linear_layers(model):
    """(name, module) of every linear layer save the routers' classifiers; a tied head is one of them."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(("router.classifier", "block_sparse_moe.gate"))
    ]
