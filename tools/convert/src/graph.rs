//! The canonical model in f32: what every family becomes before weights are quantized and laid
//! out. Its blocks are those of the layer table in the format's specification.

use palmtop::format::Policy;

/// A linear layer `[rows, cols]` (outputs, inputs), or any other table of f32.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    /// Name in the checkpoint.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    /// Row by row.
    pub values: Vec<f32>,
    /// One value a row.
    pub bias: Option<Vec<f32>>,
}

impl Matrix {
    /// A table without a bias.
    pub fn table(name: &str, rows: usize, cols: usize, values: Vec<f32>) -> Self {
        Self {
            name: name.to_owned(),
            rows,
            cols,
            values,
            bias: None,
        }
    }

    /// The rows in order.
    pub fn iter_rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.cols.max(1))
    }
}

/// RMS norm (no bias) or layer norm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Norm {
    /// Name in the checkpoint.
    pub name: String,
    pub gain: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// The matrices of one attention.
#[derive(Debug, Clone)]
pub(crate) struct Projections {
    /// `[heads * d_kv, D]`
    pub q: Matrix,
    /// `[kv_heads * d_kv, D]`, as is `v`.
    pub k: Matrix,
    pub v: Matrix,
    /// `[D, heads * d_kv]`
    pub o: Matrix,
}

/// An attention and the norm that belongs to it (before it, or after its residual sum).
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub norm: Norm,
    pub projections: Projections,
}

/// The nonlinearity of a feed-forward block, with its code in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu = 0,
    /// `0.5 x (1 + erf(x / sqrt 2))`
    Gelu = 1,
    /// The tanh form.
    GeluTanh = 2,
    Silu = 3,
}

/// `wo(act(wi x))`, or gated: `wo(act(wi x) * wi_linear x)`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub activation: Activation,
    pub wi: Matrix,
    pub wi_linear: Option<Matrix>,
    pub wo: Matrix,
}

impl Block {
    /// Hidden width.
    pub fn d_ff(&self) -> usize {
        self.wi.rows
    }
}

/// An expert: a feed-forward block, or a whole layer (in the mixture block only).
#[derive(Debug, Clone)]
pub(crate) struct Expert {
    /// q, k, v, o of an expert that is a whole layer.
    pub attention: Option<Projections>,
    pub block: Block,
}

impl From<Block> for Expert {
    fn from(block: Block) -> Self {
        Self {
            attention: None,
            block,
        }
    }
}

/// What chooses experts.
#[derive(Debug, Clone)]
pub(crate) enum Router {
    /// Probabilities: `[experts, D]`.
    Learned(Matrix),
    /// The token's position.
    Position,
    /// The token's id: an expert for every id.
    Table { name: String, experts: Vec<u8> },
}

/// How tokens find their experts, and what becomes of an expert's output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub policy: Policy,
    /// Experts per token.
    pub top_k: u16,
    /// Most tokens of a call that one expert takes; 0: no limit.
    pub capacity: u32,
    /// Above 0: the capacity is this share of the call's tokens, rounded up.
    pub capacity_fraction: f32,
    /// Gates are normalized before tokens are dropped, not after.
    pub normalize_first: bool,
    /// Factor of every expert's output.
    pub output_factor: f32,
}

impl Rule {
    /// A policy without limits.
    pub fn new(policy: Policy, top_k: u16) -> Self {
        Self {
            policy,
            top_k,
            capacity: 0,
            capacity_fraction: 0.0,
            normalize_first: false,
            output_factor: 1.0,
        }
    }

    /// Whether version 1.0 of the format can state it: Switch routing with a fixed capacity.
    pub fn is_plain(&self) -> bool {
        let plain = Self {
            capacity: self.capacity,
            ..Self::new(Policy::Switch, 1)
        };
        *self == plain
    }
}

/// A mixture of experts.
#[derive(Debug, Clone)]
pub(crate) struct Mixture {
    pub router: Router,
    pub rule: Rule,
    pub experts: Vec<Expert>,
}

/// The mixture between encoder and decoder, gated once per source.
#[derive(Debug, Clone)]
pub(crate) struct MixtureBlock {
    pub norm: Norm,
    pub mixture: Mixture,
}

/// The feed-forward sublayer.
#[derive(Debug, Clone)]
pub(crate) enum FeedForward {
    Dense(Block),
    Mixture(Mixture),
}

impl FeedForward {
    /// The hidden widths of the one block, or of all experts.
    pub fn widths(&self) -> impl Iterator<Item = usize> {
        let (dense, experts): (_, &[Expert]) = match self {
            Self::Dense(block) => (Some(block), &[]),
            Self::Mixture(mixture) => (None, &mixture.experts),
        };
        let experts = experts.iter().map(|expert| &expert.block);
        dense.into_iter().chain(experts).map(Block::d_ff)
    }
}

/// A layer of either stack; the decoder's have a cross-attention.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub attention: Attention,
    /// Which of the stack's relative-position biases self-attention adds.
    pub relative_bias: Option<usize>,
    pub cross: Option<Attention>,
    pub ff_norm: Norm,
    pub feed_forward: FeedForward,
}

