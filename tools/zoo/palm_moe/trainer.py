"""The training loop that the models of this family share.

The learning rate follows the clock: warm-up, then cosine decay that reaches zero when the time
is up, whatever the speed of the machine. A checkpoint is written every few minutes under another
name and then renamed; a run that was stopped goes on from it.
"""

import copy
import math
import os
import time
from pathlib import Path

# Every matrix shape has generated code in oneDNN; keep all of them.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

import torch
import torch.nn.functional as F

from . import fast, upcycle
from .export import folder, replace
from .model import PalmMoe
from .muon import Muon


def options(p):
    """Add the common options to an argparse parser."""
    p.add_argument("--out", default="out", help="folder of the checkpoint and curve (default: out)")
    p.add_argument("--minutes", type=float, default=120,
                   help="time of the whole run, earlier parts of it included (default: 120)")
    p.add_argument("--until", metavar="HH:MM", help="end at this time of day instead")
    p.add_argument("--follow", metavar="OUT",
                   help="take schedule, examples and their number from the run in OUT, which may still go on")
    p.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    p.add_argument("--start", metavar="OUT",
                   help="begin with the averaged weights of the run in OUT; those of a dense model are shared "
                        "out to the experts (upcycle.py)")
    p.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default: 2e-3)")
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--smoothing", type=float, default=0.03, help="label smoothing (default: 0.03)")
    p.add_argument("--balance", type=float, default=0.01,
                   help="weight of the load balancing loss (default: 0.01)")
    p.add_argument("--z-loss", type=float, default=1e-3, help="router z-loss (default: 1e-3)")
    p.add_argument("--decay", type=float, default=0.03, help="weight decay (default: 0.03)")
    p.add_argument("--ema", type=float, default=0.999, help="weight average (default: 0.999)")
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-every", type=float, default=3, metavar="MIN",
                   help="minutes between checkpoints (default: 3)")
    p.add_argument("--eval-every", type=float, default=6, metavar="MIN",
                   help="minutes between dev scores (default: 6)")
    p.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw",
                   help="muon: Muon for the matrices, AdamW for embedding, routers and norms")
    p.add_argument("--plain", action="store_true", help="plain PyTorch in float32: no fused kernels")


def seconds_until(clock):
    """Seconds from now to the next HH:MM of local time."""
    now = time.localtime()
    hour, minute = map(int, clock.split(":"))
    return ((hour - now.tm_hour) * 3600 + (minute - now.tm_min) * 60 - now.tm_sec) % 86400


def learning_rate(peak, done):
    """Warm-up over the first 2 % of the time, then cosine decay to zero at `done` = 1."""
    done = min(max(done, 0.0), 1.0)
    return peak * min(1.0, 0.02 + done / 0.02) * 0.5 * (1 + math.cos(math.pi * done))


class Schedule:
    """schedule.tsv of a run: at the beginning of each epoch its number, the step and `done`."""

    def __init__(self, out):
        self.path = Path(out) / "schedule.tsv"

    def add(self, epoch, step, done):
        with open(self.path, "a") as f:
            f.write(f"{epoch}\t{step}\t{done:.6f}\n")

    def span(self, epoch):
        """((step, done), (step, done)) at both ends of an epoch, once the other run is past it."""
        while True:
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            at = {int(e): (int(step), float(done)) for e, step, done in (line.split("\t") for line in lines)}
            if epoch + 1 in at:
                return at[epoch], at[epoch + 1]
            time.sleep(2)


