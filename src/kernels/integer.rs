//! Signed bytes: quantization of rows and exact dot products.

use super::math::round_half_even;

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
    let (mut low, mut high) = (0.0f32, 0.0f32);
    for &x in x {
        if x < low {
            low = x;
        }
        if x > high {
            high = x;
        }
    }
    let range = high - low;
    if !(TINY..=f32::MAX).contains(&range) {
        q.fill(0);
        return Affine::default();
    }
    let inverse = 254.0 / range;
    let zero = round_half_even(-127.0 - low * inverse) as i32;
    let mut filled = 0;
    for (q, &x) in q.iter_mut().zip(x) {
        *q = (round_half_even(clamp(x * inverse, 254.0)) as i32 + zero).clamp(-127, 127) as i8;
        filled += 1;
    }
    if let Some(padding) = q.get_mut(filled..) {
        padding.fill(0);
    }
    Affine {
        scale: range / 254.0,
        zero,
    }
}

/// Quantizes a vector symmetrically: with m = max |x|, scale = m / 127 and
/// q = clamp(rne(x · (127 / m)), ±127). m < 1e−30 or not finite gives scale 0 and zeros.
pub fn quantize_symmetric(x: &[f32], q: &mut [i8]) -> f32 {
    let mut greatest = 0.0f32;
    for &x in x {
        let magnitude = f32::from_bits(x.to_bits() & 0x7FFF_FFFF);
        if magnitude > greatest {
            greatest = magnitude;
        }
    }
    if !(TINY..=f32::MAX).contains(&greatest) {
        q.fill(0);
        return 0.0;
    }
    let inverse = 127.0 / greatest;
    for (q, &x) in q.iter_mut().zip(x) {
        *q = round_half_even(clamp(x * inverse, 127.0)) as i32 as i8;
    }
    greatest / 127.0
}

/// x limited to ±limit; NaN stays (and becomes 0 in the conversion to an integer).
#[inline(always)]
fn clamp(x: f32, limit: f32) -> f32 {
    if x > limit {
        limit
    } else if x < -limit {
        -limit
    } else {
        x
    }
}
