"""The training forward pass with fused kernels (fast.c).

It reproduces the plain module and its gradients up to rounding (`python -m palm_moe.selfcheck`
compares them). As attention and a dense feed-forward stand in parallel, they share one product at
the entrance of a layer and one at its exit. The tokens of a sparse layer are sorted by expert, or,
where more than half of the experts are chosen, all of them are computed side by side as one wide
feed-forward, whose hidden values are multiplied by the token's weights.

Activations are float32 or bfloat16, whichever the processor multiplies faster; the residual
stream, norms, softmax and router are float32 in either case.

Needs a C compiler, a head_dim that is a multiple of 32 and gated experts (silu or relu) whose
widths are multiples of 16; `usable` says whether that is so, otherwise use `plain`.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from .model import GATED, rope_tables

LIB = None
ACT = torch.float32     # type of the activations
LMAX = 128      # of fast.c


def faster():
    """The type in which this processor multiplies matrices faster."""
    took = {}
    for kind in (torch.float32, torch.bfloat16):
        x, w = torch.ones(2048, 128, dtype=kind), torch.ones(512, 128, dtype=kind)
        times = []
        for _ in range(40):
            began = time.perf_counter()
            x.mm(w.t())
            times.append(time.perf_counter() - began)
        took[kind] = min(times)
    return min(took, key=took.get)


def build(head_dim):
    """Compile and load the kernels; False when that is not possible."""
    global LIB, ACT
    ACT = faster()
    cc = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if cc is None:
        return False
    with tempfile.TemporaryDirectory() as tmp:
        so = Path(tmp) / "fast.so"
        cmd = [cc, "-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512",
               "-shared", "-fPIC", f"-DDK={head_dim}",
               *(["-DBF16"] if ACT == torch.bfloat16 else []),
               "-o", str(so), str(Path(__file__).with_name("fast.c")), "-lm"]
        done = subprocess.run(cmd, capture_output=True, text=True)
        if done.returncode:
            print(f"fast.c does not compile, using plain PyTorch: {done.stderr[:500]}")
            return False
        LIB = ctypes.CDLL(str(so))
    return True


def usable(cfg):
    """Whether the kernels can be built and cover this configuration."""
    kinds = set(cfg["expert_activations"] or ["swiglu"])
    widths = [cfg["d_ff"], cfg["expert_d_ff"], cfg["mixture"]["d_ff"] if cfg["mixture"] else 0]
    return (cfg["head_dim"] % 32 == 0 and len(kinds) == 1 and kinds <= {"swiglu", "reglu"}
            and not any(w % 16 for w in widths) and cfg["d_model"] <= 1024
            and cfg["num_experts"] <= 64 and cfg["max_positions"] <= LMAX
            and build(cfg["head_dim"]))


def plain(model, src, dec_in, keep=None, src_mask=None, balance=0.01, z=1e-3):
    """The same as `forward`, by the plain module."""
    logits = model(src, dec_in, src_mask, keep)
    return logits, model.auxiliary(balance, z) if model.training else 0.0


def call(name, *args):
    """Call a kernel with tensors as pointers, Python floats as float and ints as long."""
    out = []
    for a in args:
        if isinstance(a, torch.Tensor):
            out.append(ctypes.c_void_p(a.data_ptr()))
        elif a is None:
            out.append(ctypes.c_void_p(0))
        elif isinstance(a, float):
            out.append(ctypes.c_float(a))
        elif isinstance(a, int):
            out.append(ctypes.c_long(a))
        else:
            out.append(a)
    getattr(LIB, name)(*out)


def part(t, at):
    """Pointer to column `at` of a matrix."""
    return ctypes.c_void_p(t.data_ptr() + t.element_size() * at)


def dropout(p):
    """(seed, cut, scale) for the kernels; p = 0 keeps everything."""
    seed = int(torch.randint(1 << 32, ())) if p else 0
    return ctypes.c_uint32(seed), ctypes.c_uint32(int(p * 2**32)), 1 / (1 - p)


class Linear(torch.autograd.Function):
    """x times the transposed float32 weights, stacked along `dim`, in the type of x."""

    @staticmethod
    def forward(ctx, x, dim, *weights):
        w = (torch.cat(weights, dim) if len(weights) > 1 else weights[0]).to(ACT)
        ctx.save_for_backward(x, w)
        ctx.dim, ctx.sizes = dim, [p.shape[dim] for p in weights]
        return x.mm(w.t())

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw = g.t().mm(x).float()
        return (g.mm(w), None, *(p.contiguous() for p in dw.split(ctx.sizes, ctx.dim)))


class ResNorm(torch.autograd.Function):
    """(x + dropout(y), RMS norm of it with dropout `p2`): float32 and ACT."""

    @staticmethod
    def forward(ctx, x, y, w, eps, p, p2):
        ctx.set_materialize_grads(False)
        rows, d = x.shape
        ctx.drop, ctx.drop2, ctx.has_y = dropout(p), dropout(p2), y is not None
        xo, r, n = torch.empty_like(x), x.new_empty(rows), torch.empty(rows, d, dtype=ACT)
        call("resnorm_fwd", rows, d, x, y, w, eps, *ctx.drop, *ctx.drop2, xo, r, n)
        ctx.save_for_backward(xo, r, w)
        return xo, n

    @staticmethod
    def backward(ctx, gxo, gn):
        xo, r, w = ctx.saved_tensors
        rows, d = xo.shape
        gn = gn.contiguous()
        gxo = gxo.contiguous() if gxo is not None else None
        gx, gw = torch.empty_like(xo), torch.zeros_like(w)
        gy = torch.empty(rows, d, dtype=ACT) if ctx.has_y else None
        call("resnorm_bwd", rows, d, gn, gxo, xo, r, w, *ctx.drop, *ctx.drop2, gx, gy, gw)
        return gx, gy, gw, None, None, None


class Route(torch.autograd.Function):
    """(weights of the chosen experts [N, m], router losses) for rows h [N, D]."""

    @staticmethod
    def forward(ctx, h, w, k, keep, balance, z):
        n, m = len(h), len(w)
        p, out, lse, stats = (torch.empty(s) for s in ((n, m), (n, m), n, 2 * m + 1))
        keep = keep.reshape(-1).to(torch.uint8) if keep is not None else None
        call("router_fwd", n, h.shape[1], m, k, h, w, keep, p, lse, out, stats)
        rows = max(1, int(keep.sum()) if keep is not None else n)
        share = stats[:m] / (rows * k)
        ctx.slope, ctx.z = balance * m * share / rows, 2 * z / rows
        ctx.save_for_backward(h, w, keep, p, lse, out)
        return out, balance * m * (share * stats[m:2 * m]).sum() / rows + z * stats[2 * m] / rows

    @staticmethod
    def backward(ctx, g, gaux):
        h, w, keep, p, lse, out = ctx.saved_tensors
        gh, gw = torch.empty_like(h), torch.zeros_like(w)
        gaux = float(gaux)
        call("router_bwd", len(h), h.shape[1], len(w), h, w, keep, p, lse, out, g.contiguous(),
             ctx.slope * gaux, ctx.z * gaux, gh, gw)
        return gh, gw, None, None, None, None


class Core(torch.autograd.Function):
    """What stands between the two products of a layer: attention and gated hidden values.

    a [N, ...] holds, side by side, q, k, v (or q, with k, v in `kv`), then all gates, then all
    ups. The result holds the heads, then the hidden values times the weights w [N, m].
    att: (B, heads, kv heads, LQ, LK, dim, causal, lengths, cos, sin) or None; ff: (experts,
    width, relu) or None.
    """

    @staticmethod
    def places(a, kv, att, ff):
        """Columns and row lengths: q, (tensor, k, v), gate, up, heads in the result."""
        q = k = heads = 0
        if att:
            _, h, g, _, _, dim = att[:6]
            heads, inner = h * dim, g * dim
            k = heads + 2 * inner if kv is None else heads
            keys = (a, heads, heads + inner) if kv is None else (kv, 0, inner)
        else:
            keys = None
        width = ff[0] * ff[1] if ff else 0
        return q, keys, k, k + width, heads, heads + width

    @staticmethod
    def forward(ctx, a, kv, w, att, ff, p):
        q, keys, gate, up, heads, width = Core.places(a, kv, att, ff)
        out = torch.empty(len(a), width, dtype=ACT)
        prob = None
        ctx.att, ctx.ff, ctx.drop, ctx.drop2 = att, ff, dropout(p), dropout(p)
        if att:
            b, h, g, lq, lk, _, causal, lengths, cos, sin = att
            prob = torch.empty(b, h, lq, lk)
            t, k, v = keys
            call("attention_fwd", b, h, g, lq, lk, int(causal), lengths, a, a.shape[1],
                 part(t, k), part(t, v), t.shape[1], cos, sin, *ctx.drop, prob, out, width)
        if ff:
            m, f, relu = ff
            call("glu_fwd", len(a), m, f, a, a.shape[1], gate, up, ctypes.c_int(relu), w,
                 *ctx.drop2, part(out, heads), width)
        ctx.save_for_backward(a, kv, w, prob)
        return out

    @staticmethod
    def backward(ctx, go):
        a, kv, w, prob = ctx.saved_tensors
        go = go.contiguous()
        ga, gkv = torch.empty_like(a), torch.empty_like(kv) if kv is not None else None
        gw = torch.empty_like(w) if w is not None else None
        q, keys, gate, up, heads, width = Core.places(a, kv, ctx.att, ctx.ff)
        if ctx.att:
            b, h, g, lq, lk, _, causal, _, cos, sin = ctx.att
            t, k, v = keys
            gt = ga if kv is None else gkv
            call("attention_bwd", b, h, g, lq, lk, int(causal), a, a.shape[1], part(t, k),
                 part(t, v), t.shape[1], cos, sin, *ctx.drop, prob, go, width, ga, part(gt, k),
                 part(gt, v))
        if ctx.ff:
            m, f, relu = ctx.ff
            call("glu_bwd", len(a), m, f, a, a.shape[1], gate, up, ctypes.c_int(relu), w,
                 *ctx.drop2, part(go, heads), width, ga, gw)
        return ga, gkv, gw, None, None, None


class Sparse(torch.autograd.Function):
    """sum of w ff(h) for rows h [N, D], w [N, m] with k of each row not zero. Only the chosen
    experts are computed: rows are sorted by expert."""

    @staticmethod
    def forward(ctx, h, w, k, relu, p, *weights):
        m, (n, d) = w.shape[1], h.shape
        first = [torch.cat(weights[3 * e:3 * e + 2]).to(ACT) for e in range(m)]
        last = [weights[3 * e + 2].to(ACT) for e in range(m)]
        f = last[0].shape[1]
        rows, counts = torch.empty(n * k, dtype=torch.long), torch.empty(m, dtype=torch.long)
        share = torch.empty(n * k)
        call("sort_fwd", n, m, w, rows, share, counts)
        ends = counts.cumsum(0).tolist()
        cuts = list(zip([0] + ends, ends))
        x = h.index_select(0, rows)
        a, hidden = torch.empty(n * k, 2 * f, dtype=ACT), torch.empty(n * k, f, dtype=ACT)
        y, total = torch.empty(n * k, d, dtype=ACT), torch.zeros(n, d)
        for e, (i, j) in enumerate(cuts):
            torch.mm(x[i:j], first[e].t(), out=a[i:j])
        ctx.drop = dropout(p)
        call("glu_fwd", n * k, 1, f, a, 2 * f, 0, f, ctypes.c_int(relu), share, *ctx.drop, hidden, f)
        for e, (i, j) in enumerate(cuts):
            torch.mm(hidden[i:j], last[e].t(), out=y[i:j])
        call("scatter", n * k, d, rows, y, total)
        ctx.save_for_backward(w, rows, share, x, a, hidden, *first, *last)
        ctx.cuts, ctx.relu, ctx.shape = cuts, relu, (n, d, f, m, k)
        return total.to(ACT)

    @staticmethod
    def backward(ctx, g):
        w, rows, share, x, a, hidden, *both = ctx.saved_tensors
        n, d, f, m, k = ctx.shape
        first, last = both[:m], both[m:]
        g = g.index_select(0, rows)
        gh, ga, gx = torch.empty_like(hidden), torch.empty_like(a), torch.empty_like(x)
        gs, total, gw = torch.empty(n * k), torch.zeros(n, d), torch.zeros_like(w)
        grads = []
        for e, (i, j) in enumerate(ctx.cuts):
            torch.mm(g[i:j], last[e], out=gh[i:j])
        call("glu_bwd", n * k, 1, f, a, 2 * f, 0, f, ctypes.c_int(ctx.relu), share, *ctx.drop, gh, f,
             ga, gs)
        for e, (i, j) in enumerate(ctx.cuts):
            torch.mm(ga[i:j], first[e], out=gx[i:j])
            gate_up = ga[i:j].t().mm(x[i:j]).float()
            grads += [gate_up[:f], gate_up[f:], g[i:j].t().mm(hidden[i:j]).float()]
            gw[rows[i:j], e] = gs[i:j]
        call("scatter", n * k, d, rows, gx, total)
        return total.to(ACT), gw, None, None, None, *grads


class Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p):
        ctx.drop = dropout(p)
        y = torch.empty_like(x)
        call("drop", x.numel(), x, *ctx.drop, y)
        return y

    @staticmethod
    def backward(ctx, g):
        g = g.contiguous()
        gx = torch.empty_like(g)
        call("drop", g.numel(), g, *ctx.drop, gx)
        return gx, None


class Pass:
    """One forward pass: what all its layers need to know."""

    def __init__(self, model, balance, z):
        cfg = self.cfg = model.cfg
        self.model, self.balance, self.z = model, balance, z
        self.p = model.dropout if model.training else 0.0
        self.aux = torch.zeros(())
        self.rope = tuple(t.contiguous() for t in
                          rope_tables(LMAX, cfg["head_dim"], cfg["rope_theta"]))

    def attention(self, att, b, lq, lk, causal, lengths, rope):
        cos, sin = self.rope if rope else (None, None)
        return (b, att.heads, att.kv_heads, lq, lk, att.dim, causal, lengths, cos, sin)

    def experts(self, layer, h, ids, keep):
        """(feed-forwards, weights [N, m] or None) of a layer."""
        if not layer.sparse:
            return [layer.mlp], None
        moe = layer.moe
        if moe.kind == "softmax":
            w, aux = Route.apply(h, moe.router.weight, moe.k, keep, self.balance, self.z)
            self.aux = self.aux + aux
        else:
            expert, share = moe.route(ids[..., None], ids, 0)
            w = torch.zeros(*ids.shape, moe.m).scatter(-1, expert, share).flatten(0, 1)
        return list(moe.experts), w

    def join(self, h, kv, att, shape, ffs, w):
        """att(h) + sum of w ff(h), for rows h; `att` and `ffs` may be missing."""
        if w is not None and self.cfg["num_experts_per_tok"] * 2 <= len(ffs):
            y = Sparse.apply(h, w, self.cfg["num_experts_per_tok"], GATED[ffs[0].kind] == "relu",
                             self.p, *(m.weight for ff in ffs
                                       for m in (ff.gate_proj, ff.up_proj, ff.down_proj)))
            return y + self.join(h, kv, att, shape, [], None)
        first = []
        if att is not None:
            first = [att.q_proj] + ([att.k_proj, att.v_proj] if kv is None else [])
        first += [ff.gate_proj for ff in ffs] + [ff.up_proj for ff in ffs]
        last = ([att.o_proj] if att is not None else []) + [ff.down_proj for ff in ffs]
        a = Linear.apply(h, 0, *(m.weight for m in first))
        ff = (len(ffs), ffs[0].down_proj.in_features, GATED[ffs[0].kind] == "relu") if ffs else None
        return Linear.apply(Core.apply(a, kv, w, shape, ff, self.p), 1, *(m.weight for m in last))

    def norm(self, x, y, norm, last=False):
        return ResNorm.apply(x, y, norm.weight, norm.eps, self.p, self.p if last else 0.0)

    def embed(self, ids):
        x = self.model.shared(ids).flatten(0, 1)
        return Dropout.apply(x, self.p) if self.p else x

    def encode(self, src, mask):
        (b, n), model = src.shape, self.model
        lengths = mask.sum(1).to(torch.int32) if mask is not None else None
        x, y = self.embed(src), None
        for layer in model.encoder.layers:
            x, h = self.norm(x, y, layer.norm)
            ffs, w = self.experts(layer, h, src, mask)
            att = layer.self_attn
            y = self.join(h, None, att, self.attention(att, b, n, n, False, lengths, True), ffs, w)
        if model.mixture is not None:
            x, h = self.norm(x, y, model.mixture.norm)
            y = self.mix(model.mixture, h.view(b, n, -1), mask, lengths)
        return self.norm(x, y, model.encoder.final_norm, last=True)[1], lengths

    def mix(self, block, h, mask, lengths):
        """The mixture block: whole sequences are sorted by expert."""
        b, n, d = h.shape
        expert, share = block.route(h, mask)
        if block.training and block.balance is not None:
            self.aux = self.aux + self.balance * block.balance + self.z * block.z
        w = torch.zeros(b, block.m).scatter(-1, expert, share)
        total = torch.zeros(b, n, d)
        for e, inner in enumerate(block.experts):
            at = (w[:, e] > 0).nonzero().flatten()
            if not len(at):
                continue
            part_of = lengths[at] if lengths is not None else None
            rows = h.index_select(0, at).flatten(0, 1)
            if block.layer:
                att = inner.self_attn
                y = self.join(rows, None, att, self.attention(
                    att, len(at), n, n, False, part_of, True), [inner.mlp], None)
            else:
                y = self.join(rows, None, None, None, [inner], None)
            total = total.index_add(0, at, w[at, e, None, None] * y.view(-1, n, d).float())
        return total.flatten(0, 1).to(ACT)

    def decode(self, dec_in, memory, lengths, keep):
        (b, t), model = dec_in.shape, self.model
        x, y = self.embed(dec_in), None
        for layer in model.decoder.layers:
            own, cross = layer.self_attn, layer.cross_attn
            x, h = self.norm(x, y, layer.self_norm)
            y = self.join(h, None, own, self.attention(own, b, t, t, True, None, True), [], None)
            x, h = self.norm(x, y, layer.norm)
            ffs, w = self.experts(layer, h, dec_in, keep)
            kv = Linear.apply(memory, 0, cross.k_proj.weight, cross.v_proj.weight)
            y = self.join(h, kv, cross, self.attention(
                cross, b, t, len(memory) // b, False, lengths, False), ffs, w)
        h = self.norm(x, y, model.decoder.final_norm, last=True)[1]
        logits = Linear.apply(h, 0, model.shared.weight * model.cfg["d_model"] ** -0.5)
        return logits.float().view(b, t, -1)


def forward(model, src, dec_in, keep=None, src_mask=None, balance=0.01, z=1e-3):
    """(logits [B, T, V] in float32, router losses). With src_mask, padding must stand last.

    keep [B, T]: real target positions, for the router losses only (padded ones stand last and
    are hidden by causality).
    """
    run = Pass(model, balance, z)
    memory, lengths = run.encode(src, src_mask)
    return run.decode(dec_in, memory, lengths, keep), run.aux
