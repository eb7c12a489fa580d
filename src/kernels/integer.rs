//! Signed bytes: quantization of rows and exact dot products.

use super::math::ROUND_MAGIC;
use super::single::Single;
use super::soft::{self, Factor};

/// Rows whose values span less than this are quantized to zeros with scale 0.
pub const TINY: f32 = 1e-30;

/// Σ aᵢ·bᵢ over the shorter length; exact for up to 65536 values within ±127 (and −128).
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    #[cfg(kernels = "dsp")]
    return super::arm::dsp::dot(a, b);
    #[cfg(kernels = "mve")]
    return super::arm::mve::dot(a, b);
    #[cfg(not(any(kernels = "dsp", kernels = "mve")))]
    portable_dot(a, b)
}

/// [`dot`] on any target.
pub fn portable_dot(a: &[i8], b: &[i8]) -> i32 {
    let count = a.len().min(b.len());
    let (a, b) = (
        a.get(..count).unwrap_or_default(),
        b.get(..count).unwrap_or_default(),
    );
    // Sixteen at a time: the sum of a chunk by itself is what compilers turn into the widening
    // multiply-and-add instructions that many targets have.
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let product = |(x, y): (&i8, &i8)| i32::from(*x) * i32::from(*y);
    let mut sum = 0i32;
    for (x, y) in a.iter().zip(b) {
        sum = sum.wrapping_add(x.iter().zip(y).map(product).sum());
    }
    sum.wrapping_add(a_rest.iter().zip(b_rest).map(product).sum())
}

/// `sums[j]` = Σ pₖ·vₖⱼ, where vₖ begins at `values[k · pitch]`; exact for up to 512 weights of
/// 15 bits and values within ±127.
pub fn weighted_sums(weights: &[i16], values: &[i8], pitch: usize, sums: &mut [i32]) {
    #[cfg(any(kernels = "dsp", kernels = "mve"))]
    weighted_by_block(weights, values, pitch, sums);
    #[cfg(not(any(kernels = "dsp", kernels = "mve")))]
    portable_weighted_sums(weights, values, pitch, sums);
}

/// [`weighted_sums`] as far as there are kernels for it, and the rest.
#[cfg(any(kernels = "dsp", kernels = "mve"))]
#[inline(never)]
fn weighted_by_block(weights: &[i16], values: &[i8], pitch: usize, sums: &mut [i32]) {
    use super::arm::weighted::{COLUMNS, block};
    for (index, sums) in sums.chunks_mut(COLUMNS).enumerate() {
        let values = values.get(index.saturating_mul(COLUMNS)..);
        let values = values.unwrap_or_default();
        let done = match sums.first_chunk_mut() {
            Some(sums) => block(weights, values, pitch, sums),
            None => 0,
        };
        if done == 0 {
            portable_weighted_sums(weights, values, pitch, sums);
            continue;
        }
        let rest = weights.get(done..).unwrap_or_default();
        for (index, p) in (done..).zip(rest) {
            let row = values.get(index.saturating_mul(pitch)..);
            for (sum, v) in sums.iter_mut().zip(row.unwrap_or_default()) {
                *sum = sum.wrapping_add(i32::from(*p).wrapping_mul(i32::from(*v)));
            }
        }
    }
}

/// Columns of values that are summed at once, in registers.
const BLOCK: usize = if cfg!(target_arch = "arm") { 4 } else { 8 };

/// [`weighted_sums`] on any target.
#[inline(never)]
pub fn portable_weighted_sums(weights: &[i16], values: &[i8], pitch: usize, sums: &mut [i32]) {
    for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
        let mut values = values
            .get(block.saturating_mul(BLOCK)..)
            .unwrap_or_default();
        let mut near = [0i32; BLOCK];
        let mut rest = weights;
        while let ([p, others @ ..], Some(columns)) = (rest, values.first_chunk::<BLOCK>()) {
            for (sum, v) in near.iter_mut().zip(columns) {
                *sum = sum.wrapping_add(i32::from(*p).wrapping_mul(i32::from(*v)));
            }
            values = values.get(pitch..).unwrap_or_default();
            rest = others;
        }
        for (sum, near) in sums.iter_mut().zip(near) {
            *sum = near;
        }
        // Behind the last columns of all there may be less than a block.
        for p in rest {
            for (sum, v) in sums.iter_mut().zip(values) {
                let v = core::hint::black_box(i32::from(*v));
                *sum = sum.wrapping_add(i32::from(*p).wrapping_mul(v));
            }
            values = values.get(pitch..).unwrap_or_default();
        }
    }
}

