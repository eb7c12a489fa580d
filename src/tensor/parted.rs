//! Linear layers in parts, for threads, where no kernel of this machine cuts its products itself: floats,
//! int4, and int8 on other machines than x86.

use super::linear::{self, Input, part};
use super::{Gated, Gates, Int8, Matrix, Output, Quantized, Values};
use crate::format::GROUP;
use crate::kernels::integer::BATCH;
use crate::kernels::matmul::Weights;
use crate::kernels::pool;
use core::ops::Range;

/// What a product costs here, in multiplications of the fastest kernels.
const PRODUCT: usize = 4;

/// Rows that parts begin at a multiple of: a whole number of every layout's blocks.
const ROWS: usize = 16;

/// [`linear`](linear::linear), on as many threads as it is worth. `false`, and nothing done, if that is one, or
/// if outputs go to rows in any order.
pub(super) fn linear(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) -> bool {
    if pool::threads() <= 1 {
        return false;
    }
    match tokens {
        1 => of_rows(matrix, range, input, output),
        _ => of_tokens(matrix, range, input, tokens, output),
    }
}

/// One token: parts have different rows of the matrix.
fn of_rows(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    output: &mut Output<'_>,
) -> bool {
    let (target, gate) = output.target(0);
    let (op, factor) = (output.op, output.gated.and_then(|gated| gated.factor));
    let gated = gate.map(|gate| Gated {
        factor,
        gates: Gates::All(gate),
    });
    let out = output.row(target, range.start, range.len());
    let cost = ROWS.saturating_mul(matrix.cols).saturating_mul(PRODUCT);
    let fits = out.len() == range.len();
    if fits {
        pool::each_part(out, ROWS, cost, &|first, out| {
            let first = range.start.saturating_add(first);
            let some = matrix.some(first..first.saturating_add(out.len()));
            let (rows, stride) = (some.rows, out.len());
            let mut output = Output {
                rows: out,
                stride,
                op,
                gated,
            };
            linear::on_one(&some, 0..rows, input, 1, &mut output);
        });
    }
    fits
}

/// Several tokens: parts have different ones.
fn of_tokens(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) -> bool {
    let in_order = |gated: &Gated<'_>| matches!(gated.gates, Gates::All(_));
    if !output.gated.as_ref().is_none_or(in_order) {
        return false;
    }
    let (op, gated, stride) = (output.op, output.gated, output.stride.max(1));
    let values = output.rows.len().min(tokens.saturating_mul(stride));
    let out = output.rows.get_mut(..values).unwrap_or_default();
    let cost = BATCH
        .saturating_mul(range.len())
        .saturating_mul(matrix.cols)
        .saturating_mul(PRODUCT);
    pool::each_part(out, BATCH.saturating_mul(stride), cost, &|first, out| {
        let first = first / stride;
        // The last row may end with its outputs.
        let count = out.len().div_ceil(stride);
        let mut output = Output {
            rows: out,
            stride,
            op,
            gated,
        };
        let input = input.after(first);
        linear::on_one(matrix, range.clone(), input, count, &mut output);
    });
    true
}

impl Input<'_> {
    /// The rows without the first `count`.
    fn after(self, count: usize) -> Self {
        match self {
            Self::Float { rows, stride } => Self::Float {
                rows: rows.get(count.saturating_mul(stride)..).unwrap_or_default(),
                stride,
            },
            Self::Quantized(x) => Self::Quantized(Quantized {
                rows: x.rows.skip(count),
                scales: x.scales.get(count..).unwrap_or_default(),
                zeros: x.zeros.get(count..).unwrap_or_default(),
            }),
        }
    }
}

impl Matrix<'_> {
    /// Some rows, from a multiple of [`ROWS`] on.
    fn some(&self, rows: Range<usize>) -> Self {
        let rows = rows.start..rows.end.min(self.rows);
        let (first, len) = (rows.start, rows.len());
        let start = first.saturating_mul(self.stride);
        let count = len.saturating_mul(self.stride);
        let bias = part(self.bias, first, if self.bias.is_empty() { 0 } else { len });
        let values = match self.values {
            Values::F32(values) => Values::F32(part(values, start, count)),
            Values::F16(values) => Values::F16(part(values, start, count)),
            Values::I8(Int8 {
                weights,
                scales,
                sums,
                ..
            }) => Values::I8(Int8 {
                weights: Weights::new(
                    weights.values().get(start..).unwrap_or_default(),
                    self.stride,
                    weights.layout(),
                ),
                scales: part(scales, first, len),
                sums: part(sums, first, len),
                bias,
            }),
            Values::I4 { packed, scales } => {
                let groups = self.cols.div_ceil(GROUP);
                Values::I4 {
                    packed: part(packed, start, count),
                    scales: part(
                        scales,
                        first.saturating_mul(groups),
                        len.saturating_mul(groups),
                    ),
                }
            }
        };
        Self {
            rows: len,
            values,
            bias,
            ..*self
        }
    }
}
