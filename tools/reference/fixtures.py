"""The table of fixtures: what each one is, and the sentence that says what it exercises.

Sizes are odd on purpose: hardly any is a multiple of 16, depths of encoder and decoder differ, and
d_kv × heads differs from d_model wherever the family allows it.
"""

from dataclasses import dataclass, field
from typing import Callable

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

import checkpoints
import palm
from weights import ROUTER_LOGIT_STD

T5 = (T5Config, T5ForConditionalGeneration)
MT5 = (MT5Config, MT5ForConditionalGeneration)
UMT5 = (UMT5Config, UMT5ForConditionalGeneration)
SWITCH = (SwitchTransformersConfig, SwitchTransformersForConditionalGeneration)
BART = (BartConfig, BartForConditionalGeneration)
M2M100 = (M2M100Config, M2M100ForConditionalGeneration)
NLLB_MOE = (NllbMoeConfig, NllbMoeForConditionalGeneration)
MIXTRAL = (MixtralConfig, MixtralForCausalLM)
PALM = (palm.Config, palm.Palm)

# (source tokens, target tokens) of each case.
LENGTHS = ((1, 1), (7, 9), (19, 12), (33, 8))
# The same for a decoder-only model.
ALONE = ((0, 1), (0, 9), (0, 17), (0, 34))
# Longer ones for routers with capacity.
CROWDS = ((1, 1), (7, 9), (20, 12), (41, 8))


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
    router_std: float = ROUTER_LOGIT_STD
    must_matter: tuple = ()  # changes of sensitivity.py that must move the outputs


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


def _m2m100(**sizes):
    config = {
        "vocab_size": 73,
        "d_model": 30,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 5,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 47,
        "decoder_ffn_dim": 38,
        "max_position_embeddings": 60,
    }
    return config | sizes


def _nllb(fraction, **sizes):
    config = _m2m100(
        vocab_size=61,
        d_model=21,
        encoder_layers=4,
        decoder_layers=3,
        encoder_attention_heads=3,
        decoder_attention_heads=7,
        encoder_ffn_dim=26,
        decoder_ffn_dim=19,
        num_experts=5,
        encoder_sparse_step=2,
        decoder_sparse_step=3,
        moe_eval_capacity_token_fraction=fraction,
    )
    return config | sizes


def _nllb_fixture(fraction, exercises, must_matter=(), **sizes):
    """All of one seed: only the entries that say how tokens are routed differ, where sizes do not."""
    return Fixture(
        NLLB_MOE,
        27,
        _nllb(fraction, **sizes),
        exercises,
        lengths=CROWDS,
        router_std=2.0,
        must_matter=("dropout_factor_left_out", "positions_from_zero", *must_matter),
    )


def _mixtral(**sizes):
    config = {
        "vocab_size": 67,
        "hidden_size": 34,
        "intermediate_size": 29,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "max_position_embeddings": 64,
        "rope_theta": 500.0,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
    }
    return config | sizes


def _palm(**sizes):
    config = {
        "vocab_size": 71,
        "d_model": 28,
        "num_heads": 3,
        "num_kv_heads": 1,
        "head_dim": 10,
        "num_encoder_layers": 3,
        "num_decoder_layers": 2,
        "d_ff": 45,
        "decoder_start_token_id": 2,
    }
    return config | sizes


def _palm_sparse(count, chosen, encoder, decoder, **sizes):
    config = _palm(
        num_experts=count,
        num_experts_per_tok=chosen,
        expert_d_ff=23,
        encoder_sparse_layers=list(encoder),
        decoder_sparse_layers=list(decoder),
    )
    return config | sizes


def _block(count, chosen, kind, d_ff):
    return {"num_experts": count, "num_experts_per_tok": chosen, "kind": kind, "d_ff": d_ff}


def _palm_fixture(seed, config, exercises, **more):
    return Fixture(PALM, seed, config, exercises, save=palm.save, **more)


