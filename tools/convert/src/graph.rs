//! The canonical model in f32: what every family becomes before weights are quantized and laid
//! out. Its blocks are those of the layer table in the format's specification.

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
    /// The rows in order.
    pub fn iter_rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.cols.max(1))
    }
}

/// RMS norm (no bias) or layer norm.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// Name in the checkpoint.
    pub name: String,
    pub gain: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// The projections of one attention and the norm that belongs to it (before it, or after its
/// residual sum).
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub norm: Norm,
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub o: Matrix,
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

/// The feed-forward sublayer.
#[derive(Debug, Clone)]
pub(crate) enum FeedForward {
    Dense(Block),
    Mixture {
        /// `[experts, D]`
        router: Matrix,
        experts: Vec<Block>,
        /// Most tokens of a sequence that one expert takes; 0: no limit.
        capacity: u32,
    },
}

impl FeedForward {
    /// The one block, or all experts.
    pub fn blocks(&self) -> &[Block] {
        match self {
            Self::Dense(block) => std::slice::from_ref(block),
            Self::Mixture { experts, .. } => experts,
        }
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
    pub d_kv: usize,
    /// Factor of q·k.
    pub score_scale: f32,
    /// Relative-position buckets; 0: none.
    pub buckets: usize,
    /// Bucket of each distance; empty if there are no buckets.
    pub distances: Vec<u8>,
    /// `[buckets, heads]` each.
    pub relative_biases: Vec<Matrix>,
    /// Learned positions.
    pub positions: Option<Matrix>,
    pub embedding_norm: Option<Norm>,
    pub final_norm: Option<Norm>,
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

/// A whole encoder-decoder model.
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
    pub ids: Ids,
    pub default_source: u32,
    pub default_target: u32,
    /// `[V, D]`
    pub embedding: Matrix,
    pub head: Head,
    pub encoder: Stack,
    pub decoder: Stack,
}
