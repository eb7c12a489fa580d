//! Sizes that follow from a file's tables, in `const` context.

use crate::format::{FeedForwardKind, Palm};

/// Sizes of one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackShape {
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head's vectors.
    pub d_kv: usize,
    /// Greatest hidden width of the dense feed-forward blocks; 0 if there are none.
    pub dense_ff: usize,
    /// Greatest hidden width of the experts; 0 if there are none.
    pub expert_ff: usize,
    /// Most experts in a layer; 0 if there are none.
    pub experts: usize,
}

impl StackShape {
    /// Width of all heads' vectors together.
    pub const fn inner(&self) -> usize {
        self.heads * self.d_kv
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
    /// Token rows that one batch holds at most.
    pub tile: usize,
    /// The encoder.
    pub encoder: StackShape,
    /// The decoder.
    pub decoder: StackShape,
}

impl Shape {
    pub(crate) const fn of(palm: &Palm<'_>) -> Self {
        let h = palm.header();
        let encoder_layers = h.encoder_layers as u32;
        Self {
            d_model: h.d_model as usize,
            vocab: h.vocab as usize,
            int8: h.numeric == 1,
            tile: h.tile as usize,
            encoder: stack(palm, 0, encoder_layers, h.encoder_heads, h.encoder_d_kv),
            decoder: stack(
                palm,
                encoder_layers,
                h.layer_count(),
                h.decoder_heads,
                h.decoder_d_kv,
            ),
        }
    }
}

const fn stack(palm: &Palm<'_>, first: u32, end: u32, heads: u16, d_kv: u16) -> StackShape {
    let mut shape = StackShape {
        layers: (end - first) as usize,
        heads: heads as usize,
        d_kv: d_kv as usize,
        dense_ff: 0,
        expert_ff: 0,
        experts: 0,
    };
    let mut index = first;
    while index < end {
        let layer = palm.layer(index);
        match layer.ff_kind {
            FeedForwardKind::Dense => shape.dense_ff = max(shape.dense_ff, rows(palm, layer.wi)),
            FeedForwardKind::Mixture => {
                shape.experts = max(shape.experts, layer.experts as usize);
                let mut expert = layer.first_expert;
                while expert < layer.first_expert + layer.experts as u32 {
                    let wi = palm.expert(expert).wi;
                    shape.expert_ff = max(shape.expert_ff, rows(palm, wi));
                    expert += 1;
                }
            }
        }
        index += 1;
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
