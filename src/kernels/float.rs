//! Float rows: sums and dot products in eight lanes, and the two norms.

use super::integer::BATCH;
use super::math;
use super::single::Single;
use super::soft;

/// Lanes of every float reduction.
pub const LANES: usize = 8;

/// The fixed tree that ends every reduction.
#[inline(always)]
pub(super) fn tree(l: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = l.map(Single);
    (((a + e) + (c + g)) + ((b + f) + (d + h))).0
}

/// Σ aᵢ·bᵢ over the shorter length: element i goes to lane i mod 8, products are rounded before
/// they are added.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    target::dot(a, b)
}

/// [`dot`] with half-precision weights, given as bits and widened one by one (exactly).
pub fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    target::dot_f16(a, b)
}

/// Weights that are widened at once, and then meet every row of a batch.
const CHUNK: usize = 16;

/// For each row r of `rows` (at r · `stride`; as many as `sums`, at most 16): `sums[r]` = the
/// [`dot`] of the row and `weights`. Each weight is read once.
#[inline(never)]
pub fn dot_rows(rows: &[f32], stride: usize, weights: &[f32], sums: &mut [f32]) {
    target::dot_rows(rows, stride, weights, sums);
}

/// [`dot_rows`] with half-precision weights, given as bits.
#[inline(never)]
pub fn dot_rows_f16(rows: &[f32], stride: usize, weights: &[u16], sums: &mut [f32]) {
    target::dot_rows_f16(rows, stride, weights, sums);
}

#[cfg(not(fpu))]
use portable as target;

#[cfg(fpu)]
use super::arm::fpu as target;

/// The same on any target; these define the bits.
pub mod portable {
    use super::{dot_by, dot_rows_by, widen};

    /// [`dot`](super::dot) on any target.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_by(a, b, |b| b)
    }

    /// [`dot_f16`](super::dot_f16) on any target.
    pub fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
        dot_by(a, b, widen)
    }

    /// [`dot_rows`](super::dot_rows) on any target.
    #[inline(always)]
    pub fn dot_rows(rows: &[f32], stride: usize, weights: &[f32], sums: &mut [f32]) {
        dot_rows_by(rows, stride, weights, |w| w, sums);
    }

    /// [`dot_rows_f16`](super::dot_rows_f16) on any target.
    #[inline(always)]
    pub fn dot_rows_f16(rows: &[f32], stride: usize, weights: &[u16], sums: &mut [f32]) {
        dot_rows_by(rows, stride, weights, widen, sums);
    }
}

#[inline(always)]
fn dot_rows_by<B: Copy>(
    rows: &[f32],
    stride: usize,
    weights: &[B],
    f: impl Fn(B) -> f32,
    sums: &mut [f32],
) {
    let mut lanes = [[0.0f32; LANES]; BATCH];
    for (index, chunk) in weights.chunks(CHUNK).enumerate() {
        let mut wide = [0.0f32; CHUNK];
        for (wide, weight) in wide.iter_mut().zip(chunk) {
            *wide = f(*weight);
        }
        let wide = wide.get(..chunk.len()).unwrap_or_default();
        let first = index.saturating_mul(CHUNK);
        for (row, (lanes, _)) in lanes.iter_mut().zip(sums.iter()).enumerate() {
            let start = row.saturating_mul(stride).saturating_add(first);
            let row = rows.get(start..).unwrap_or_default();
            let row = row.get(..chunk.len()).unwrap_or_default();
            add_chunk(lanes, row, wide);
        }
    }
    for (sum, lanes) in sums.iter_mut().zip(&lanes) {
        *sum = tree(*lanes);
    }
}

/// Adds the products of a chunk; by itself, so that it shares no stack with the lanes of a batch.
#[inline(never)]
fn add_chunk(lanes: &mut [f32; LANES], row: &[f32], weights: &[f32]) {
    add_products(lanes, row, weights, |w| w);
}

