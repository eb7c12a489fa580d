"""Running a model as a device does: encode once, then decode token by token with a cache.

For Switch the difference is visible: capacity counts the tokens of one call, so a decoder that gets one
token at a time never drops any, while one that gets the whole target may.
"""

from dataclasses import dataclass

import torch
from transformers import AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from routing import RouteRecorder


@dataclass
class Run:
    """What one run of one case gives; routes and margin are None without routers."""

    encoder: torch.Tensor  # [S, d_model]
    logits: torch.Tensor  # [T, vocabulary]
    encoder_routes: torch.Tensor | None = None  # [sparse layers, S]
    decoder_routes: torch.Tensor | None = None  # [sparse layers, T]
    minimum_margin: float | None = None


def load(folder):
    """Load a checkpoint folder in float32, whatever it is stored in, and refuse a partial load."""
    model, report = AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if report["missing_keys"] or report["mismatched_keys"] or report["error_msgs"]:
        raise ValueError(f"{folder} did not load completely: {report}")
    return model.eval()


@torch.no_grad()
def run_stepwise(model, source, target, replay=None):
    """Encode `source` [S], then feed `target` [T] one token at a time.

    The cache is made here because the one that BART makes has as many layers as its encoder, so that
    a deeper decoder fails (transformers 4.56.2).
    """
    recorder = RouteRecorder(model, replay)
    encoder = model.get_encoder()(input_ids=source[None])[0]
    cache, rows = EncoderDecoderCache(DynamicCache(), DynamicCache()), []
    for token in target:
        step = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoder),
            decoder_input_ids=token.reshape(1, 1),
            past_key_values=cache,
            use_cache=True,
            **_no_router_losses(model),
        )
        rows.append(step.logits[0, 0])
    recorder.close()
    run = Run(encoder[0].clone(), torch.stack(rows))
    if recorder.has_routers:
        run.encoder_routes = recorder.collected("encoder")
        run.decoder_routes = recorder.collected("decoder")
        run.minimum_margin = recorder.minimum_margin()
    return run


@torch.no_grad()
def run_at_once(model, source, target):
    """The same target in one call: (logits [T, vocabulary], number of decoder tokens dropped)."""
    recorder = RouteRecorder(model)
    inputs = {"input_ids": source[None], "decoder_input_ids": target[None]}
    logits = model(**inputs, use_cache=False, **_no_router_losses(model)).logits[0]
    recorder.close()
    dropped = int((recorder.collected("decoder") < 0).sum()) if recorder.has_routers else 0
    return logits, dropped


@torch.no_grad()
def attention_entropy(model, source):
    """Mean entropy of encoder self-attention as a fraction of the uniform distribution's."""
    attentions = model.get_encoder()(input_ids=source[None], output_attentions=True).attentions
    weights = torch.stack([layer[0] for layer in attentions]).double()
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1).mean().item()
    return entropy / max(torch.log(torch.tensor(float(len(source)))).item(), 1e-9)


def _no_router_losses(model):
    """Switch computes training losses from the encoder's router logits unless told not to."""
    return {"output_router_logits": False} if model.config.model_type == "switch_transformers" else {}
