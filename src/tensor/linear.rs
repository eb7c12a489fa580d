//! Linear layers over a batch of token rows: Y = X·Wᵀ + b, each weight row read once.

use super::{Matrix, Values};
use crate::format::GROUP;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use crate::kernels;
use crate::kernels::integer::BATCH;
use crate::kernels::product::{Int8, Op, Output, Quantized, gated, joined};
use crate::kernels::soft::{self, Factor};
use crate::kernels::{Single, float, int4, matmul};
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

/// Some rows of weights at a time. What becomes of the outputs is decided here, once for all.
fn by_block(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let op = output.op;
    let factor = output.gated.and_then(|gated| gated.factor);
    match (op, output.gated, factor, matrix.bias) {
        (Op::Store, None, _, []) => blocks(matrix, range, x, tokens, output, |_, _, y, _| y),
        (Op::Add, None, _, []) => {
            let add = |_, out: Single, y, _| out.plus(y);
            blocks(matrix, range, x, tokens, output, add);
        }
        (Op::Multiply, None, _, []) => {
            let multiply = |_, out: Single, y, _| out.times(y);
            blocks(matrix, range, x, tokens, output, multiply);
        }
        (Op::Add, Some(_), None, []) => {
            let add = |_, out: Single, y: Single, gate: f32| out.plus(y.times(Single(gate)));
            blocks(matrix, range, x, tokens, output, add);
        }
        (_, has_gate, _, bias) => {
            let put = |row: usize, out, y: Single, gate| {
                let y = bias.get(row).map_or(y, |bias| y + Single(*bias));
                let gate = has_gate.map(|_| gate);
                joined(op, out, gated(y, factor, gate))
            };
            blocks(matrix, range, x, tokens, output, put);
        }
    }
}

/// For each row and token, `join` of the row, what the output was, f32(dot − zero · sum) ·
/// (x scale · scale), and the gate.
#[inline(never)]
fn blocks(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
    join: impl Fn(usize, Single, Single, f32) -> Single,
) {
    let count = tokens.len();
    let step = matmul::rows_at_once(count);
    let mut all = [0i32; matmul::SUMS];
    let mut first = range.start;
    while first < range.end {
        let rows = step.min(range.end.saturating_sub(first));
        matmul::dots(&matrix.weights, first, rows, x.rows, count, &mut all);
        let scales = part(matrix.scales, first, rows);
        let sums = part(matrix.sums, first, rows);
        let affine = x.scales.iter().zip(x.zeros);
        for (token, (x_scale, zero)) in affine.enumerate() {
            let (target, gate) = output.target(tokens.start.saturating_add(token));
            let gate = gate.unwrap_or(1.0);
            let out = output.row(target, first, rows);
            let (mut at, mut row) = (token, first);
            for ((out, scale), sum) in out.iter_mut().zip(scales).zip(sums) {
                let Some(dot) = all.get(at) else {
                    break;
                };
                let exact = dot.wrapping_sub(zero.wrapping_mul(*sum));
                let scale = Single(*x_scale).times(Single(*scale));
                let y = if soft::USED {
                    Single(soft::scaled(exact, Factor::new(scale.0)))
                } else {
                    Single(exact as f32 * scale.0)
                };
                *out = join(row, Single(*out), y, gate).0;
                at = at.saturating_add(count);
                row = row.saturating_add(1);
            }
        }
        first = first.saturating_add(step);
    }
}

/// f32, f16 and int4: a row of weights at a time.
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
                    *y = (Single(*y) * Single(*x_scale)).0;
                }
            }
            _ => return,
        }
        for (token, y) in tokens.clone().zip(values.iter()) {
            let y = bias.map_or(*y, |bias| (Single(*y) + Single(bias)).0);
            output.put(token, row, y);
        }
    }
}

/// `len` values from `start`, or an empty slice.
#[inline]
pub(crate) fn part<T>(values: &[T], start: usize, len: usize) -> &[T] {
    values.get(start..start.saturating_add(len)).unwrap_or(&[])
}
