"""Running a model as a device does: encode once, then decode token by token with a cache.

For Switch the difference is visible: capacity counts the tokens of one call, so a decoder that gets one
token at a time never drops any, while one that gets the whole target may.
"""

import json
from dataclasses import dataclass, field

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

import palm
from routing import recorder


@dataclass
class Run:
    """What one run of one case gives; no routes and no margin without routers."""

    encoder: torch.Tensor | None  # [S, d_model]; None of a decoder-only model
    logits: torch.Tensor  # [T, vocabulary]
    routes: dict = field(default_factory=dict)  # name as in README.md: tensor
    minimum_margin: float | None = None


def load(folder):
    """Load a checkpoint folder in float32, whatever it is stored in, and refuse a partial load."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == palm.MODEL_TYPE:
        return palm.load(folder, config)
    kind = AutoModelForSeq2SeqLM if config.get("is_encoder_decoder") else AutoModelForCausalLM
    model, report = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if report["missing_keys"] or report["mismatched_keys"] or report["error_msgs"]:
        raise ValueError(f"{folder} did not load completely: {report}")
    return model.eval()


def has_encoder(model):
    """Whether a case has a source: not so with a decoder-only model."""
    return model.config.is_encoder_decoder


@torch.no_grad()
def run_stepwise(model, source, target, replay=None, twist=None):
    """Encode `source` [S], then feed `target` [T] one token at a time; `source` is None without an encoder."""
    watch = recorder(model, replay, twist)
    encoder = encode(model, source) if source is not None else None
    step = stepper(model, encoder)
    rows = [step(token) for token in target]
    watch.close()
    run = Run(None if encoder is None else encoder[0].clone(), torch.stack(rows))
    if watch.has_routers:
        run.routes, run.minimum_margin = watch.routes(), watch.minimum_margin()
    return run


def encode(model, source):
    """Encoder states [1, S, d_model]."""
    if isinstance(model, palm.Palm):
        return model.encode(source[None])
    return model.get_encoder()(input_ids=source[None])[0]


def stepper(model, encoder):
    """A function from the next token to its logits [vocabulary], with a cache that it keeps.

    The cache is made here because the one that BART makes has as many layers as its encoder, so that
    a deeper decoder fails (transformers 4.56.2).
    """
    if isinstance(model, palm.Palm):
        cache = model.new_cache()
        return lambda token: model.decode(token.reshape(1, 1), encoder, cache=cache)[0, 0]
    if encoder is None:
        cache = DynamicCache()
        return lambda token: model(input_ids=token.reshape(1, 1), past_key_values=cache, use_cache=True).logits[0, 0]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def step(token):
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoder),
            decoder_input_ids=token.reshape(1, 1),
            past_key_values=cache,
            use_cache=True,
            **_no_router_losses(model),
        ).logits[0, 0]

    return step


@torch.no_grad()
def run_at_once(model, source, target):
    """The same target in one call: (logits [T, vocabulary], number of decoder assignments dropped)."""
    watch = recorder(model)
    if isinstance(model, palm.Palm):
        logits = model(source[None], target[None])[0]
    elif source is None:
        logits = model(input_ids=target[None], use_cache=False).logits[0]
    else:
        inputs = {"input_ids": source[None], "decoder_input_ids": target[None]}
        logits = model(**inputs, use_cache=False, **_no_router_losses(model)).logits[0]
    watch.close()
    routes = watch.routes().get("decoder_routes") if watch.has_routers else None
    return logits, 0 if routes is None else int((routes < 0).sum())


@torch.no_grad()
def attention_entropy(model, source, target):
    """Mean entropy of encoder (or else decoder) self-attention as a fraction of the uniform distribution's."""
    if isinstance(model, palm.Palm):
        weights = model.encoder_attention(source)
    elif not has_encoder(model):
        return _causal_entropy(model, target)
    else:
        attentions = model.get_encoder()(input_ids=source[None], output_attentions=True).attentions
        weights = torch.stack([layer[0] for layer in attentions]).double()
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1).mean().item()
    return entropy / max(torch.log(torch.tensor(float(len(source)))).item(), 1e-9)


def _causal_entropy(model, target):
    """The same of a decoder: each row as a fraction of the entropy of the positions that it sees."""
    weights = torch.stack([layer[0] for layer in model(input_ids=target[None], output_attentions=True).attentions])
    entropy = -(weights.double() * weights.double().clamp(min=1e-30).log()).sum(-1)[..., 1:]
    return (entropy / torch.arange(2, len(target) + 1).log()).mean().item()


def _no_router_losses(model):
    """Switch computes training losses from the encoder's router logits unless told not to."""
    return {"output_router_logits": False} if model.config.model_type == "switch_transformers" else {}
