"""The family "palm_moe" in plain PyTorch: this file is its definition.

An encoder-decoder after PaLM: attention and feed-forward side by side in a layer, SwiGLU,
multi-query attention, rotary positions, RMS norm, no biases, one shared embedding. Layers may
hold a top-k mixture of experts, and a mixture block, gated once for the whole input, may stand
between encoder and decoder. README.md has the keys of the configuration and the formulas.

`state_dict()` has exactly the tensor names of a model folder. Everything here runs in the type
of the weights (float32 for reference values); fast.py has the same forward pass for training.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}   # gelu: the exact one, with erf
GATED = {"swiglu": "silu", "geglu": "gelu", "reglu": "relu"}

DEFAULTS = dict(
    architectures=["PalmMoeForConditionalGeneration"], model_type="palm_moe",
    num_kv_heads=1, d_ff=0, num_experts=0, num_experts_per_tok=0, expert_d_ff=0,
    encoder_sparse_layers=[], decoder_sparse_layers=[], router="softmax", expert_capacity=0,
    expert_activations=None, mixture=None, rope_theta=10000.0, max_positions=64,
    rms_norm_eps=1e-6, tie_word_embeddings=True,
    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
)


def config(**keys):
    """A whole config.json as a dictionary: DEFAULTS, then `keys`; checked."""
    cfg = {**DEFAULTS, **keys}
    for key in ("vocab_size", "d_model", "num_heads", "head_dim",
                "num_encoder_layers", "num_decoder_layers"):
        if not cfg.get(key, 0) > 0:
            raise ValueError(f"the configuration lacks {key}")
    if cfg["num_heads"] % cfg["num_kv_heads"] or cfg["head_dim"] % 2:
        raise ValueError("num_kv_heads must divide num_heads, and head_dim be even")
    sparse = len(cfg["encoder_sparse_layers"]) + len(cfg["decoder_sparse_layers"])
    if sparse and not 0 < cfg["num_experts_per_tok"] <= cfg["num_experts"]:
        raise ValueError("num_experts_per_tok must be from 1 to num_experts")
    kinds = cfg["expert_activations"]
    if kinds and (len(kinds) != cfg["num_experts"] or not set(kinds) <= {*GATED, *ACTIVATIONS}):
        raise ValueError("expert_activations must name a known activation for each expert")
    if cfg["router"] not in ("softmax", "position", "hash") or not cfg["tie_word_embeddings"]:
        raise ValueError("unknown router, or embeddings that are not tied")
    mix = cfg["mixture"]
    if mix and (mix["kind"] not in ("feed_forward", "layer")
                or not 0 < mix["num_experts_per_tok"] <= mix["num_experts"]):
        raise ValueError("mixture must be of kind feed_forward or layer, with k from 1 to m")
    return cfg


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


class RMSNorm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(cfg["d_model"]))
        self.eps = cfg["rms_norm_eps"]

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(positions, dim, theta):
    """cos and sin of position * theta^(-2j/dim): [positions, dim / 2] each."""
    angle = torch.arange(positions)[:, None] * theta ** (-2 * torch.arange(dim // 2) / dim)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Rotary embedding of x [..., positions, dim]: the pairs are j and j + dim / 2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, cfg, cross=False):
        super().__init__()
        d, self.dim = cfg["d_model"], cfg["head_dim"]
        self.heads, self.kv_heads = cfg["num_heads"], cfg["num_kv_heads"]
        self.q_proj = linear(d, self.heads * self.dim)
        self.k_proj = linear(d, self.kv_heads * self.dim)
        self.v_proj = linear(d, self.kv_heads * self.dim)
        self.o_proj = linear(self.heads * self.dim, d)
        self.cross = cross
        self.positions, self.theta = cfg["max_positions"], cfg["rope_theta"]
        self.dropout = 0.0

    def split(self, x, heads):
        return x.view(*x.shape[:-1], heads, self.dim).transpose(-2, -3)    # [B, heads, L, dim]

    def forward(self, h, memory=None, causal=False, mask=None, cache=None):
        """h [B, L, D]. mask [B, LK]: True where a key may be seen. cache: a dictionary that
        holds the keys and values of the positions before h (self), or of the memory (cross)."""
        q = self.split(self.q_proj(h), self.heads)
        past = 0
        if self.cross:
            if cache and "k" in cache:
                k, v = cache["k"], cache["v"]
            else:
                k = self.split(self.k_proj(memory), self.kv_heads)
                v = self.split(self.v_proj(memory), self.kv_heads)
        else:
            k = self.split(self.k_proj(h), self.kv_heads)
            v = self.split(self.v_proj(h), self.kv_heads)
            past = cache["k"].shape[-2] if cache else 0
            cos, sin = (t[past:past + h.shape[1]].to(q.dtype)
                        for t in rope_tables(past + h.shape[1], self.dim, self.theta))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            if past:
                k, v = torch.cat([cache["k"], k], -2), torch.cat([cache["v"], v], -2)
        if cache is not None:
            cache["k"], cache["v"] = k, v
        group = self.heads // self.kv_heads       # query head i uses key/value head i // group
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.dim)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        if causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(past)
            scores = scores.masked_fill(~seen, float("-inf"))
        p = drop(torch.softmax(scores.float(), -1).to(v.dtype), self)
        return self.o_proj((p @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """down(act(gate h) * up h), or down(act(up h)) for the ungated kinds."""

    def __init__(self, cfg, width, kind="swiglu"):
        super().__init__()
        if kind in GATED:
            self.gate_proj = linear(cfg["d_model"], width)
        self.up_proj = linear(cfg["d_model"], width)
        self.down_proj = linear(width, cfg["d_model"])
        self.act = ACTIVATIONS[GATED.get(kind, kind)]
        self.gated = kind in GATED
        self.kind = kind
        self.dropout = 0.0

    def forward(self, h):
        up = self.up_proj(h)
        return self.down_proj(drop(self.act(self.gate_proj(h)) * up if self.gated else self.act(up),
                                   self))


def drop(x, module):
    return F.dropout(x, module.dropout) if module.training and module.dropout else x


def choose(p, k):
    """Indices [.., k] of the k greatest, best first, the lower index among equals; and their
    weights, which sum to one."""
    expert = torch.sort(p, dim=-1, descending=True, stable=True).indices[..., :k]
    w = p.gather(-1, expert)
    return expert, w / w.sum(-1, keepdim=True)


class Gate(nn.Module):
    """Common to both mixtures: a router by softmax, statistics, and what experiments need.

    force: every input goes to this expert alone; knock_out: this expert is never chosen.
    record: append (experts, weights) of every call to `log`.
    """

    def __init__(self, m, k):
        super().__init__()
        self.m, self.k = m, k
        self.force = self.knock_out = None
        self.record, self.log = False, []
        self.balance = self.z = None      # of the last call in training

    def by_softmax(self, logits, keep=None):
        p = torch.softmax(logits.float(), -1)
        seen = p
        if self.knock_out is not None:
            seen = p.index_fill(-1, torch.tensor([self.knock_out]), -1.0)
        expert, w = choose(seen, self.k)
        if self.training:
            self.statistics(logits.float(), p, expert, keep)
        return self.note(expert, w)

    def note(self, expert, w):
        if self.force is not None:
            expert = torch.full_like(expert[..., :1], self.force)
            w = torch.ones_like(w[..., :1])
        if self.record:
            self.log.append((expert, w))
        return expert, w

    def statistics(self, logits, p, expert, keep):
        """Load balancing loss of the Switch Transformer (over all k choices) and z-loss."""
        logits, p = logits.reshape(-1, self.m), p.reshape(-1, self.m)
        expert = expert.reshape(-1, self.k)
        if keep is not None:
            logits, p, expert = (t[keep.reshape(-1)] for t in (logits, p, expert))
        share = torch.bincount(expert.flatten(), minlength=self.m) / max(1, expert.numel())
        self.balance = self.m * (share * p.mean(0)).sum()
        self.z = torch.logsumexp(logits, -1).pow(2).mean()


class Router(nn.Module):
    def __init__(self, cfg, m, kind="softmax"):
        super().__init__()
        if kind == "softmax":
            self.weight = nn.Parameter(torch.empty(m, cfg["d_model"]))
        elif kind == "hash":
            self.register_buffer("table", torch.arange(cfg["vocab_size"]) % m)


class SparseFF(Gate):
    """sum over the k chosen experts of w_i E_i(h), chosen for each token."""

    def __init__(self, cfg, encoder):
        super().__init__(cfg["num_experts"], cfg["num_experts_per_tok"])
        self.kind = cfg["router"]
        kinds = cfg["expert_activations"] or ["swiglu"] * self.m
        self.router = Router(cfg, self.m, self.kind)
        self.experts = nn.ModuleList(FeedForward(cfg, cfg["expert_d_ff"], kind) for kind in kinds)
        self.capacity = cfg["expert_capacity"] if encoder else 0

    def route(self, h, ids, first, keep=None):
        """(experts, weights) [B, L, k] for tokens h [B, L, D] at positions first, first + 1..."""
        if self.kind == "softmax":
            return self.by_softmax(F.linear(h.float(), self.router.weight.float()), keep)
        if self.kind == "hash":
            start = self.router.table.long()[ids]
        else:
            start = (first + torch.arange(h.shape[1])).expand(h.shape[:2])
        expert = (start[..., None] + torch.arange(self.k)) % self.m
        return self.note(expert, torch.full(expert.shape, 1 / self.k))

    def forward(self, h, ids=None, first=0, keep=None):
        expert, w = self.route(h, ids, first, keep)
        if self.capacity and not self.training:
            # Assignments queue in token order, best rank first; those beyond the capacity of
            # their expert in this sequence add nothing. Padding takes no room.
            b, n, k = expert.shape
            one = F.one_hot(expert.reshape(b, n * k), self.m)
            if keep is not None:
                one = one * keep.repeat_interleave(k, 1)[..., None]
            ahead = ((one.cumsum(1) - one) * one).sum(-1).view(b, n, k)
            w = w * (ahead < self.capacity)
        share = torch.zeros(*h.shape[:2], self.m).scatter(-1, expert, w)   # zero: not chosen
        y = 0
        for e, ff in enumerate(self.experts):
            y = y + share[..., e:e + 1].to(h.dtype) * ff(h)
        return y


class Experts(nn.Module):
    """Inner part of a parallel layer, SelfAttn(h) + FF(h), without norm and residual."""

    def __init__(self, cfg, width):
        super().__init__()
        self.self_attn = Attention(cfg)
        self.mlp = FeedForward(cfg, width)

    def forward(self, h, mask=None):
        return self.self_attn(h, mask=mask) + self.mlp(h)


class Mixture(Gate):
    """The block between encoder and decoder: experts chosen once for the whole input."""

    def __init__(self, cfg):
        mix = cfg["mixture"]
        super().__init__(mix["num_experts"], mix["num_experts_per_tok"])
        self.layer = mix["kind"] == "layer"
        self.norm = RMSNorm(cfg)
        self.router = Router(cfg, self.m)
        self.experts = nn.ModuleList(
            Experts(cfg, mix["d_ff"]) if self.layer else FeedForward(cfg, mix["d_ff"])
            for _ in range(self.m))
        self.dropout = 0.0

    def route(self, h, mask):
        if mask is None:
            z = h.float().mean(1)
        else:
            z = (h.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.by_softmax(F.linear(z, self.router.weight.float()))

    def forward(self, x, mask=None):
        h = self.norm(x)
        expert, w = self.route(h, mask)                                     # [B, k]
        share = torch.zeros(len(h), self.m).scatter(-1, expert, w)
        y = torch.zeros_like(x)
        for e, inner in enumerate(self.experts):
            at = (share[:, e] > 0).nonzero().flatten()
            if len(at):
                out = inner(h[at], mask[at] if mask is not None else None) if self.layer \
                    else inner(h[at])
                y = y.index_add(0, at, share[at, e, None, None].to(x.dtype) * out)
        return x + drop(y, self)


class EncoderLayer(nn.Module):
    def __init__(self, cfg, sparse):
        super().__init__()
        self.norm = RMSNorm(cfg)
        self.self_attn = Attention(cfg)
        if sparse:
            self.moe = SparseFF(cfg, encoder=True)
        else:
            self.mlp = FeedForward(cfg, cfg["d_ff"])
        self.sparse = sparse
        self.dropout = 0.0

    def feed_forward(self, h, ids, first, keep):
        return self.moe(h, ids, first, keep) if self.sparse else self.mlp(h)

    def forward(self, x, ids, mask):
        h = self.norm(x)
        return x + drop(self.self_attn(h, mask=mask) + self.feed_forward(h, ids, 0, mask), self)


class DecoderLayer(EncoderLayer):
    def __init__(self, cfg, sparse):
        super().__init__(cfg, sparse)
        self.self_norm = RMSNorm(cfg)
        self.cross_attn = Attention(cfg, cross=True)
        if sparse:
            self.moe.capacity = 0

    def forward(self, x, ids, memory, mask, keep=None, cache=None):
        own, cross = (cache["self"], cache["cross"]) if cache is not None else (None, None)
        first = own["k"].shape[-2] if own else 0
        h = self.self_norm(x)
        x = x + drop(self.self_attn(h, causal=True, cache=own), self)
        h = self.norm(x)
        return x + drop(self.cross_attn(h, memory, mask=mask, cache=cross)
                        + self.feed_forward(h, ids, first, keep), self)


class Stack(nn.Module):
    def __init__(self, cfg, decoder):
        super().__init__()
        n = cfg["num_decoder_layers"] if decoder else cfg["num_encoder_layers"]
        sparse = cfg["decoder_sparse_layers"] if decoder else cfg["encoder_sparse_layers"]
        kind = DecoderLayer if decoder else EncoderLayer
        self.layers = nn.ModuleList(kind(cfg, i in sparse) for i in range(n))
        self.final_norm = RMSNorm(cfg)
        self.dropout = 0.0


class PalmMoe(nn.Module):
    def __init__(self, cfg, dropout=0.0):
        super().__init__()
        self.cfg = cfg = config(**cfg)
        self.shared = nn.Embedding(cfg["vocab_size"], cfg["d_model"])
        self.encoder = Stack(cfg, decoder=False)
        self.mixture = Mixture(cfg) if cfg["mixture"] else None
        self.decoder = Stack(cfg, decoder=True)
        self.set_dropout(dropout)
        self.init_weights()

    def set_dropout(self, p):
        """One rate for embeddings, attention weights, hidden and residual values."""
        self.dropout = p
        for m in self.modules():
            if hasattr(m, "dropout"):
                m.dropout = p

    def init_weights(self):
        """Normal with a deviation of one over the root of the inputs, half of that where a
        layer adds to the residual stream; unit embeddings."""
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 1.0 if name == "shared.weight" else p.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= 2
                nn.init.normal_(p, 0.0, std)

    def gates(self):
        """{name: mixture} of every routed part, in order."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Gate)}

    def encode(self, src, src_mask=None):
        """Memory [B, S, D] of source ids; src_mask [B, S] is True on what is not padding."""
        x = drop(self.shared(src), self.encoder)
        for layer in self.encoder.layers:
            x = layer(x, src, src_mask)
        if self.mixture is not None:
            x = self.mixture(x, src_mask)
        return drop(self.encoder.final_norm(x), self.encoder)

    def decode(self, dec_in, memory, src_mask=None, keep=None, cache=None):
        """Logits [B, T, V]. With a cache of `new_cache`, dec_in are the next tokens only."""
        x = drop(self.shared(dec_in), self.decoder)
        for i, layer in enumerate(self.decoder.layers):
            x = layer(x, dec_in, memory, src_mask, keep, cache[i] if cache else None)
        x = drop(self.decoder.final_norm(x), self.decoder)
        return F.linear(x * self.cfg["d_model"] ** -0.5, self.shared.weight)

    def new_cache(self):
        return [{"self": {}, "cross": {}} for _ in self.decoder.layers]

    def forward(self, src, dec_in, src_mask=None, keep=None):
        """Logits [B, T, V]. keep [B, T] marks real target positions, for the statistics."""
        return self.decode(dec_in, self.encode(src, src_mask), src_mask, keep)

    def auxiliary(self, balance=0.01, z=1e-3):
        """The routers' losses of the last forward pass in training."""
        return sum(balance * g.balance + z * g.z for g in self.gates().values()
                   if g.balance is not None)

    @torch.no_grad()
    def greedy(self, src, max_len=None, src_mask=None):
        """Greedy decoding: lists of ids without start token and end token."""
        cfg = self.cfg
        max_len = min(max_len or cfg["max_positions"], cfg["max_positions"])
        memory, cache = self.encode(src, src_mask), self.new_cache()
        nxt = torch.full((len(src), 1), cfg["decoder_start_token_id"])
        out = [[] for _ in src]
        alive = torch.arange(len(src))
        for _ in range(max_len):
            nxt = self.decode(nxt, memory, src_mask, cache=cache)[:, -1].argmax(-1, keepdim=True)
            go = nxt[:, 0] != cfg["eos_token_id"]
            for row, token in zip(alive[go].tolist(), nxt[go, 0].tolist()):
                out[row].append(token)
            if not go.all():
                alive, nxt, memory = alive[go], nxt[go], memory[go]
                src_mask = src_mask[go] if src_mask is not None else None
                for layer in cache:
                    for part in layer.values():
                        part.update({name: t[go] for name, t in part.items()})
            if not len(alive):
                break
        return out
