//! What cores do in several instructions that others have one for.

/// A number that is not zero, shifted until its top bit is set, and by how much.
#[inline(always)]
pub fn normalize_by_steps(number: u32) -> (u32, u32) {
    let (mut number, mut zeros) = (number, 0);
    if number >> 16 == 0 {
        number <<= 16;
        zeros |= 16;
    }
    if number >> 24 == 0 {
        number <<= 8;
        zeros |= 8;
    }
    if number >> 28 == 0 {
        number <<= 4;
        zeros |= 4;
    }
    if number >> 30 == 0 {
        number <<= 2;
        zeros |= 2;
    }
    if number >> 31 == 0 {
        number <<= 1;
        zeros |= 1;
    }
    (number, zeros)
}

/// The upper 32 bits of the product of two significands (24 bits each, aligned to the left), and
/// whether the lower ones are zeros, by products of 12 bits each.
#[inline(always)]
pub fn product_by_parts(a: u32, b: u32) -> (u32, bool) {
    let (a_high, a_low) = (a >> 20, a << 12 >> 20);
    let (b_high, b_low) = (b >> 20, b << 12 >> 20);
    let middle = a_high
        .wrapping_mul(b_low)
        .wrapping_add(a_low.wrapping_mul(b_high));
    let low = a_low.wrapping_mul(b_low);
    let middle = middle.wrapping_add(low >> 12);
    let upper = a_high.wrapping_mul(b_high) << 8;
    let upper = upper.wrapping_add(middle >> 4);
    (upper, middle << 28 == 0 && low << 20 == 0)
}

/// 25 bits of a / b for b ≤ a < 2·b < 2²⁵, and whether nothing remains, bit by bit.
#[inline(always)]
pub fn quotient_by_bits(a: u32, b: u32) -> (u32, bool) {
    let (mut rest, mut quotient) = (a, 0u32);
    for _ in 0..25 {
        quotient <<= 1;
        if rest >= b {
            rest = rest.wrapping_sub(b);
            quotient |= 1;
        }
        rest <<= 1;
    }
    (quotient, rest == 0)
}
