#!/usr/bin/env python3
"""Compares decoding step by step with the full forward pass, fast.py with model.py, and a dense
model with the sparse one made from it.

    python -m palm_moe.selfcheck
"""

import sys

import torch
import torch.nn.functional as F

from . import fast, upcycle
from .model import PalmMoe
from .muon import orthogonal

BASE = dict(vocab_size=50, d_model=64, num_heads=4, num_kv_heads=1, head_dim=32,
            num_encoder_layers=3, num_decoder_layers=2, d_ff=64, num_experts=4,
            num_experts_per_tok=2, expert_d_ff=32, max_positions=64)
CASES = {
    "dense": {},
    "sparse": dict(encoder_sparse_layers=[0, 1, 2], decoder_sparse_layers=[0, 1]),
    "grouped queries, k 1": dict(num_kv_heads=2, num_experts_per_tok=1, encoder_sparse_layers=[1],
                                 decoder_sparse_layers=[1]),
    "router by position": dict(encoder_sparse_layers=[0, 2], decoder_sparse_layers=[0],
                               router="position"),
    "router by hash": dict(encoder_sparse_layers=[0, 2], decoder_sparse_layers=[0], router="hash"),
    "mixture of feed-forwards": dict(mixture=dict(
        num_experts=5, num_experts_per_tok=2, kind="feed_forward", d_ff=48)),
    "mixture of layers": dict(encoder_sparse_layers=[1], mixture=dict(
        num_experts=3, num_experts_per_tok=1, kind="layer", d_ff=32)),
    "other activations": dict(encoder_sparse_layers=[0, 1, 2], decoder_sparse_layers=[0, 1],
                              expert_activations=["geglu", "relu", "gelu", "silu"]),
    "reglu": dict(encoder_sparse_layers=[0, 1, 2], expert_activations=["reglu"] * 4),
}


def steps(model, src, tgt, mask):
    """Largest difference of logits: one token at a time with caches, against all at once."""
    with torch.no_grad():
        memory, cache = model.encode(src, mask), model.new_cache()
        whole = model.decode(tgt, memory, mask)
        one = torch.cat([model.decode(tgt[:, i:i + 1], memory, mask, cache=cache)
                         for i in range(tgt.shape[1])], 1)
    return float((whole - one).abs().max())


def padding(model, src, tgt, mask):
    """Largest difference of logits: with padding, against each source alone."""
    with torch.no_grad():
        whole = model(src, tgt, mask)
        return max(float((model(src[i:i + 1, :int(m.sum())], tgt[i:i + 1]) - whole[i]).abs().max())
                   for i, m in enumerate(mask))


def gradients(model, src, tgt, mask, keep):
    """(name, cosine) of the gradient that differs most between plain and fused."""
    grads, aux = [], []
    for forward in (fast.plain, fast.forward):
        model.zero_grad()
        logits, extra = forward(model, src, tgt, keep, mask)
        loss = F.cross_entropy(logits.flatten(0, 1), tgt.roll(-1, 1).flatten(), reduction="none")
        (loss[keep.flatten()].mean() + extra).backward()
        grads.append({k: p.grad.flatten() for k, p in model.named_parameters()
                      if p.grad is not None and float(p.grad.norm()) > 1e-7})
        aux.append(float(torch.as_tensor(extra).detach()))
    if grads[0].keys() != grads[1].keys():
        raise SystemExit(f"gradients differ: {grads[0].keys() ^ grads[1].keys()}")
    if abs(aux[0] - aux[1]) > 0.02 * abs(aux[0]):
        raise SystemExit(f"router losses differ: {aux}")
    cosine = {k: float(F.cosine_similarity(g, grads[1][k], 0)) for k, g in grads[0].items()}
    ratio = {k: float(g.norm() / grads[1][k].norm()) for k, g in grads[0].items()}
    off = max(ratio, key=lambda k: abs(ratio[k] - 1))
    low = min(cosine, key=cosine.get)
    return low, cosine[low], off, ratio[off]


def singular_values():
    """Smallest and largest singular value of what Muon applies: about one."""
    torch.manual_seed(3)
    both = torch.cat([torch.linalg.svdvals(orthogonal(torch.randn(4, *shape), 5)).flatten()
                      for shape in ((64, 64), (32, 128), (128, 64))])
    return float(both.quantile(0.05)), float(both.max())


def upcycled(src, tgt, mask):
    """Largest difference of logits between a dense model and the sparse one that starts from it."""
    def mixture(m, k, width):
        return dict(num_experts=m, num_experts_per_tok=k, kind="feed_forward", d_ff=width)
    torch.manual_seed(3)
    dense = PalmMoe(dict(BASE, mixture=mixture(1, 1, 96))).eval()
    sparse = PalmMoe(dict(BASE, encoder_sparse_layers=[0, 2], decoder_sparse_layers=[1],
                          mixture=mixture(4, 2, 48))).eval()
    upcycle.load(sparse, dense.state_dict())
    with torch.no_grad():
        return float((dense(src, tgt, mask) - sparse(src, tgt, mask)).abs().max())


def main():
    low, high = singular_values()
    print(f"Muon: singular values from {low:.2f} (19 of 20) to {high:.2f}")
    bad = not (low > 0.3 and high < 1.5)
    for name, extra in CASES.items():
        torch.manual_seed(3)
        model = PalmMoe(dict(BASE, **extra)).eval()
        src, tgt = torch.randint(3, 50, (12, 20)), torch.randint(3, 50, (12, 18))
        mask = torch.arange(20)[None] < torch.randint(9, 21, (12, 1))
        keep = torch.arange(18)[None] < torch.randint(5, 19, (12, 1))
        a, b = steps(model, src, tgt, mask), padding(model, src, tgt, mask)
        line = f"{name}: step by step {a:.1e}, padding {b:.1e}"
        bad |= not (a < 1e-4 and b < 1e-4)
        if fast.usable(model.cfg):
            model.train()
            low, cosine, off, ratio = gradients(model, src, tgt, mask, keep)
            line += f", fused: smallest cosine {cosine:.4f} ({low}), norm ratio {ratio:.3f} ({off})"
            bad |= not (cosine > 0.95 and 0.9 < ratio < 1.1)  # rounding may send a token elsewhere
        print(line, flush=True)
    off = upcycled(src, tgt, mask)
    print(f"sparse model made from a dense one: {off:.1e}")
    bad |= not off < 1e-4
    if bad:
        sys.exit("selfcheck failed")


if __name__ == "__main__":
    main()
