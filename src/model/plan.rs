//! How many bytes the arena needs, exactly, as a `const fn` of the model's sizes and the limits.
//!
//! Three phases share the arena; inside a phase, units of work share what is left:
//!
//! ```text
//! encode   [ sums of experts | K/V of one layer | scratch of the unit  ][ ids ][ encoder states ]
//! cross    [ cross K/V of all decoder layers | scratch                       ][ encoder states ]
//! decode   [ cross K/V | self K/V | x | sum of experts | scratch of the unit                   ]
//! ```
//!
//! The sums of experts (\[source, D\], in the decoder one row) are there where outputs of a
//! feed-forward sublayer are added up beside the stream: with several experts a token, and where
//! sublayers run in parallel. The ids are there where some layer routes by token.
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
    /// Ids of the source, if some layer routes by token.
    pub source_ids: u64,
    /// K/V of one encoder layer.
    pub encoder_kv: u64,
    /// Scratch of the greatest unit of the encoder; the encoder's K/V and the sums of experts are
    /// included where they are in use.
    pub encode_scratch: u64,
    /// Cross-attention K/V of all decoder layers.
    pub cross_kv: u64,
    /// Scratch while cross-attention K/V are computed.
    pub cross_scratch: u64,
    /// Self-attention K/V of all decoder layers.
    pub self_kv: u64,
    /// The decoder's state of one token, f32, and the sum of its experts.
    pub decoder_state: u64,
    /// Scratch of the greatest unit of the decoder, logits included.
    pub decode_scratch: u64,
}

const fn max(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

/// Bytes of a tile: see `layers::tile`.
const fn tile(shape: &Shape, tokens: u64, width: usize) -> u64 {
    tile_of(shape.int8, shape, tokens, width)
}

const fn tile_of(integer: bool, shape: &Shape, tokens: u64, width: usize) -> u64 {
    if integer {
        let values = max(shape.d_model as u64, width as u64).next_multiple_of(16);
        tokens * (values * shape.layout.activation_bytes() as u64 + 8)
    } else {
        tokens * shape.d_model as u64 * 4
    }
}

/// Bytes of a tile that serves experts of two kinds, or of one.
const fn expert_tile(
    (integer, float): (bool, bool),
    shape: &Shape,
    tokens: u64,
    width: usize,
) -> u64 {
    let mut bytes = 0;
    if integer {
        bytes = tile_of(true, shape, tokens, width);
    }
    if float {
        bytes = max(bytes, tile_of(false, shape, tokens, width));
    }
    bytes
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
        heads: stack.kv_heads,
        d_kv: stack.d_kv,
    }
}

/// Bytes of a KV cache of one layer.
const fn kv(shape: &Shape, stack: &StackShape, positions: u32) -> u64 {
    kv_shape(shape, stack, positions).bytes()
}

/// Bytes of the choices of experts for so many tokens, and their gates.
const fn choices(tokens: u64, top_k: usize) -> u64 {
    let places = tokens * top_k as u64;
    round4(places * 2) + places * 4
}

impl MemoryPlan {
    /// The plan for a model's sizes.
    pub const fn new(shape: &Shape, limits: Limits) -> Self {
        let decoder = &shape.decoder;
        let source = if shape.decoder_only { 0 } else { limits.source };
        let (tokens, target) = (source as u64, limits.target as u64);
        let row = shape.d_model as u64 * 4;
        let rows = attention_rows(shape, source);
        let cross_scratch = if shape.decoder_only {
            0
        } else {
            tile(shape, rows, 0) + wide(shape, rows, decoder.kv_inner())
        };
        let ids = if shape.encoder.by_token { 4 } else { 0 };
        Self {
            encoder_states: tokens * row,
            source_ids: tokens * ids,
            encoder_kv: kv(shape, &shape.encoder, source),
            encode_scratch: if shape.decoder_only {
                0
            } else {
                max(encode_scratch(shape, source), block_scratch(shape, source))
            },
            cross_kv: kv(shape, decoder, source).saturating_mul(decoder.layers as u64),
            cross_scratch,
            self_kv: kv(shape, decoder, limits.target)
                .saturating_mul(decoder.layers as u64)
                .saturating_mul(limits.beams as u64),
            decoder_state: if decoder.aside { row * 2 } else { row },
            decode_scratch: decode_scratch(shape, max(tokens, target)),
        }
    }

