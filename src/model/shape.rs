//! Sizes that follow from a file's tables, in `const` context.

use crate::format::{FeedForwardKind, LayerRecord, Palm, Policy};
use crate::kernels::Layout;
use crate::layers::tile::TileKind;

/// Most rows of a tile that a file may ask for.
pub(crate) const MOST_TILE: usize = 16;

/// Sizes of one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackShape {
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head's vectors.
    pub d_kv: usize,
    /// Greatest hidden width of the dense feed-forward blocks; 0 if there are none.
    pub dense_ff: usize,
    /// Greatest hidden width of the experts; 0 if there are none.
    pub expert_ff: usize,
    /// Most experts in a layer; 0 if there are none.
    pub experts: usize,
    /// Most experts that a token goes to.
    pub top_k: usize,
    /// Whether outputs of a feed-forward sublayer are added up beside the stream: where a token has
    /// several experts, or where sublayers run in parallel.
    pub aside: bool,
    /// Whether some experts take quantized inputs.
    pub integer_experts: bool,
    /// Whether some experts take floats.
    pub float_experts: bool,
    /// Whether some layer routes by token.
    pub by_token: bool,
}

/// Sizes of the mixture block between encoder and decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Experts.
    pub experts: usize,
    /// Experts that an input goes to.
    pub top_k: usize,
    /// Greatest hidden width of the experts.
    pub expert_ff: usize,
    /// Whether the experts are whole layers.
    pub attention: bool,
    /// Whether some experts take quantized inputs.
    pub integer_experts: bool,
    /// Whether some experts take floats.
    pub float_experts: bool,
}

impl StackShape {
    /// Width of all heads' vectors together.
    pub const fn inner(&self) -> usize {
        self.heads * self.d_kv
    }

    /// Width of all key heads' vectors together.
    pub const fn kv_inner(&self) -> usize {
        self.kv_heads * self.d_kv
    }
}

/// Sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Whether linear layers and attention are int8.
    pub int8: bool,
    /// Layout of int8 matrices.
    pub layout: Layout,
    /// Token rows that one batch holds at most.
    pub tile: usize,
    /// Multiply-accumulates of a unit of work at most; `usize::MAX` for whole sublayers.
    pub unit: usize,
    /// The encoder.
    pub encoder: StackShape,
    /// The decoder.
    pub decoder: StackShape,
    /// The mixture block, if there is one.
    pub block: Option<BlockShape>,
    /// Whether the last attention of a layer runs beside its feed-forward.
    pub parallel: bool,
    /// Whether there is no encoder.
    pub decoder_only: bool,
}

impl Shape {
    /// Token rows that a batch of attention holds at most: see [`Model::with_tile`](super::Model::with_tile).
    pub(crate) const fn attention_tile(&self) -> usize {
        if self.tile > MOST_TILE {
            self.tile.saturating_mul(4)
        } else {
            self.tile
        }
    }

    /// What rows the tiles of linear layers hold.
    pub(crate) const fn tile_kind(&self) -> TileKind {
        TileKind::of(self.int8, self.layout)
    }

    /// Whether a layer's feed-forward is added up beside the stream: in parallel layers, and where a
    /// token has several experts.
    pub(crate) fn is_aside(&self, record: &LayerRecord) -> bool {
        let several = record.ff_kind == FeedForwardKind::Mixture && record.top_k > 1;
        self.parallel || several
    }

    pub(crate) const fn of(palm: &Palm<'_>) -> Self {
        let h = palm.header();
        let encoder_layers = h.encoder_layers as u32;
        let mut encoder = stack(palm, 0, encoder_layers);
        let mut decoder = stack(palm, encoder_layers, h.layer_count());
        encoder.heads = h.encoder_heads as usize;
        encoder.kv_heads = h.encoder_kv_heads as usize;
        encoder.d_kv = h.encoder_d_kv as usize;
        decoder.heads = h.decoder_heads as usize;
        decoder.kv_heads = h.decoder_kv_heads as usize;
        decoder.d_kv = h.decoder_d_kv as usize;
        Self {
            d_model: h.d_model as usize,
            vocab: h.vocab as usize,
            int8: h.numeric == 1,
            layout: h.layout,
            tile: h.tile as usize,
            unit: usize::MAX,
            encoder,
            decoder,
            block: match h.block_index() {
                Some(index) => Some(block(palm, index)),
                None => None,
            },
            parallel: h.parallel,
            decoder_only: h.decoder_only,
        }
    }
}

/// The layers `first..end`; the sizes of their attention are not in the layers.
const fn stack(palm: &Palm<'_>, first: u32, end: u32) -> StackShape {
    let mut shape = StackShape {
        layers: (end - first) as usize,
        heads: 0,
        kv_heads: 0,
        d_kv: 0,
        dense_ff: 0,
        expert_ff: 0,
        experts: 0,
        top_k: 0,
        aside: palm.header().parallel,
        integer_experts: false,
        float_experts: false,
        by_token: false,
    };
    let mut index = first;
    while index < end {
        let layer = palm.layer(index);
        match layer.ff_kind {
            FeedForwardKind::Dense => shape.dense_ff = max(shape.dense_ff, rows(palm, layer.wi)),
            FeedForwardKind::Mixture => {
                let block = block(palm, index);
                shape.experts = max(shape.experts, block.experts);
                shape.top_k = max(shape.top_k, block.top_k);
                shape.expert_ff = max(shape.expert_ff, block.expert_ff);
                shape.aside |= block.top_k > 1;
                shape.integer_experts |= block.integer_experts;
                shape.float_experts |= block.float_experts;
                shape.by_token |= matches!(layer.policy, Policy::Hash);
            }
        }
        index += 1;
    }
    shape
}

/// The mixture of layer `index`.
const fn block(palm: &Palm<'_>, index: u32) -> BlockShape {
    let layer = palm.layer(index);
    let mut shape = BlockShape {
        experts: layer.experts as usize,
        top_k: layer.top_k as usize,
        expert_ff: 0,
        attention: palm.expert(layer.first_expert).has_attention(),
        integer_experts: false,
        float_experts: false,
    };
    let mut expert = layer.first_expert;
    while expert < layer.first_expert + layer.experts as u32 {
        let wi = palm.expert(expert).wi;
        shape.expert_ff = max(shape.expert_ff, rows(palm, wi));
        match palm.tensor(wi) {
            Some(tensor) if tensor.format.is_integer() => shape.integer_experts = true,
            _ => shape.float_experts = true,
        }
        expert += 1;
    }
    shape
}

const fn rows(palm: &Palm<'_>, tensor: u16) -> usize {
    match palm.tensor(tensor) {
        Some(record) => record.rows as usize,
        None => 0,
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
