//! Single-precision arithmetic by integer instructions, for cores without an FPU.
//!
//! Compilers' own routines for such cores serve every case alike and are called for each operation;
//! these give the same bits, serve what models compute, and can be compiled into the loops that
//! need them. Whatever is rare (infinities, NaN, subnormal numbers) goes to the compiler's routines.
//!
//! They are plain Rust and are tested on any machine; only targets without an FPU use them
//! ([`USED`]), or a build with the feature `soft-floats`.

mod arithmetic;
pub mod call;
mod narrow;
mod rows;

pub use arithmetic::{add, div, from_i32, less, mul, sub};
pub use narrow::{normalize_by_steps, product_by_parts, quotient_by_bits};
pub use rows::{Factor, round_scaled, round_scaled_by, scaled};

/// Whether floats are computed by these routines.
pub const USED: bool = cfg!(soft_floats);

/// Whether the core has no instruction that multiplies to 64 bits or divides (Armv6-M).
const NARROW: bool = cfg!(kernels = "v6m");

/// Whether the core counts leading zeros.
const COUNTS_ZEROS: bool = !cfg!(any(
    kernels = "v6m",
    all(target_arch = "riscv32", not(target_feature = "zbb"))
));

/// The sign of a float, and the top bit of a significand that is aligned to the left.
const TOP: u32 = 1 << 31;

/// Biased exponent.
#[inline(always)]
const fn exponent(bits: u32) -> u32 {
    bits >> 23 & 0xff
}

/// The significand with its leading one, aligned to the left, of a normal number.
#[inline(always)]
const fn significand(bits: u32) -> u32 {
    bits << 8 | TOP
}

/// A float of this sign, biased exponent (1 to 253) and significand (leading one at the top), rounded
/// to nearest, ties to even. `exact`: nothing follows the significand's last bit.
#[inline(always)]
fn pack(sign: u32, exponent: u32, significand: u32, exact: bool) -> f32 {
    let mut rounded = (significand >> 8).wrapping_add(significand >> 7 & 1);
    if significand << 24 == TOP && exact {
        rounded &= !1;
    }
    // The leading one adds the last step of the exponent, and so does a carry.
    f32::from_bits(sign | (exponent.wrapping_sub(1) << 23).wrapping_add(rounded))
}

/// A number that is not zero, shifted until its top bit is set, and by how much.
#[inline(always)]
fn normalize(number: u32) -> (u32, u32) {
    if COUNTS_ZEROS {
        let zeros = number.leading_zeros();
        (number << (zeros & 31), zeros)
    } else {
        normalize_by_steps(number)
    }
}

/// The upper 32 bits of the product of two significands, and whether the lower ones are zeros.
#[inline(always)]
fn product(a: u32, b: u32) -> (u32, bool) {
    if NARROW {
        product_by_parts(a, b)
    } else {
        let product = u64::from(a).wrapping_mul(u64::from(b));
        ((product >> 32) as u32, product as u32 == 0)
    }
}