/// Σ aᵢ·f(bᵢ) in eight lanes.
#[inline(always)]
fn dot_by<B: Copy>(a: &[f32], b: &[B], f: impl Fn(B) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let count = a.len().min(b.len());
    let (a, b) = (a.get(..count), b.get(..count));
    add_products(&mut lanes, a.unwrap_or_default(), b.unwrap_or_default(), f);
    tree(lanes)
}

/// Adds aᵢ·f(bᵢ) to lane i mod 8.
#[inline(always)]
fn add_products<B: Copy>(lanes: &mut [f32; LANES], a: &[f32], b: &[B], f: impl Fn(B) -> f32) {
    let add = |((lane, x), y): ((&mut f32, &f32), &B)| {
        *lane = Single(*lane).plus(Single(*x).times(Single(f(*y)))).0;
    };
    if soft::USED {
        // One loop, as each operation is many instructions; and no chunks side by side, which leave a
        // division by their length.
        let (mut a, mut b) = (a, b);
        while !a.is_empty() && !b.is_empty() {
            lanes.iter_mut().zip(a).zip(b).for_each(add);
            a = a.get(LANES..).unwrap_or_default();
            b = b.get(LANES..).unwrap_or_default();
        }
        return;
    }
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (x, y) in a.iter().zip(b) {
        lanes.iter_mut().zip(x).zip(y).for_each(add);
    }
    lanes.iter_mut().zip(a_rest).zip(b_rest).for_each(add);
}

/// The f32 that the bits of a finite half-precision number stand for, exactly.
///
/// The significand and exponent move to their places in an f32, which is then 2¹¹² times too
/// small; subnormal numbers come out right as well. Infinities and NaN, which no file has, would
/// give finite numbers. There is no branch, so that a loop over weights vectorizes.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    const UP: Single = Single::from_bits((127 + 112) << 23);
    let magnitude = Single::from_bits(u32::from(bits & 0x7FFF) << 13) * UP;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Σ f(xᵢ) in eight lanes.
#[inline(always)]
pub(crate) fn sum_by(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let add = |(lane, x): (&mut f32, &f32)| *lane = Single(*lane).plus(Single(f(*x))).0;
    if soft::USED {
        for chunk in x.chunks(LANES) {
            lanes.iter_mut().zip(chunk).for_each(add);
        }
        return tree(lanes);
    }
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(add);
    }
    lanes.iter_mut().zip(rest).for_each(add);
    tree(lanes)
}

/// Σ xᵢ in eight lanes.
pub fn sum(x: &[f32]) -> f32 {
    sum_by(x, |x| x)
}

/// RMS norm in place: xᵢ · (1 / √(Σx²/n + ε)) · gᵢ (Zhang and Sennrich 2019; `T5LayerNorm`).
pub fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) {
    let sum = sum_by(x, |x| Single(x).times(Single(x)).0);
    let inverse = inverse_root(sum, x.len(), eps);
    for (x, g) in x.iter_mut().zip(gain) {
        *x = Single(*x).times(inverse).times(Single(*g)).0;
    }
}

/// Layer norm in place: (xᵢ − μ) · (1 / √(σ² + ε)) · gᵢ + bᵢ with the biased variance.
pub fn layer_norm(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    let mean = Single(sum(x)) / Single(x.len() as f32);
    let centered = |x: f32| Single(x).plus(-mean);
    let sum = sum_by(x, |x| centered(x).times(centered(x)).0);
    let inverse = inverse_root(sum, x.len(), eps);
    for ((x, g), b) in x.iter_mut().zip(gain).zip(bias) {
        let scaled = centered(*x).times(inverse).times(Single(*g));
        *x = scaled.plus(Single(*b)).0;
    }
}

/// 1 / √(sum / count + ε)
fn inverse_root(sum: f32, count: usize, eps: f32) -> Single {
    let mean = Single(sum) / Single(count as f32);
    Single::ONE / Single(math::sqrt((mean + Single(eps)).0))
}
