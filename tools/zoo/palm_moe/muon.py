"""Muon: momentum whose matrices are made nearly orthogonal before they are applied.

After K. Jordan's description; the scale of the step is the one of Moonshot's report, under which a
learning rate and a weight decay of AdamW fit. Matrices of one shape are handled as one stack.
"""

import torch

NS = ((3.4445, -4.7750, 2.0315),) * 5    # Newton-Schulz: x becomes a x + b x^3 + c x^5, singular value by value


def orthogonal(x, rounds):
    """The matrices of stack x with all singular values moved close to one."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in NS[:rounds]:
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices only. lr and weight_decay as for AdamW."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0, rounds=5):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rounds=rounds))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(tuple(p.shape), []).append(p)
            for (rows, cols), ps in shapes.items():
                for p in ps:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                past = [self.state[p]["momentum"] for p in ps]
                grads = [p.grad for p in ps]
                torch._foreach_lerp_(past, grads, 1 - group["momentum"])
                ahead = torch._foreach_lerp(grads, past, group["momentum"])      # Nesterov's
                step = orthogonal(torch.stack(ahead), group["rounds"]).unbind(0)
                if group["weight_decay"]:
                    torch._foreach_mul_(ps, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(ps, step, alpha=-0.2 * max(rows, cols) ** 0.5 * group["lr"])
