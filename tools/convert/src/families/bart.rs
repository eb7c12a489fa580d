//! BART: layer norms after each residual sum, biases everywhere, learned positions.
//! (`transformers/models/bart/modeling_bart.py`, 4.56.2.)

use palmtop::format::MAX_ROWS;
use serde_json::json;

use super::fairseq::{self, Shape};
use super::{Bound, Limits, activation, embedding, linear, norm, widths};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Family, FeedForward, Graph, Head, Layer, Matrix, NormKind, NormPosition, Stack,
};

/// First row of the position tables that is used (`BartLearnedPositionalEmbedding.offset`).
const POSITION_OFFSET: usize = 2;
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
    let side = |side| Shape::read(&config, side, d_model, activation);
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
    let positions = (all, most);
    let most = most as u32;
    let usual_target = generation::usual_target(checkpoint)?.unwrap_or(most);
    let (default_source, default_target) = limits.resolve((most, usual_target), (most, most))?;

    let prefix = prefix(checkpoint);
    let embedding = embedding::of_stacks(checkpoint, prefix, tied, (vocab, d_model))?;
    let head = head(checkpoint, &embedding, tied)?;
    Ok(Graph {
        family: Family::Bart,
        d_model,
        vocab,
        norm: NormKind::Layer,
        norm_position: NormPosition::Post,
        norm_eps: fairseq::NORM_EPS,
        embed_scale: fairseq::embed_scale(scaled, d_model),
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
        encoder: stack(checkpoint, prefix, &encoder, positions)?,
        mixture_block: None,
        decoder: stack(checkpoint, prefix, &decoder, positions)?,
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

/// `(all, most)`: positions of the checkpoint's table, and how many of them are taken.
fn stack(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    shape: &Shape,
    (all, most): (usize, usize),
) -> Result<Stack, ConvertError> {
    let base = format!("{prefix}{}", shape.side);
    let (name, rows) = (format!("{base}.embed_positions"), all + POSITION_OFFSET);
    let mut positions = linear(checkpoint, &name, (rows, shape.d_model), false)?;
    positions.rows = most + POSITION_OFFSET;
    positions.values.truncate(positions.rows * shape.d_model);
    let layer = |index| layer(checkpoint, &format!("{base}.layers.{index}"), shape);
    let layers = (0..shape.layers).map(layer).collect::<Result<_, _>>()?;
    let embedding_norm = format!("{base}.layernorm_embedding");
    checkpoint.skip(&format!("{base}.version"), "transformers ignores it too");
    Ok(Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.heads,
        d_kv: shape.d_kv(),
        score_scale: shape.score_scale(),
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
    let d_model = shape.d_model;
    let mut attention = |kind: &str| {
        let names = [kind, &format!("{kind}_layer_norm")];
        fairseq::attention(checkpoint, name, names, d_model)
    };
    let own = attention("self_attn")?;
    let cross = match shape.side {
        "decoder" => Some(attention("encoder_attn")?),
        _ => None,
    };
    let ff_norm = format!("{name}.final_layer_norm");
    let dims = (shape.d_ff, d_model);
    Ok(Layer {
        attention: own,
        relative_bias: None,
        cross,
        ff_norm: norm(checkpoint, &ff_norm, d_model, true)?,
        feed_forward: FeedForward::Dense(fairseq::block(checkpoint, name, dims, shape.activation)?),
    })
}
