//! The four operations and the conversion of integers.

use super::narrow::quotient_by_bits;
use super::{NARROW, TOP, exponent, normalize, pack, product, significand};

/// a + b, rounded as IEEE 754 says.
#[inline(always)]
pub fn add(a: f32, b: f32) -> f32 {
    let (x, y) = (a.to_bits(), b.to_bits());
    let (big, small) = if x << 1 >= y << 1 { (x, y) } else { (y, x) };
    let (upper, lower) = (exponent(big), exponent(small));
    if lower == 0 || upper >= 254 {
        return if small << 1 == 0 && upper.wrapping_sub(1) < 254 {
            f32::from_bits(big)
        } else {
            rare_sum(a, b)
        };
    }
    let shift = upper.wrapping_sub(lower);
    if shift > 25 {
        // Less than half of the least step below `big`.
        return f32::from_bits(big);
    }
    // One bit of room above, seven below: what is shifted out of them leaves its trace in the last.
    let (high, low) = (significand(big) >> 1, significand(small) >> 1);
    let mut aligned = low >> shift;
    if aligned << shift != low {
        aligned |= 1;
    }
    let sign = big & TOP;
    if (x ^ y) & TOP == 0 {
        let sum = high.wrapping_add(aligned);
        if sum & TOP != 0 {
            pack(sign, upper.wrapping_add(1), sum, true)
        } else {
            pack(sign, upper, sum << 1, true)
        }
    } else {
        let difference = high.wrapping_sub(aligned);
        if difference == 0 {
            return 0.0;
        }
        let (difference, zeros) = normalize(difference);
        if zeros > upper {
            return rare_sum(a, b);
        }
        let upper = upper.wrapping_add(1).wrapping_sub(zeros);
        pack(sign, upper, difference, true)
    }
}

/// a − b, rounded as IEEE 754 says.
#[inline(always)]
pub fn sub(a: f32, b: f32) -> f32 {
    add(a, f32::from_bits(b.to_bits() ^ TOP))
}

/// a · b, rounded as IEEE 754 says.
#[inline(always)]
pub fn mul(a: f32, b: f32) -> f32 {
    let (x, y) = (a.to_bits(), b.to_bits());
    let (of_x, of_y) = (exponent(x), exponent(y));
    if of_x.wrapping_sub(1) >= 254 || of_y.wrapping_sub(1) >= 254 {
        return if (x << 1 == 0 || y << 1 == 0) && of_x != 255 && of_y != 255 {
            f32::from_bits((x ^ y) & TOP)
        } else {
            rare_product(a, b)
        };
    }
    let (mut upper, exact) = product(significand(x), significand(y));
    let mut sum = of_x.wrapping_add(of_y).wrapping_sub(126);
    if upper & TOP == 0 {
        upper <<= 1;
        sum = sum.wrapping_sub(1);
    }
    if sum.wrapping_sub(1) >= 253 {
        return rare_product(a, b);
    }
    pack((x ^ y) & TOP, sum, upper, exact)
}

/// a / b, rounded as IEEE 754 says.
#[inline(never)]
pub fn div(a: f32, b: f32) -> f32 {
    let (x, y) = (a.to_bits(), b.to_bits());
    let (of_x, of_y) = (exponent(x), exponent(y));
    if of_x.wrapping_sub(1) >= 254 || of_y.wrapping_sub(1) >= 254 {
        return rare_quotient(a, b);
    }
    let (mut dividend, divisor) = (significand(x) >> 8, significand(y) >> 8);
    let mut difference = of_x.wrapping_add(127).wrapping_sub(of_y);
    if dividend < divisor {
        dividend <<= 1;
        difference = difference.wrapping_sub(1);
    }
    if difference.wrapping_sub(1) >= 253 {
        return rare_quotient(a, b);
    }
    let (quotient, exact) = quotient(dividend, divisor);
    pack(
        (x ^ y) & TOP,
        difference,
        quotient << 7 | u32::from(!exact),
        true,
    )
}

/// 25 bits of a / b for b ≤ a < 2·b < 2²⁵, and whether nothing remains.
#[inline(always)]
fn quotient(a: u32, b: u32) -> (u32, bool) {
    if NARROW {
        return quotient_by_bits(a, b);
    }
    // Nine bits, eight and eight: remainders have 24 bits. The divisor is never zero.
    let step = |rest: u32| {
        let bits = rest.checked_div(b).unwrap_or(0);
        (bits, rest.wrapping_sub(bits.wrapping_mul(b)))
    };
    // a < 2²⁵, so that one bit is taken first.
    let (first, rest) = (1u32, a.wrapping_sub(b));
    let (second, rest) = step(rest << 8);
    let (third, rest) = step(rest << 8);
    let (fourth, rest) = step(rest << 8);
    let quotient = first << 24 | second << 16 | third << 8 | fourth;
    (quotient, rest == 0)
}

/// The nearest float, ties to even.
#[inline(always)]
pub fn from_i32(number: i32) -> f32 {
    if number == 0 {
        return 0.0;
    }
    let (magnitude, zeros) = normalize(number.unsigned_abs());
    let sign = number as u32 & TOP;
    pack(sign, 158u32.wrapping_sub(zeros), magnitude, true)
}

/// a < b; false if either is NaN.
#[inline(always)]
pub fn less(a: f32, b: f32) -> bool {
    let (x, y) = (a.to_bits(), b.to_bits());
    if x << 1 > 0xff00_0000 || y << 1 > 0xff00_0000 {
        return false;
    }
    // Magnitudes below zero the other way round; both zeros are one.
    let order = |bits: u32| {
        let magnitude = (bits << 1 >> 1) as i32;
        if bits & TOP == 0 {
            magnitude
        } else {
            magnitude.wrapping_neg()
        }
    };
    order(x) < order(y)
}

#[cold]
#[inline(never)]
fn rare_sum(a: f32, b: f32) -> f32 {
    a + b
}

#[cold]
#[inline(never)]
fn rare_product(a: f32, b: f32) -> f32 {
    a * b
}

#[cold]
#[inline(never)]
fn rare_quotient(a: f32, b: f32) -> f32 {
    a / b
}
