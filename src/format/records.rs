//! The entries of the tables.

use super::NONE16;
use super::bytes::{f32_at, span, u8_at, u16_at, u32_at};
use crate::kernels::Layout;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TensorFormat {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE half precision, widened to f32 for arithmetic.
    F16 = 1,
    /// Signed bytes within ±127, an f32 scale and an i32 sum per row.
    I8 = 2,
    /// Unsigned bytes; distance tables and tables of experts by token only.
    U8 = 3,
    /// Four bits a value in groups of 32 columns, an f16 scale per group; experts only.
    I4 = 4,
}

/// Columns that share a scale in [`TensorFormat::I4`].
pub const GROUP: usize = 32;

impl TensorFormat {
    /// The format with this code, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            2 => Some(Self::I8),
            3 => Some(Self::U8),
            4 => Some(Self::I4),
            _ => None,
        }
    }

    /// Bytes from row to row of a matrix with `cols` columns.
    pub const fn stride(self, cols: usize) -> usize {
        let bytes = match self {
            Self::F32 => cols.saturating_mul(4),
            Self::F16 => cols.saturating_mul(2),
            Self::I8 | Self::U8 => cols,
            Self::I4 => return cols.div_ceil(GROUP).saturating_mul(GROUP / 2),
        };
        bytes.next_multiple_of(super::ALIGN)
    }

    /// Whether a linear layer with such weights takes quantized inputs.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::I8 | Self::I4)
    }
}

/// An entry of the tensor table (specification, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TensorRecord {
    pub offset: u32,
    pub rows: u32,
    pub cols: u32,
    pub stride: u32,
    pub format: TensorFormat,
    pub layout: Layout,
    pub in_expert: bool,
    pub scales: u32,
    pub sums: u32,
    pub bias: u32,
}

impl TensorRecord {
    /// Reads the entry that starts at `at`. An unknown format reads as f32, an unknown layout
    /// as rows: the check before refuses them.
    pub(crate) const fn read(bytes: &[u8], at: usize) -> Self {
        Self {
            offset: u32_at(bytes, at),
            rows: u32_at(bytes, at + 4),
            cols: u32_at(bytes, at + 8),
            stride: u32_at(bytes, at + 12),
            format: match TensorFormat::from_code(u8_at(bytes, at + 16)) {
                Some(format) => format,
                None => TensorFormat::F32,
            },
            layout: match Layout::from_code(u8_at(bytes, at + 17)) {
                Some(layout) => layout,
                None => Layout::Rows,
            },
            in_expert: u16_at(bytes, at + 18) & 1 == 1,
            scales: u32_at(bytes, at + 20),
            sums: u32_at(bytes, at + 24),
            bias: u32_at(bytes, at + 28),
        }
    }

    /// Bytes of the matrix, padding and missing rows of its last block included.
    pub const fn matrix_bytes(&self) -> u64 {
        (self.rows as u64).next_multiple_of(self.layout.block() as u64) * self.stride as u64
    }

    /// Bytes of the scales: one f32 a row (int8), one f16 a group (int4), or none.
    pub const fn scale_bytes(&self) -> u64 {
        match self.format {
            TensorFormat::I8 => self.rows as u64 * 4,
            TensorFormat::I4 => self.rows as u64 * self.groups() as u64 * 2,
            _ => 0,
        }
    }

    /// Groups of columns in a row (int4).
    pub const fn groups(&self) -> u32 {
        self.cols.div_ceil(GROUP as u32)
    }
}

/// What a layer's feed-forward sublayer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FeedForwardKind {
    /// One feed-forward block for every token.
    Dense = 0,
    /// A router and experts.
    Mixture = 1,
}

/// How tokens find their experts (specification, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// The expert of the greatest probability; its gate is that probability (Fedus et al. 2022).
    Switch = 0,
    /// The k greatest probabilities, normalized over the chosen (Mixtral; the article's S = g(H)).
    TopK = 1,
    /// Two experts; second choices queue behind all first ones (NLLB-MoE).
    Nllb = 2,
    /// The token at position t goes to experts t, t + 1, … modulo their number, with equal weights.
    Position = 3,
    /// A table by token id gives the first expert; the next ones follow (Roller et al. 2021).
    Hash = 4,
}

impl Policy {
    /// The policy with this code, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Switch),
            1 => Some(Self::TopK),
            2 => Some(Self::Nllb),
            3 => Some(Self::Position),
            4 => Some(Self::Hash),
            _ => None,
        }
    }

    /// Whether a router's probabilities decide.
    pub const fn is_learned(self) -> bool {
        matches!(self, Self::Switch | Self::TopK | Self::Nllb)
    }
}