_CAPACITY_MATTERS = ("normalization_swapped", "one_queue_for_both_choices", "capacity_ignored")
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
    "m2m100": Fixture(
        M2M100,
        24,
        _m2m100(scale_embedding=True, forced_bos_token_id=11),
        "M2M-100, dense NLLB: pre-norm with last norms, ReLU, sinusoidal positions offset by 2, scale_embedding, "
        "encoder and decoder unequal in depth, heads and feed-forward size, forced_bos_token_id.",
        must_matter=("positions_from_zero", "embedding_scale_toggled"),
    ),
    "m2m100-gelu": Fixture(
        M2M100,
        25,
        _m2m100(
            scale_embedding=False,
            activation_function="gelu",
            d_model=27,
            encoder_layers=1,
            encoder_attention_heads=3,
            decoder_attention_heads=9,
            max_position_embeddings=33,
        ),
        "M2M-100 with GELU, embeddings unscaled, an odd d_model (the last component of a position is 0), a decoder "
        "deeper than its encoder, and a source of max_position_embeddings tokens.",
        must_matter=("positions_from_zero", "embedding_scale_toggled"),
    ),
    "nllb-moe-100": _nllb_fixture(
        1.0,
        "NLLB-MoE: 2 of 5 experts, every 2nd encoder layer sparse (1 and 3 of 4), every 3rd decoder layer (2 of 3); "
        "capacity fraction 1.0, under which nothing is dropped.",
    ),
    "nllb-moe-50": _nllb_fixture(0.5, "nllb-moe-100 with capacity fraction 0.5: drops.", _CAPACITY_MATTERS),
    "nllb-moe-25": _nllb_fixture(0.25, "nllb-moe-100 with capacity fraction 0.25: many drops.", _CAPACITY_MATTERS),
    "nllb-moe-100-before": _nllb_fixture(
        1.0,
        "nllb-moe-100 with normalize_router_prob_before_dropping: the same function, as nothing is dropped.",
        normalize_router_prob_before_dropping=True,
    ),
    "nllb-moe-50-before": _nllb_fixture(
        0.5,
        "nllb-moe-50 with normalize_router_prob_before_dropping: a sole survivor keeps its smaller gate.",
        _CAPACITY_MATTERS,
        normalize_router_prob_before_dropping=True,
    ),
    "nllb-moe-25-before": _nllb_fixture(
        0.25,
        "nllb-moe-25 with normalize_router_prob_before_dropping: a sole survivor keeps its smaller gate.",
        _CAPACITY_MATTERS,
        normalize_router_prob_before_dropping=True,
    ),
    "nllb-moe-55": _nllb_fixture(
        0.55,
        "Routers with a bias; 0.55 × 20 tokens is 11.000000000000002 in float64, so the capacity is 12; another "
        "token dropout; 3 experts; every encoder layer sparse, no decoder layer.",
        (*_CAPACITY_MATTERS, "capacity_rounded_down"),
        router_bias=True,
        moe_token_dropout=0.35,
        num_experts=3,
        encoder_layers=2,
        decoder_layers=1,
        encoder_sparse_step=1,
        decoder_sparse_step=0,
    ),
    "nllb-moe-capacity": _nllb_fixture(
        0.0,
        "Capacity fraction 0: expert_capacity (6) is in force; 7 experts, GELU, unscaled embeddings.",
        _CAPACITY_MATTERS,
        expert_capacity=6,
        num_experts=7,
        encoder_layers=2,
        scale_embedding=False,
        activation_function="gelu",
    ),
    "mixtral": Fixture(
        MIXTRAL,
        28,
        _mixtral(),
        "Mixtral, decoder-only: 2 of 5 experts, 6 heads over 2 key/value heads, head_dim × heads (60) ≠ hidden_size "
        "(34), rope_theta 500, untied head.",
        lengths=ALONE,
        must_matter=("gates_not_renormalized", "rope_theta_10000"),
    ),
    "mixtral-3of8": Fixture(
        MIXTRAL,
        38,
        _mixtral(
            hidden_size=32,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=None,
            num_local_experts=8,
            num_experts_per_tok=3,
            intermediate_size=21,
            num_hidden_layers=2,
            rope_theta=1e6,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        ),
        "Mixtral with 3 of 8 experts, one key/value head, no head_dim in config.json (null), tied head.",
        lengths=ALONE,
        router_std=2.0,
        must_matter=("gates_not_renormalized", "rope_theta_10000"),
    ),
    "palm": _palm_fixture(
        30,
        _palm_sparse(4, 2, [1], [0]),
        "PaLM-style: parallel layers, multi-query attention, SwiGLU, 2 of 4 experts in encoder layer 1 and decoder "
        "layer 0; no block.",
        must_matter=("experts_weighted_equally",),
    ),
    "palm-block": _palm_fixture(
        39,
        _palm_sparse(4, 2, [0, 2], [1], mixture=_block(5, 2, "feed_forward", 37)),
        "Sparse layers and a block of kind feed_forward between the stacks (2 of 5), gated once per source.",
        must_matter=("experts_weighted_equally",),
    ),
    "palm-layers": _palm_fixture(
        32,
        _palm(mixture=_block(4, 2, "layer", 33), rope_theta=300.0, rms_norm_eps=1e-5, num_encoder_layers=1),
        "A block of kind layer (2 of 4), dense layers only, rope_theta 300, rms_norm_eps 1e-5.",
        router_std=6.0,
        must_matter=("experts_weighted_equally",),
    ),
    "palm-kinds": _palm_fixture(
        33,
        _palm_sparse(
            6, 3, [0], [0], num_heads=4, num_kv_heads=2, num_encoder_layers=2, num_decoder_layers=1,
            expert_activations=["swiglu", "geglu", "reglu", "silu", "gelu", "relu"],
        ),
        "Experts of six kinds, gated and ungated (3 of 6); 4 heads over 2 key/value heads.",
        must_matter=("experts_weighted_equally",),
    ),
    "palm-capacity": _palm_fixture(
        34,
        _palm_sparse(4, 2, [0, 2], [1], expert_capacity=7),
        "expert_capacity 7 in the encoder: drops, and the gates of what is left stay as they are; none in the decoder.",
        lengths=CROWDS,
        must_matter=("capacity_ignored", "gates_renormalized_after_dropping"),
    ),
    "palm-position": _palm_fixture(
        35,
        _palm_sparse(5, 2, [1], [1], router="position"),
        "The router by position: no parameters, weights 1 / k.",
    ),
    "palm-hash": _palm_fixture(
        36,
        _palm_sparse(5, 2, [1], [0], router="hash", expert_capacity=9),
        "The router by token id, a table of bytes; capacity 9 in the encoder.",
        lengths=CROWDS,
        must_matter=("capacity_ignored", "gates_renormalized_after_dropping"),
    ),
    "palm-all": _palm_fixture(
        37,
        _palm_sparse(3, 3, [1], [0], mixture=_block(2, 2, "feed_forward", 21)),
        "k = m: every token goes to all 3 experts, and every source to both of the block's.",
        must_matter=("experts_weighted_equally",),
    ),
}
