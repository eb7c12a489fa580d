"""Watching and replaying routes of several experts per token: NLLB-MoE, Mixtral, the PaLM-style family.

A routed layer gives three tensors [tokens, k], in the order of rank (best expert first): the experts that
the router chose, the same with -1 where capacity dropped the assignment, and the gates: the weights with
which the experts' outputs are added up, 0 where dropped.
"""

import math
from typing import NamedTuple

import torch

DROPPED = -1


class Choice(NamedTuple):
    """What one call of one router decided; each [tokens, k]."""

    experts: torch.Tensor
    kept: torch.Tensor
    gates: torch.Tensor


class TopKRecorder:
    """Records every routed layer of `model`, and replays choices if given the routes of another run.

    With `replay`, the experts that it says are chosen, in its order of rank; capacity, drops and gates
    follow from them as the running model computes them. `twist` changes a rule, to see what it is worth.
    """

    def __init__(self, model, replay=None, twist=None):
        self.replay, self.twist = replay, twist
        self.layers = {}  # (side, number) -> [Choice of every call]
        self.gaps = [math.inf]
        self._undo = []
        self._install(model)

    @property
    def has_routers(self):
        return bool(self.layers)

    def routes(self):
        """{"encoder_routes": [layers, tokens, k], …} of every side; "mixture_…" are [k]."""
        found = {}
        for side in dict.fromkeys(side for side, _ in self.layers):
            stacks = [[torch.cat(parts) for parts in zip(*calls)] for (s, _), calls in self.layers.items() if s == side]
            experts, kept, gates = (torch.stack(parts) for parts in zip(*stacks))
            tensors = {"choices": experts, "routes": torch.where(kept, experts, DROPPED), "gates": gates}
            for key, tensor in tensors.items():
                tensor = tensor.float() if key == "gates" else tensor.to(torch.int32)
                found[f"{side}_{key}"] = tensor[0, 0] if side == "mixture" else tensor
        return found

    def minimum_margin(self):
        """Smallest distance that was seen between neighbours among the k + 1 greatest router logits."""
        return min(self.gaps)

    def close(self):
        for undo in self._undo:
            undo()

    def _wanted(self, side, number, tokens):
        """The choices to replay in this call, or None."""
        if self.replay is None:
            return None
        choices = self.replay[f"{side}_choices"].long()
        if side == "mixture":
            return choices[None]
        done = sum(len(choice.experts) for choice in self.layers[side, number])
        return choices[number, done : done + tokens]

    def _note(self, side, number, choice, logits=None):
        self.layers[side, number].append(choice)
        if logits is not None:
            greatest = logits.topk(min(choice.experts.shape[-1] + 1, logits.shape[-1]), dim=-1).values
            if greatest.shape[-1] > 1:
                self.gaps.append((greatest[:, :-1] - greatest[:, 1:]).min().item())

    def _hook(self, module, function):
        self._undo.append(module.register_forward_hook(function).remove)

    def _number(self, model, kind):
        """(side, number within it, module) of every module of a class, in the order of layers."""
        sides = (("encoder", model.get_encoder()), ("decoder", model.get_decoder()))
        for side, stack in sides:
            for number, module in enumerate(m for m in stack.modules() if type(m).__name__ == kind):
                self.layers[side, number] = []
                yield side, number, module


class NllbRecorder(TopKRecorder):
    """NLLB-MoE: two experts, second choices queue after all first ones."""

    def _install(self, model):
        for side, number, router in self._number(model, "NllbMoeTop2Router"):
            self._hook(router, self._observer(side, number))

    def _observer(self, side, number):
        def observe(router, inputs, outputs):
            hidden = inputs[0].flatten(0, 1)
            logits = router.classifier(hidden)
            wanted = self._wanted(side, number, len(hidden))
            choice = nllb_route(router, logits, wanted, self.twist)
            self._note(side, number, choice, logits)
            gates = torch.zeros_like(logits).scatter(-1, choice.experts, choice.gates)
            first = torch.zeros_like(outputs[0]).scatter(-1, choice.experts[:, :1], choice.kept[:, :1].long())
            if wanted is None and self.twist is None:
                if not (torch.equal(gates, outputs[1]) and torch.equal(first, outputs[0])):
                    raise AssertionError("this file and transformers route differently")
            return first, gates

        return observe


