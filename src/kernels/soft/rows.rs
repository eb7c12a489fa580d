//! What rows do with one factor: it is taken apart once.

use super::{NARROW, TOP, call, exponent, from_i32, normalize, pack, product, significand};

/// A positive factor, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct Factor {
    significand: u32,
    exponent: u32,
    value: f32,
}

impl Factor {
    /// Of a float that is not negative.
    #[inline(always)]
    pub fn new(value: f32) -> Self {
        let bits = value.to_bits();
        Self {
            significand: significand(bits),
            // With the sign: what is negative is not usual.
            exponent: bits >> 23,
            value,
        }
    }

    /// Whether it is a positive normal number.
    #[inline(always)]
    fn is_usual(self) -> bool {
        self.exponent.wrapping_sub(1) < 254
    }
}

/// f32(number) · factor, both steps rounded.
#[inline(always)]
pub fn scaled(number: i32, factor: Factor) -> f32 {
    if number == 0 && factor.is_usual() {
        return 0.0;
    }
    let (magnitude, zeros) = normalize(number.unsigned_abs().max(1));
    let sum = factor.exponent.wrapping_add(32).wrapping_sub(zeros);
    if magnitude & 0xff != 0 || !factor.is_usual() || sum.wrapping_sub(2) >= 252 {
        return rare_scaled(number, factor.value);
    }
    let (mut upper, exact) = product(magnitude, factor.significand);
    let mut sum = sum;
    if upper & TOP == 0 {
        upper <<= 1;
        sum = sum.wrapping_sub(1);
    }
    pack(number as u32 & TOP, sum, upper, exact)
}

#[cold]
#[inline(never)]
fn rare_scaled(number: i32, factor: f32) -> f32 {
    call::mul(from_i32(number), factor)
}

/// rne(x · factor), the product rounded first, where that is less than 2^(31 − FRACTION) and the
/// factor is a normal number. x is finite.
///
/// An integer as near as 2^−FRACTION decides unless the product is as near to a tie as its own
/// rounding and what is cut off here may matter.
#[inline(always)]
pub fn round_scaled<const FRACTION: u32>(x: f32, factor: Factor) -> i32 {
    // Sixteen bits of each significand decide about one byte nearly always, but not about two.
    if NARROW && FRACTION > 20 {
        round_scaled_by::<FRACTION, true>(x, factor)
    } else {
        round_scaled_by::<FRACTION, false>(x, factor)
    }
}

/// [`round_scaled`], from the upper halves of the significands if `HALVES`.
#[inline(always)]
pub fn round_scaled_by<const FRACTION: u32, const HALVES: bool>(x: f32, factor: Factor) -> i32 {
    // A product of fewer than 31 − FRACTION bits before the point is rounded to steps of
    // 2^(7 − FRACTION) at most: it moves by half of that.
    const ROUNDING: u32 = 64;
    // What is cut off, in steps of the last bit.
    let cut = if HALVES { (1 << 17) + 2 } else { 2 };
    let bits = x.to_bits();
    let upper = if HALVES {
        (significand(bits) >> 16).wrapping_mul(factor.significand >> 16)
    } else {
        product(significand(bits), factor.significand).0
    };
    let shift = (284 - FRACTION)
        .wrapping_sub(exponent(bits))
        .wrapping_sub(factor.exponent);
    let fixed = upper >> shift.min(31);
    let shifted = fixed.wrapping_add((1 << (FRACTION - 1)) + ROUNDING + cut);
    if shifted << (32 - FRACTION) < (2 * ROUNDING + cut) << (32 - FRACTION) {
        return rare_rounded(x, factor.value);
    }
    let magnitude = (shifted >> FRACTION) as i32;
    if bits & TOP == 0 {
        magnitude
    } else {
        magnitude.wrapping_neg()
    }
}

#[cold]
#[inline(never)]
fn rare_rounded(x: f32, factor: f32) -> i32 {
    const MAGIC: f32 = f32::from_bits(0x4b40_0000);
    let shifted = call::add(call::mul(x, factor), MAGIC);
    (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}
