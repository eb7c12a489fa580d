//! What BART, M2M-100 and NLLB-MoE have from their common origin, fairseq: one attention whose four
//! projections are square, `fc1` and `fc2`, biases everywhere, and the names of their configuration.

use palmtop::format::MAX_COLS;

use super::{linear, norm};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::graph::{Activation, Attention, Block, Projections};

/// PyTorch's default for `nn.LayerNorm`, which these classes leave as it is.
pub(super) const NORM_EPS: f32 = 1e-5;

/// What one stack's configuration says.
pub(super) struct Shape {
    pub side: &'static str,
    pub layers: usize,
    pub heads: usize,
    pub d_ff: usize,
    pub d_model: usize,
    pub activation: Activation,
}

impl Shape {
    /// Reads `{side}_layers`, `{side}_attention_heads` and `{side}_ffn_dim`.
    pub(super) fn read(
        config: &Config,
        side: &'static str,
        d_model: usize,
        activation: Activation,
    ) -> Result<Self, ConvertError> {
        let field = format!("{side}_attention_heads");
        let heads = config.size(&field, 16, usize::from(u16::MAX))?;
        if !d_model.is_multiple_of(heads) || d_model / heads > usize::from(u16::MAX) {
            let remedy = format!("a divisor of d_model ({d_model}) is wanted");
            return Err(config.refuse(&field, remedy));
        }
        Ok(Self {
            side,
            layers: config.size(&format!("{side}_layers"), 12, usize::from(u16::MAX))?,
            heads,
            d_ff: config.size(&format!("{side}_ffn_dim"), 4096, MAX_COLS)?,
            d_model,
            activation,
        })
    }

    /// Width of a head.
    pub(super) fn d_kv(&self) -> usize {
        self.d_model / self.heads
    }

    /// What scores are multiplied with.
    pub(super) fn score_scale(&self) -> f32 {
        (self.d_kv() as f64).powf(-0.5) as f32
    }
}

/// `scale_embedding`: the embedding times the root of its width.
pub(super) fn embed_scale(scaled: bool, d_model: usize) -> f32 {
    match scaled {
        true => (d_model as f64).sqrt() as f32,
        false => 1.0,
    }
}

/// An attention of a layer, and the norm that goes with it.
pub(super) fn attention(
    checkpoint: &mut Checkpoint<'_>,
    layer: &str,
    [kind, norm_name]: [&str; 2],
    d_model: usize,
) -> Result<Attention, ConvertError> {
    let square = (d_model, d_model);
    let mut projection =
        |part: &str| linear(checkpoint, &format!("{layer}.{kind}.{part}"), square, true);
    let projections = Projections {
        q: projection("q_proj")?,
        k: projection("k_proj")?,
        v: projection("v_proj")?,
        o: projection("out_proj")?,
    };
    let norm = norm(checkpoint, &format!("{layer}.{norm_name}"), d_model, true)?;
    Ok(Attention { norm, projections })
}

/// `fc1` and `fc2` under a name; `(d_ff, d_model)`.
pub(super) fn block(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    (d_ff, d_model): (usize, usize),
    activation: Activation,
) -> Result<Block, ConvertError> {
    Ok(Block {
        activation,
        wi: linear(checkpoint, &format!("{name}.fc1"), (d_ff, d_model), true)?,
        wi_linear: None,
        wo: linear(checkpoint, &format!("{name}.fc2"), (d_model, d_ff), true)?,
    })
}