def nllb_route(router, logits, experts=None, twist=None):
    """What NllbMoeTop2Router.route_tokens does at inference with the policy "all", in token order."""
    probabilities = torch.softmax(logits, -1)
    if experts is None:
        experts = logits.topk(2, dim=-1).indices
    chosen = probabilities.gather(-1, experts)
    queue = experts.flatten() if twist == "one queue" else experts.T.flatten()  # firsts, then seconds
    one_hot = torch.nn.functional.one_hot(queue, router.num_experts)
    ahead = (one_hot.cumsum(0) - one_hot).gather(-1, queue[:, None]).flatten()
    ahead = ahead.view(-1, 2) if twist == "one queue" else ahead.view(2, -1).T
    fraction = router.moe_eval_capacity_token_fraction
    capacity = math.ceil(fraction * len(logits)) if fraction > 0 else router.expert_capacity
    if twist == "rounded down":
        capacity = max(1, math.floor(fraction * len(logits)))
    kept = torch.ones_like(experts, dtype=torch.bool) if twist == "no capacity" else ahead < capacity
    surviving = chosen if router.normalize_router_prob_before_dropping else chosen * kept
    total = surviving.sum(-1, keepdim=True).clamp(min=torch.finfo(chosen.dtype).eps)
    return Choice(experts, kept, surviving / total * kept)


class MixtralRecorder(TopKRecorder):
    """Mixtral: k experts, no capacity."""

    def _install(self, model):
        for number, layer in enumerate(model.model.layers):
            self.layers["decoder", number] = []
            self._hook(layer.block_sparse_moe.gate, self._observer(number, layer.block_sparse_moe.top_k))

    def _observer(self, number, k):
        def observe(_gate, _inputs, logits):
            wanted = self._wanted("decoder", number, len(logits))
            experts = logits.topk(k, dim=-1).indices if wanted is None else wanted
            chosen = torch.softmax(logits, -1).gather(-1, experts)
            gates = chosen / chosen.sum(-1, keepdim=True)
            self._note("decoder", number, Choice(experts, torch.ones_like(experts, dtype=torch.bool), gates), logits)
            if wanted is None:
                return logits
            # Experts that were not wanted get no probability; the others' proportions stay.
            return torch.full_like(logits, -math.inf).scatter(-1, experts, logits.gather(-1, experts))

        return observe


class PalmRecorder(TopKRecorder):
    """The PaLM-style family: k experts, capacity in the encoder, a block that is gated once."""

    def _install(self, model):
        for side, number, moe in self._number(model, "SparseFF"):
            self._replace(moe, self._layer_router(moe, side, number))
        if model.mixture is not None:
            self.layers["mixture", 0] = []
            self._replace(model.mixture, self._block_router(model.mixture))

    def _replace(self, module, route):
        module.route = route
        self._undo.append(lambda: module.__dict__.pop("route"))

    def _layer_router(self, moe, side, number):
        original = moe.route

        def route(h, ids, first, keep=None):
            experts, gates = (part.contiguous() for part in original(h, ids, first, keep))
            logits = h[0] @ moe.router.weight.T if moe.kind == "softmax" else None
            wanted = self._wanted(side, number, h.shape[1])
            if wanted is not None:
                experts = wanted[None]
                gates = gates if logits is None else _renormalized(logits, wanted)[None]
            kept = self._places(experts[0], moe.capacity)
            self._note(side, number, Choice(experts[0], kept, gates[0] * kept), logits)
            return experts, gates

        return route

    def _block_router(self, mixture):
        original = mixture.route

        def route(h, mask):
            experts, gates = original(h, mask)
            logits = h.mean(1) @ mixture.router.weight.T
            wanted = self._wanted("mixture", 0, 1)
            if wanted is not None:
                experts, gates = wanted, _renormalized(logits, wanted)
            self._note("mixture", 0, Choice(experts, torch.ones_like(experts, dtype=torch.bool), gates), logits)
            return experts, gates

        return route

    @staticmethod
    def _places(experts, capacity):
        if not capacity:
            return torch.ones_like(experts, dtype=torch.bool)
        queue = experts.flatten()
        ahead = torch.tensor([int((queue[:i] == expert).sum()) for i, expert in enumerate(queue)])
        return (ahead < capacity).view(experts.shape)


def _renormalized(logits, experts):
    chosen = torch.softmax(logits, -1).gather(-1, experts)
    return chosen / chosen.sum(-1, keepdim=True)
