//! The input of linear layers: a few token rows, as floats or quantized.

use super::norm::NormKind;
use crate::format::TensorFormat;
use crate::kernels::matmul::{Form, Rows};
use crate::kernels::product::Source;
use crate::kernels::{Layout, fast};
use crate::tensor::arena::Carver;
use crate::tensor::{Input, NormWeights, Quantized, Region};

/// Values of a quantized row, padding included.
pub(crate) const fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// What rows a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileKind {
    /// f32.
    Float,
    /// Quantized values in this form, each with room for so many bytes.
    Quantized { room: usize, form: Form },
}

impl TileKind {
    /// Rows that meet int8 matrices of a file with this layout, or floats.
    pub const fn of(int8: bool, layout: Layout) -> Self {
        if int8 {
            Self::Quantized {
                room: layout.activation_bytes(),
                form: Form::of(layout),
            }
        } else {
            Self::Float
        }
    }

    /// Rows that meet tensor `index` of such a file, which may be one of floats or int4.
    pub fn for_tensor(region: &Region<'_, '_>, index: u16, layout: Layout) -> Self {
        match region.record(index) {
            Some(tensor) if tensor.format.is_integer() => Self::Quantized {
                room: layout.activation_bytes(),
                form: match tensor.format {
                    TensorFormat::I4 => Form::Bytes,
                    _ => Form::of(tensor.layout),
                },
            },
            _ => Self::Float,
        }
    }
}

/// Up to `tokens` rows of up to `width` values.
pub(crate) enum Tile<'a> {
    Float {
        rows: &'a mut [f32],
        stride: usize,
    },
    Quantized {
        rows: &'a mut [i8],
        scales: &'a mut [f32],
        zeros: &'a mut [i32],
        width: usize,
        room: usize,
        form: Form,
    },
}

impl<'a> Tile<'a> {
    /// Carves a tile. Float tiles hold only rows of D values: wider inputs are read where they
    /// were computed ([`Tile::requantize`]).
    pub fn carve(
        carver: &mut Carver<'a>,
        kind: TileKind,
        tokens: usize,
        d_model: usize,
        width: usize,
    ) -> Self {
        match kind {
            TileKind::Quantized { room, form } => {
                let row = padded(width.max(d_model)).saturating_mul(room);
                Self::Quantized {
                    rows: carver.take(tokens.saturating_mul(row)),
                    scales: carver.take(tokens),
                    zeros: carver.take(tokens),
                    width: d_model,
                    room,
                    form,
                }
            }
            TileKind::Float => Self::Float {
                rows: carver.take(tokens.saturating_mul(d_model)),
                stride: d_model,
            },
        }
    }

    /// Takes the rows of `width` values that an equal tile at the same place has set before.
    pub fn keep(&mut self, row_width: usize) {
        if let Self::Quantized { width, .. } = self {
            *width = row_width;
        }
    }

    /// Sets row `token`, quantizing it if the tile is quantized.
    pub fn set(&mut self, token: usize, row: &[f32]) {
        match self {
            Self::Float { rows, stride } => {
                let start = token.saturating_mul(*stride);
                if let Some(to) = rows.get_mut(start..) {
                    for (to, from) in to.iter_mut().zip(row) {
                        *to = *from;
                    }
                }
            }
            Self::Quantized {
                rows,
                scales,
                zeros,
                width,
                room,
                form,
            } => {
                *width = row.len();
                let count = padded(*width);
                let pitch = count.saturating_mul(*room);
                let start = token.saturating_mul(pitch);
                let to = rows.get_mut(start..start.saturating_add(pitch));
                if let (Some(to), Some(scale), Some(zero)) =
                    (to, scales.get_mut(token), zeros.get_mut(token))
                {
                    // What a row of this form has in its last bytes.
                    let first = form.bytes(count).saturating_sub(count);
                    let bytes = to.get_mut(first..first.saturating_add(count));
                    let affine = fast::quantize(row, bytes.unwrap_or_default());
                    *scale = affine.scale;
                    *zero = affine.zero.wrapping_add(form.offset());
                    form.prepare(to.get_mut(..form.bytes(count)).unwrap_or_default());
                }
            }
        }
    }

    /// Sets `count` rows from `first` on to those of `rows`, normalized if there is a norm, where this
    /// machine has kernels for all of that at once; says whether it did.
    pub fn set_all(
        &mut self,
        _first: usize,
        _rows: Source<'_>,
        _count: usize,
        _norm: Option<(NormKind, &NormWeights<'_>)>,
    ) -> bool {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        if let Self::Quantized {
            rows,
            scales,
            zeros,
            width,
            room,
            form: Form::Bytes,
        } = self
        {
            let norm = _norm.map(|(kind, weights)| crate::kernels::x86::Norm {
                gain: weights.gain,
                bias: kind.layer_norm.then_some(weights.bias),
                eps: kind.eps,
            });
            *width = _rows.width;
            let len = padded(*width);
            let pitch = len.saturating_mul(*room);
            let bytes = rows.get_mut(_first.saturating_mul(pitch)..);
            if let (Some(bytes), Some(scales), Some(zeros)) =
                (bytes, scales.get_mut(_first..), zeros.get_mut(_first..))
            {
                let mut target = crate::kernels::x86::Target {
                    bytes,
                    pitch,
                    len,
                    scales,
                    zeros,
                };
                return crate::kernels::x86::quantize(_rows, norm, _count, &mut target);
            }
        }
        false
    }

    /// The rows that were set, as the input of a linear layer.
    pub fn input(&self) -> Input<'_> {
        match self {
            Self::Float { rows, stride } => Input::Float {
                rows,
                stride: *stride,
            },
            Self::Quantized {
                rows,
                scales,
                zeros,
                width,
                room,
                form,
            } => Input::Quantized(Quantized {
                rows: Rows {
                    bytes: rows,
                    pitch: padded(*width).saturating_mul(*room),
                    form: *form,
                },
                scales,
                zeros,
            }),
        }
    }

    /// Computed rows of `width` values as the input of the next linear layer: in place for floats;
    /// through this tile for bytes, into which the rows of `tokens` are put now.
    pub fn requantize<'b>(
        &'b mut self,
        values: &'b [f32],
        width: usize,
        tokens: core::ops::Range<usize>,
    ) -> Input<'b> {
        if let Self::Float { .. } = self {
            return Input::Float {
                rows: values,
                stride: width,
            };
        }
        self.keep(width);
        let rows = Source {
            values,
            width,
            picks: None,
        };
        if !self.set_all(tokens.start, rows.after(tokens.start), tokens.len(), None) {
            for token in tokens {
                self.set(token, rows.row(token).unwrap_or_default());
            }
        }
        self.input()
    }
}
