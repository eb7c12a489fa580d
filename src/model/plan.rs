//! How many bytes the arena needs, exactly, as a `const fn` of the model's sizes and the limits.
//!
//! Three phases share the arena; inside a phase, units of work share what is left:
//!
//! ```text
//! encode   [ K/V of one layer | scratch of the unit          ][ encoder states ]
//! cross    [ cross K/V of all decoder layers | scratch       ][ encoder states ]
//! decode   [ cross K/V | self K/V | x | scratch of the unit                    ]
//! ```
//!
//! The total is the greatest phase. `encode.rs` and `decode.rs` carve in the same order.

use super::Shape;
use super::StackShape;
use crate::layers::attention::scratch_bytes;
use crate::layers::kv_cache::KvShape;
use crate::tensor::arena::round4;

/// What a session must be able to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Most source tokens.
    pub source: u32,
    /// Most target positions: the start token and the generated ones that are fed back.
    pub target: u32,
    /// Beams of the search; 1 in this version.
    pub beams: u32,
}

/// Bytes of the arena by use. `u64`, so that the numbers are the same on every target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Encoder states `[source, D]`, f32.
    pub encoder_states: u64,
    /// K/V of one encoder layer.
    pub encoder_kv: u64,
    /// Scratch of the greatest unit of the encoder, the encoder's K/V included where it is in use.
    pub encode_scratch: u64,
    /// Cross-attention K/V of all decoder layers.
    pub cross_kv: u64,
    /// Scratch while cross-attention K/V are computed.
    pub cross_scratch: u64,
    /// Self-attention K/V of all decoder layers.
    pub self_kv: u64,
    /// The decoder's state of one token, f32.
    pub decoder_state: u64,
    /// Scratch of the greatest unit of the decoder, logits included.
    pub decode_scratch: u64,
}

const fn max(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

/// Bytes of a tile: see `layers::tile`.
const fn tile(shape: &Shape, tokens: u64, width: usize) -> u64 {
    if shape.int8 {
        tokens * (max(shape.d_model as u64, width as u64).next_multiple_of(16) + 8)
    } else {
        tokens * shape.d_model as u64 * 4
    }
}

/// Bytes of the f32 rows that a linear layer writes; one row of D values fits in any case.
const fn wide(shape: &Shape, tokens: u64, width: usize) -> u64 {
    max(tokens * width as u64, shape.d_model as u64) * 4
}

/// Shape of a KV cache of one layer of `stack`.
pub(super) const fn kv_shape(shape: &Shape, stack: &StackShape, positions: u32) -> KvShape {
    KvShape {
        int8: shape.int8,
        positions: positions as usize,
        heads: stack.heads,
        d_kv: stack.d_kv,
    }
}

/// Bytes of a KV cache of one layer.
const fn kv(shape: &Shape, stack: &StackShape, positions: u32) -> u64 {
    kv_shape(shape, stack, positions).bytes()
}

/// Bytes of the routes of a sequence: choices, gates, counts.
const fn routes(tokens: u64, experts: usize) -> u64 {
    round4(tokens * 2) + tokens * 4 + experts as u64 * 4
}

impl MemoryPlan {
    /// The plan for a model's sizes.
    pub const fn new(shape: &Shape, limits: Limits) -> Self {
        let (encoder, decoder) = (&shape.encoder, &shape.decoder);
        let (source, target) = (limits.source as u64, limits.target as u64);
        let rows = if source < shape.tile as u64 {
            source
        } else {
            shape.tile as u64
        };
        let row = shape.d_model as u64 * 4;

        let encoder_kv = kv(shape, encoder, limits.source);
        let inner = encoder.inner();
        let attention = encoder_kv
            + tile(shape, rows, inner)
            + wide(shape, rows, inner)
            + scratch_bytes(shape.int8, source, encoder.d_kv as u64);
        let mut encode_scratch = attention;
        if encoder.dense_ff > 0 {
            let dense = tile(shape, rows, encoder.dense_ff) + wide(shape, rows, encoder.dense_ff);
            encode_scratch = max(encode_scratch, dense);
        }
        if encoder.experts > 0 {
            let routes = routes(source, encoder.experts);
            let route = routes + row + encoder.experts as u64 * 4;
            let expert = routes
                + rows * 8
                + tile(shape, rows, encoder.expert_ff)
                + wide(shape, rows, encoder.expert_ff);
            encode_scratch = max(encode_scratch, max(route, expert));
        }

        let inner = decoder.inner();
        let cross_scratch = tile(shape, rows, 0) + wide(shape, rows, inner);
        let keys = max(source, target);
        let mut decode_scratch = tile(shape, 1, inner)
            + wide(shape, 1, inner)
            + scratch_bytes(shape.int8, keys, decoder.d_kv as u64);
        if decoder.dense_ff > 0 {
            let dense = tile(shape, 1, decoder.dense_ff) + wide(shape, 1, decoder.dense_ff);
            decode_scratch = max(decode_scratch, dense);
        }
        if decoder.experts > 0 {
            let expert = decoder.experts as u64 * 4
                + tile(shape, 1, decoder.expert_ff)
                + wide(shape, 1, decoder.expert_ff);
            decode_scratch = max(decode_scratch, expert);
        }
        let head = tile(shape, 1, 0) + row + shape.vocab as u64 * 4;
        Self {
            encoder_states: source * row,
            encoder_kv,
            encode_scratch,
            cross_kv: kv(shape, decoder, limits.source).saturating_mul(decoder.layers as u64),
            cross_scratch,
            self_kv: kv(shape, decoder, limits.target)
                .saturating_mul(decoder.layers as u64)
                .saturating_mul(limits.beams as u64),
            decoder_state: row,
            decode_scratch: max(decode_scratch, head),
        }
    }

    /// Bytes while the encoder runs.
    pub const fn encode(&self) -> u64 {
        self.encoder_states.saturating_add(self.encode_scratch)
    }

    /// Bytes while cross-attention K/V are computed.
    pub const fn cross(&self) -> u64 {
        self.encoder_states
            .saturating_add(self.cross_kv)
            .saturating_add(self.cross_scratch)
    }

    /// Bytes while the decoder runs.
    pub const fn decode(&self) -> u64 {
        self.cross_kv
            .saturating_add(self.self_kv)
            .saturating_add(self.decoder_state)
            .saturating_add(self.decode_scratch)
    }

    /// Bytes of the arena.
    pub const fn total(&self) -> usize {
        let bytes = max(self.encode(), max(self.cross(), self.decode()));
        if bytes > usize::MAX as u64 {
            usize::MAX
        } else {
            bytes as usize
        }
    }
}
