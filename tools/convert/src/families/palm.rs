//! An encoder-decoder after PaLM (Chowdhery et al. 2022): attention and feed-forward side by side,
//! gated feed-forward, shared key heads, rotary positions, RMS norms, no biases; with experts in
//! layers, in a block between encoder and decoder, or both. Its configuration and tensors are
//! those that this project's trainer writes (`tools/zoo`).

use palmtop::format::{MAX_COLS, MAX_ROWS, Policy};
use serde_json::{Value, json};

use super::mixtral::rope_theta;
use super::{Bound, Limits, epsilon, head_width, linear, norm, widths};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::generation::{self, Defaults};
use crate::graph::{
    Activation, Attention, Block, Expert, Family, FeedForward, Graph, Head, Layer, Matrix, Mixture,
    MixtureBlock, Norm, NormKind, NormPosition, Projections, Router, Rule, Stack,
};
use crate::positions;

/// Widths that both stacks have.
struct Shape {
    d_model: usize,
    d_ff: usize,
    heads: usize,
    kv_heads: usize,
    d_kv: usize,
    vocab: usize,
}

/// What the layers' mixtures have in common.
struct Sparse {
    experts: usize,
    top_k: u16,
    d_ff: usize,
    policy: Policy,
    /// In the encoder.
    capacity: u32,
    /// Of each expert, and whether it is gated.
    kinds: Vec<(Activation, bool)>,
}

/// The graph of a `palm_moe`.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    let tied = "the embedding is the head: true is wanted";
    config.must_be("tie_word_embeddings", &json!(true), tied)?;
    let (d_model, vocab) = widths(&config, 512, 256)?;
    let theta = rope_theta(&config, 10_000.0)?;
    let norm_eps = epsilon(&config, "rms_norm_eps", 1e-6)?;
    let all = config.size("max_positions", 512, MAX_ROWS)?;
    let most = limits.positions(checkpoint, "max_positions", all, Bound::Stated)?;
    let sparse_layers = SIDES.map(|side| sparse_layers(&config, side));
    let [encoder_sparse, decoder_sparse] = sparse_layers;
    let (encoder_sparse, decoder_sparse) = (encoder_sparse?, decoder_sparse?);
    let layers = || encoder_sparse.iter().chain(&decoder_sparse);
    let any_dense = layers().any(|sparse| !sparse);
    let shape = shape(&config, d_model, vocab, any_dense)?;
    let sparse = match layers().any(|sparse| *sparse) {
        true => Some(sparse(&config, &shape)?),
        false => None,
    };

    let pad = config.id("pad_token_id", vocab)?;
    let defaults = Defaults {
        decoder_start: pad,
        eos: None,
        pad,
        forced_eos: None,
    };
    let ids = generation::ids(checkpoint, vocab, &defaults)?;
    let most = most as u32;
    let usual_target = generation::usual_target(checkpoint)?.unwrap_or(most);
    let (default_source, default_target) = limits.resolve((most, usual_target), (most, most))?;

    let embedding = linear(checkpoint, "shared", (vocab, d_model), false)?;
    super::t5::tied_head(checkpoint, &embedding, "lm_head.weight")?;
    let table = positions::rotary(most as usize, shape.d_kv, theta);
    let table = Matrix::table("rotary positions", most as usize, shape.d_kv, table);
    let mut side = |side, layers: &[bool]| {
        let positions = table.clone();
        stack(checkpoint, side, layers, &shape, sparse.as_ref(), positions)
    };
    let encoder = side("encoder", &encoder_sparse)?;
    let decoder = side("decoder", &decoder_sparse)?;
    Ok(Graph {
        family: Family::Palm,
        d_model,
        vocab,
        norm: NormKind::Rms,
        norm_position: NormPosition::Pre,
        norm_eps,
        embed_scale: 1.0,
        head_scale: (d_model as f64).powf(-0.5) as f32,
        max_source: most,
        max_target: most,
        position_offset: 0,
        rotary: true,
        parallel: true,
        decoder_only: false,
        ids,
        default_source,
        default_target,
        embedding,
        head: Head::Tied { bias: None },
        encoder,
        mixture_block: mixture_block(checkpoint, &config, &shape)?,
        decoder,
    })
}

const SIDES: [&str; 2] = ["encoder", "decoder"];

/// Sizes; `d_ff` may be absent or 0 where no layer is dense.
fn shape(
    config: &Config,
    d_model: usize,
    vocab: usize,
    any_dense: bool,
) -> Result<Shape, ConvertError> {
    let heads = config.size("num_heads", 8, MAX_COLS)?;
    let kv_heads = config.size("num_kv_heads", 1, MAX_COLS)?;
    if !heads.is_multiple_of(kv_heads) {
        let remedy = format!("a divisor of num_heads ({heads}) is wanted");
        return Err(config.refuse("num_kv_heads", remedy));
    }
    let d_kv = config.size("head_dim", (d_model / heads).max(1), MAX_COLS)?;
    head_width(config, "head_dim", heads, d_kv)?;
    Ok(Shape {
        d_model,
        d_ff: match any_dense {
            true => config.size("d_ff", 4 * d_model.min(MAX_COLS / 4), MAX_COLS)?,
            false => 0,
        },
        heads,
        kv_heads,
        d_kv,
        vocab,
    })
}

