//! Linear layers over a batch of token rows: Y = X·Wᵀ + b, each weight row read once.

use super::{Matrix, Values};
use crate::format::GROUP;
#[cfg(any(fpu, all(feature = "std", target_arch = "x86_64")))]
use crate::kernels;
use crate::kernels::integer::BATCH;
#[cfg(outputs)]
use crate::kernels::outputs;
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
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if let Some((matrix, x)) = int8(matrix, &input)
        && kernels::x86::product(matrix, range.clone(), x, tokens, false, output)
    {
        return;
    }
    #[cfg(feature = "threads")]
    if super::parted::linear(matrix, range.clone(), input, tokens, output) {
        return;
    }
    on_one(matrix, range, input, tokens, output);
}

/// The same on this thread.
#[inline(always)]
pub(super) fn on_one(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) {
    let int8 = int8(matrix, &input);
    // Batches of 16 tokens: each meets all weights.
    let mut first = 0;
    while first < tokens {
        let count = BATCH.min(tokens.saturating_sub(first));
        let batch = first..first.saturating_add(count);
        match int8 {
            Some((matrix, x)) => {
                #[cfg(kernels = "mve")]
                let range = kernels::mve::product(matrix, range.clone(), x, batch.clone(), output);
                let block = match count {
                    1 => by_block::<{ matmul::SUMS }>,
                    _ => by_block::<{ matmul::SUMS_OF_SEVERAL }>,
                };
                if !range.is_empty() {
                    block(matrix, range.clone(), x, batch, output);
                }
            }
            None => by_row(matrix, range.clone(), input, batch, output),
        }
        first = first.saturating_add(BATCH);
    }
}

/// An int8 matrix and an input that suits it.
#[inline(always)]
fn int8<'a, 'm>(
    matrix: &'a Matrix<'m>,
    input: &'a Input<'m>,
) -> Option<(&'a Int8<'m>, &'a Quantized<'m>)> {
    match (&matrix.values, input) {
        (Values::I8(matrix), Input::Quantized(x)) => Some((matrix, x)),
        _ => None,
    }
}

/// The same with max(0, y) in place of each output y, where this machine does both at once;
/// says whether it did.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(super) fn rectified(
    matrix: &Matrix<'_>,
    range: Range<usize>,
    input: Input<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) -> bool {
    int8(matrix, &input)
        .is_some_and(|(int8, x)| kernels::x86::product(int8, range, x, tokens, true, output))
}

/// Some rows of weights at a time, with room for so many products. By itself, like [`by_row`], so that
/// neither pays for the other's stack.
#[inline(never)]
fn by_block<const SUMS: usize>(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let count = tokens.len();
    let of_tokens = x.rows.skip(tokens.start);
    let step = matmul::rows_at_once(count);
    let mut all = [0i32; SUMS];
    let mut first = range.start;
    while first < range.end {
        let rows = step.min(range.end.saturating_sub(first));
        let at = first;
        first = first.saturating_add(step);
        matmul::dots(&matrix.weights, at, rows, of_tokens, count, &mut all);
        #[cfg(fpu)]
        if kernels::fpu::put(matrix, (at, rows), &all, x, tokens.clone(), output) {
            continue;
        }
        #[cfg(outputs)]
        if outputs::put(matrix, (at, rows), &mut all, x, tokens.clone(), output) {
            continue;
        }
        put_block(matrix, (at, rows), &mut all, x, tokens.clone(), output);
    }
}

/// Puts what becomes of products with some rows, as far as no kernel does. By itself, so that the
/// products do not pay for its stack.
#[inline(never)]
fn put_block(
    matrix: &Int8<'_>,
    (first, rows): (usize, usize),
    all: &mut [i32],
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let count = tokens.len();
    let how = How {
        op: output.op,
        factor: output.gated.and_then(|gated| gated.factor),
        has_gate: output.gated.is_some(),
        bias: matrix.bias,
    };
    if cfg!(outputs) || count > 1 {
        if !cfg!(outputs) {
            finish(matrix, (first, rows), x, tokens.clone(), all);
        }
        for (index, token) in tokens.enumerate() {
            let (target, gate) = output.target(token);
            let finished = Finished {
                values: all.get(index..).unwrap_or_default(),
                step: count,
            };
            let out = output.row(target, first, rows);
            finished.put(out, how.op, how.factor, gate);
        }
        return;
    }
    let token = tokens.start;
    let (target, gate) = output.target(token);
    let values = Dequantized {
        dots: all,
        scales: part(matrix.scales, first, rows),
        sums: part(matrix.sums, first, rows),
        x_scale: x.scales.get(token).copied().unwrap_or(0.0),
        zero: x.zeros.get(token).copied().unwrap_or(0),
        gate: gate.unwrap_or(0.0),
        first,
        how: &how,
    };
    how.way()(&values, output.row(target, first, rows));
}

