//! Elementary functions whose result bits are the same on every target.
//!
//! # Contract
//!
//! The code in this file *is* the definition of the result bits. It uses only
//! operations that IEEE 754 fixes to the last bit: `f32` addition,
//! subtraction, multiplication and division in round-to-nearest-even
//! ([`Single`]), bit
//! casts, and integer arithmetic and comparisons. Each operation is written in
//! the order in which it must be evaluated and none may be fused; there is no
//! `mul_add`, no `f64`, and no call into a math library but for `libm::sqrtf`,
//! which IEEE 754 fixes too. Hence a
//! hosted x86-64 build, a soft-float Cortex-M0, a Cortex-M4F and a RISC-V core
//! agree on every result. The golden hashes in `tests/math.rs` guard this.
//!
//! * A NaN argument gives a quiet NaN. Its sign and payload are unspecified.
//! * For a normal argument, no result depends on whether the target flushes
//!   subnormal numbers to zero. (`x87` arithmetic, with its excess precision,
//!   is not IEEE `f32` arithmetic and is not supported.)
//! * Nothing here panics, allocates, or reads a table.
//!
//! # Accuracy
//!
//! Errors are given in units in the last place (ulp) of the `f32` binade that
//! holds the true value. They were measured over all 2^32 arguments against
//! `f64` references (0.5 is the best any implementation can do):
//!
//! | function             | largest error, ulp | additions | multiplications | divisions |
//! |----------------------|--------------------|-----------|-----------------|-----------|
//! | [`exp`]              | 0.989              | 10        | 9               | 0         |
//! | [`tanh`] below 45/64 | 0.924              | 5         | 7               | 0         |
//! | [`tanh`] from 45/64  | 1.067              | 13        | 10              | 1         |
//! | [`erf`] below 29/32  | 1.101              | 6         | 7               | 0         |
//! | [`erf`] from 29/32   | 1.120              | 16        | 16              | 0         |
//! | [`sqrt`]             | 0.5                | 0         | 0               | 0         |
//! | [`round_half_even`]  | 0.5                | 2         | 0               | 0         |
//!
//! # Where the coefficients come from
//!
//! Every polynomial was fitted for this file. A Remez exchange in 40-digit
//! arithmetic finds the minimax polynomial for the interval and weight, the
//! lowest coefficient is rounded to `f32`, the remaining ones are fitted again,
//! and so on. For [`tanh`] and [`erf`] a random search over the last bits then
//! lowered the measured error of the `f32` evaluation. Coefficients are written
//! as bit patterns with their decimal value beside them, so that no decimal
//! parser is part of the contract.

use super::single::Single;

/// 1.5 * 2^23. Adding it to a value below 2^22 in magnitude leaves that value,
/// rounded half to even, in the low bits of the significand.
pub(super) const ROUND_MAGIC: f32 = f32::from_bits(0x4b40_0000);

/// log2(e), 1.442695.
pub(super) const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);

/// ln(2) to 15 fractional bits, so that its product with any integer below
/// 2^8 is exact: 0.693_145_75.
pub(super) const LN2_HI: f32 = f32::from_bits(0x3f31_7200);

/// ln(2) - `LN2_HI`, 1.428_606_8e-6.
pub(super) const LN2_LO: f32 = f32::from_bits(0x35bf_be8e);

/// Bits that hold the magnitude of an `f32`.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Bits of the sign of an `f32`.
const SIGN: u32 = 0x8000_0000;

/// Bits of positive infinity; larger magnitudes are NaN.
const INFINITY: u32 = 0x7f80_0000;

/// Bits of 1.0.
const ONE: u32 = 0x3f80_0000;

/// Bits of 2^-126, the smallest positive normal number.
const MIN_NORMAL: u32 = 0x0080_0000;

/// Coefficients of [`exp`]'s polynomial, the lowest first.
pub(super) const EXP: [f32; 5] = [
    f32::from_bits(0x3eff_fffe), // 0.499_999_94
    f32::from_bits(0x3e2a_aa46), // 0.166_665_17
    f32::from_bits(0x3d2a_ac2d), // 0.041_668_106
    f32::from_bits(0x3c09_1eb8), // 0.008_369_14
    f32::from_bits(0x3ab5_5c4e), // 0.001_383_671_3
];

/// Coefficients of [`tanh`] below the split.
pub(super) const TANH: [f32; 5] = [
    f32::from_bits(0xbeaa_aa7c), // -0.333_331_94
    f32::from_bits(0x3e08_7d7c), // 0.133_291_18
    f32::from_bits(0xbd5b_614a), // -0.053_559_58
    f32::from_bits(0x3ca4_9de4), // 0.020_094_82
    f32::from_bits(0xbba8_76d6), // -0.005_141_119_5
];

