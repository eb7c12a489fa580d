"""Random weights under which a tiny model behaves like a trained one.

The initialisation of `transformers` is made for the start of training: attention is almost uniform,
norms are 1, biases and the final logits bias are 0. Many faults do not show on such a model. Here
attention scores have a standard deviation of about 1.5, norm gains scatter around 1, every bias is
non-zero, relative position biases are N(0, 1), routers have clear favourites and logits have a
standard deviation between 1 and 3.

Draws come from NumPy's PCG64 in the order of the sorted tensor names, so that they depend on the seed
and on the shapes only.
"""

import numpy as np
import torch

ATTENTION_SCORE_STD = 1.5
ROUTER_LOGIT_STD = 3.0
LOGIT_STD = 1.7
NORM_GAIN_SIGMA = 0.3
BIAS_STD = 0.2
LIKE_BART = ("bart", "m2m_100", "nllb-moe")
UP_PROJECTIONS = tuple(f".{n}.weight" for n in ("wi", "wi_0", "wi_1", "fc1", "w1", "w3", "gate_proj", "up_proj"))
OUTLIER_CHANNELS = 3
OUTLIER_FACTOR = 50.0


def randomize(model, seed, router_std=ROUTER_LOGIT_STD):
    """Fill every parameter of `model` (and BART's `final_logits_bias`, and hash tables) in place."""
    generator = np.random.Generator(np.random.PCG64(seed))
    tensors = dict(model.named_parameters())  # a tied tensor occurs once, under its first name
    if hasattr(model, "final_logits_bias"):
        tensors["final_logits_bias"] = model.final_logits_bias
    for name in sorted(tensors):
        tensor = tensors[name]
        draw = generator.standard_normal(tuple(tensor.shape))
        values = _shaped(name, draw, model.config, router_std)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    for name, table in model.named_buffers():
        if name.endswith("router.table"):
            table.copy_(torch.from_numpy(generator.integers(0, model.config.num_experts, len(table))))


def _shaped(name, draw, config, router_std):
    """Scale a standard normal draw to what the tensor called `name` needs."""
    is_bart = config.model_type in LIKE_BART
    if name == "final_logits_bias" or "relative_attention_bias" in name:
        return draw
    if "embed_positions" in name:
        return 0.3 * draw
    if "shared" in name or "embed_tokens" in name:
        return _token_embedding_std(config, is_bart) * draw
    if "norm" in name and name.endswith("weight"):
        return np.exp(NORM_GAIN_SIGMA * draw)
    if name.endswith("bias"):
        return BIAS_STD * draw
    fan_in_std = draw.shape[1] ** -0.5
    if name.endswith(("router.classifier.weight", "router.weight", ".gate.weight")):
        return router_std * fan_in_std * draw
    if name.endswith((".q.weight", ".q_proj.weight")):
        return _query_std(config, is_bart) * fan_in_std * draw
    if name.endswith("lm_head.weight"):
        return LOGIT_STD * fan_in_std * draw
    if name.endswith(UP_PROJECTIONS):
        return 1.4 * fan_in_std * draw
    return fan_in_std * draw


def _token_embedding_std(config, is_bart):
    """The heads of BART and Mixtral take the embedding unscaled; those of T5 and PaLM divide by sqrt(d_model)."""
    if config.model_type == "mixtral":
        return LOGIT_STD * config.hidden_size**-0.5 if config.tie_word_embeddings else 1.0
    if is_bart:
        return LOGIT_STD * config.d_model**-0.5
    return LOGIT_STD


def _query_std(config, is_bart):
    """T5 does not divide scores by sqrt(head_dim), all others do: its queries are that much smaller."""
    if is_bart or config.model_type in ("mixtral", "palm_moe"):
        return ATTENTION_SCORE_STD
    return ATTENTION_SCORE_STD * config.d_kv**-0.5


def scale_hidden_channels(model, seed):
    """Multiply three hidden channels of every feed-forward block by 50 and undo it in `wo`.

    In a ReLU block the channel is a row of `wi`, in a gated one a row of `wi_1` (the linear branch);
    the matching column of `wo` is divided. The function stays the same but for rounding, while the
    activations in front of `wo` get outliers as trained T5 models have them. Every expert has three
    channels of its own.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    for name, block in model.named_modules():
        if not hasattr(block, "wo"):
            continue
        up = block.wi_1 if hasattr(block, "wi_1") else block.wi
        channels = generator.choice(up.weight.shape[0], OUTLIER_CHANNELS, replace=False)
        with torch.no_grad():
            up.weight[channels, :] *= OUTLIER_FACTOR
            block.wo.weight[:, channels] /= OUTLIER_FACTOR
