//! BART: layer norms after each residual sum, biases everywhere, learned positions.
//! (`transformers/models/bart/modeling_bart.py`, 4.56.2.)

use palmtop::format::{MAX_COLS, MAX_ROWS};
use serde_json::json;

use super::{Bound, Limits, activation, embedding, linear, norm, widths};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Activation, Attention, Block, Family, FeedForward, Graph, Head, Layer, Matrix, NormKind,
    NormPosition, Projections, Stack,
};

/// First row of the position tables that is used (`BartLearnedPositionalEmbedding.offset`).
const POSITION_OFFSET: usize = 2;
/// PyTorch's default for `nn.LayerNorm`, which BART leaves as it is.
const NORM_EPS: f32 = 1e-5;

/// What one stack's configuration says.
struct Shape {
    side: &'static str,
    layers: usize,
    heads: usize,
    d_ff: usize,
    d_model: usize,
    /// Positions of the checkpoint's table, and how many of them are taken.
    positions: (usize, usize),
    activation: Activation,
}

/// The graph of a BART.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    refuse_other_forms(&config)?;
    let (d_model, vocab) = widths(&config, 1024, 50_265)?;
    const POSITIONS: &str = "max_position_embeddings";
    let all = config.size(POSITIONS, 1024, MAX_ROWS - POSITION_OFFSET)?;
    let most = limits.positions(checkpoint, POSITIONS, all, Bound::Stated)?;
    let activation_name = config.text("activation_function")?.unwrap_or("gelu");
    let activation = activation(&config, "activation_function", activation_name)?;
    let tied = config.flag("tie_word_embeddings", true)?;
    let scaled = config.flag("scale_embedding", false)?;
    let side = |side| shape(&config, side, d_model, (all, most), activation);
    let (encoder, decoder) = (side("encoder")?, side("decoder")?);

    let pad = config.id("pad_token_id", vocab)?.or(Some(1));
    let defaults = Defaults {
        decoder_start: Some(2),
        eos: Some(2),
        pad,
        forced_eos: forced_eos(&config),
    };
    let mut ids = generation::ids(checkpoint, vocab, &defaults)?;
    let old_flag = config.flag("force_bos_token_to_be_generated", false)?;
    if old_flag && ids.forced_bos.is_none() && checkpoint.generation.is_none() {
        ids.forced_bos = config.id("bos_token_id", vocab)?.or(Some(0));
    }
    let most = most as u32;
    let usual_target = generation::usual_target(checkpoint)?.unwrap_or(most);
    let (default_source, default_target) = limits.resolve((most, usual_target), (most, most))?;

    let prefix = prefix(checkpoint);
    let embedding = match tied {
        true => embedding::of_tied_stacks(checkpoint, prefix, (vocab, d_model))?,
        false => embedding::of_untied_stacks(checkpoint, prefix, (vocab, d_model))?,
    };
    let head = head(checkpoint, &embedding, tied)?;
    Ok(Graph {
        family: Family::Bart,
        d_model,
        vocab,
        norm: NormKind::Layer,
        norm_position: NormPosition::Post,
        norm_eps: NORM_EPS,
        embed_scale: if scaled {
            (d_model as f64).sqrt() as f32
        } else {
            1.0
        },
        head_scale: 1.0,
        max_source: most,
        max_target: most,
        position_offset: POSITION_OFFSET as u32,
        rotary: false,
        parallel: false,
        decoder_only: false,
        ids,
        default_source,
        default_target,
        embedding,
        head,
        encoder: stack(checkpoint, prefix, &encoder)?,
        mixture_block: None,
        decoder: stack(checkpoint, prefix, &decoder)?,
    })
}

/// Fields of BART's relatives (mBART, Blenderbot) that `BartForConditionalGeneration` ignores:
/// weights trained with them would give other results.
fn refuse_other_forms(config: &Config) -> Result<(), ConvertError> {
    for (field, plain) in [
        ("normalize_before", false),
        ("add_final_layer_norm", false),
        ("static_position_embeddings", false),
        ("normalize_embedding", true),
    ] {
        config.must_be(field, &json!(plain), "this form of BART is not supported")?;
    }
    Ok(())
}

/// The class's default of 2, unless config.json says null or something else.
fn forced_eos(config: &Config) -> Option<u32> {
    if config.has("forced_eos_token_id") {
        None
    } else {
        Some(2)
    }
}