/// Coefficients of [`erf`] below the split.
pub(super) const ERF_NEAR: [f32; 6] = [
    f32::from_bits(0x3e03_75d3), // 0.128_379_15
    f32::from_bits(0xbec0_9375), // -0.376_125
    f32::from_bits(0x3de7_0dbf), // 0.112_819_19
    f32::from_bits(0xbcdb_4dca), // -0.026_770_491
    f32::from_bits(0x3ba3_ce5d), // 0.004_998_965_7
    f32::from_bits(0xba1d_d7e0), // -0.000_602_124_26
];

/// Coefficients of [`erf`] from the split on.
pub(super) const ERF_FAR: [f32; 6] = [
    f32::from_bits(0xbf90_736b), // -1.128_522_3
    f32::from_bits(0xbf22_bcaa), // -0.635_691_3
    f32::from_bits(0xbdd7_a618), // -0.105_297_27
    f32::from_bits(0x3cbb_b2b3), // 0.022_912_359
    f32::from_bits(0xbb53_265f), // -0.003_221_891_6
    f32::from_bits(0x3961_443d), // 0.000_214_830_93
];

/// The smallest x (87.336_54) that still has a normal exp(-x).
pub(super) const EXP_LOWEST: f32 = f32::from_bits(0x42ae_ac4f);

/// The largest x (88.722_83) with a finite exp(x).
pub(super) const EXP_HIGHEST: f32 = f32::from_bits(0x42b1_7217);

/// 2^-12, below which tanh(x) is x.
pub(super) const TANH_TINY: f32 = f32::from_bits(0x3980_0000);

/// 45/64.
pub(super) const TANH_SPLIT: f32 = f32::from_bits(0x3f34_0000);

/// 9.010_914, the smallest x whose tanh rounds to 1.
pub(super) const TANH_SATURATED: f32 = f32::from_bits(0x4110_2cb4);

/// 2^-100.
pub(super) const ERF_TINY: f32 = f32::from_bits(0x0d80_0000);

/// 29/32.
pub(super) const ERF_SPLIT: f32 = f32::from_bits(0x3f68_0000);

/// 3.919_206, the smallest x whose erf rounds to 1.
pub(super) const ERF_SATURATED: f32 = f32::from_bits(0x407a_d445);

/// Splits `exp(x)` into `2^k * (1 + s)` with `|s| < 0.42`, for `|x| < 89`.
///
/// Returns `(k << 23, s)`, the first in wrapping arithmetic so that it can be
/// added to the bits of a normal number to scale it by `2^k`.
///
/// `s = r + r^2 * P(r)` with `r = x - k * ln(2)` in two exact-by-design steps
/// and `P` of degree 4 (weight `r^2 / exp(r)` on `|r| <= 0.347`; relative
/// error of `1 + s` from the polynomial alone: 3.2e-9).
#[inline]
fn exp_parts(x: Single) -> (u32, Single) {
    const P0: Single = Single(EXP[0]);
    const P1: Single = Single(EXP[1]);
    const P2: Single = Single(EXP[2]);
    const P3: Single = Single(EXP[3]);
    const P4: Single = Single(EXP[4]);

    let magic = Single(ROUND_MAGIC);
    let shifted = x * Single(LOG2_E) + magic;
    let k = shifted - magic;
    let r = x - k * Single(LN2_HI);
    let r = r - k * Single(LN2_LO);
    let p = P4 * r + P3;
    let p = p * r + P2;
    let p = p * r + P1;
    let p = p * r + P0;
    let s = r + (r * r) * p;
    // The bits of `shifted` are 0x4b40_0000 + k, and the constant is shifted
    // out.
    (shifted.to_bits() << 23, s)
}

