//! The input of linear layers: a few token rows, as floats or quantized.

use crate::kernels::integer;
use crate::tensor::Input;
use crate::tensor::arena::Carver;

/// Bytes from row to row of quantized values.
pub(crate) const fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
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
    },
}

impl<'a> Tile<'a> {
    /// Carves a tile, of bytes or of floats. Float tiles hold only rows of D values: wider inputs are read where they
    /// were computed ([`Tile::requantize`]).
    pub fn carve(
        carver: &mut Carver<'a>,
        integer: bool,
        tokens: usize,
        d_model: usize,
        width: usize,
    ) -> Self {
        if integer {
            Self::Quantized {
                rows: carver.take(tokens.saturating_mul(padded(width.max(d_model)))),
                scales: carver.take(tokens),
                zeros: carver.take(tokens),
                width: d_model,
            }
        } else {
            Self::Float {
                rows: carver.take(tokens.saturating_mul(d_model)),
                stride: d_model,
            }
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
            } => {
                *width = row.len();
                let stride = padded(*width);
                let start = token.saturating_mul(stride);
                let to = rows.get_mut(start..start.saturating_add(stride));
                if let (Some(to), Some(scale), Some(zero)) =
                    (to, scales.get_mut(token), zeros.get_mut(token))
                {
                    let affine = integer::quantize(row, to);
                    *scale = affine.scale;
                    *zero = affine.zero;
                }
            }
        }
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
            } => Input::Quantized {
                rows,
                stride: padded(*width),
                scales,
                zeros,
            },
        }
    }

    /// `tokens` computed rows of `width` values as the input of the next linear layer: in place
    /// for floats, through this tile for bytes.
    pub fn requantize<'b>(
        &'b mut self,
        values: &'b [f32],
        width: usize,
        tokens: usize,
    ) -> Input<'b> {
        if let Self::Float { .. } = self {
            return Input::Float {
                rows: values,
                stride: width,
            };
        }
        for token in 0..tokens {
            self.set(
                token,
                crate::tensor::part(values, token.saturating_mul(width), width),
            );
        }
        self.input()
    }
}