/// Makes outputs of the products of several tokens, in their place and as bits: what a row has, which
/// may lie in slow flash, is read once.
#[inline(never)]
fn finish(
    matrix: &Int8<'_>,
    (first, rows): (usize, usize),
    x: &Quantized<'_>,
    tokens: Range<usize>,
    dots: &mut [i32],
) {
    let scales = part(x.scales, tokens.start, tokens.len());
    let zeros = part(x.zeros, tokens.start, tokens.len());
    let of_rows = dots.chunks_exact_mut(tokens.len().max(1)).take(rows);
    for (row, dots) in (first..).zip(of_rows) {
        let scale = Single(matrix.scales.get(row).copied().unwrap_or(0.0));
        let sum = matrix.sums.get(row).copied().unwrap_or(0);
        let bias = matrix.bias.get(row).copied().map(Single);
        for (dot, (x_scale, zero)) in dots.iter_mut().zip(scales.iter().zip(zeros)) {
            let exact = dot.wrapping_sub(zero.wrapping_mul(sum));
            let y = dequantized(exact, Single(*x_scale).times(scale));
            *dot = bias.map_or(y, |bias| y.plus(bias)).0.to_bits() as i32;
        }
    }
}

/// exact · scale.
#[inline(always)]
fn dequantized(exact: i32, scale: Single) -> Single {
    if soft::USED {
        Single(soft::scaled(exact, Factor::new(scale.0)))
    } else {
        Single(exact as f32) * scale
    }
}

/// The outputs of a token, as [`finish`] leaves them.
struct Finished<'a> {
    /// Every `step`-th is of this token.
    values: &'a [i32],
    step: usize,
}

impl Finished<'_> {
    #[inline(never)]
    fn put(&self, out: &mut [f32], op: Op, factor: Option<f32>, gate: Option<f32>) {
        // One loop for all cases: flash is dear where floats are emulated, and a case costs little
        // beside an output.
        let mut at = 0;
        for out in out {
            let Some(bits) = self.values.get(at) else {
                break;
            };
            at = at.wrapping_add(self.step);
            let y = gated(Single(f32::from_bits(*bits as u32)), factor, gate);
            *out = joined(op, Single(*out), y).0;
        }
    }
}

/// The products of one token with some rows of an int8 matrix, and what makes outputs of them.
struct Dequantized<'a> {
    dots: &'a [i32],
    scales: &'a [f32],
    sums: &'a [i32],
    x_scale: f32,
    zero: i32,
    gate: f32,
    /// The first of the rows.
    first: usize,
    how: &'a How<'a>,
}

/// What becomes of all outputs of a matrix.
struct How<'m> {
    op: Op,
    factor: Option<f32>,
    has_gate: bool,
    bias: &'m [f32],
}

impl How<'_> {
    /// The loop that puts values into such outputs: there is one for each usual case.
    fn way(&self) -> fn(&Dequantized<'_>, &mut [f32]) {
        match (self.op, self.has_gate, self.factor, self.bias) {
            // With an FPU there are kernels, and this is for a few rows at the end.
            _ if cfg!(fpu) => put,
            (Op::Store, false, _, []) => store,
            (Op::Add, false, _, []) => add,
            _ => put,
        }
    }
}

fn store(values: &Dequantized<'_>, out: &mut [f32]) {
    values.each(out, |_, y| y);
}

fn add(values: &Dequantized<'_>, out: &mut [f32]) {
    values.each(out, Single::plus);
}

fn put(values: &Dequantized<'_>, out: &mut [f32]) {
    let how = values.how;
    let gate = how.has_gate.then_some(values.gate);
    let mut bias = how.bias.iter().skip(values.first);
    values.each(out, |out, y| {
        let y = bias.next().map_or(y, |bias| y + Single(*bias));
        joined(how.op, out, gated(y, how.factor, gate))
    });
}

impl Dequantized<'_> {
    /// Puts `join` of what was there and f32(dot − zero · sum) · (x scale · scale).
    #[inline(always)]
    fn each(&self, out: &mut [f32], mut join: impl FnMut(Single, Single) -> Single) {
        let (dots, zero, x_scale) = (self.dots, self.zero, Single(self.x_scale));
        let mut at = 0;
        for ((out, scale), sum) in out.iter_mut().zip(self.scales).zip(self.sums) {
            // There always is one. A way out keeps the compiler from unrolling, which costs more
            // registers than there are.
            let Some(dot) = dots.get(at) else {
                break;
            };
            at = at.wrapping_add(1);
            let exact = dot.wrapping_sub(zero.wrapping_mul(*sum));
            let scale = x_scale.times(Single(*scale));
            let y = dequantized(exact, scale);
            *out = join(Single(*out), y).0;
        }
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
            (Values::F32(weights), Input::Float { rows, stride }) if cfg!(feature = "floats") => {
                let weights = part(weights, start, matrix.cols);
                let rows = rows
                    .get(tokens.start.saturating_mul(stride)..)
                    .unwrap_or(&[]);
                match values {
                    [y] => *y = float::dot(part(rows, 0, matrix.cols), weights),
                    _ => float::dot_rows(rows, stride, weights, values),
                }
            }
            (Values::F16(weights), Input::Float { rows, stride }) if cfg!(feature = "floats") => {
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
            ) if cfg!(feature = "int4") => {
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
