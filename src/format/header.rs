//! The fixed header.

use super::bytes::{f32_at, u8_at, u16_at, u32_at};
use crate::kernels::Layout;

/// "No tensor" in a 16-bit index.
pub const NONE16: u16 = u16::MAX;
/// "No id" in a 32-bit field.
pub const NONE32: u32 = u32::MAX;

/// Where a section lies, and its CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Section {
    /// Bytes from the file's start.
    pub offset: u32,
    /// Bytes, padding included.
    pub len: u32,
    /// CRC-32 of those bytes.
    pub crc: u32,
}

/// Where a table lies in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table {
    /// Bytes from the file's start.
    pub offset: u32,
    /// Entries.
    pub count: u32,
}

/// Tensors with a role of their own in the model; [`NONE16`] where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Token embedding `[V, D]`.
    pub embedding: u16,
    /// Output head `[V, D]`; a tied head shares its matrix with the embedding.
    pub head: u16,
    /// Positions of the encoder: f32 `[rows, D]` that are added, or `[rows, d_kv]` that rotate.
    pub encoder_positions: u16,
    /// Positions of the decoder, likewise.
    pub decoder_positions: u16,
    /// Norm of the encoder's embedded input (BART's `layernorm_embedding`).
    pub encoder_embedding_norm: u16,
    /// Norm of the decoder's embedded input.
    pub decoder_embedding_norm: u16,
    /// Norm after the encoder's last layer.
    pub encoder_final_norm: u16,
    /// Norm after the decoder's last layer.
    pub decoder_final_norm: u16,
    /// Distance → bucket, u8 `[1, max_distance + 1]`, encoder.
    pub encoder_distances: u16,
    /// Distance → bucket, u8 `[1, max_distance + 1]`, decoder.
    pub decoder_distances: u16,
}

/// The header's fields, as the specification (section 2) names them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Header {
    pub major: u16,
    pub minor: u16,
    pub head_len: u32,
    pub total_len: u32,
    pub family: u32,
    pub resident: Section,
    pub tokenizer: Section,
    pub golden: Section,
    pub experts_section: Section,
    pub names: Section,
    pub tensors: Table,
    pub layers: Table,
    pub experts: Table,
    pub d_model: u32,
    pub vocab: u32,
    pub encoder_layers: u16,
    pub decoder_layers: u16,
    pub encoder_heads: u16,
    pub encoder_d_kv: u16,
    pub decoder_heads: u16,
    pub decoder_d_kv: u16,
    pub numeric: u8,
    pub norm: u8,
    pub norm_position: u8,
    pub tile: u8,
    pub norm_eps: f32,
    pub encoder_score_scale: f32,
    pub decoder_score_scale: f32,
    pub embed_scale: f32,
    pub head_scale: f32,
    pub encoder_buckets: u16,
    pub decoder_buckets: u16,
    pub max_source: u32,
    pub max_target: u32,
    pub position_offset: u32,
    pub decoder_start: u32,
    pub eos: u32,
    pub pad: u32,
    pub forced_bos: u32,
    pub forced_eos: u32,
    pub default_source: u32,
    pub default_target: u32,
    pub plan_arena: u32,
    pub roles: Roles,
    pub encoder_kv_heads: u16,
    pub decoder_kv_heads: u16,
    /// Position tables hold cosines and sines that rotate q and k.
    pub rotary: bool,
    /// The last attention of a layer runs beside its feed-forward.
    pub parallel: bool,
    pub decoder_only: bool,
    /// The layer table ends with the mixture block between encoder and decoder.
    pub mixture_block: bool,
    /// Layout of all int8 matrices.
    pub layout: Layout,
}

/// A count of which 0 stands for another.
const fn or(count: u16, other: u16) -> u16 {
    if count == 0 { other } else { count }
}

const fn section_at(bytes: &[u8], at: usize) -> Section {
    Section {
        offset: u32_at(bytes, at),
        len: u32_at(bytes, at + 4),
        crc: u32_at(bytes, at + 8),
    }
}

const fn table_at(bytes: &[u8], at: usize) -> Table {
    Table {
        offset: u32_at(bytes, at),
        count: u32_at(bytes, at + 4),
    }
}

impl Header {
    /// Reads the fields; checks nothing ([`super::Palm::parse`] does).
    pub(crate) const fn read(b: &[u8]) -> Self {
        Self {
            major: u16_at(b, 8),
            minor: u16_at(b, 10),
            head_len: u32_at(b, 12),
            total_len: u32_at(b, 16),
            family: u32_at(b, 20),
            resident: section_at(b, 24),
            tokenizer: section_at(b, 36),
            golden: section_at(b, 48),
            experts_section: section_at(b, 60),
            names: section_at(b, 72),
            tensors: table_at(b, 84),
            layers: table_at(b, 92),
            experts: table_at(b, 100),
            d_model: u32_at(b, 108),
            vocab: u32_at(b, 112),
            encoder_layers: u16_at(b, 116),
            decoder_layers: u16_at(b, 118),
            encoder_heads: u16_at(b, 120),
            encoder_d_kv: u16_at(b, 122),
            decoder_heads: u16_at(b, 124),
            decoder_d_kv: u16_at(b, 126),
            numeric: u8_at(b, 128),
            norm: u8_at(b, 129),
            norm_position: u8_at(b, 130),
            tile: u8_at(b, 131),
            norm_eps: f32_at(b, 132),
            encoder_score_scale: f32_at(b, 136),
            decoder_score_scale: f32_at(b, 140),
            embed_scale: f32_at(b, 144),
            head_scale: f32_at(b, 148),
            encoder_buckets: u16_at(b, 152),
            decoder_buckets: u16_at(b, 154),
            max_source: u32_at(b, 156),
            max_target: u32_at(b, 160),
            position_offset: u32_at(b, 164),
            decoder_start: u32_at(b, 168),
            eos: u32_at(b, 172),
            pad: u32_at(b, 176),
            forced_bos: u32_at(b, 180),
            forced_eos: u32_at(b, 184),
            default_source: u32_at(b, 188),
            default_target: u32_at(b, 192),
            plan_arena: u32_at(b, 196),
            roles: Roles {
                embedding: u16_at(b, 200),
                head: u16_at(b, 202),
                encoder_positions: u16_at(b, 204),
                decoder_positions: u16_at(b, 206),
                encoder_embedding_norm: u16_at(b, 208),
                decoder_embedding_norm: u16_at(b, 210),
                encoder_final_norm: u16_at(b, 212),
                decoder_final_norm: u16_at(b, 214),
                encoder_distances: u16_at(b, 216),
                decoder_distances: u16_at(b, 218),
            },
            encoder_kv_heads: or(u16_at(b, 224), u16_at(b, 120)),
            decoder_kv_heads: or(u16_at(b, 226), u16_at(b, 124)),
            rotary: u8_at(b, 228) == 1,
            parallel: u8_at(b, 229) == 1,
            decoder_only: u8_at(b, 230) == 1,
            mixture_block: u8_at(b, 231) == 1,
            layout: match Layout::from_code(u8_at(b, 232)) {
                Some(layout) => layout,
                None => Layout::Rows,
            },
        }
    }

    /// Layers of both stacks.
    pub const fn layer_count(&self) -> u32 {
        self.encoder_layers as u32 + self.decoder_layers as u32
    }

    /// Entry of the mixture block in the layer table, if the model has one.
    pub const fn block_index(&self) -> Option<u32> {
        if self.mixture_block {
            Some(self.layer_count())
        } else {
            None
        }
    }
}
