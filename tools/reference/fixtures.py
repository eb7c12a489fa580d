"""The table of fixtures: what each one is, and the sentence that says what it exercises.

Sizes are odd on purpose: hardly any is a multiple of 16, depths of encoder and decoder differ, and
d_kv × heads differs from d_model wherever the family allows it.
"""

from dataclasses import dataclass, field
from typing import Callable

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

import checkpoints

T5 = (T5Config, T5ForConditionalGeneration)
MT5 = (MT5Config, MT5ForConditionalGeneration)
UMT5 = (UMT5Config, UMT5ForConditionalGeneration)
SWITCH = (SwitchTransformersConfig, SwitchTransformersForConditionalGeneration)
BART = (BartConfig, BartForConditionalGeneration)

# (source tokens, target tokens) of each case.
LENGTHS = ((1, 1), (7, 9), (19, 12), (33, 8))


@dataclass(frozen=True)
class Fixture:
    """One folder below tests/fixtures."""

    family: tuple
    seed: int
    config: dict
    exercises: str
    lengths: tuple = LENGTHS
    save: Callable = checkpoints.save_plain
    outliers_of: str | None = None  # the fixture whose function this one has, with scaled channels
    config_overrides: dict = field(default_factory=dict)  # written into config.json after saving


def _t5(**sizes):
    config = {
        "vocab_size": 89,
        "d_model": 36,
        "d_kv": 10,
        "num_heads": 3,
        "d_ff": 45,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "decoder_start_token_id": 0,
    }
    return config | sizes


def _switch(**sizes):
    config = {
        "vocab_size": 79,
        "d_model": 24,
        "d_kv": 7,
        "num_heads": 3,
        "d_ff": 29,
        "num_experts": 4,
        "expert_capacity": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
        "decoder_start_token_id": 0,
    }
    return config | sizes


def _bart(**sizes):
    config = {
        "vocab_size": 83,
        "d_model": 36,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 52,
        "decoder_ffn_dim": 41,
        "max_position_embeddings": 50,
        "activation_function": "gelu",
        "scale_embedding": True,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "num_labels": 2,
    }
    return config | sizes


