//! T5, its v1.1 and Flan forms, mT5, UMT5 — and the stacks that Switch Transformers share with
//! them. (`transformers/models/t5/modeling_t5.py`, 4.56.2.)

use palmtop::format::MAX_COLS;

use super::{Limits, activation, embedding, epsilon, linear, norm, widths};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::distances;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Activation, Attention, Block, Family, FeedForward, Graph, Head, Layer, Matrix, NormKind,
    NormPosition, Projections, Stack,
};

/// Members of the family differ in defaults, and in where relative-position biases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    T5,
    Mt5,
    /// Every layer has its own relative-position bias.
    Umt5,
}

/// Widths that both stacks have.
pub(super) struct Shape {
    pub d_model: usize,
    pub d_ff: usize,
    pub heads: usize,
    pub d_kv: usize,
    pub buckets: usize,
    pub max_distance: usize,
    pub bias_per_layer: bool,
}

/// Which stack, and how its tensors are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Encoder,
    Decoder,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }

    /// Number of the feed-forward sublayer in a block.
    pub fn feed_forward(self) -> usize {
        match self {
            Self::Encoder => 1,
            Self::Decoder => 2,
        }
    }
}

/// Builds a layer's feed-forward from (checkpoint, layer index, side, name of the sublayer).
pub(super) type FeedForwardOf<'f> =
    &'f dyn Fn(&mut Checkpoint<'_>, usize, Side, &str) -> Result<FeedForward, ConvertError>;

/// The graph of T5, mT5 or UMT5.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
    variant: Variant,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    let (activation, gated) = feed_forward_kind(&config, variant)?;
    let tied = config.flag("tie_word_embeddings", variant != Variant::Mt5)?;
    let (d_model, vocab) = match variant {
        Variant::T5 => widths(&config, 512, 32_128)?,
        Variant::Mt5 | Variant::Umt5 => widths(&config, 512, 250_112)?,
    };
    let small = variant != Variant::T5;
    let layers = config.size(
        "num_layers",
        if small { 8 } else { 6 },
        usize::from(u16::MAX),
    )?;
    let decoder_layers = config.size("num_decoder_layers", layers, usize::from(u16::MAX))?;
    let shape = Shape {
        d_ff: config.size("d_ff", if small { 1024 } else { 2048 }, MAX_COLS)?,
        bias_per_layer: variant == Variant::Umt5,
        ..attention_shape(&config, d_model, if small { 6 } else { 8 })?
    };
    let dims = (d_model, shape.d_ff);
    let feed_forward =
        |checkpoint: &mut Checkpoint<'_>, _: usize, _: Side, name: &str| -> Result<_, _> {
            let name = format!("{name}.DenseReluDense");
            Ok(FeedForward::Dense(block(
                checkpoint, &name, dims, activation, gated,
            )?))
        };
    let parts = Parts {
        layers,
        decoder_layers,
        vocab,
        tied,
        eps_field: "layer_norm_epsilon",
    };
    assemble(
        checkpoint,
        limits,
        Family::T5,
        &shape,
        &parts,
        &feed_forward,
    )
}

/// Depths, vocabulary and head.
pub(super) struct Parts {
    pub layers: usize,
    pub decoder_layers: usize,
    pub vocab: usize,
    pub tied: bool,
    pub eps_field: &'static str,
}