/// Which layers of a stack have a mixture.
fn sparse_layers(config: &Config, side: &str) -> Result<Vec<bool>, ConvertError> {
    let layers = config.size(&format!("num_{side}_layers"), 4, usize::from(u16::MAX))?;
    let field = format!("{side}_sparse_layers");
    let mut sparse = vec![false; layers];
    for index in config.counts(&field)? {
        match sparse.get_mut(index) {
            Some(place) if !*place => *place = true,
            Some(_) => {
                return Err(config.refuse(&field, format!("layer {index} is there twice")));
            }
            None => {
                let remedy = format!("layers from 0 to {} are wanted", layers - 1);
                return Err(config.refuse(&field, remedy));
            }
        }
    }
    Ok(sparse)
}

fn sparse(config: &Config, shape: &Shape) -> Result<Sparse, ConvertError> {
    let experts = config.size("num_experts", 0, usize::from(u16::MAX))?;
    let top_k = config.size("num_experts_per_tok", 0, experts)?;
    let policy = match config.text("router")?.unwrap_or("softmax") {
        "softmax" => Policy::TopK,
        "position" => Policy::Position,
        "hash" => Policy::Hash,
        _ => return Err(config.refuse("router", "`softmax`, `position` or `hash` is wanted")),
    };
    if policy == Policy::Hash && experts > 256 {
        let remedy = "at most 256 are wanted with the router `hash`: its table has bytes";
        return Err(config.refuse("num_experts", remedy));
    }
    let capacity = config.count("expert_capacity", 0)?;
    let Ok(capacity) = u32::try_from(capacity) else {
        return Err(config.refuse("expert_capacity", "a smaller number is wanted"));
    };
    Ok(Sparse {
        experts,
        top_k: top_k as u16,
        d_ff: config.size("expert_d_ff", shape.d_ff, MAX_COLS)?,
        policy,
        capacity,
        kinds: kinds(config, experts)?,
    })
}

/// Each expert's activation, and whether it is gated.
fn kinds(config: &Config, experts: usize) -> Result<Vec<(Activation, bool)>, ConvertError> {
    const FIELD: &str = "expert_activations";
    let Some(names) = config.texts(FIELD)? else {
        return Ok(vec![(Activation::Silu, true); experts]);
    };
    if names.len() != experts {
        let remedy = format!("{experts} names are wanted, one for each expert");
        return Err(config.refuse(FIELD, remedy));
    }
    let kind = |name: &&str| match *name {
        "swiglu" => Ok((Activation::Silu, true)),
        "geglu" => Ok((Activation::Gelu, true)),
        "reglu" => Ok((Activation::Relu, true)),
        "silu" => Ok((Activation::Silu, false)),
        "gelu" => Ok((Activation::Gelu, false)),
        "relu" => Ok((Activation::Relu, false)),
        other => {
            let remedy = format!(
                "`{other}` is not known; swiglu, geglu, reglu (gated), silu, gelu and relu are"
            );
            Err(config.refuse(FIELD, remedy))
        }
    };
    names.iter().map(kind).collect()
}

fn stack(
    checkpoint: &mut Checkpoint<'_>,
    side: &str,
    sparse_layers: &[bool],
    shape: &Shape,
    sparse: Option<&Sparse>,
    positions: Matrix,
) -> Result<Stack, ConvertError> {
    let mut layers = Vec::with_capacity(sparse_layers.len());
    for (index, is_sparse) in sparse_layers.iter().enumerate() {
        let name = format!("{side}.layers.{index}");
        let sparse = sparse.filter(|_| *is_sparse);
        layers.push(layer(checkpoint, &name, side == "decoder", shape, sparse)?);
    }
    let final_norm = format!("{side}.final_norm");
    Ok(Stack {
        layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        d_kv: shape.d_kv,
        score_scale: (shape.d_kv as f64).powf(-0.5) as f32,
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: Some(positions),
        embedding_norm: None,
        final_norm: Some(norm(checkpoint, &final_norm, shape.d_model, false)?),
    })
}