/// Most rows of a batch.
pub const BATCH: usize = 16;

/// How the signed bytes of a row stand for numbers: x ≈ scale · (q − zero).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Affine {
    /// Width of a step.
    pub scale: f32,
    /// The byte that stands for 0, within ±127.
    pub zero: i32,
}

/// Quantizes a row in 254 steps over [min(0, min x), max(0, max x)]; what `q` has beyond the row
/// is filled with zero bytes (they meet zero weights).
///
/// With r = max − min: scale = r / 254, i = 254 / r, zero = rne(−127 − min·i),
/// q = clamp(rne(x·i) + zero, ±127), each operation rounded to f32. A row with r < 1e−30 or r not
/// finite gives scale 0 and zeros.
pub fn quantize(x: &[f32], q: &mut [i8]) -> Affine {
    let (mut positive, mut negative) = bounds(x);
    let has_nan = positive > INFINITY as i32 || negative > SIGN | INFINITY;
    if has_nan {
        (positive, negative) = bounds_of_numbers(x);
    }
    let (low, high) = (
        Single::from_bits(negative),
        Single::from_bits(positive as u32),
    );
    let range = high - low;
    if !(TINY.to_bits()..INFINITY).contains(&range.to_bits()) {
        q.fill(0);
        return Affine::default();
    }
    let inverse = Single(254.0) / range;
    let (least, greatest) = ((low * inverse).round(), (high * inverse).round());
    let zero = (Single(-127.0) - low * inverse).round();
    let padding = x.len()..;
    if least.wrapping_add(zero) >= -127 && greatest.wrapping_add(zero) <= 127 {
        steps(x, inverse.0, zero, q);
    } else {
        round_and_clamp(x, inverse.0, q, zero);
    }
    if has_nan {
        replace_nan(x, q, zero);
    }
    q.get_mut(padding).unwrap_or_default().fill(0);
    Affine {
        scale: (range / Single(254.0)).0,
        zero,
    }
}

/// What a kernel leaves of values four at a time.
#[cfg(fpu)]
const NO_FOURS: &[[f32; 4]] = &[];

/// The greatest bits of floats: as signed numbers, at least those of 0, and as unsigned ones, at
/// least those of −0. As integers, floats above zero are in order, and those below it in the opposite
/// one.
fn bounds(x: &[f32]) -> (i32, u32) {
    let (fours, rest) = x.as_chunks::<4>();
    #[cfg(fpu)]
    let ((mut positive, mut negative), fours) = (super::quantize::bounds(fours), NO_FOURS);
    #[cfg(not(fpu))]
    let (mut positive, mut negative) = (0, SIGN);
    let mut widen = |x: &f32| {
        let bits = x.to_bits();
        if bits as i32 > positive {
            positive = bits as i32;
        }
        if bits > negative {
            negative = bits;
        }
    };
    fours.iter().flatten().for_each(&mut widen);
    rest.iter().for_each(&mut widen);
    (positive, negative)
}

/// `q` = rne(x · `inverse`) + `zero`, which are bytes.
fn steps(x: &[f32], inverse: f32, zero: i32, q: &mut [i8]) {
    #[cfg(fpu)]
    let (x, q) = {
        let (fours, rest) = x.as_chunks::<4>();
        let (q, q_rest) = q.as_chunks_mut::<4>();
        super::quantize::steps(fours, inverse, zero, q);
        // What is left of a row that has less than a multiple of 4.
        let last = q.get_mut(fours.len()..).unwrap_or_default();
        match last.is_empty() {
            true => (rest, q_rest),
            false => (rest, last.as_flattened_mut()),
        }
    };
    round_to_steps::<23, _>(x, inverse, q, |steps| steps.wrapping_add(zero) as i8);
}

