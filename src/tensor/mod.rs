//! Typed views of the bytes in flash: matrices of int4, int8, f16 or f32 rows, norms, tables.
//!
//! The one place where bytes become numbers; `bytemuck`'s checked casts do it, so there is no
//! `unsafe`. A view whose bytes are not there or not aligned is empty, which a checked
//! [`Palm`](crate::format::Palm) at an aligned address never gives.

pub(crate) mod arena;
pub mod bench;
mod linear;
#[cfg(feature = "threads")]
mod parted;
pub(crate) mod turn;

use crate::format::{Palm, TensorFormat, TensorRecord};
use crate::kernels::Single;
use crate::kernels::matmul::Weights;

use crate::kernels::product::Int8;
pub(crate) use crate::kernels::product::{Gated, Gates, Op, Output, Quantized};
use core::ops::Range;
use linear::linear;
use turn::Turn;

pub(crate) use linear::{Input, part};

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
    I8(Int8<'m>),
    I4 {
        packed: &'m [u8],
        /// f16 bits, a group's after another's.
        scales: &'m [u16],
    },
}

/// Where matrices lie: the resident part of a file, or the blob of an expert. A matrix is looked up
/// when it is used: views of all matrices of a layer together are hundreds of bytes of stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region<'p, 'm> {
    palm: &'p Palm<'p>,
    bytes: &'m [u8],
}

impl<'p, 'm> Region<'p, 'm> {
    /// The resident part.
    pub fn resident(palm: &'p Palm<'m>) -> Self {
        Self {
            palm,
            bytes: palm.bytes(),
        }
    }

    /// The expert whose blob is given.
    pub fn expert(palm: &'p Palm<'p>, blob: &'m [u8]) -> Self {
        Self { palm, bytes: blob }
    }

    /// Entry of tensor `index`, if there is one.
    pub fn record(&self, index: u16) -> Option<TensorRecord> {
        self.palm.tensor(index)
    }

    /// Applies those rows of tensor `index` that `turn` has to `tokens` rows of `input`: see
    /// [`linear`].
    #[inline(never)]
    pub fn apply(
        &self,
        index: u16,
        input: Input<'_>,
        tokens: usize,
        output: &mut Output<'_>,
        turn: &mut Turn,
    ) {
        if let Some((record, rows)) = self.due(index, tokens, output, turn) {
            self.apply_rows(&record, rows, input, tokens, output);
        }
    }

    /// Applies those of some rows that there are. By itself, so that the view of a matrix is on the
    /// stack while it is used.
    #[inline(never)]
    pub fn apply_rows(
        &self,
        record: &TensorRecord,
        range: Range<usize>,
        input: Input<'_>,
        tokens: usize,
        output: &mut Output<'_>,
    ) {
        let matrix = Matrix::new(self.bytes, record);
        linear(&matrix, range, input, tokens, output);
    }

    /// Entry of tensor `index`, and its rows that `turn` has.
    #[inline(always)]
    fn due(
        &self,
        index: u16,
        tokens: usize,
        output: &Output<'_>,
        turn: &mut Turn,
    ) -> Option<(TensorRecord, Range<usize>)> {
        if turn.passes() {
            return None;
        }
        let record = self.palm.tensor(index)?;
        let (rows, cols) = (record.rows as usize, record.cols as usize);
        let rows = turn.rows(rows, cols, tokens, output.gated.is_some());
        Some((record, rows))
    }

    /// The same; with max(0, y) in place of each output y where this machine does both at once: says
    /// whether it did.
    pub fn apply_rectified(
        &self,
        index: u16,
        input: Input<'_>,
        tokens: usize,
        output: &mut Output<'_>,
        turn: &mut Turn,
    ) -> bool {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        {
            let Some((record, rows)) = self.due(index, tokens, output, turn) else {
                return false;
            };
            let matrix = Matrix::new(self.bytes, &record);
            let rectified = linear::rectified(&matrix, rows.clone(), input, tokens, output);
            if !rectified {
                linear(&matrix, rows, input, tokens, output);
            }
            rectified
        }
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        {
            self.apply(index, input, tokens, output, turn);
            false
        }
    }
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
        let bias = match record.bias {
            0 => &[],
            offset => numbers(region, offset, rows),
        };
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
                let values = Values::I8(Int8 {
                    weights: Weights::new(
                        numbers(region, record.offset, blocks.saturating_mul(bytes)),
                        bytes,
                        record.layout,
                    ),
                    scales: numbers(region, record.scales, rows),
                    sums: numbers(region, record.sums, rows),
                    bias,
                });
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
            Values::I8(Int8 {
                weights, scales, ..
            }) => {
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
}

/// A table of f32 rows in flash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'m> {
    values: &'m [f32],
    cols: usize,
    /// Values from row to row.
    stride: usize,
}

impl<'m> Table<'m> {
    /// Resident tensor `index`, without rows if it is of another format.
    pub fn resident(palm: &Palm<'m>, index: u16) -> Self {
        let matrix = Matrix::resident(palm, index);
        Self {
            values: match matrix.values {
                Values::F32(values) => values,
                _ => &[],
            },
            cols: matrix.cols,
            stride: matrix.stride,
        }
    }

    /// Row `index`, without padding.
    pub fn row(&self, index: usize) -> &'m [f32] {
        part(self.values, index.saturating_mul(self.stride), self.cols)
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
