//! Linear layers over a batch of token rows: Y = X·Wᵀ + b, each weight row read once.

use super::{Matrix, Values};
use crate::format::GROUP;
#[cfg(any(fpu, all(feature = "std", target_arch = "x86_64")))]
use crate::kernels;
use crate::kernels::integer::BATCH;
use crate::kernels::product::{Int8, Output, Quantized};
use crate::kernels::{float, int4, matmul};
use core::ops::Range;

/// A batch of rows that enters a linear layer.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// f32 rows of `stride` values.
    Float { rows: &'a [f32], stride: usize },
    /// Quantized rows (a multiple of 16 values each, padded with zeros), with a scale and a zero
    /// point per row.
    Quantized(Quantized<'a>),
}

/// Applies rows `range` of `matrix` to `tokens` rows of `input`.
///
/// f32 and f16: y = dot(x, w) + b. int8: y = f32(Σ q·w − zero·Σ w) · (x.scale · w.scale) + b.
/// int4: y = Σ over groups f32(Σ (q − zero)·w) · w.scale, times x.scale, + b. An input whose kind
/// does not match the matrix gives nothing; the file's check rules it out. `range` begins at a
/// multiple of 16.
pub(crate) fn linear(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) {
    let range = range.start..range.end.min(matrix.rows);
    let int8 = match (matrix.values, input) {
        (
            Values::I8 {
                weights,
                scales,
                sums,
            },
            Input::Quantized(x),
        ) => Some((
            Int8 {
                weights,
                scales,
                sums,
                bias: matrix.bias,
            },
            x,
        )),
        _ => None,
    };
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if let Some((matrix, x)) = &int8
        && kernels::x86::product(matrix, range.clone(), x, tokens, output)
    {
        return;
    }
    // Batches of 16 tokens: each meets all weights.
    let mut first = 0;
    while first < tokens {
        let count = BATCH.min(tokens.saturating_sub(first));
        let batch = first..first.saturating_add(count);
        match &int8 {
            Some((matrix, x)) => {
                let x = Quantized {
                    rows: x.rows.skip(first),
                    scales: part(x.scales, first, count),
                    zeros: part(x.zeros, first, count),
                };
                by_block(matrix, range.clone(), x, batch, output);
            }
            None => by_row(matrix, range.clone(), input, batch, output),
        }
        first = first.saturating_add(BATCH);
    }
}

/// Some rows of weights at a time. By itself, like [`by_row`], so that neither pays for the other's
/// stack.
#[inline(never)]
fn by_block(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let count = tokens.len();
    let step = matmul::rows_at_once(count);
    let mut all = [0i32; matmul::SUMS];
    let mut first = range.start;
    while first < range.end {
        let rows = step.min(range.end.saturating_sub(first));
        matmul::dots(&matrix.weights, first, rows, x.rows, count, &mut all);
        let dots = all.get(..rows.saturating_mul(count)).unwrap_or_default();
        #[cfg(fpu)]
        if kernels::fpu::put(matrix, (first, rows), dots, &x, tokens.clone(), output) {
            first = first.saturating_add(step);
            continue;
        }
        for (row, dots) in (first..).zip(dots.chunks_exact(count.max(1))) {
            let scale = matrix.scales.get(row).copied().unwrap_or(0.0);
            let sum = matrix.sums.get(row).copied().unwrap_or(0);
            let bias = matrix.bias.get(row).copied();
            let affine = x.scales.iter().zip(x.zeros);
            for (token, (dot, (x_scale, zero))) in tokens.clone().zip(dots.iter().zip(affine)) {
                let exact = dot.wrapping_sub(zero.wrapping_mul(sum));
                let y = exact as f32 * (x_scale * scale);
                output.put(token, row, bias.map_or(y, |b| y + b));
            }
        }
        first = first.saturating_add(step);
    }
}

/// f32, f16 and int4: a row of weights at a time.
#[inline(never)]
fn by_row(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let mut values = [0.0f32; BATCH];
    let Some(values) = values.get_mut(..tokens.len()) else {
        return;
    };
    for row in range {
        let start = row.saturating_mul(matrix.stride);
        let bias = matrix.bias.get(row).copied();
        match (matrix.values, input) {
            (Values::F32(weights), Input::Float { rows, stride }) => {
                let weights = part(weights, start, matrix.cols);
                let rows = rows
                    .get(tokens.start.saturating_mul(stride)..)
                    .unwrap_or(&[]);
                match values {
                    [y] => *y = float::dot(part(rows, 0, matrix.cols), weights),
                    _ => float::dot_rows(rows, stride, weights, values),
                }
            }
            (Values::F16(weights), Input::Float { rows, stride }) => {
                let weights = part(weights, start, matrix.cols);
                let rows = rows
                    .get(tokens.start.saturating_mul(stride)..)
                    .unwrap_or(&[]);
                match values {
                    [y] => *y = float::dot_f16(part(rows, 0, matrix.cols), weights),
                    _ => float::dot_rows_f16(rows, stride, weights, values),
                }
            }
            (
                Values::I4 { packed, scales },
                Input::Quantized(Quantized {
                    rows,
                    scales: x_scales,
                    zeros,
                }),
            ) => {
                let packed = part(packed, start, matrix.stride);
                let groups = matrix.cols.div_ceil(GROUP);
                let scales = part(scales, row.saturating_mul(groups), groups);
                let zeros = part(zeros, tokens.start, tokens.len());
                let x_scales = part(x_scales, tokens.start, tokens.len());
                int4::dot_rows(rows.skip(tokens.start), zeros, packed, scales, values);
                for (y, x_scale) in values.iter_mut().zip(x_scales) {
                    *y *= x_scale;
                }
            }
            _ => return,
        }
        for (token, y) in tokens.clone().zip(values.iter()) {
            output.put(token, row, bias.map_or(*y, |b| y + b));
        }
    }
}

/// `len` values from `start`, or an empty slice.
#[inline]
pub(crate) fn part<T>(values: &[T], start: usize, len: usize) -> &[T] {
    values.get(start..start.saturating_add(len)).unwrap_or(&[])
}