/// The sign of a float's bits.
const SIGN: u32 = 1 << 31;

/// Bits of positive infinity.
const INFINITY: u32 = f32::INFINITY.to_bits();

/// [`quantize`]'s bytes where one of the ends may lie half a step outside.
#[cold]
#[inline(never)]
fn round_and_clamp(x: &[f32], inverse: f32, q: &mut [i8], zero: i32) {
    round_to_steps::<23, _>(x, inverse, q, |steps| {
        core::hint::black_box(steps.wrapping_add(zero)).clamp(-127, 127) as i8
    });
}

/// Bits of the greatest and of the least number, at least and at most zero, of a row with NaN.
#[cold]
#[inline(never)]
fn bounds_of_numbers(x: &[f32]) -> (i32, u32) {
    let (mut positive, mut negative) = (0, SIGN);
    for x in x.iter().filter(|x| !x.is_nan()) {
        // Rare, so that it should be short: the loop is not to be unrolled.
        let bits = core::hint::black_box(x.to_bits());
        positive = (bits as i32).max(positive);
        negative = bits.max(negative);
    }
    (positive, negative)
}

/// Replaces what came of NaN.
#[cold]
#[inline(never)]
fn replace_nan(x: &[f32], q: &mut [i8], value: i32) {
    for (q, x) in q.iter_mut().zip(x) {
        if core::hint::black_box(x).is_nan() {
            *q = value.clamp(-127, 127) as i8;
        }
    }
}

/// For each x, which is finite (of NaN comes anything): `put` of rne(x · `inverse`), the product rounded first, if that is
/// below 2^(31 − `FRACTION`), and below 2²² at all.
#[inline(always)]
pub(super) fn round_to_steps<const FRACTION: u32, T>(
    x: &[f32],
    inverse: f32,
    to: &mut [T],
    put: impl Fn(i32) -> T,
) {
    if soft::USED {
        let factor = Factor::new(inverse);
        for (to, x) in to.iter_mut().zip(x) {
            *to = put(soft::round_scaled::<FRACTION>(*x, factor));
        }
    } else {
        let round = |(to, x): (&mut T, &f32)| {
            let bits = (x * inverse + ROUND_MAGIC).to_bits();
            *to = put((bits as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32));
        };
        // Padding of `to` stays as it is.
        let count = x.len().min(to.len());
        let x = x.get(..count).unwrap_or_default();
        let to = to.get_mut(..count).unwrap_or_default();
        let (x, x_rest) = x.as_chunks::<4>();
        let (to, to_rest) = to.as_chunks_mut::<4>();
        let both = to.iter_mut().zip(x);
        both.for_each(|(to, x)| to.iter_mut().zip(x).for_each(round));
        to_rest.iter_mut().zip(x_rest).for_each(round);
    }
}

/// Quantizes a vector symmetrically: with m = max |x|, scale = m / 127 and
/// q = clamp(rne(x · (127 / m)), ±127). m < 1e−30 or not finite gives scale 0 and zeros.
pub fn quantize_symmetric(x: &[f32], q: &mut [i8]) -> f32 {
    // Twice the bits: without the sign.
    let (fours, rest) = x.as_chunks::<4>();
    #[cfg(fpu)]
    let (mut greatest, fours) = (super::quantize::greatest(fours), NO_FOURS);
    #[cfg(not(fpu))]
    let mut greatest = 0;
    let mut widen = |x: &f32| greatest = (x.to_bits() << 1).max(greatest);
    fours.iter().flatten().for_each(&mut widen);
    rest.iter().for_each(&mut widen);
    let mut greatest = greatest >> 1;
    let has_nan = greatest > INFINITY;
    if has_nan {
        let (positive, negative) = bounds_of_numbers(x);
        greatest = (negative & !SIGN).max(positive as u32);
    }
    if !(TINY.to_bits()..INFINITY).contains(&greatest) {
        q.fill(0);
        return 0.0;
    }
    let greatest = Single::from_bits(greatest);
    let inverse = Single(127.0) / greatest;
    steps(x, inverse.0, 0, q);
    if has_nan {
        replace_nan(x, q, 0);
    }
    (greatest / Single(127.0)).0
}
