//! Linear layers over a batch of token rows: Y = X·Wᵀ + b, each weight row read once.

use super::{Matrix, Values};
use crate::format::GROUP;
use crate::kernels::integer::BATCH;
use crate::kernels::{float, int4, integer};
use core::ops::Range;

/// A batch of rows that enters a linear layer.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// f32 rows of `stride` values.
    Float { rows: &'a [f32], stride: usize },
    /// Quantized rows of `stride` bytes (a multiple of 16, padded with zeros), with a scale and a
    /// zero point per row.
    Quantized {
        rows: &'a [i8],
        stride: usize,
        scales: &'a [f32],
        zeros: &'a [i32],
    },
}

/// What becomes of an output value y of token t, row r.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// out = y
    Store,
    /// out = out · y
    Multiply,
    /// out = out + y
    Add,
}

/// What becomes of the output y of an expert before it is added: (y · factor) · gate.
#[derive(Clone, Copy)]
pub(crate) struct Gated<'a> {
    /// Factor of all outputs; `None` is 1.
    pub factor: Option<f32>,
    pub gates: Gates<'a>,
}

/// The gates of a batch of tokens.
#[derive(Clone, Copy)]
pub(crate) enum Gates<'a> {
    /// One for all; token t of the batch goes to row t.
    All(f32),
    /// The row that each token of the batch goes to, and its gate.
    Each(&'a [u32], &'a [f32]),
}

/// Where a linear layer's outputs go.
pub(crate) struct Output<'a> {
    pub rows: &'a mut [f32],
    pub stride: usize,
    pub op: Op,
    /// For experts.
    pub gated: Option<Gated<'a>>,
}

impl Output<'_> {
    #[inline]
    fn put(&mut self, token: usize, row: usize, mut y: f32) {
        let mut target = token;
        if let Some(Gated { factor, gates }) = self.gated {
            if let Some(factor) = factor {
                y *= factor;
            }
            y *= match gates {
                Gates::All(gate) => gate,
                Gates::Each(rows, gates) => {
                    target = rows.get(token).map_or(usize::MAX, |row| *row as usize);
                    gates.get(token).copied().unwrap_or(0.0)
                }
            };
        }
        let index = target.saturating_mul(self.stride).saturating_add(row);
        if let Some(out) = self.rows.get_mut(index) {
            *out = match self.op {
                Op::Store => y,
                Op::Multiply => *out * y,
                Op::Add => *out + y,
            };
        }
    }
}

/// Applies rows `range` of `matrix` to `tokens` rows (at most 16) of `input`.
///
/// f32 and f16: y = dot(x, w) + b. int8: y = f32(Σ q·w − zero·Σ w) · (x.scale · w.scale) + b.
/// int4: y = Σ over groups f32(Σ (q − zero)·w) · w.scale, times x.scale, + b. An input whose kind
/// does not match the matrix gives nothing; the file's check rules it out.
pub(crate) fn linear(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) {
    let mut floats = [0.0f32; BATCH];
    let mut integers = [0i32; BATCH];
    let (Some(floats), Some(integers)) = (floats.get_mut(..tokens), integers.get_mut(..tokens))
    else {
        return;
    };
    let mut row = range.start;
    while row < range.end && row < matrix.rows {
        let start = row.saturating_mul(matrix.stride);
        let bias = matrix.bias.get(row).copied();
        let biased = |y: f32| bias.map_or(y, |b| y + b);
        match (matrix.values, input) {
            (Values::F32(values), Input::Float { rows, stride }) => {
                let weights = part(values, start, matrix.cols);
                match floats {
                    [y] => *y = float::dot(part(rows, 0, matrix.cols), weights),
                    _ => float::dot_rows(rows, stride, weights, floats),
                }
                for (token, y) in floats.iter().enumerate() {
                    output.put(token, row, biased(*y));
                }
            }
            (Values::F16(values), Input::Float { rows, stride }) => {
                let weights = part(values, start, matrix.cols);
                match floats {
                    [y] => *y = float::dot_f16(part(rows, 0, matrix.cols), weights),
                    _ => float::dot_rows_f16(rows, stride, weights, floats),
                }
                for (token, y) in floats.iter().enumerate() {
                    output.put(token, row, biased(*y));
                }
            }
            (
                Values::I8 {
                    values,
                    scales,
                    sums,
                },
                Input::Quantized {
                    rows,
                    stride,
                    scales: x_scales,
                    zeros,
                },
            ) => {
                let weights = part(values, start, matrix.stride);
                let scale = scales.get(row).copied().unwrap_or(0.0);
                let sum = sums.get(row).copied().unwrap_or(0);
                match integers {
                    [dot] => *dot = integer::dot(part(rows, 0, matrix.stride), weights),
                    _ => integer::dot_rows(rows, stride, weights, integers),
                }
                for (token, (dot, (x_scale, zero))) in
                    integers.iter().zip(x_scales.iter().zip(zeros)).enumerate()
                {
                    let dot = dot.wrapping_sub(zero.wrapping_mul(sum));
                    output.put(token, row, biased(dot as f32 * (x_scale * scale)));
                }
            }
            (
                Values::I4 { packed, scales },
                Input::Quantized {
                    rows,
                    stride,
                    scales: x_scales,
                    zeros,
                },
            ) => {
                let packed = part(packed, start, matrix.stride);
                let groups = matrix.cols.div_ceil(GROUP);
                let scales = part(scales, row.saturating_mul(groups), groups);
                int4::dot_rows(rows, stride, zeros, packed, scales, floats);
                for (token, (y, x_scale)) in floats.iter().zip(x_scales).enumerate() {
                    output.put(token, row, biased(y * x_scale));
                }
            }
            _ => return,
        }
        row += 1;
    }
}

/// `len` values from `start`, or an empty slice.
#[inline]
pub(crate) fn part<T>(values: &[T], start: usize, len: usize) -> &[T] {
    values.get(start..start.saturating_add(len)).unwrap_or(&[])
}
