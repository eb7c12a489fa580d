//! Typed views of the bytes in flash: matrices of int4, int8, f16 or f32 rows, norms, tables.
//!
//! The one place where bytes become numbers; `bytemuck`'s checked casts do it, so there is no
//! `unsafe`. A view whose bytes are not there or not aligned is empty, which a checked
//! [`Palm`](crate::format::Palm) at an aligned address never gives.

pub(crate) mod arena;
pub mod bench;
mod linear;

use crate::format::{Palm, TensorFormat, TensorRecord};
use crate::kernels::Single;
use crate::kernels::matmul::{Form, Weights};

pub(crate) use crate::kernels::product::{Gated, Gates, Op, Output, Quantized};
pub(crate) use linear::{Input, linear, linear_rectified, part};

/// A matrix in flash, row by row, with an optional bias per row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'m> {
    pub rows: usize,
    pub cols: usize,
    /// Values from row to row (int4: bytes), padding included.
    pub stride: usize,
    pub values: Values<'m>,
    /// `rows` values, or none.
    pub bias: &'m [f32],
}

/// The values of a matrix in their format.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'m> {
    F32(&'m [f32]),
    F16(&'m [u16]),
    I8 {
        weights: Weights<'m>,
        scales: &'m [f32],
        sums: &'m [i32],
    },
    I4 {
        packed: &'m [u8],
        /// f16 bits, a group's after another's.
        scales: &'m [u16],
    },
}

/// Numbers in `region` from `offset`, or an empty slice.
fn numbers<T: bytemuck::AnyBitPattern>(region: &[u8], offset: u32, count: usize) -> &[T] {
    let start = offset as usize;
    let len = count.saturating_mul(size_of::<T>());
    region
        .get(start..start.saturating_add(len))
        .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
        .unwrap_or(&[])
}

impl<'m> Matrix<'m> {
    /// A matrix that is not there; never reached through a checked view.
    const EMPTY: Self = Self {
        rows: 0,
        cols: 0,
        stride: 0,
        values: Values::F32(&[]),
        bias: &[],
    };

    /// The matrix that `record` describes in `region` (the whole image, or an expert's blob).
    fn new(region: &'m [u8], record: &TensorRecord) -> Self {
        let (rows, cols) = (record.rows as usize, record.cols as usize);
        let bytes = record.stride as usize;
        let blocks = rows.next_multiple_of(record.layout.block());
        let count = |bytes| rows.saturating_mul(bytes);
        let (stride, values) = match record.format {
            TensorFormat::F32 => {
                let stride = bytes / 4;
                let values = numbers(region, record.offset, count(stride));
                (stride, Values::F32(values))
            }
            TensorFormat::F16 => {
                let stride = bytes / 2;
                let values = numbers(region, record.offset, count(stride));
                (stride, Values::F16(values))
            }
            TensorFormat::I8 | TensorFormat::U8 => {
                let values = Values::I8 {
                    weights: Weights::new(
                        numbers(region, record.offset, blocks.saturating_mul(bytes)),
                        bytes,
                        record.layout,
                    ),
                    scales: numbers(region, record.scales, rows),
                    sums: numbers(region, record.sums, rows),
                };
                (bytes, values)
            }
            TensorFormat::I4 => {
                let groups = record.groups() as usize;
                let values = Values::I4 {
                    packed: numbers(region, record.offset, count(bytes)),
                    scales: numbers(region, record.scales, count(groups)),
                };
                (bytes, values)
            }
        };
        let bias = match record.bias {
            0 => &[],
            offset => numbers(region, offset, rows),
        };
        Self {
            rows,
            cols,
            stride,
            values,
            bias,
        }
    }

    /// Resident tensor `index`.
    pub fn resident(palm: &Palm<'m>, index: u16) -> Self {
        palm.tensor(index)
            .map_or(Self::EMPTY, |record| Self::new(palm.bytes(), &record))
    }

    /// Tensor `index` of the expert whose blob is given.
    pub fn of_expert(palm: &Palm<'_>, blob: &'m [u8], index: u16) -> Self {
        palm.tensor(index)
            .map_or(Self::EMPTY, |record| Self::new(blob, &record))
    }

    /// Writes row `index` into `out`, widened or dequantized: q · scale.
    pub fn row_into(&self, index: usize, out: &mut [f32]) {
        let start = index.saturating_mul(self.stride);
        let span = start..start.saturating_add(self.cols);
        match self.values {
            Values::F32(values) => {
                for (out, value) in out.iter_mut().zip(values.get(span).unwrap_or(&[])) {
                    *out = *value;
                }
            }
            Values::F16(values) => {
                for (out, value) in out.iter_mut().zip(values.get(span).unwrap_or(&[])) {
                    *out = crate::kernels::float::widen(*value);
                }
            }
            Values::I8 {
                weights, scales, ..
            } => {
                let scale = scales.get(index).copied().unwrap_or(0.0);
                let mut near = [0i8; 16];
                for (chunk, out) in out.chunks_mut(near.len()).enumerate() {
                    weights.unpack(index, chunk.saturating_mul(near.len()), &mut near);
                    for (out, value) in out.iter_mut().zip(&near) {
                        *out = (Single::from_i32((*value).into()) * Single(scale)).0;
                    }
                }
            }
            // Experts only: no row of theirs is ever looked up.
            Values::I4 { .. } => {}
        }
    }

    /// Whether its inputs are quantized.
    pub const fn is_integer(&self) -> bool {
        matches!(self.values, Values::I8 { .. } | Values::I4 { .. })
    }

    /// The form of its inputs if they are quantized.
    pub const fn form(&self) -> Form {
        match &self.values {
            Values::I8 { weights, .. } => weights.form(),
            _ => Form::Bytes,
        }
    }

    /// Row `index` of an f32 matrix, without padding.
    pub fn row(&self, index: usize) -> &'m [f32] {
        let start = index.saturating_mul(self.stride);
        match self.values {
            Values::F32(values) => values
                .get(start..start.saturating_add(self.cols))
                .unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// Gain and bias of a norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormWeights<'m> {
    pub gain: &'m [f32],
    pub bias: &'m [f32],
}

impl<'m> NormWeights<'m> {
    /// Norm tensor `index`, or `None` where the model has none.
    pub fn resident(palm: &Palm<'m>, index: u16) -> Option<Self> {
        let record = palm.tensor(index)?;
        let cols = record.cols as usize;
        Some(Self {
            gain: numbers(palm.bytes(), record.offset, cols),
            bias: match record.bias {
                0 => &[],
                offset => numbers(palm.bytes(), offset, cols),
            },
        })
    }
}

/// The bytes of a u8 table, or an empty slice where the model has none.
pub(crate) fn bytes<'m>(palm: &Palm<'m>, index: u16) -> &'m [u8] {
    palm.tensor(index).map_or(&[], |record| {
        numbers(palm.bytes(), record.offset, record.cols as usize)
    })
}
