//! Mixtral: a decoder alone, with rotary positions, shared key heads and a mixture of gated experts
//! in every layer. (`transformers/models/mixtral/modeling_mixtral.py`, 4.56.2.)

use palmtop::format::{MAX_COLS, MAX_ROWS, Policy};
use serde_json::json;

use super::{Bound, Limits, activation, epsilon, linear, norm};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Activation, Attention, Block, Expert, Family, FeedForward, Graph, Head, Layer, Matrix, Mixture,
    NormKind, NormPosition, Projections, Router, Rule, Stack,
};
use crate::positions;

/// Widths of the stack.
struct Shape {
    d_model: usize,
    d_ff: usize,
    heads: usize,
    kv_heads: usize,
    d_kv: usize,
    experts: usize,
    rule: Rule,
    activation: Activation,
}

/// The graph of a Mixtral.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    const POSITIONS: &str = "max_position_embeddings";
    let config = checkpoint.config.clone();
    refuse_other_forms(&config)?;
    let shape = shape(&config)?;
    let (d_model, d_kv) = (shape.d_model, shape.d_kv);
    let vocab = config.size("vocab_size", 32_000, MAX_ROWS)?;
    let depth = config.size("num_hidden_layers", 32, usize::from(u16::MAX))?;
    let theta = rope_theta(&config, 1e6)?;
    let norm_eps = epsilon(&config, "rms_norm_eps", 1e-5)?;
    let tied = config.flag("tie_word_embeddings", false)?;
    let all = config.size(POSITIONS, 4096 * 32, MAX_ROWS)?;
    let most = limits.positions(checkpoint, POSITIONS, all, Bound::None)?;
    refuse_window(&config, most)?;

    let bos = match config.has("bos_token_id") {
        true => config.id("bos_token_id", vocab)?,
        false => Some(1),
    };
    let defaults = Defaults {
        decoder_start: bos,
        eos: Some(2),
        pad: None,
        forced_eos: None,
    };
    let ids = generation::ids(checkpoint, vocab, &defaults)?;
    let most = most as u32;
    let usual = generation::usual_target(checkpoint)?.unwrap_or(most);
    let (_, default_target) = limits.resolve((1, usual), (0, most))?;

    let prefix = match checkpoint.has("embed_tokens.weight") {
        true => "",
        false => "model.",
    };
    let name = format!("{prefix}embed_tokens");
    let embedding = linear(checkpoint, &name, (vocab, d_model), false)?;
    let head = if tied {
        super::t5::tied_head(checkpoint, &embedding, "lm_head.weight")?;
        Head::Tied { bias: None }
    } else {
        Head::Own(linear(checkpoint, "lm_head", (vocab, d_model), false)?)
    };
    let layer = |index| layer(checkpoint, &format!("{prefix}layers.{index}"), &shape);
    let layers = (0..depth).map(layer).collect::<Result<_, _>>()?;
    let table = positions::rotary(most as usize, d_kv, theta);
    let decoder = Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        d_kv,
        score_scale: (d_kv as f64).powf(-0.5) as f32,
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: Some(Matrix::table(
            "rotary positions",
            most as usize,
            d_kv,
            table,
        )),
        embedding_norm: None,
        final_norm: Some(norm(checkpoint, &format!("{prefix}norm"), d_model, false)?),
    };
    Ok(Graph {
        family: Family::Mixtral,
        d_model,
        vocab,
        norm: NormKind::Rms,
        norm_position: NormPosition::Pre,
        norm_eps,
        embed_scale: 1.0,
        head_scale: 1.0,
        max_source: 0,
        max_target: most,
        position_offset: 0,
        rotary: true,
        parallel: false,
        decoder_only: true,
        ids,
        default_source: 1,
        default_target,
        embedding,
        head,
        encoder: decoder.absent(),
        mixture_block: None,
        decoder,
    })
}

fn shape(config: &Config) -> Result<Shape, ConvertError> {
    let d_model = config.size("hidden_size", 4096, MAX_COLS)?;
    let heads = config.size("num_attention_heads", 32, MAX_COLS)?;
    let key_heads = match config.has("num_key_value_heads") {
        true => heads, // null
        false => 8,
    };
    let kv_heads = config.size("num_key_value_heads", key_heads, MAX_COLS)?;
    if !heads.is_multiple_of(kv_heads) {
        let remedy = format!("a divisor of num_attention_heads ({heads}) is wanted");
        return Err(config.refuse("num_key_value_heads", remedy));
    }
    let d_kv = config.size("head_dim", (d_model / heads).max(1), MAX_COLS)?;
    super::head_width(config, "head_dim", heads, d_kv)?;
    let experts = config.size("num_local_experts", 8, usize::from(u16::MAX))?;
    let top_k = config.size("num_experts_per_tok", 2, experts)?;
    let name = config.text("hidden_act")?.unwrap_or("silu");
    Ok(Shape {
        d_model,
        d_ff: config.size("intermediate_size", 14_336, MAX_COLS)?,
        heads,
        kv_heads,
        d_kv,
        experts,
        rule: Rule::new(Policy::TopK, top_k as u16),
        activation: activation(config, "hidden_act", name)?,
    })
}

