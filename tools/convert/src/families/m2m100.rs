//! M2M-100, and the dense NLLB models, which have its classes: layer norms before each sublayer,
//! biases everywhere, sinusoidal positions that no checkpoint holds — and the stacks that NLLB-MoE
//! shares with it. (`transformers/models/m2m_100/modeling_m2m_100.py`, 4.56.2.)

use palmtop::format::MAX_ROWS;

use super::fairseq::{self, Shape};
use super::{Bound, Limits, activation, embedding, linear, norm, widths};
use crate::checkpoint::Checkpoint;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Activation, Family, FeedForward, Graph, Head, Layer, Matrix, NormKind, NormPosition, Stack,
};
use crate::positions;

/// What the two classes call their parts.
pub(super) struct Names {
    pub family: Family,
    /// Cross-attention, and its norm.
    pub cross: [&'static str; 2],
    pub ff_norm: &'static str,
}

/// A layer whose feed-forward is wanted.
pub(super) struct LayerPlace<'l> {
    pub side: &'static str,
    pub index: usize,
    /// Its name in the checkpoint.
    pub name: &'l str,
    /// `[d_ff, d_model]`
    pub dims: (usize, usize),
    pub activation: Activation,
}

/// Builds a layer's feed-forward.
pub(super) type FeedForwardOf<'f> =
    &'f dyn Fn(&mut Checkpoint<'_>, &LayerPlace<'_>) -> Result<FeedForward, ConvertError>;

/// The graph of an M2M-100.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    let names = Names {
        family: Family::M2m100,
        cross: ["encoder_attn", "encoder_attn_layer_norm"],
        ff_norm: "final_layer_norm",
    };
    assemble(checkpoint, limits, &names, &|checkpoint, place| {
        let block = fairseq::block(checkpoint, place.name, place.dims, place.activation)?;
        Ok(FeedForward::Dense(block))
    })
}

/// Reads both stacks, embedding and head: what M2M-100 and NLLB-MoE have in common.
pub(super) fn assemble(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
    names: &Names,
    feed_forward: FeedForwardOf<'_>,
) -> Result<Graph, ConvertError> {
    const POSITIONS: &str = "max_position_embeddings";
    let config = checkpoint.config.clone();
    let (d_model, vocab) = widths(&config, 1024, 128_112)?;
    if d_model < 4 {
        let remedy = "at least 4 is wanted (fewer divide by zero in transformers' positions)";
        return Err(config.refuse("d_model", remedy));
    }
    let all = config.size(POSITIONS, 1024, MAX_ROWS)?;
    let most = limits.positions(checkpoint, POSITIONS, all, Bound::None)?;
    let name = config.text("activation_function")?.unwrap_or("relu");
    let activation = activation(&config, "activation_function", name)?;
    let scaled = config.flag("scale_embedding", true)?;
    let tied = config.flag("tie_word_embeddings", true)?;
    let pad = config.id("pad_token_id", vocab)?.unwrap_or(1);
    let positions = (pad as usize + 1, most);
    let side = |side| Shape::read(&config, side, d_model, activation);
    let (encoder, decoder) = (side("encoder")?, side("decoder")?);

    let defaults = Defaults {
        decoder_start: Some(2),
        eos: Some(2),
        pad: Some(pad),
        forced_eos: None,
    };
    let ids = generation::ids(checkpoint, vocab, &defaults)?;
    if ids.decoder_start == pad {
        let remedy = "an id other than pad_token_id is wanted: positions of padding depend on \
                      caching in transformers";
        return Err(config.refuse("decoder_start_token_id", remedy));
    }
    let most = most as u32;
    let usual_target = generation::usual_target(checkpoint)?.unwrap_or(most);
    let (default_source, default_target) = limits.resolve((most, usual_target), (most, most))?;

    let prefix = prefix(checkpoint);
    let embedding = embedding::of_stacks(checkpoint, prefix, tied, (vocab, d_model))?;
    let head = if tied {
        super::t5::tied_head(checkpoint, &embedding, "lm_head.weight")?;
        Head::Tied { bias: None }
    } else {
        Head::Own(linear(checkpoint, "lm_head", (vocab, d_model), false)?)
    };
    let mut stack =
        |shape: &Shape| stack(checkpoint, prefix, shape, positions, names, feed_forward);
    let (encoder, decoder) = (stack(&encoder)?, stack(&decoder)?);
    Ok(Graph {
        family: names.family,
        d_model,
        vocab,
        norm: NormKind::Layer,
        norm_position: NormPosition::Pre,
        norm_eps: fairseq::NORM_EPS,
        embed_scale: fairseq::embed_scale(scaled, d_model),
        head_scale: 1.0,
        max_source: most,
        max_target: most,
        position_offset: 0,
        rotary: false,
        parallel: false,
        decoder_only: false,
        ids,
        default_source,
        default_target,
        embedding,
        head,
        encoder,
        mixture_block: None,
        decoder,
    })
}

/// `M2M100Model` saves without the prefix that `M2M100ForConditionalGeneration` adds.
fn prefix(checkpoint: &Checkpoint<'_>) -> &'static str {
    let bare = "encoder.layer_norm.weight";
    if checkpoint.has(bare) { "" } else { "model." }
}

/// `(first, rows)`: the first row of the class's own table that stands for a position, and how many do.
fn stack(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    shape: &Shape,
    (first, rows): (usize, usize),
    names: &Names,
    feed_forward: FeedForwardOf<'_>,
) -> Result<Stack, ConvertError> {
    let base = format!("{prefix}{}", shape.side);
    let mut layers = Vec::with_capacity(shape.layers);
    for index in 0..shape.layers {
        let name = format!("{base}.layers.{index}");
        layers.push(layer(checkpoint, &name, index, shape, names, feed_forward)?);
    }
    // Old saves hold the computed table.
    checkpoint.skip(&format!("{base}.embed_positions.weights"), "it is computed");
    let table = positions::sinusoidal(first, rows, shape.d_model);
    let name = format!("{base}.embed_positions");
    Ok(Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.heads,
        d_kv: shape.d_kv(),
        score_scale: shape.score_scale(),
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: Some(Matrix::table(&name, rows, shape.d_model, table)),
        embedding_norm: None,
        final_norm: Some(norm(
            checkpoint,
            &format!("{base}.layer_norm"),
            shape.d_model,
            true,
        )?),
    })
}

fn layer(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    index: usize,
    shape: &Shape,
    names: &Names,
    feed_forward: FeedForwardOf<'_>,
) -> Result<Layer, ConvertError> {
    let own = ["self_attn", "self_attn_layer_norm"];
    let d_model = shape.d_model;
    Ok(Layer {
        attention: fairseq::attention(checkpoint, name, own, d_model)?,
        relative_bias: None,
        cross: match shape.side {
            "decoder" => Some(fairseq::attention(checkpoint, name, names.cross, d_model)?),
            _ => None,
        },
        ff_norm: norm(
            checkpoint,
            &format!("{name}.{}", names.ff_norm),
            d_model,
            true,
        )?,
        feed_forward: feed_forward(
            checkpoint,
            &LayerPlace {
                side: shape.side,
                index,
                name,
                dims: (shape.d_ff, d_model),
                activation: shape.activation,
            },
        )?,
    })
}