/// An entry of the layer table (specification, section 4).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct LayerRecord {
    pub self_norm: u16,
    pub q: u16,
    pub k: u16,
    pub v: u16,
    pub o: u16,
    pub rel_bias: u16,
    pub cross_norm: u16,
    pub cross_q: u16,
    pub cross_k: u16,
    pub cross_v: u16,
    pub cross_o: u16,
    pub ff_norm: u16,
    pub ff_kind: FeedForwardKind,
    pub activation: u8,
    pub wi: u16,
    pub wi_linear: u16,
    pub wo: u16,
    pub router: u16,
    pub experts: u16,
    pub first_expert: u32,
    pub capacity: u32,
    pub top_k: u16,
    pub policy: Policy,
    pub overflow: u8,
    pub tie: u8,
    /// NLLB-MoE: gates are normalized before tokens are dropped, not after.
    pub normalize_first: bool,
    /// An expert takes at most ⌈fraction · tokens⌉ tokens of a call; 0: `capacity` holds.
    pub capacity_fraction: f32,
    /// Factor of every expert's output.
    pub output_factor: f32,
}

impl LayerRecord {
    /// Reads the entry that starts at `at`. Unknown codes read as the first of their kind: the
    /// check before refuses them.
    pub(crate) const fn read(b: &[u8], at: usize) -> Self {
        Self {
            self_norm: u16_at(b, at),
            q: u16_at(b, at + 2),
            k: u16_at(b, at + 4),
            v: u16_at(b, at + 6),
            o: u16_at(b, at + 8),
            rel_bias: u16_at(b, at + 10),
            cross_norm: u16_at(b, at + 12),
            cross_q: u16_at(b, at + 14),
            cross_k: u16_at(b, at + 16),
            cross_v: u16_at(b, at + 18),
            cross_o: u16_at(b, at + 20),
            ff_norm: u16_at(b, at + 22),
            ff_kind: if u8_at(b, at + 24) == 1 {
                FeedForwardKind::Mixture
            } else {
                FeedForwardKind::Dense
            },
            activation: u8_at(b, at + 25),
            wi: u16_at(b, at + 26),
            wi_linear: u16_at(b, at + 28),
            wo: u16_at(b, at + 30),
            router: u16_at(b, at + 32),
            experts: u16_at(b, at + 34),
            first_expert: u32_at(b, at + 36),
            capacity: u32_at(b, at + 40),
            top_k: u16_at(b, at + 44),
            policy: match Policy::from_code(u8_at(b, at + 46)) {
                Some(policy) => policy,
                None => Policy::Switch,
            },
            overflow: u8_at(b, at + 47),
            tie: u8_at(b, at + 48),
            normalize_first: u8_at(b, at + 49) & 1 == 1,
            capacity_fraction: f32_at(b, at + 52),
            output_factor: match u32_at(b, at + 56) {
                0 => 1.0,
                bits => f32::from_bits(bits),
            },
        }
    }
}

/// An entry of the expert table (specification, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExpertRecord {
    pub offset: u32,
    pub len: u32,
    pub crc: u32,
    pub wi: u16,
    pub wi_linear: u16,
    pub wo: u16,
    pub activation: u8,
    /// q, k, v, o of an expert that is a whole Transformer layer; [`NONE16`] where it is not.
    pub attention: [u16; 4],
}

impl ExpertRecord {
    /// Reads the entry that starts at `at`.
    pub(crate) const fn read(b: &[u8], at: usize) -> Self {
        Self {
            offset: u32_at(b, at),
            len: u32_at(b, at + 4),
            crc: u32_at(b, at + 8),
            wi: u16_at(b, at + 12),
            wi_linear: u16_at(b, at + 14),
            wo: u16_at(b, at + 16),
            activation: u8_at(b, at + 18),
            attention: [
                one_less(u16_at(b, at + 20)),
                one_less(u16_at(b, at + 22)),
                one_less(u16_at(b, at + 24)),
                one_less(u16_at(b, at + 26)),
            ],
        }
    }

    /// Its blob in an image.
    pub(crate) const fn bytes<'m>(&self, image: &'m [u8]) -> &'m [u8] {
        match span(image, self.offset as usize, self.len as usize) {
            Some(bytes) => bytes,
            None => &[],
        }
    }

    /// Whether the expert is a whole Transformer layer.
    pub const fn has_attention(&self) -> bool {
        let [q, ..] = self.attention;
        q != NONE16
    }

    /// An entry that stands for "not there"; never reached through a checked view.
    pub(crate) const ABSENT: Self = Self {
        offset: 0,
        len: 0,
        crc: 0,
        wi: NONE16,
        wi_linear: NONE16,
        wo: NONE16,
        activation: 0,
        attention: [NONE16; 4],
    };
}

/// An index that is stored plus one, so that the zeros of older files mean "none".
const fn one_less(stored: u16) -> u16 {
    stored.wrapping_sub(1)
}