/// Encoder or decoder.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub layers: Vec<Layer>,
    pub heads: usize,
    /// Heads of keys and values: a divisor of `heads`.
    pub kv_heads: usize,
    pub d_kv: usize,
    /// Factor of q·k.
    pub score_scale: f32,
    /// Relative-position buckets; 0: none.
    pub buckets: usize,
    /// Bucket of each distance; empty if there are no buckets.
    pub distances: Vec<u8>,
    /// `[buckets, heads]` each.
    pub relative_biases: Vec<Matrix>,
    /// Positions: `[rows, D]` that are added, or `[rows, d_kv]` that rotate.
    pub positions: Option<Matrix>,
    pub embedding_norm: Option<Norm>,
    pub final_norm: Option<Norm>,
}

impl Stack {
    /// What stands for the encoder of a model that has none: the sizes of its decoder.
    pub fn absent(&self) -> Self {
        Self {
            layers: Vec::new(),
            heads: self.heads,
            kv_heads: self.kv_heads,
            d_kv: self.d_kv,
            score_scale: self.score_scale,
            buckets: 0,
            distances: Vec::new(),
            relative_biases: Vec::new(),
            positions: None,
            embedding_norm: None,
            final_norm: None,
        }
    }
}

/// The output head.
#[derive(Debug, Clone)]
pub(crate) enum Head {
    /// The embedding's matrix, with a bias of its own if there is one.
    Tied {
        bias: Option<Vec<f32>>,
    },
    Own(Matrix),
}

/// Family code of the header; information only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    T5 = 1,
    Switch = 2,
    Bart = 3,
    M2m100 = 4,
    NllbMoe = 5,
    Mixtral = 6,
    Palm = 7,
}

/// Kind of norm, with its code in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormKind {
    Rms = 0,
    Layer = 1,
}

/// Where norms stand, with the code in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormPosition {
    /// Before each sublayer.
    Pre = 0,
    /// After each residual sum.
    Post = 1,
}

/// Ids that steer generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub decoder_start: u32,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub forced_bos: Option<u32>,
    pub forced_eos: Option<u32>,
}

/// A whole model.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub family: Family,
    pub d_model: usize,
    pub vocab: usize,
    pub norm: NormKind,
    pub norm_position: NormPosition,
    pub norm_eps: f32,
    pub embed_scale: f32,
    pub head_scale: f32,
    /// Most source tokens; 0: no limit.
    pub max_source: u32,
    /// Most target positions; 0: no limit.
    pub max_target: u32,
    /// First row used of learned positions.
    pub position_offset: u32,
    /// Position tables rotate q and k of self-attention.
    pub rotary: bool,
    /// The last attention of a layer runs beside its feed-forward.
    pub parallel: bool,
    /// No encoder, no cross-attention.
    pub decoder_only: bool,
    pub ids: Ids,
    pub default_source: u32,
    pub default_target: u32,
    /// `[V, D]`
    pub embedding: Matrix,
    pub head: Head,
    pub encoder: Stack,
    pub mixture_block: Option<MixtureBlock>,
    pub decoder: Stack,
}

impl Graph {
    /// All mixtures with the name of their stack and their layer, in the order of the expert
    /// table.
    pub fn mixtures(&self) -> impl Iterator<Item = (&'static str, usize, &Mixture)> {
        fn of<'s>(
            name: &'static str,
            stack: &'s Stack,
        ) -> impl Iterator<Item = (&'static str, usize, &'s Mixture)> {
            let layers = stack.layers.iter().enumerate();
            layers.filter_map(move |(index, layer)| match &layer.feed_forward {
                FeedForward::Mixture(mixture) => Some((name, index, mixture)),
                FeedForward::Dense(_) => None,
            })
        }
        let block = self
            .mixture_block
            .iter()
            .map(|block| (BLOCK, 0, &block.mixture));
        of(ENCODER, &self.encoder)
            .chain(of(DECODER, &self.decoder))
            .chain(block)
    }

    /// Takes all experts out, in the order of the expert table.
    pub fn take_experts(&mut self) -> Vec<Expert> {
        let layers = self
            .encoder
            .layers
            .iter_mut()
            .chain(&mut self.decoder.layers);
        let in_layers = layers.filter_map(|layer| match &mut layer.feed_forward {
            FeedForward::Mixture(mixture) => Some(mixture),
            FeedForward::Dense(_) => None,
        });
        let block = self
            .mixture_block
            .iter_mut()
            .map(|block| &mut block.mixture);
        in_layers
            .chain(block)
            .flat_map(|mixture| std::mem::take(&mut mixture.experts))
            .collect()
    }
}

/// The stacks that have experts, as options name them.
pub(crate) const ENCODER: &str = "encoder";
/// See [`ENCODER`].
pub(crate) const DECODER: &str = "decoder";
/// The mixture block between them.
pub(crate) const BLOCK: &str = "block";