/// The exponential function, e to the power `x`.
///
/// # Accuracy
///
/// At most 0.989 ulp wherever the result is normal, measured over all
/// arguments.
///
/// # Edges
///
/// * `x > 88.722_83` (the true value exceeds `f32::MAX`): `+inf`.
/// * `x < -87.336_54` (the true value is below `f32::MIN_POSITIVE`): `+0.0`.
///   No result is subnormal.
/// * `exp(±0.0)` is `1.0`; `exp(-inf)` is `+0.0`; `exp(+inf)` is `+inf`; NaN
///   gives NaN.
///
/// # Operations
///
/// `k = rne(x * log2(e))`, `r = x - k * ln(2)` in two steps, and
/// `exp(x) = 2^k * (1 + (r + r^2 * P(r)))` with `P` of degree 4. The scaling is
/// an integer addition to the exponent field.
#[must_use]
pub fn exp(x: f32) -> f32 {
    /// Magnitude bits of the smallest x (87.336_54) that still has a normal
    /// exp(-x).
    const LOWEST: u32 = EXP_LOWEST.to_bits();
    /// Bits of the largest x (88.722_83) with a finite exp(x).
    const HIGHEST: u32 = EXP_HIGHEST.to_bits();

    let bits = x.to_bits();
    let magnitude = bits & MAGNITUDE;
    if magnitude > LOWEST {
        if magnitude > INFINITY {
            return f32::NAN;
        }
        if bits != magnitude {
            return 0.0;
        }
        if magnitude > HIGHEST {
            return f32::INFINITY;
        }
    }
    let (scale, s) = exp_parts(Single(x));
    f32::from_bits((Single::ONE + s).to_bits().wrapping_add(scale))
}

/// The hyperbolic tangent.
///
/// # Accuracy
///
/// At most 1.067 ulp, measured over all arguments. A subnormal argument is
/// returned as it is.
///
/// # Edges
///
/// * `|x| >= 9.010_914`: exactly `±1.0` (this is the rounded true value).
/// * `|x| < 2^-12`: `x` itself, which keeps the sign of zero.
/// * The function is odd to the bit. `tanh(±inf)` is `±1.0`; NaN gives NaN.
///
/// # Operations
///
/// Below 45/64: `x + x * (z * P(z))` with `z = x * x` and `P` of degree 4.
/// From 45/64: `1 - 2 / (exp(2|x|) + 1)`, where the `1` is added to the power
/// of two of the exponential rather than to the rounded exponential.
#[must_use]
pub fn tanh(x: f32) -> f32 {
    const P0: Single = Single(TANH[0]);
    const P1: Single = Single(TANH[1]);
    const P2: Single = Single(TANH[2]);
    const P3: Single = Single(TANH[3]);
    const P4: Single = Single(TANH[4]);
    /// Bits of 2^-12.
    const TINY: u32 = TANH_TINY.to_bits();
    /// Bits of 45/64.
    const SPLIT: u32 = TANH_SPLIT.to_bits();
    /// Bits of 9.010_914, the smallest x whose tanh rounds to 1.
    const SATURATED: u32 = TANH_SATURATED.to_bits();

    let bits = x.to_bits();
    let sign = bits & SIGN;
    let magnitude = bits & MAGNITUDE;
    if magnitude < SPLIT {
        if magnitude < TINY {
            return x;
        }
        let x = Single(x);
        let z = x * x;
        let p = P4 * z + P3;
        let p = p * z + P2;
        let p = p * z + P1;
        let p = p * z + P0;
        return (x + x * (z * p)).0;
    }
    if magnitude >= SATURATED {
        if magnitude > INFINITY {
            return f32::NAN;
        }
        return f32::from_bits(ONE | sign);
    }
    let (one, two) = (Single::ONE, Single(2.0));
    let a = Single::from_bits(magnitude);
    let (scale, s) = exp_parts(a + a);
    let scale = Single::from_bits(ONE.wrapping_add(scale));
    let denominator = (scale + one) + scale * s;
    let t = one - two / denominator;
    f32::from_bits(t.to_bits() | sign)
}