    /// Bytes while the encoder runs.
    pub const fn encode(&self) -> u64 {
        self.encoder_states
            .saturating_add(self.source_ids)
            .saturating_add(self.encode_scratch)
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

/// Rows of a tile.
const fn rows(shape: &Shape, source: u32) -> u64 {
    min(source as u64, shape.tile as u64)
}

/// Rows of a tile of attention.
const fn attention_rows(shape: &Shape, source: u32) -> u64 {
    min(source as u64, shape.attention_tile() as u64)
}

/// Bytes of the sums of experts for so many tokens.
const fn sums(shape: &Shape, tokens: u64) -> u64 {
    tokens * shape.d_model as u64 * 4
}

/// The greatest unit of the encoder's layers.
const fn encode_scratch(shape: &Shape, source: u32) -> u64 {
    let encoder = &shape.encoder;
    let (rows, tokens) = (rows(shape, source), source as u64);
    let beside = if shape.parallel {
        sums(shape, tokens)
    } else {
        0
    };
    let inner = encoder.inner();
    let mut scratch = beside
        + kv(shape, encoder, source)
        + tile(shape, attention_rows(shape, source), inner)
        + wide(shape, attention_rows(shape, source), inner)
        + scratch_bytes(shape.int8, tokens, encoder.d_kv as u64);
    if encoder.dense_ff > 0 {
        let dense = tile(shape, rows, encoder.dense_ff) + wide(shape, rows, encoder.dense_ff);
        scratch = max(scratch, beside + dense);
    }
    if encoder.experts > 0 {
        let beside = if encoder.aside {
            sums(shape, tokens)
        } else {
            0
        };
        let experts = encoder.experts as u64 * 4;
        let routes = beside + choices(tokens, encoder.top_k) + experts;
        let route = routes + sums(shape, 1) + experts;
        let kinds = (encoder.integer_experts, encoder.float_experts);
        let expert = routes
            + rows * 8
            + wide(shape, rows, encoder.expert_ff)
            + expert_tile(kinds, shape, rows, encoder.expert_ff);
        scratch = max(scratch, max(route, expert));
    }
    scratch
}

/// The greatest unit of the mixture block.
const fn block_scratch(shape: &Shape, source: u32) -> u64 {
    let Some(block) = shape.block else {
        return 0;
    };
    let (rows, tokens) = (rows(shape, source), source as u64);
    let kept = sums(shape, tokens) + choices(1, block.top_k);
    let kinds = (block.integer_experts, block.float_experts);
    let route = sums(shape, 2) + block.experts as u64 * 4;
    let expert =
        wide(shape, rows, block.expert_ff) + expert_tile(kinds, shape, rows, block.expert_ff);
    let mut scratch = kept + max(route, expert);
    if block.attention {
        let inner = shape.encoder.inner();
        let attention = kv(shape, &shape.encoder, source)
            + wide(shape, rows, inner)
            + scratch_bytes(shape.int8, tokens, shape.encoder.d_kv as u64)
            + expert_tile(kinds, shape, rows, inner);
        scratch = max(scratch, kept + attention);
    }
    scratch
}

/// The greatest unit of the decoder.
const fn decode_scratch(shape: &Shape, keys: u64) -> u64 {
    let decoder = &shape.decoder;
    let inner = decoder.inner();
    let mut scratch = tile(shape, 1, inner)
        + wide(shape, 1, inner)
        + scratch_bytes(shape.int8, keys, decoder.d_kv as u64);
    if decoder.dense_ff > 0 {
        let dense = tile(shape, 1, decoder.dense_ff) + wide(shape, 1, decoder.dense_ff);
        scratch = max(scratch, dense);
    }
    if decoder.experts > 0 {
        let choices = choices(1, decoder.top_k);
        let route = sums(shape, 1) + decoder.experts as u64 * 4;
        let kinds = (decoder.integer_experts, decoder.float_experts);
        let expert =
            wide(shape, 1, decoder.expert_ff) + expert_tile(kinds, shape, 1, decoder.expert_ff);
        scratch = max(scratch, choices + max(route, expert));
    }
    let head = tile(shape, 1, 0) + sums(shape, 1) + shape.vocab as u64 * 4;
    max(scratch, head)
}