/// The encoder's layers have one norm for both sublayers, as have the decoder's for cross-attention
/// and feed-forward.
fn layer(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    decoder: bool,
    shape: &Shape,
    sparse: Option<&Sparse>,
) -> Result<Layer, ConvertError> {
    let beside = norm(checkpoint, &format!("{name}.norm"), shape.d_model, false)?;
    let own = match decoder {
        true => norm(
            checkpoint,
            &format!("{name}.self_norm"),
            shape.d_model,
            false,
        )?,
        false => beside.clone(),
    };
    let mut attention = |kind: &str, norm: Norm| -> Result<Attention, ConvertError> {
        let projections = projections(checkpoint, &format!("{name}.{kind}"), shape)?;
        Ok(Attention { norm, projections })
    };
    Ok(Layer {
        attention: attention("self_attn", own)?,
        relative_bias: None,
        cross: match decoder {
            true => Some(attention("cross_attn", beside.clone())?),
            false => None,
        },
        ff_norm: beside,
        feed_forward: match sparse {
            None => FeedForward::Dense(block(
                checkpoint,
                &format!("{name}.mlp"),
                (shape.d_ff, shape.d_model),
                (Activation::Silu, true),
            )?),
            Some(sparse) => {
                let name = format!("{name}.moe");
                FeedForward::Mixture(mixture(checkpoint, &name, decoder, shape, sparse)?)
            }
        },
    })
}

fn projections(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    shape: &Shape,
) -> Result<Projections, ConvertError> {
    let (inner, kv_inner) = (shape.heads * shape.d_kv, shape.kv_heads * shape.d_kv);
    let mut projection =
        |part: &str, dims| linear(checkpoint, &format!("{name}.{part}_proj"), dims, false);
    Ok(Projections {
        q: projection("q", (inner, shape.d_model))?,
        k: projection("k", (kv_inner, shape.d_model))?,
        v: projection("v", (kv_inner, shape.d_model))?,
        o: projection("o", (shape.d_model, inner))?,
    })
}

/// `gate_proj` (if gated), `up_proj` and `down_proj`.
fn block(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    (d_ff, d_model): (usize, usize),
    (activation, gated): (Activation, bool),
) -> Result<Block, ConvertError> {
    let mut projection =
        |part: &str, dims| linear(checkpoint, &format!("{name}.{part}_proj"), dims, false);
    let up = projection("up", (d_ff, d_model))?;
    let (wi, wi_linear) = match gated {
        true => (projection("gate", (d_ff, d_model))?, Some(up)),
        false => (up, None),
    };
    Ok(Block {
        activation,
        wi,
        wi_linear,
        wo: projection("down", (d_model, d_ff))?,
    })
}

fn mixture(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    decoder: bool,
    shape: &Shape,
    sparse: &Sparse,
) -> Result<Mixture, ConvertError> {
    let router = match sparse.policy {
        Policy::Position => Router::Position,
        Policy::Hash => {
            let name = format!("{name}.router.table");
            let experts = checkpoint.take_bytes(&name, &[shape.vocab], sparse.experts)?;
            Router::Table { name, experts }
        }
        _ => {
            let dims = (sparse.experts, shape.d_model);
            Router::Learned(linear(checkpoint, &format!("{name}.router"), dims, false)?)
        }
    };
    let mut experts = Vec::with_capacity(sparse.experts);
    for (index, kind) in sparse.kinds.iter().enumerate() {
        let name = format!("{name}.experts.{index}");
        let dims = (sparse.d_ff, shape.d_model);
        experts.push(Expert::from(block(checkpoint, &name, dims, *kind)?));
    }
    Ok(Mixture {
        router,
        rule: Rule {
            capacity: if decoder { 0 } else { sparse.capacity },
            ..Rule::new(sparse.policy, sparse.top_k)
        },
        experts,
    })
}

/// The block between encoder and decoder, if there is one.
fn mixture_block(
    checkpoint: &mut Checkpoint<'_>,
    config: &Config,
    shape: &Shape,
) -> Result<Option<MixtureBlock>, ConvertError> {
    let Some(config) = config.object("mixture")? else {
        return Ok(None);
    };
    config.only(&["num_experts", "num_experts_per_tok", "kind", "d_ff"])?;
    let experts = config.size("num_experts", 0, usize::from(u16::MAX))?;
    let top_k = config.size("num_experts_per_tok", 0, experts)?;
    let dims = (config.size("d_ff", 0, MAX_COLS)?, shape.d_model);
    let whole = match config.get("kind").and_then(Value::as_str) {
        Some("feed_forward") => false,
        Some("layer") => true,
        _ => return Err(config.refuse("kind", "`feed_forward` or `layer` is wanted")),
    };
    let mut expert = |index: usize| -> Result<Expert, ConvertError> {
        let name = format!("mixture.experts.{index}");
        let swiglu = (Activation::Silu, true);
        if !whole {
            return Ok(block(checkpoint, &name, dims, swiglu)?.into());
        }
        Ok(Expert {
            attention: Some(projections(
                checkpoint,
                &format!("{name}.self_attn"),
                shape,
            )?),
            block: block(checkpoint, &format!("{name}.mlp"), dims, swiglu)?,
        })
    };
    let all = (0..experts).map(&mut expert).collect::<Result<_, _>>()?;
    let router = linear(
        checkpoint,
        "mixture.router",
        (experts, shape.d_model),
        false,
    )?;
    Ok(Some(MixtureBlock {
        norm: norm(checkpoint, "mixture.norm", shape.d_model, false)?,
        mixture: Mixture {
            router: Router::Learned(router),
            rule: Rule::new(Policy::TopK, top_k as u16),
            experts: all,
        },
    }))
}