class Trainer:
    """fit(epoch, collate, evaluate) trains a model of configuration `cfg`.

    epoch(seed): the batches of one epoch, shuffled. collate(batch): (src, dec_in, labels,
    src_mask or None, keep or None) tensors; labels of -100 do not count; keep marks the real
    target positions. evaluate(model): {name: figure} of the averaged weights, on dev data.
    export: what export.folder needs beside configuration and weights (vocab, texts...).
    """

    def __init__(self, cfg, args, export):
        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        self.args, self.export = args, export
        self.out = Path(args.out)
        self.file = self.out / "checkpoint.pt"
        if args.resume != self.file.exists():
            raise SystemExit(f"{self.file} is missing: leave out --resume" if args.resume else
                             f"{self.file} exists: use --resume or another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        self.model = PalmMoe(cfg, args.dropout).train()
        self.cfg = self.model.cfg
        if args.start and not args.resume:
            saved = torch.load(Path(args.start) / "checkpoint.pt", weights_only=True)
            upcycle.load(self.model, saved["ema"])
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.params = list(self.model.parameters())
        inner = {n: p for n, p in self.model.named_parameters() if args.optimizer == "muon"
                 and p.dim() == 2 and n != "shared.weight" and "router" not in n}
        rest = [p for n, p in self.model.named_parameters() if n not in inner]
        self.opts = [torch.optim.AdamW(
            [{"params": [p for p in rest if p.dim() > 1], "weight_decay": args.decay},
             {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0}],
            lr=args.lr, betas=(0.9, 0.98), eps=1e-9, fused=True)]
        if inner:
            self.opts.append(Muon(inner.values(), args.lr, weight_decay=args.decay))
        self.state = {"step": 0, "epoch": 0, "next": 0, "elapsed": 0.0}
        if args.resume:
            saved = torch.load(self.file, weights_only=True)
            if {k: v for k, v in saved["config"].items()} != self.cfg:
                raise SystemExit("the checkpoint was made with another configuration")
            self.model.load_state_dict(saved["model"])
            self.ema.load_state_dict(saved["ema"])
            for opt, state in zip(self.opts, saved["optimizers"], strict=True):
                opt.load_state_dict(state)
            self.state = saved["state"]
        fused = not args.plain and fast.usable(self.cfg)
        self.forward = fast.forward if fused else fast.plain
        print(f"{sum(p.numel() for p in self.params)} parameters, "
              f"{'fused kernels' if fused else 'plain PyTorch'}", flush=True)

    def loss(self, src, dec_in, labels, src_mask=None, keep=None):
        """(loss with the routers' losses, cross-entropy alone)."""
        args = self.args
        logits, extra = self.forward(self.model, src, dec_in, keep, src_mask, args.balance,
                                     args.z_loss)
        ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=args.smoothing)
        return ce + extra, ce.detach()

    def step(self, batch, done):
        for p in self.params:
            p.grad = None
        loss, ce = self.loss(*batch)
        loss.backward()
        grads = [p.grad for p in self.params if p.grad is not None]
        norm = float(torch.stack(torch._foreach_norm(grads)).norm())
        if math.isfinite(norm):
            if norm > 1:
                torch._foreach_mul_(grads, 1 / norm)
            for opt in self.opts:
                for group in opt.param_groups:
                    group["lr"] = learning_rate(self.args.lr, done)
                opt.step()
        self.state["step"] += 1
        decay = min(self.args.ema, (1 + self.state["step"]) / (10 + self.state["step"]))
        torch._foreach_lerp_(list(self.ema.parameters()), [p.detach() for p in self.params],
                             1 - decay)
        return float(ce)

    def save(self):
        replace(self.file, lambda path: torch.save(
            {"model": self.model.state_dict(), "ema": self.ema.state_dict(),
             "optimizers": [o.state_dict() for o in self.opts], "state": dict(self.state), "config": self.cfg,
             "export": self.export}, path))

    def score(self, evaluate, train_loss):
        """A line of curve.tsv, which is also printed."""
        row = {"step": self.state["step"], "epoch": f"{self.position:.2f}",
               "minutes": f"{self.state['elapsed'] / 60:.1f}",
               "lr": f"{self.opts[0].param_groups[0]['lr']:.2e}", "train_loss": f"{train_loss:.4f}",
               **{k: f"{v:.4g}" if isinstance(v, float) else v
                  for k, v in evaluate(self.ema).items()}}
        curve = self.out / "curve.tsv"
        if not curve.exists():
            curve.write_text("\t".join(row) + "\n")
        with open(curve, "a") as f:
            f.write("\t".join(map(str, row.values())) + "\n")
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)

    def fit(self, epoch, collate, evaluate):
        args, state = self.args, self.state
        left = seconds_until(args.until) if args.until else args.minutes * 60 - state["elapsed"]
        began = time.monotonic() - state["elapsed"]
        budget = state["elapsed"] + left
        ahead = Schedule(args.follow) if args.follow else None
        mine = Schedule(self.out)
        saved = shown = scored = time.monotonic()
        total = count = recent = tokens = 0
        self.done = state["elapsed"] / budget if not ahead else 0.0
        while self.done < 1:
            if ahead:
                now = time.monotonic()
                (first, low), (last, high) = ahead.span(state["epoch"])
                began += time.monotonic() - now     # waiting is no training
                self.done = low
            if not state["next"]:
                mine.add(state["epoch"], state["step"], self.done)
            order = epoch(args.seed * 1000 + state["epoch"])
            # Random numbers follow from the position, so a resumed run needs no saved state.
            torch.manual_seed((args.seed * 1000 + state["epoch"]) * 100000 + state["next"])
            while state["next"] < len(order) and self.done < 1:
                batch = collate(order[state["next"]])
                if ahead:
                    self.done = low + (high - low) * (state["step"] - first) / (last - first)
                ce = self.step(batch, self.done)
                state["next"] += 1
                now = time.monotonic()
                state["elapsed"] = now - began
                self.done = state["elapsed"] / budget if not ahead else high if state["step"] == last else self.done
                self.position = state["epoch"] + state["next"] / len(order)
                total, count = total + ce, count + 1
                recent, tokens = recent + 1, tokens + batch[0].numel() + batch[1].numel()
                if now - shown > 60:
                    print(f"{state['elapsed'] / 60:.1f} min  {100 * self.done:.1f} %  step "
                          f"{state['step']}  epoch {self.position:.2f}  loss {total / count:.4f}  "
                          f"{recent / (now - shown):.1f} steps/s  {tokens / (now - shown):.0f} "
                          "tokens/s", flush=True)
                    shown, recent, tokens = now, 0, 0
                if now - saved > args.save_every * 60:
                    self.save()
                    saved = time.monotonic()
                if now - scored > args.eval_every * 60:
                    self.score(evaluate, total / count)
                    total = count = 0
                    scored = time.monotonic()
            if state["next"] >= len(order):
                state["epoch"], state["next"] = state["epoch"] + 1, 0
        mine.add(state["epoch"] + (state["next"] > 0), state["step"], 1.0)
        self.save()
        self.score(evaluate, total / max(1, count))

    def write(self, out, dtype=torch.float32):
        """The averaged weights as a model folder."""
        folder(out, self.cfg, self.ema.state_dict(), dtype=dtype, **self.export)
