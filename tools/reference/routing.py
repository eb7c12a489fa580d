"""Watching and replaying the routes of a Switch model; topk.py does it for several experts per token.

A route is the number of the chosen expert, or -1 where the expert's capacity was exhausted and the
token passes by it. Routes are kept per sparse layer, in the order of layers, for encoder and decoder.
"""

import torch

from topk import DROPPED, MixtralRecorder, NllbRecorder, PalmRecorder

RECORDERS = {"nllb-moe": NllbRecorder, "mixtral": MixtralRecorder, "palm_moe": PalmRecorder}


def recorder(model, replay=None, twist=None):
    """The recorder for the family of `model`: without routers it records nothing."""
    kind = RECORDERS.get(model.config.model_type)
    return kind(model, replay, twist) if kind else RouteRecorder(model, replay)


class RouteRecorder:
    """Records the routes and the margins of every router of `model`, and replays routes if given some.

    With `replay`, a dictionary {"encoder_routes": [layers, S], "decoder_routes": [layers, T]}, each token is
    sent where it says (nowhere for -1); its gate is the probability that the running model gives to that expert.
    """

    def __init__(self, model, replay=None):
        self.replay = replay
        self._seen = {"encoder": {}, "decoder": {}}
        self.margins = {"encoder": [], "decoder": []}
        self._hooks = []
        for side, stack in (("encoder", model.get_encoder()), ("decoder", model.get_decoder())):
            routers = [module for module in stack.modules() if type(module).__name__.endswith("Top1Router")]
            for layer, router in enumerate(routers):
                self._seen[side][layer] = []
                self._hooks.append(router.register_forward_hook(self._hook(side, layer)))

    @property
    def has_routers(self):
        return any(self._seen.values())

    def routes(self):
        """{"encoder_routes", "decoder_routes"}, each int32 [sparse layers, tokens]."""
        return {
            f"{side}_routes": torch.stack([torch.cat(parts) for parts in layers.values()]).to(torch.int32)
            for side, layers in self._seen.items()
        }

    def minimum_margin(self):
        """Smallest distance between the best and the second-best router logit that was seen."""
        return min(min(values) for values in self.margins.values() if values)

    def close(self):
        for hook in self._hooks:
            hook.remove()

    def _hook(self, side, layer):
        def observe(router, _inputs, outputs):
            mask, gate, logits = outputs
            if self.replay is not None:
                done = sum(len(part) for part in self._seen[side][layer])
                mask, gate = _forced(self.replay[f"{side}_routes"][layer][done : done + logits.shape[1]], logits)
            chosen = torch.where(mask.sum(-1) > 0, mask.argmax(-1), torch.full_like(mask.argmax(-1), DROPPED))
            self._seen[side][layer].append(chosen[0])
            best = logits[0].topk(2, dim=-1).values
            self.margins[side].append((best[:, 0] - best[:, 1]).min().item())
            return mask, gate, logits

        return observe


def _forced(routes, logits):
    """Mask [1, tokens, experts] and gates [1, tokens, 1] that send tokens where `routes` says."""
    expert = routes.long().clamp(min=0)[None, :, None]
    mask = torch.zeros(logits.shape, dtype=torch.long).scatter_(-1, expert, 1)
    mask[0, routes == DROPPED] = 0
    gate = torch.softmax(logits, dim=-1).gather(-1, expert)
    return mask, gate