_T5_BASE = _t5(vocab_size=71, d_model=44, d_kv=11, d_ff=53, num_layers=3)
_V1_1_BASE = _t5(d_model=34, d_kv=9, d_ff=47, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
_SWITCH_BASE = _switch(
    num_experts=8, num_layers=4, num_sparse_encoder_layers=2, num_decoder_layers=3, num_sparse_decoder_layers=1
)

FIXTURES = {
    "t5": Fixture(
        T5, 1, _T5_BASE, "T5 v1.0: ReLU, tied head, 3 encoder and 2 decoder layers, d_kv × heads (33) ≠ d_model (44)."
    ),
    "t5-v1_1": Fixture(T5, 2, _V1_1_BASE, "T5 v1.1: gated GELU (the tanh form), untied head."),
    "mt5": Fixture(
        MT5,
        3,
        _t5(vocab_size=157, d_model=25, d_kv=7, d_ff=43, num_heads=2, num_layers=1, num_decoder_layers=2),
        "mT5: untied by its default, a decoder deeper than its encoder, odd d_model and head size.",
    ),
    "umt5": Fixture(
        UMT5,
        4,
        _t5(vocab_size=61, d_model=30, d_kv=7, d_ff=39, num_heads=4, num_layers=3, tie_word_embeddings=False),
        "UMT5: a relative position bias in every self-attention layer, encoder and decoder; untied head.",
    ),
    "umt5-tied": Fixture(
        UMT5,
        5,
        _t5(d_model=24, d_kv=5, num_heads=2),
        "UMT5 with a tied head, its class's default: logits scaled by d_model ** -0.5.",
    ),
    "t5-bf16": Fixture(
        T5, 6, _t5(d_model=27), "Every tensor stored in bf16; the reference upcasts to f32.", save=checkpoints.save_bf16
    ),
    "t5-f16": Fixture(
        T5, 7, _t5(d_model=29), "Every tensor stored in f16; the reference upcasts to f32.", save=checkpoints.save_f16
    ),
    "t5-sharded": Fixture(
        T5, 8, _t5(d_model=31), "Several safetensors shards with their index.", save=checkpoints.save_sharded
    ),
    "t5-buckets": Fixture(
        T5,
        9,
        _t5(d_model=24, num_layers=1, relative_attention_num_buckets=20, relative_attention_max_distance=50),
        "20 buckets up to distance 50, long source and target: every bucket occurs; holds bucket tables.",
        lengths=((1, 1), (52, 9), (151, 60)),
    ),
    "t5-gelu": Fixture(
        T5,
        10,
        _t5(d_model=80, d_kv=17, num_heads=1, d_ff=67, num_layers=1, num_decoder_layers=1, feed_forward_proj="gelu",
            decoder_start_token_id=5, layer_norm_epsilon=1e-5),
        "Plain GELU (the erf form), d_model 80, d_ff 67, a start token other than 0, layer_norm_epsilon 1e-5.",
    ),
    "t5-silu": Fixture(
        T5,
        11,
        _t5(d_model=28, d_ff=41, feed_forward_proj="gated-silu", tie_word_embeddings=False),
        "Gated SiLU, untied head.",
    ),
    "t5-extra": Fixture(
        T5,
        12,
        _t5(d_model=26),
        "Holds an unexpected relative_attention_bias of the cross-attention, which transformers ignores.",
        save=checkpoints.save_with_unexpected,
    ),
    "t5-copies": Fixture(
        T5,
        13,
        _t5(d_model=26, vocab_size=67),
        "Holds the tied embedding four times: shared, encoder.embed_tokens, decoder.embed_tokens, lm_head.",
        save=checkpoints.save_with_copies,
    ),
    "t5-long": Fixture(
        T5,
        14,
        _t5(d_model=24, d_kv=11, num_heads=2),
        "A source of 512 tokens: long softmax rows, sums over many small probabilities.",
        lengths=((1, 1), (70, 8), (512, 24)),
    ),
    "switch": Fixture(
        SWITCH,
        15,
        _SWITCH_BASE,
        "Switch: 8 experts, every 2nd encoder layer sparse (1 and 3 of 4), every 3rd decoder layer (1 of 3); ample "
        "capacity.",
    ),
    "switch-overflow": Fixture(
        SWITCH,
        16,
        _switch(expert_capacity=3, num_layers=4, num_sparse_encoder_layers=2),
        "Capacity 3 and sources that overflow it: encoder tokens are dropped, stepwise decoding drops none.",
        lengths=((1, 1), (7, 9), (23, 12), (40, 20)),
    ),
    "switch-all": Fixture(
        SWITCH,
        17,
        _switch(d_model=25, num_experts=5, num_sparse_encoder_layers=2, num_sparse_decoder_layers=2),
        "sparse_step 1: every layer is sparse; 5 experts.",
    ),
    "switch-step": Fixture(
        SWITCH,
        18,
        _switch(num_layers=3, num_decoder_layers=3, num_sparse_encoder_layers=3, num_sparse_decoder_layers=0),
        "encoder_sparse_step 2 in config.json wins over num_sparse_encoder_layers 3; num_sparse_decoder_layers 0 "
        "gives step 3 and still one sparse decoder layer (1).",
        config_overrides={"encoder_sparse_step": 2},
    ),
    "switch-bias": Fixture(
        SWITCH, 19, _switch(router_bias=True, d_model=27), "Routers with a bias (router_bias true)."
    ),
    "bart": Fixture(
        BART,
        20,
        _bart(),
        "BART: post-norm, GELU, scale_embedding, final_logits_bias, positions offset by 2, encoder and decoder unequal "
        "in depth, heads and feed-forward size.",
    ),
    "bart-relu": Fixture(
        BART, 21, _bart(activation_function="relu", scale_embedding=False, encoder_layers=2, d_model=24, decoder_start_token_id=0),
        "BART with ReLU, embeddings unscaled, a start token other than eos.",
    ),
    "bart-swish": Fixture(
        BART, 22, _bart(activation_function="swish", scale_embedding=False, encoder_layers=1, d_model=24),
        "BART with swish (SiLU), one encoder and two decoder layers.",
    ),
    "bart-noprefix": Fixture(
        BART,
        23,
        _bart(scale_embedding=False, encoder_layers=1, decoder_layers=1, d_model=24),
        "The state of a BartModel: no `model.` prefix, embedding three times, no final_logits_bias (zeros).",
        save=checkpoints.save_without_prefix,
    ),
    "t5-x50": Fixture(
        T5, 1, _T5_BASE, "The function of t5; three channels of every wi times 50, wo divided.", outliers_of="t5"
    ),
    "t5v11-x50": Fixture(
        T5,
        2,
        _V1_1_BASE,
        "The function of t5-v1_1; three channels of every wi_1 times 50, wo divided.",
        outliers_of="t5-v1_1",
    ),
    "switch-x50": Fixture(
        SWITCH,
        15,
        _SWITCH_BASE,
        "The function of switch; three channels of every wi, experts' too, times 50, wo divided.",
        outliers_of="switch",
    ),
}
