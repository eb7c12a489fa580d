"""The PaLM-style family once more, in NumPy and float64, after its description.

`tools/zoo/palm_moe` has the definition in PyTorch that the fixtures are made with. This second reading
of the same description shares no code with it; a fixture is written only if the two agree.
"""

import math

import numpy as np

KINDS = {"swiglu": (True, "silu"), "geglu": (True, "gelu"), "reglu": (True, "relu")}
KINDS |= {name: (False, name) for name in ("silu", "gelu", "relu")}
_erf = np.vectorize(math.erf, otypes=[np.float64])


def activate(name, x):
    """silu, gelu (the erf form) or relu of every element."""
    if name == "relu":
        return np.maximum(x, 0)
    return x / (1 + np.exp(-x)) if name == "silu" else x * (1 + _erf(x / math.sqrt(2))) / 2


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class PalmNumpy:
    """One model: `run(source, target)` gives encoder states, logits and routes."""

    def __init__(self, config, tensors):
        self.config = config
        self.tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
        self.unread = set(self.tensors)
        self.routes, self.attention = {}, []

    def run(self, source, target):
        """{"encoder_last_hidden_state", "logits", and for every routed part its (experts, kept, gates)}."""
        self.routes, self.attention = {}, []
        states = self.encode(list(source))
        logits = self.decode(list(target), states)
        return {"encoder_last_hidden_state": states, "logits": logits, "routes": self.routes}

    def encode(self, ids):
        x = self.weight("shared")[ids]
        for i in range(self.config["num_encoder_layers"]):
            layer = f"encoder.layers.{i}"
            h = self.norm(f"{layer}.norm", x)
            sparse = i in self.config.get("encoder_sparse_layers", [])
            x = x + self.self_attention(f"{layer}.self_attn", h, False) + self.feed_forward(layer, h, ids, sparse, True)
        if self.config.get("mixture"):
            x = x + self.mixture(x)
        return self.norm("encoder.final_norm", x)

    def decode(self, ids, memory):
        y = self.weight("shared")[ids]
        for i in range(self.config["num_decoder_layers"]):
            layer = f"decoder.layers.{i}"
            y = y + self.self_attention(f"{layer}.self_attn", self.norm(f"{layer}.self_norm", y), True)
            h = self.norm(f"{layer}.norm", y)
            sparse = i in self.config.get("decoder_sparse_layers", [])
            y = y + self.cross_attention(f"{layer}.cross_attn", h, memory) + self.feed_forward(layer, h, ids, sparse, False)
        scaled = self.norm("decoder.final_norm", y) * self.config["d_model"] ** -0.5
        return scaled @ self.weight("shared").T

    def weight(self, name):
        self.unread.discard(f"{name}.weight")
        return self.tensors[f"{name}.weight"]

    def linear(self, name, x):
        return x @ self.weight(name).T

    def norm(self, name, x):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.config.get("rms_norm_eps", 1e-6))
        return x / scale * self.weight(name)

    def heads(self, name, x, count):
        """[tokens, count * width] -> [count, tokens, width]"""
        return self.linear(name, x).reshape(len(x), count, -1).swapaxes(0, 1)

    def turn(self, x):
        """Rotary positions: components j and j + width / 2 turn by position * theta^(-2j / width)."""
        width = x.shape[-1]
        half = width // 2
        for position in range(x.shape[1]):
            for j in range(half):
                angle = position * self.config.get("rope_theta", 10000.0) ** (-2 * j / width)
                a, b = x[:, position, j].copy(), x[:, position, j + half].copy()
                x[:, position, j] = a * math.cos(angle) - b * math.sin(angle)
                x[:, position, j + half] = b * math.cos(angle) + a * math.sin(angle)
        return x

    def self_attention(self, name, h, causal):
        kv_heads = self.config["num_kv_heads"]
        q = self.turn(self.heads(f"{name}.q_proj", h, self.config["num_heads"]))
        k = self.turn(self.heads(f"{name}.k_proj", h, kv_heads))
        return self.attend(name, q, k, self.heads(f"{name}.v_proj", h, kv_heads), causal)

    def cross_attention(self, name, h, memory):
        kv_heads = self.config["num_kv_heads"]
        q = self.heads(f"{name}.q_proj", h, self.config["num_heads"])
        k, v = (self.heads(f"{name}.{part}_proj", memory, kv_heads) for part in "kv")
        return self.attend(name, q, k, v, False)

    def attend(self, name, q, k, v, causal):
        group = self.config["num_heads"] // self.config["num_kv_heads"]
        outputs = []
        for head, query in enumerate(q):
            scores = query @ k[head // group].T / math.sqrt(self.config["head_dim"])
            if causal:
                scores[np.triu_indices(len(scores), 1)] = -np.inf
            self.attention.append(softmax(scores))
            outputs.append(self.attention[-1] @ v[head // group])
        return self.linear(f"{name}.o_proj", np.concatenate(outputs, -1))

    def block(self, name, h, kind="swiglu"):
        """A feed-forward block of one of the six kinds."""
        gated, activation = KINDS[kind]
        up = self.linear(f"{name}.up_proj", h)
        hidden = activate(activation, self.linear(f"{name}.gate_proj", h)) * up if gated else activate(activation, up)
        return self.linear(f"{name}.down_proj", hidden)

    def feed_forward(self, layer, h, ids, sparse, encoder):
        if not sparse:
            return self.block(f"{layer}.mlp", h)
        experts, gates = self.choose(f"{layer}.moe", h, ids)
        kept = self.places(experts) if encoder else np.ones(experts.shape, bool)
        self.routes[layer] = (experts, kept, np.where(kept, gates, 0))
        kinds = self.config.get("expert_activations") or ["swiglu"] * self.config["num_experts"]
        output = np.zeros_like(h)
        for token, rank in np.argwhere(kept):
            expert = experts[token, rank]
            name = f"{layer}.moe.experts.{expert}"
            output[token] += gates[token, rank] * self.block(name, h[token : token + 1], kinds[expert])[0]
        return output

    def choose(self, name, h, ids):
        """(experts [tokens, k], gates [tokens, k]) of a layer's mixture, best first."""
        count, k = self.config["num_experts"], self.config["num_experts_per_tok"]
        router = self.config.get("router", "softmax")
        if router == "softmax":
            return self.best(self.linear(f"{name}.router", h), k)
        if router == "hash":
            self.unread.discard(f"{name}.router.table")
            first = self.tensors[f"{name}.router.table"].astype(int)[ids]
        else:
            first = np.arange(len(ids))
        experts = (first[:, None] + np.arange(k)) % count
        return experts, np.full(experts.shape, 1 / k)

    def best(self, logits, k):
        """The k greatest, the lower index among equals, and their probabilities made to sum to 1."""
        p = softmax(logits)
        experts = np.argsort(-p, axis=-1, kind="stable")[:, :k]
        chosen = np.take_along_axis(p, experts, -1)
        return experts, chosen / chosen.sum(-1, keepdims=True)

    def places(self, experts):
        """Which assignments find room: token after token, and within a token the best first."""
        capacity = self.config.get("expert_capacity", 0) or math.inf
        taken, kept = {}, np.zeros(experts.shape, bool)
        for token, rank in np.ndindex(*experts.shape):
            expert = experts[token, rank]
            kept[token, rank] = taken.get(expert, 0) < capacity
            taken[expert] = taken.get(expert, 0) + 1
        return kept

    def mixture(self, x):
        """What the block between encoder and decoder adds to the residual stream."""
        settings = self.config["mixture"]
        h = self.norm("mixture.norm", x)
        logits = self.linear("mixture.router", h.mean(0, keepdims=True))
        experts, gates = self.best(logits, settings["num_experts_per_tok"])
        self.routes["mixture"] = (experts, np.ones(experts.shape, bool), gates)
        output = np.zeros_like(x)
        for expert, gate in zip(experts[0], gates[0]):
            name = f"mixture.experts.{expert}"
            if settings["kind"] == "layer":
                output += gate * (self.self_attention(f"{name}.self_attn", h, False) + self.block(f"{name}.mlp", h))
            else:
                output += gate * self.block(name, h)
        return output