/// `BartModel` saves without the prefix that `BartForConditionalGeneration` adds.
fn prefix(checkpoint: &Checkpoint<'_>) -> &'static str {
    let bare = "encoder.embed_positions.weight";
    if checkpoint.has(bare) { "" } else { "model." }
}

fn shape(
    config: &Config,
    side: &'static str,
    d_model: usize,
    positions: (usize, usize),
    activation: Activation,
) -> Result<Shape, ConvertError> {
    let field = format!("{side}_attention_heads");
    let heads = config.size(&field, 16, usize::from(u16::MAX))?;
    if !d_model.is_multiple_of(heads) || d_model / heads > usize::from(u16::MAX) {
        return Err(config.refuse(
            &field,
            format!("a divisor of d_model ({d_model}) is wanted"),
        ));
    }
    Ok(Shape {
        side,
        layers: config.size(&format!("{side}_layers"), 12, usize::from(u16::MAX))?,
        heads,
        d_ff: config.size(&format!("{side}_ffn_dim"), 4096, MAX_COLS)?,
        d_model,
        positions,
        activation,
    })
}

/// The head and `final_logits_bias`, which may be absent (zeros) and is left out if it is zero.
fn head(
    checkpoint: &mut Checkpoint<'_>,
    embedding: &Matrix,
    tied: bool,
) -> Result<Head, ConvertError> {
    const BIAS: &str = "final_logits_bias";
    let bias = match checkpoint.has(BIAS) {
        true => Some(checkpoint.take(BIAS, &[1, embedding.rows])?),
        false => None,
    };
    let bias = bias.filter(|bias| bias.iter().any(|value| *value != 0.0));
    if !tied {
        let shape = (embedding.rows, embedding.cols);
        return Ok(Head::Own(Matrix {
            bias,
            ..linear(checkpoint, "lm_head", shape, false)?
        }));
    }
    super::t5::tied_head(checkpoint, embedding, "lm_head.weight")?;
    Ok(Head::Tied { bias })
}

fn stack(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    shape: &Shape,
) -> Result<Stack, ConvertError> {
    let base = format!("{prefix}{}", shape.side);
    let (all, most) = shape.positions;
    let (name, rows) = (format!("{base}.embed_positions"), all + POSITION_OFFSET);
    let mut positions = linear(checkpoint, &name, (rows, shape.d_model), false)?;
    positions.rows = most + POSITION_OFFSET;
    positions.values.truncate(positions.rows * shape.d_model);
    let d_kv = shape.d_model / shape.heads;
    let layer = |index| layer(checkpoint, &format!("{base}.layers.{index}"), shape);
    let layers = (0..shape.layers).map(layer).collect::<Result<_, _>>()?;
    let embedding_norm = format!("{base}.layernorm_embedding");
    checkpoint.skip(&format!("{base}.version"), "transformers ignores it too");
    Ok(Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.heads,
        d_kv,
        score_scale: (d_kv as f64).powf(-0.5) as f32,
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: Some(positions),
        embedding_norm: Some(norm(checkpoint, &embedding_norm, shape.d_model, true)?),
        final_norm: None,
    })
}

fn layer(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    shape: &Shape,
) -> Result<Layer, ConvertError> {
    let (d_model, d_ff) = (shape.d_model, shape.d_ff);
    let attention = attention(checkpoint, name, "self_attn", d_model)?;
    let cross = match shape.side {
        "decoder" => Some(self::attention(checkpoint, name, "encoder_attn", d_model)?),
        _ => None,
    };
    Ok(Layer {
        attention,
        relative_bias: None,
        cross,
        ff_norm: norm(
            checkpoint,
            &format!("{name}.final_layer_norm"),
            d_model,
            true,
        )?,
        feed_forward: FeedForward::Dense(Block {
            activation: shape.activation,
            wi: linear(checkpoint, &format!("{name}.fc1"), (d_ff, d_model), true)?,
            wi_linear: None,
            wo: linear(checkpoint, &format!("{name}.fc2"), (d_model, d_ff), true)?,
        }),
    })
}

fn attention(
    checkpoint: &mut Checkpoint<'_>,
    layer: &str,
    kind: &str,
    d_model: usize,
) -> Result<Attention, ConvertError> {
    let square = (d_model, d_model);
    let mut projection =
        |part: &str| linear(checkpoint, &format!("{layer}.{kind}.{part}"), square, true);
    let (q, k) = (projection("q_proj")?, projection("k_proj")?);
    let (v, o) = (projection("v_proj")?, projection("out_proj")?);
    let norm = norm(
        checkpoint,
        &format!("{layer}.{kind}_layer_norm"),
        d_model,
        true,
    )?;
    let projections = Projections { q, k, v, o };
    Ok(Attention { norm, projections })
}
