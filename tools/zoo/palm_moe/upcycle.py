"""Sparse upcycling (Komatsuzaki et al. 2022): a trained dense model as the start of one with experts.

A dense feed-forward as wide as the k experts of a token together is divided into k parts. Expert e
gets part e % k, and the experts of one group (those of equal e // k) one and the same row in the
router. So at first a whole group is chosen with equal weights, and the sparse model computes
what the dense one did; training then tells the experts of a group and the groups apart.
"""

import torch

from .model import PalmMoe


def divided(dense, sparse, experts, k):
    """{name of the sparse model: tensor}: the blocks `dense` ("...mlp.") shared out to `sparse` ("...moe.experts.")."""
    out = {}
    for e in range(experts):
        part = e % k
        for name in ("gate_proj", "up_proj"):
            out[f"{sparse}{e}.{name}.weight"] = dense[name].chunk(k, 0)[part].clone()
        # Weights of the chosen are 1/k each at first.
        out[f"{sparse}{e}.down_proj.weight"] = k * dense["down_proj"].chunk(k, 1)[part]
    return out


def grouped(router, k):
    """Router rows [m, D] of which the k of a group are equal."""
    m = len(router)
    return router[::k].repeat_interleave(k, 0)[:m].clone()


def block(state, prefix):
    return {name: state[f"{prefix}{name}.weight"] for name in ("gate_proj", "up_proj", "down_proj")}


def sparse_weights(state, model: PalmMoe):
    """The state dictionary for `model` from the one of a dense model with equal active multiply-adds."""
    cfg = model.cfg
    new = model.state_dict()
    m, k = cfg["num_experts"], cfg["num_experts_per_tok"]
    if cfg["router"] != "softmax" or cfg["expert_activations"] or (m and m % k):
        raise ValueError("upcycling needs a softmax router, SwiGLU experts and groups of equal size")
    out = {}
    for stack in ("encoder", "decoder"):
        for i in cfg[f"{stack}_sparse_layers"]:
            layer = f"{stack}.layers.{i}."
            out |= divided(block(state, layer + "mlp."), layer + "moe.experts.", m, k)
            out[layer + "moe.router.weight"] = grouped(new[layer + "moe.router.weight"], k)
    if cfg["mixture"] and "mixture.experts.1.up_proj.weight" not in state:
        mix = cfg["mixture"]
        m, k = mix["num_experts"], mix["num_experts_per_tok"]
        out |= divided(block(state, "mixture.experts.0."), "mixture.experts.", m, k)
        out["mixture.router.weight"] = grouped(new["mixture.router.weight"], k)
    out = {name: out.get(name, state.get(name)) for name in new}
    wrong = [n for n, t in out.items() if t is None or t.shape != new[n].shape]
    if wrong:
        raise ValueError(f"{wrong[0]} of the dense model is missing or of another size than "
                         f"{tuple(new[wrong[0]].shape)}: its widths must be those of k experts together")
    return {n: torch.as_tensor(t) for n, t in out.items()}


def load(model, state):
    """Give `model` the weights of `state`: of its own kind, or of a dense model."""
    if state.keys() != model.state_dict().keys():
        state = sparse_weights(state, model)
    model.load_state_dict(state)