/// The error function, `2 / sqrt(pi)` times the integral of `exp(-t^2)` from 0
/// to `x`.
///
/// # Accuracy
///
/// At most 1.120 ulp, measured over all arguments.
///
/// # Edges
///
/// * `|x| >= 3.919_206`: exactly `±1.0` (this is the rounded true value).
/// * Magnitudes below 2^-100, subnormal ones among them, take a path without
///   subnormal intermediates; `erf(±0.0)` is `±0.0`.
/// * The function is odd to the bit. `erf(±inf)` is `±1.0`; NaN gives NaN.
///
/// # Operations
///
/// Below 29/32: `x + x * P(x * x)` with `P` of degree 5. From 29/32:
/// `1 - exp(|x| * Q(|x|))`, where `t * Q(t)` approximates `ln(1 - erf(t))` with
/// `Q` of degree 5. The error of the exponent counts only in proportion to
/// `1 - erf(t)`, at most 0.20 here, which is what lets a short `Q` do.
#[must_use]
pub fn erf(x: f32) -> f32 {
    const P0: Single = Single(ERF_NEAR[0]);
    const P1: Single = Single(ERF_NEAR[1]);
    const P2: Single = Single(ERF_NEAR[2]);
    const P3: Single = Single(ERF_NEAR[3]);
    const P4: Single = Single(ERF_NEAR[4]);
    const P5: Single = Single(ERF_NEAR[5]);
    const Q0: Single = Single(ERF_FAR[0]);
    const Q1: Single = Single(ERF_FAR[1]);
    const Q2: Single = Single(ERF_FAR[2]);
    const Q3: Single = Single(ERF_FAR[3]);
    const Q4: Single = Single(ERF_FAR[4]);
    const Q5: Single = Single(ERF_FAR[5]);
    /// Bits of 2^-100.
    const TINY: u32 = ERF_TINY.to_bits();
    /// Bits of 29/32.
    const SPLIT: u32 = ERF_SPLIT.to_bits();
    /// Bits of 3.919_206, the smallest x whose erf rounds to 1.
    const SATURATED: u32 = ERF_SATURATED.to_bits();

    let bits = x.to_bits();
    let sign = bits & SIGN;
    let magnitude = bits & MAGNITUDE;
    if magnitude < SPLIT {
        if magnitude < TINY {
            return erf_tiny(x);
        }
        let x = Single(x);
        let z = x * x;
        let p = P5 * z + P4;
        let p = p * z + P3;
        let p = p * z + P2;
        let p = p * z + P1;
        let p = p * z + P0;
        return (x + x * p).0;
    }
    if magnitude >= SATURATED {
        if magnitude > INFINITY {
            return f32::NAN;
        }
        return f32::from_bits(ONE | sign);
    }
    let a = Single::from_bits(magnitude);
    let q = Q5 * a + Q4;
    let q = q * a + Q3;
    let q = q * a + Q2;
    let q = q * a + Q1;
    let q = q * a + Q0;
    let (scale, s) = exp_parts(q * a);
    let scale = Single::from_bits(ONE.wrapping_add(scale));
    let t = (Single::ONE - scale) - scale * s;
    f32::from_bits(t.to_bits() | sign)
}

/// `x * 2 / sqrt(pi)` for `|x| < 2^-100`, where `x * P0` in [`erf`] could be
/// subnormal.
#[cold]
fn erf_tiny(x: f32) -> f32 {
    /// 2 / sqrt(pi) - 1, 0.128_379_17.
    const C: f32 = f32::from_bits(0x3e03_75d4);
    /// The same times 2^32, rounded to nearest.
    const C_FIXED: u64 = 551_384_324;
    /// 2^64 and 2^-64.
    const UP: f32 = f32::from_bits(0x5f80_0000);
    const DOWN: f32 = f32::from_bits(0x1f80_0000);

    let bits = x.to_bits();
    let sign = bits & SIGN;
    let magnitude = bits & MAGNITUDE;
    if magnitude < MIN_NORMAL {
        // Subnormal numbers and the lowest normal binade share one spacing, so
        // that the bits are a fixed-point number.
        let extra = (u64::from(magnitude) * C_FIXED + (1 << 31)) >> 32;
        // extra < 2^23.
        return f32::from_bits(magnitude.wrapping_add(extra as u32) | sign);
    }
    // Scaling by a power of two is exact, and the result is normal.
    let y = x * UP;
    (y + y * C) * DOWN
}

/// The square root, correctly rounded.
///
/// # Accuracy
///
/// Correctly rounded (error at most 0.5 ulp) for every argument, subnormal
/// arguments included: the same bits as the IEEE 754 `squareRoot` operation.
///
/// # Edges
///
/// `sqrt(±0.0)` is `±0.0`; `sqrt(+inf)` is `+inf`; a negative argument or NaN
/// gives NaN.
///
///
/// It is `libm`'s, which works on integers where there is no instruction.
#[must_use]
pub fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}

/// Rounds to the nearest integer, halves to the even one, for `|x| <= 2^22`.
///
/// # Accuracy
///
/// Exact in that range, except that a zero result is always `+0.0`, also for a
/// negative argument.
///
/// # Edges
///
/// Outside the range the result is still the defined result of
/// `(x + 1.5 * 2^23) - 1.5 * 2^23`, but that need not be the nearest integer.
/// Infinities are returned as they are; NaN gives NaN.
///
/// # Operations
///
/// One addition and one subtraction.
#[must_use]
#[inline]
pub fn round_half_even(x: f32) -> f32 {
    let magic = Single(ROUND_MAGIC);
    ((Single(x) + magic) - magic).0
}
