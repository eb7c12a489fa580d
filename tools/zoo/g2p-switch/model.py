"""A compact Switch Transformer whose parameters carry Hugging Face's names.

The module computes what `SwitchTransformersForConditionalGeneration` of
transformers 4.56.2 computes at inference, but is written for fast training on
short sequences:

* every batch holds source words of one length, so the encoder needs no padding
  mask; padded target positions stand last and are hidden by causality;
* tokens are sorted by expert, so only the chosen expert is computed;
* softmax, gate and loss are kept in float32, the rest follows the weights.

`state_dict()` has exactly the names of the Hugging Face checkpoint.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class MaskPool:
    """Dropout masks cut from a pool of random masks at a random offset.

    Drawing fresh Bernoulli numbers for every activation took a sixth of the training time
    on a CPU; cutting from a pool of four million, renewed by `refresh`, is nearly free.
    """

    SIZE = 1 << 22

    def __init__(self):
        self.pools = {}

    def refresh(self):
        self.pools.clear()

    def __call__(self, x, p):
        pool = self.pools.get((p, x.dtype))
        if pool is None:
            pool = (torch.rand(self.SIZE) >= p).to(x.dtype) / (1 - p)
            self.pools[(p, x.dtype)] = pool
        n = x.numel()
        if p == 0 or n > self.SIZE // 2:
            return F.dropout(x, p)
        at = int(torch.randint(self.SIZE - n, ()))
        return x * pool[at:at + n].view(x.shape)


drop = MaskPool()


def linear(x, *weights):
    """x times the transposed, stacked weights."""
    w = torch.cat(weights) if len(weights) > 1 else weights[0]
    return F.linear(x, w)


def softmax(x):
    """Softmax over a short last dimension; torch's own is five times slower there."""
    e = (x - x.detach().amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


class RMSNorm(nn.Module):
    """T5 layer norm: scale only, no mean, no bias."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(cfg["d_model"]))
        self.eps = cfg["layer_norm_epsilon"]

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def relative_buckets(q_len, k_len, bidirectional, num_buckets, max_distance):
    """Bucket number of every (query, key) pair: integer tensor [q_len, k_len]."""
    rel = torch.arange(k_len)[None, :] - torch.arange(q_len)[:, None]
    out = torch.zeros_like(rel)
    if bidirectional:
        num_buckets //= 2
        out += (rel > 0).long() * num_buckets
        rel = rel.abs()
    else:
        rel = -rel.clamp(max=0)
    exact = num_buckets // 2
    far = exact + (
        torch.log(rel.float() / exact) / math.log(max_distance / exact) * (num_buckets - exact)
    ).long()
    return out + torch.where(rel < exact, rel, far.clamp(max=num_buckets - 1))


class Attention(nn.Module):
    """Multi-head attention without 1/sqrt(d) scaling (T5 folds it into the weights)."""

    def __init__(self, cfg, has_bias):
        super().__init__()
        d, self.heads, self.d_kv = cfg["d_model"], cfg["num_heads"], cfg["d_kv"]
        inner = self.heads * self.d_kv
        self.q = nn.Linear(d, inner, bias=False)
        self.k = nn.Linear(d, inner, bias=False)
        self.v = nn.Linear(d, inner, bias=False)
        self.o = nn.Linear(inner, d, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(
                cfg["relative_attention_num_buckets"], self.heads
            )
        self.dropout = cfg["dropout_rate"]

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, self.d_kv).transpose(1, 2)

    def forward(self, x, memory=None, bias=None):
        """`memory`: keys and values come from it (cross attention); `bias` [1, H, Q, K]."""
        if memory is None:
            q, k, v = linear(x, self.q.weight, self.k.weight, self.v.weight).chunk(3, -1)
        else:
            q = linear(x, self.q.weight)
            k, v = linear(memory, self.k.weight, self.v.weight).chunk(2, -1)
        q, k, v = self.split(q), self.split(k), self.split(v)
        return self.attend(q, k, v, bias)

    def attend(self, q, k, v, bias):
        scores = torch.matmul(q, k.transpose(2, 3))
        if bias is not None:
            scores = scores + bias
        prob = softmax(scores)
        if self.training:
            prob = drop(prob, self.dropout)
        out = torch.matmul(prob, v).transpose(1, 2)
        return linear(out.reshape(out.shape[0], out.shape[1], -1), self.o.weight)


class DenseFF(nn.Module):
    """wi, relu, dropout, wo."""

    def __init__(self, cfg):
        super().__init__()
        self.wi = nn.Linear(cfg["d_model"], cfg["d_ff"], bias=False)
        self.wo = nn.Linear(cfg["d_ff"], cfg["d_model"], bias=False)
        self.dropout = cfg["dropout_rate"]

    def forward(self, x):
        h = F.relu(linear(x, self.wi.weight))
        if self.training:
            h = drop(h, self.dropout)
        return linear(h, self.wo.weight)


class Spread(torch.autograd.Function):
    """Rows of x to the places `slot` of a longer, otherwise zero tensor, and back."""

    @staticmethod
    def forward(ctx, x, slot, rows):
        ctx.save_for_backward(slot)
        return x.new_zeros(rows, x.shape[1]).index_copy_(0, slot, x)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class Collect(torch.autograd.Function):
    """The inverse of Spread: rows `slot` of x; each slot occurs once (no scatter-add)."""

    @staticmethod
    def forward(ctx, x, slot):
        ctx.save_for_backward(slot)
        ctx.rows = x.shape[0]
        return x.index_select(0, slot)

    @staticmethod
    def backward(ctx, grad):
        slot, = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, grad.shape[1]).index_copy_(0, slot, grad), None


class Router(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.classifier = nn.Linear(cfg["d_model"], cfg["num_experts"], bias=False)


class SparseFF(nn.Module):
    """Top-1 mixture of experts; the gate is the winner's softmax probability."""

    def __init__(self, cfg):
        super().__init__()
        self.router = Router(cfg)
        self.experts = nn.ModuleDict(
            {f"expert_{i}": DenseFF(cfg) for i in range(cfg["num_experts"])}
        )
        self.n = cfg["num_experts"]
        self.jitter = cfg["router_jitter_noise"]
        self.keep = None    # bool mask of real (not padded) tokens, set by the model
        self.aux = None     # load balancing loss of the last training forward
        self.counts = None  # tokens per expert in the last forward

    def route(self, x):
        """Gate [N], expert [N], probabilities [N, E], logits [N, E] for tokens x [N, d]."""
        x = x.float()
        if self.training and self.jitter > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        logits = F.linear(x, self.router.classifier.weight)
        probs = torch.softmax(logits, -1)
        gate, expert = probs.max(-1)
        return gate, expert, probs, logits

    def forward(self, x):
        return self.mix(x.reshape(-1, x.shape[-1]), lambda expert, rows: expert(rows)).view(x.shape)

    def mix(self, x, run):
        """Gated expert outputs for rows x [N, d]; `run(expert, rows)` computes one expert."""
        gate, expert, probs, logits = self.route(x)
        # Every expert gets a slice of rows, rounded up to a multiple of 64 so that the matrix
        # products meet few different shapes (each new one costs a code generation in oneDNN).
        counts = torch.bincount(expert, minlength=self.n)
        sizes = (counts + 63) // 64 * 64 if x.dtype == torch.bfloat16 else counts
        order = torch.argsort(expert, stable=True)
        shift = (sizes.cumsum(0) - sizes) - (counts.cumsum(0) - counts)
        slot = torch.empty_like(order)
        slot[order] = torch.arange(len(order)) + shift.repeat_interleave(counts)
        parts = Spread.apply(x, slot, int(sizes.sum())).split(sizes.tolist())
        y = torch.cat([run(self.experts[f"expert_{i}"], p) for i, p in enumerate(parts) if len(p)])
        y = Collect.apply(y, slot) * gate[:, None]
        if self.keep is not None:  # statistics must not see padding
            keep = self.keep.reshape(-1)
            expert, probs, logits = expert[keep], probs[keep], logits[keep]
            counts = torch.bincount(expert, minlength=self.n)
        self.counts = counts
        if self.training:
            # Switch Transformer eq. 4-6, over the whole batch, plus the router z-loss.
            share = counts.float() / max(1, len(expert))
            self.aux = self.n * (share * probs.mean(0)).sum()
            self.z = torch.logsumexp(logits, -1).pow(2).mean()
        return y


class Sub(nn.Module):
    """Pre-norm residual sub-layer around one named inner module, as Hugging Face nests it."""

    def __init__(self, cfg, name, inner):
        super().__init__()
        setattr(self, name, inner)
        self.name = name
        self.layer_norm = RMSNorm(cfg)
        self.dropout = cfg["dropout_rate"]

    def forward(self, x, *args):
        y = getattr(self, self.name)(self.layer_norm(x), *args)
        if self.training:
            y = drop(y, self.dropout)
        return x + y


class Block(nn.Module):
    def __init__(self, cfg, index, sparse, decoder):
        super().__init__()
        layers = [Sub(cfg, "SelfAttention", Attention(cfg, has_bias=index == 0))]
        if decoder:
            layers.append(Sub(cfg, "EncDecAttention", Attention(cfg, has_bias=False)))
        layers.append(Sub(cfg, "mlp", SparseFF(cfg) if sparse else DenseFF(cfg)))
        self.layer = nn.ModuleList(layers)


class Stack(nn.Module):
    def __init__(self, cfg, decoder):
        super().__init__()
        self.cfg, self.decoder = cfg, decoder
        n = cfg["num_decoder_layers"] if decoder else cfg["num_layers"]
        m = cfg["num_sparse_decoder_layers"] if decoder else cfg["num_sparse_encoder_layers"]
        step = n // m if m else 0
        self.block = nn.ModuleList(
            Block(cfg, i, step > 0 and (i % step == 1 or step == 1), decoder) for i in range(n)
        )
        self.final_layer_norm = RMSNorm(cfg)
        self.buckets = {}

    def bias(self, q_len, masked=True):
        """Relative position bias, with the causal mask in the decoder: [1, H, Q, Q]."""
        if q_len not in self.buckets:
            idx = relative_buckets(
                q_len, q_len, not self.decoder,
                self.cfg["relative_attention_num_buckets"],
                self.cfg["relative_attention_max_distance"],
            )
            mask = torch.full((q_len, q_len), float("-inf")).triu(1) if self.decoder else None
            self.buckets[q_len] = (idx, mask)
        idx, mask = self.buckets[q_len]
        table = self.block[0].layer[0].SelfAttention.relative_attention_bias
        bias = table(idx).permute(2, 0, 1)[None]
        return bias + mask if masked and mask is not None else bias

    def forward(self, x, memory=None):
        if self.training:
            x = drop(x, self.cfg["dropout_rate"])
        bias = self.bias(x.shape[1])
        for block in self.block:
            x = block.layer[0](x, None, bias)
            if self.decoder:
                x = block.layer[1](x, memory)
            x = block.layer[-1](x)
        x = self.final_layer_norm(x)
        if self.training:
            x = drop(x, self.cfg["dropout_rate"])
        return x


class Switch(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.shared = nn.Embedding(cfg["vocab_size"], cfg["d_model"])
        self.encoder = Stack(cfg, decoder=False)
        self.decoder = Stack(cfg, decoder=True)
        self.init_weights()

    def init_weights(self):
        """The initialisation of T5 / Hugging Face, which needs no attention scaling."""
        d, kv, ff = self.cfg["d_model"], self.cfg["d_kv"], self.cfg["d_ff"]
        inner = self.cfg["num_heads"] * kv
        std = {"q": (d * kv) ** -0.5, "k": d**-0.5, "v": d**-0.5, "o": inner**-0.5,
               "wi": d**-0.5, "wo": ff**-0.5, "classifier": d**-0.5,
               "relative_attention_bias": d**-0.5, "shared": 1.0}
        for name, p in self.named_parameters():
            if "layer_norm" not in name:
                nn.init.normal_(p, 0.0, std[name.split(".")[-2]])

    def sparse_layers(self):
        return [(n, m) for n, m in self.named_modules() if isinstance(m, SparseFF)]

    def encode(self, src):
        return self.encoder(self.shared(src))

    def decode(self, dec_in, memory):
        hidden = self.decoder(self.shared(dec_in), memory)
        return linear(hidden * self.cfg["d_model"] ** -0.5, self.shared.weight)

    def forward(self, src, dec_in, keep=None):
        """Logits [B, T, V]. `keep` marks the real target positions (for the statistics)."""
        for name, m in self.sparse_layers():
            m.keep = keep if name.startswith("decoder") else None
        return self.decode(dec_in, self.encode(src))

    @torch.no_grad()
    def greedy(self, src, max_len=40):
        """Greedy decoding of same-length sources; lists of ids without start and </s>.

        The decoder is run on the whole prefix: for a handful of phonemes that is as fast
        as keeping caches, and there is nothing to go wrong.
        """
        eos, start = self.cfg["eos_token_id"], self.cfg["decoder_start_token_id"]
        for _, m in self.sparse_layers():
            m.keep = None
        memory = self.encode(src)
        out = torch.full((len(src), 1), start, dtype=torch.long)
        done = torch.full((len(src),), max_len)   # position of </s>, or max_len
        alive = torch.arange(len(src))
        for step in range(1, max_len + 1):
            logits = self.decode(out[alive], memory[alive])[:, -1]
            nxt = torch.full((len(src),), self.cfg["pad_token_id"])
            nxt[alive] = logits.argmax(-1)
            out = torch.cat([out, nxt[:, None]], 1)
            done[alive[nxt[alive] == eos]] = step
            alive = alive[nxt[alive] != eos]
            if len(alive) == 0:
                break
        return [row[1:end].tolist() if end < max_len else row[1:].tolist()
                for row, end in zip(out, done.tolist())]