/// Forms of rotary positions and attention that the class does not have, or that the device does
/// not compute.
fn refuse_other_forms(config: &Config) -> Result<(), ConvertError> {
    let plain = |scaling: &serde_json::Value| {
        let kind = scaling.get("rope_type").or(scaling.get("type"));
        kind.is_some_and(|kind| kind == "default")
    };
    if let Some(scaling) = config.get("rope_scaling")
        && !plain(scaling)
    {
        let remedy = "scaled rotary positions are not supported; null is wanted";
        return Err(config.refuse("rope_scaling", remedy));
    }
    let part = "only whole heads are rotated; 1 is wanted";
    config.must_be("partial_rotary_factor", &json!(1.0), part)?;
    let bias = "attention with biases is not supported";
    config.must_be("attention_bias", &json!(false), bias)
}

/// A window that all positions fit into changes nothing.
fn refuse_window(config: &Config, positions: usize) -> Result<(), ConvertError> {
    match config.optional_count("sliding_window")? {
        Some(window) if window < positions => {
            let remedy = format!(
                "windows are not supported; take at most as many positions as the window has, with \
                 --max-positions {window}"
            );
            Err(config.refuse("sliding_window", remedy))
        }
        _ => Ok(()),
    }
}

/// The base of rotary frequencies.
pub(super) fn rope_theta(config: &Config, default: f64) -> Result<f64, ConvertError> {
    let theta = config.number("rope_theta", default)?;
    if theta >= 1.0 && (theta as f32).is_finite() {
        return Ok(theta);
    }
    Err(config.refuse("rope_theta", "a number of at least 1 is wanted"))
}

fn layer(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    shape: &Shape,
) -> Result<Layer, ConvertError> {
    let d_model = shape.d_model;
    let (inner, kv_inner) = (shape.heads * shape.d_kv, shape.kv_heads * shape.d_kv);
    let mut projection = |part: &str, dims| {
        let name = format!("{name}.self_attn.{part}_proj");
        linear(checkpoint, &name, dims, false)
    };
    let projections = Projections {
        q: projection("q", (inner, d_model))?,
        k: projection("k", (kv_inner, d_model))?,
        v: projection("v", (kv_inner, d_model))?,
        o: projection("o", (d_model, inner))?,
    };
    let own_norm = norm(
        checkpoint,
        &format!("{name}.input_layernorm"),
        d_model,
        false,
    )?;
    let ff_norm = format!("{name}.post_attention_layernorm");
    // A buffer that old saves hold.
    let buffer = format!("{name}.self_attn.rotary_emb.inv_freq");
    checkpoint.skip(&buffer, "it is computed");
    Ok(Layer {
        attention: Attention {
            norm: own_norm,
            projections,
        },
        relative_bias: None,
        cross: None,
        ff_norm: norm(checkpoint, &ff_norm, d_model, false)?,
        feed_forward: FeedForward::Mixture(mixture(
            checkpoint,
            &format!("{name}.block_sparse_moe"),
            shape,
        )?),
    })
}

fn mixture(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    shape: &Shape,
) -> Result<Mixture, ConvertError> {
    let router = (shape.experts, shape.d_model);
    let router = linear(checkpoint, &format!("{name}.gate"), router, false)?;
    let (wide, narrow) = ((shape.d_ff, shape.d_model), (shape.d_model, shape.d_ff));
    let mut expert = |index: usize| -> Result<Expert, ConvertError> {
        let name = format!("{name}.experts.{index}");
        Ok(Expert::from(Block {
            activation: shape.activation,
            wi: linear(checkpoint, &format!("{name}.w1"), wide, false)?,
            wi_linear: Some(linear(checkpoint, &format!("{name}.w3"), wide, false)?),
            wo: linear(checkpoint, &format!("{name}.w2"), narrow, false)?,
        }))
    };
    Ok(Mixture {
        router: Router::Learned(router),
        rule: shape.rule,
        experts: (0..shape.experts)
            .map(&mut expert)
            .collect::<Result<_, _>>()?,
    })
}
