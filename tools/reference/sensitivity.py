"""How far a model moves when a rule is read wrongly: what a fixture is worth as a test of that rule.

Every change is made to a model of its own, which then runs the cases of the fixture. A fixture names the
changes that it is for; each of them must move encoder states or logits by a hundred times what parity allows.
"""

import torch

from measures import max_over_std
from palm_numpy import PalmNumpy
from running import run_stepwise

PARITY = 2e-4  # largest difference in standard deviations that the Rust tests allow in f32
REQUIRED = 100 * PARITY


def measure(load, cases, required):
    """{change: {"encoder", "logits"}}: the largest movement over all cases, in standard deviations.

    `cases` are (source, target, run) of the unchanged model.
    """
    family = load().config.model_type
    found = {}
    for name in CHANGES.get(family, {}):
        moved = [_movement(load(), name, case) for case in cases]
        sides = [side for side in ("encoder", "logits") if side in moved[0]]
        found[name] = {side: max(case[side] for case in moved) for side in sides}
    for name in required:
        if max(found[name].values()) <= REQUIRED:
            raise AssertionError(f"`{name}` moves the outputs by {found[name]} std only; {REQUIRED} is wanted")
    return found


def _movement(model, name, case):
    source, target, plain = case
    change = CHANGES[model.config.model_type][name]
    if isinstance(change, type):
        encoder, logits = _run_numpy(change, model, source, target)
    else:
        twist = change if isinstance(change, str) else change(model)
        run = run_stepwise(model, source, target, twist=twist)
        encoder, logits = run.encoder, run.logits
    found = {"logits": max_over_std(logits, plain.logits)}
    return found if encoder is None else {"encoder": max_over_std(encoder, plain.encoder)} | found


def _run_numpy(change, model, source, target):
    plain = model.in_numpy()
    found = change(plain.config, plain.tensors).run(source.tolist(), target.tolist())
    return torch.from_numpy(found["encoder_last_hidden_state"]), torch.from_numpy(found["logits"])


def _sparse(model, kind):
    return [module for module in model.modules() if type(module).__name__ == kind]


def _swap_normalization(model):
    for router in _sparse(model, "NllbMoeTop2Router"):
        router.normalize_router_prob_before_dropping = not router.normalize_router_prob_before_dropping


def _leave_out_dropout_factor(model):
    for block in _sparse(model, "NllbMoeSparseMLP"):
        block.moe_token_dropout = 0.0


def _positions_from_zero(model):
    for stack in (model.get_encoder(), model.get_decoder()):
        stack.embed_positions.weights = stack.embed_positions.weights.roll(2, 0)


def _toggle_embedding_scale(model):
    for stack in (model.get_encoder(), model.get_decoder()):
        scale = model.config.d_model**0.5
        stack.embed_tokens.embed_scale = 1.0 if model.config.scale_embedding else scale


def _keep_probabilities(model):
    """Mixtral's gates as the softmax over all experts gives them."""

    def shrink(block, _inputs, outputs):
        total = torch.softmax(outputs[1], -1).topk(block.top_k, dim=-1).values.sum(-1)
        return outputs[0] * total.view(1, -1, 1), outputs[1]

    for block in _sparse(model, "MixtralSparseMoeBlock"):
        block.register_forward_hook(shrink)


def _common_theta(model):
    """10000, the value of Llama, for rope_theta."""
    rotary = model.model.rotary_emb
    width = 2 * len(rotary.inv_freq)
    rotary.inv_freq = 10000.0 ** (-torch.arange(0, width, 2) / width)


class _NoCapacity(PalmNumpy):
    def places(self, experts):
        return experts >= 0


class _RenormalizedAfterDropping(PalmNumpy):
    def feed_forward(self, layer, h, ids, sparse, encoder):
        self.in_encoder = encoder
        return super().feed_forward(layer, h, ids, sparse, encoder)

    def choose(self, name, h, ids):
        experts, gates = super().choose(name, h, ids)
        kept = self.places(experts) if self.in_encoder else experts >= 0
        total = (gates * kept).sum(-1, keepdims=True)
        return experts, gates / (total + (total == 0))


class _EqualWeights(PalmNumpy):
    """Every chosen expert of a layer or of the block with the weight 1 / k."""

    def best(self, logits, k):
        experts, gates = super().best(logits, k)
        return experts, gates * 0 + 1 / k


_SINUSOIDS = {"positions_from_zero": _positions_from_zero, "embedding_scale_toggled": _toggle_embedding_scale}

# Family: {name: a function that changes a model, a twist of topk.py, or another reading in NumPy}
CHANGES = {
    "m2m_100": _SINUSOIDS,
    "nllb-moe": {
        "normalization_swapped": _swap_normalization,
        "dropout_factor_left_out": _leave_out_dropout_factor,
        "one_queue_for_both_choices": "one queue",
        "capacity_rounded_down": "rounded down",
        "capacity_ignored": "no capacity",
        **_SINUSOIDS,
    },
    "mixtral": {"gates_not_renormalized": _keep_probabilities, "rope_theta_10000": _common_theta},
    "palm_moe": {
        "capacity_ignored": _NoCapacity,
        "gates_renormalized_after_dropping": _RenormalizedAfterDropping,
        "experts_weighted_equally": _EqualWeights,
    },
}