/// Reads both stacks, embedding and head: what T5 and Switch have in common.
pub(super) fn assemble(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
    family: Family,
    shape: &Shape,
    parts: &Parts,
    feed_forward: FeedForwardOf<'_>,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    let norm_eps = epsilon(&config, parts.eps_field, 1e-6)?;
    let pad = config.id("pad_token_id", parts.vocab)?.or(Some(0));
    let defaults = Defaults {
        decoder_start: config.id("bos_token_id", parts.vocab)?.or(pad),
        eos: Some(1),
        pad: Some(0),
        forced_eos: None,
    };
    let ids = generation::ids(checkpoint, parts.vocab, &defaults)?;
    let source = config.count("n_positions", 64)?;
    let source = u32::try_from(source).unwrap_or(u32::MAX);
    let target = generation::usual_target(checkpoint)?.unwrap_or(source);
    let (default_source, default_target) = limits.resolve((source, target), (0, 0))?;

    let embedding = if family == Family::Switch && !parts.tied {
        embedding::of_untied_stacks(checkpoint, "", (parts.vocab, shape.d_model))?
    } else {
        embedding::of_one_module(checkpoint, (parts.vocab, shape.d_model))?
    };
    let encoder = stack(checkpoint, Side::Encoder, parts.layers, shape, feed_forward)?;
    let decoder = stack(
        checkpoint,
        Side::Decoder,
        parts.decoder_layers,
        shape,
        feed_forward,
    )?;
    let head = if parts.tied {
        tied_head(checkpoint, &embedding, "lm_head.weight")?;
        Head::Tied { bias: None }
    } else {
        Head::Own(linear(
            checkpoint,
            "lm_head",
            (parts.vocab, shape.d_model),
            false,
        )?)
    };
    checkpoint.skip(
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        "cross-attention has no relative positions (transformers ignores it too)",
    );
    Ok(Graph {
        family,
        d_model: shape.d_model,
        vocab: parts.vocab,
        norm: NormKind::Rms,
        norm_position: NormPosition::Pre,
        norm_eps,
        embed_scale: 1.0,
        // transformers scales the state by d_model ** -0.5 where the head is tied.
        head_scale: if parts.tied {
            (shape.d_model as f64).powf(-0.5) as f32
        } else {
            1.0
        },
        max_source: 0,
        max_target: 0,
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

/// Widths of attention and its relative positions.
pub(super) fn attention_shape(
    config: &Config,
    d_model: usize,
    heads: usize,
) -> Result<Shape, ConvertError> {
    let d_kv = config.size("d_kv", 64, MAX_COLS)?;
    let heads = config.size("num_heads", heads, MAX_COLS)?;
    if heads.saturating_mul(d_kv) > MAX_COLS || heads >= 1 << 16 || d_kv >= 1 << 16 {
        return Err(config.refuse("num_heads", format!("num_heads * d_kv is above {MAX_COLS}")));
    }
    let buckets = config.size("relative_attention_num_buckets", 32, 256)?;
    if buckets < 4 {
        let remedy = "at least 4 are wanted (fewer divide by zero in transformers)";
        return Err(config.refuse("relative_attention_num_buckets", remedy));
    }
    let max_distance = config.size("relative_attention_max_distance", 128, MAX_COLS - 1)?;
    if max_distance <= buckets / 2 {
        let remedy = format!("more than half of the {buckets} buckets is wanted");
        return Err(config.refuse("relative_attention_max_distance", remedy));
    }
    Ok(Shape {
        d_model,
        d_ff: 0,
        heads,
        d_kv,
        buckets,
        max_distance,
        bias_per_layer: false,
    })
}

/// Activation and whether it is gated. config.json's `dense_act_fn` and `is_gated_act`, if they
/// are there, override what `feed_forward_proj` says, as in transformers.
fn feed_forward_kind(
    config: &Config,
    variant: Variant,
) -> Result<(Activation, bool), ConvertError> {
    const FIELD: &str = "feed_forward_proj";
    let default = if variant == Variant::T5 {
        "relu"
    } else {
        "gated-gelu"
    };
    let projection = config.text(FIELD)?.unwrap_or(default);
    let (gated, name) = match projection.split_once('-') {
        None => (false, projection),
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", name)) if !name.contains('-') => (true, name),
        Some(_) => {
            return Err(config.refuse(FIELD, "`relu`, `gated-gelu` or another of that form"));
        }
    };
    let gated = config.flag("is_gated_act", gated)?;
    let activation = match config.text("dense_act_fn")? {
        Some(name) => activation(config, "dense_act_fn", name)?,
        None => activation(config, FIELD, name)?,
    };
    Ok((activation, gated))
}

/// Takes a head that is tied, and notes it if it differs: transformers overwrites it.
pub(super) fn tied_head(
    checkpoint: &mut Checkpoint<'_>,
    embedding: &Matrix,
    name: &str,
) -> Result<(), ConvertError> {
    if !checkpoint.has(name) {
        return Ok(());
    }
    if checkpoint.take(name, &[embedding.rows, embedding.cols])? != embedding.values {
        checkpoint.note(format!(
            "tensor `{name}` differs from the embedding, but config.json ties them: the embedding \
             is used, as in transformers"
        ));
    }
    Ok(())
}

fn stack(
    checkpoint: &mut Checkpoint<'_>,
    side: Side,
    depth: usize,
    shape: &Shape,
    feed_forward: FeedForwardOf<'_>,
) -> Result<Stack, ConvertError> {
    // The encoder has half of its buckets for each direction; a last odd one is never used.
    let (buckets, one_way) = match side {
        Side::Encoder => (shape.buckets / 2 * 2, shape.buckets / 2),
        Side::Decoder => (shape.buckets, shape.buckets),
    };
    let side_name = side.name();
    let mut layers = Vec::new();
    let mut relative_biases = Vec::new();
    for index in 0..depth {
        let block = format!("{side_name}.block.{index}.layer");
        if index == 0 || shape.bias_per_layer {
            relative_biases.push(relative_bias(checkpoint, &block, shape, buckets)?);
        }
        let name = format!("{block}.{}", side.feed_forward());
        layers.push(Layer {
            attention: attention(checkpoint, &format!("{block}.0"), "SelfAttention", shape)?,
            relative_bias: Some(relative_biases.len() - 1),
            cross: match side {
                Side::Encoder => None,
                Side::Decoder => {
                    let name = format!("{block}.1");
                    Some(attention(checkpoint, &name, "EncDecAttention", shape)?)
                }
            },
            ff_norm: norm(
                checkpoint,
                &format!("{name}.layer_norm"),
                shape.d_model,
                false,
            )?,
            feed_forward: feed_forward(checkpoint, index, side, &name)?,
        });
    }
    let final_norm = format!("{side_name}.final_layer_norm");
    Ok(Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.heads,
        d_kv: shape.d_kv,
        score_scale: 1.0,
        buckets,
        distances: distances::table(one_way, shape.max_distance),
        relative_biases,
        positions: None,
        embedding_norm: None,
        final_norm: Some(norm(checkpoint, &final_norm, shape.d_model, false)?),
    })
}

fn relative_bias(
    checkpoint: &mut Checkpoint<'_>,
    block: &str,
    shape: &Shape,
    buckets: usize,
) -> Result<Matrix, ConvertError> {
    let name = format!("{block}.0.SelfAttention.relative_attention_bias");
    let mut bias = linear(checkpoint, &name, (shape.buckets, shape.heads), false)?;
    bias.rows = buckets;
    bias.values.truncate(buckets * shape.heads);
    Ok(bias)
}

fn attention(
    checkpoint: &mut Checkpoint<'_>,
    sublayer: &str,
    kind: &str,
    shape: &Shape,
) -> Result<Attention, ConvertError> {
    let inner = shape.heads * shape.d_kv;
    let (into, out) = ((inner, shape.d_model), (shape.d_model, inner));
    Ok(Attention {
        norm: norm(
            checkpoint,
            &format!("{sublayer}.layer_norm"),
            shape.d_model,
            false,
        )?,
        projections: Projections {
            q: linear(checkpoint, &format!("{sublayer}.{kind}.q"), into, false)?,
            k: linear(checkpoint, &format!("{sublayer}.{kind}.k"), into, false)?,
            v: linear(checkpoint, &format!("{sublayer}.{kind}.v"), into, false)?,
            o: linear(checkpoint, &format!("{sublayer}.{kind}.o"), out, false)?,
        },
    })
}

/// A feed-forward block: `wi`, `wo`, or gated `wi_0`, `wi_1`, `wo`.
pub(super) fn block(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    (d_model, d_ff): (usize, usize),
    activation: Activation,
    gated: bool,
) -> Result<Block, ConvertError> {
    let wide = (d_ff, d_model);
    let wi = format!("{name}.{}", if gated { "wi_0" } else { "wi" });
    Ok(Block {
        activation,
        wi: linear(checkpoint, &wi, wide, false)?,
        wi_linear: match gated {
            true => Some(linear(checkpoint, &format!("{name}.wi_1"), wide, false)?),
            false => None,
        },
        wo: linear(checkpoint, &format!("{name}.wo"), (d_model, d_ff), false)?,
    })
}
