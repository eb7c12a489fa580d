//! Sixteen floats or 32-bit integers at a time, in one, two or four vectors.
//!
//! Each operation is rounded by itself, as the contract has it: nothing here fuses.

use core::arch::x86_64::*;

/// Sixteen lanes of a set of vector instructions.
///
/// # Safety
/// As for [`Isa`](super::isa::Isa).
pub(super) trait Floats: Copy {
    /// Floats.
    type F: Copy;
    /// Integers.
    type S: Copy;
    /// A choice for each lane.
    type M: Copy;
    /// Eight floats: the lanes of the contract's sums.
    type E: Copy;
    /// The same of two rows.
    type P: Copy;

    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(to: *mut f32, v: Self::F);
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// a − b · c where the product is exact, so that one that fuses gives the same.
    #[inline(always)]
    unsafe fn sub_exact(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { Self::sub(a, Self::mul(b, c)) }
    }
    /// The lesser; `b` where they are equal or one is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The greater; `b` where they are equal or one is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// a > b
    unsafe fn gt(a: Self::F, b: Self::F) -> Self::M;
    /// Whether a is NaN.
    unsafe fn nan(a: Self::F) -> Self::M;
    /// `a` where the choice is yes, else `b`.
    unsafe fn select(m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// The bits of floats.
    unsafe fn bits(a: Self::F) -> Self::S;
    /// The floats of bits.
    unsafe fn float(a: Self::S) -> Self::F;
    unsafe fn load_i32(from: *const i32) -> Self::S;
    unsafe fn splat_i32(x: i32) -> Self::S;
    unsafe fn add_i32(a: Self::S, b: Self::S) -> Self::S;
    unsafe fn sub_i32(a: Self::S, b: Self::S) -> Self::S;
    unsafe fn mul_i32(a: Self::S, b: Self::S) -> Self::S;
    unsafe fn max_i32(a: Self::S, b: Self::S) -> Self::S;
    unsafe fn and(a: Self::S, b: Self::S) -> Self::S;
    unsafe fn or(a: Self::S, b: Self::S) -> Self::S;
    /// Each shifted left by 23 bits.
    unsafe fn shift23(a: Self::S) -> Self::S;
    /// y · 2^k, with k in the low bits of a float, where x is at least `least`; 0 where x is less,
    /// and NaN where it is NaN, as y is then.
    #[inline(always)]
    unsafe fn scale_from(y: Self::F, k: Self::F, x: Self::F, least: Self::F) -> Self::F {
        unsafe {
            let y = Self::float(Self::add_i32(Self::bits(y), Self::shift23(Self::bits(k))));
            let y = Self::select(Self::gt(least, x), Self::splat(0.0), y);
            Self::select(Self::nan(x), x, y)
        }
    }
    /// To floats, rounded half to even.
    unsafe fn convert(a: Self::S) -> Self::F;
    /// To integers, rounded half to even; NaN gives 0.
    unsafe fn round(a: Self::F) -> Self::S;
    /// Sixteen bytes; what a byte cannot hold becomes ±127 or −128.
    unsafe fn store_i8(to: *mut i8, a: Self::S);
    /// Four times sixteen numbers within ±508, each plus `shift`, which is within ±254, as bytes
    /// within ±127.
    unsafe fn store_steps(to: *mut i8, a: [Self::S; 4], shift: i32);
    /// Twice sixteen 16-bit numbers that fit.
    /// Rounds numbers from 0 to 32767, to even, and stores them; 0 for NaN.
    unsafe fn store_weights(to: *mut i16, a: [Self::F; 2]);
    /// The greatest lane, where none is NaN.
    unsafe fn greatest(v: Self::F) -> f32;
    unsafe fn zero8() -> Self::E;
    /// Adds the first eight lanes, then the others.
    unsafe fn sum8(sum: Self::E, v: Self::F) -> Self::E;
    unsafe fn store8(to: *mut f32, sum: Self::E);
    unsafe fn zero_pair() -> Self::P;
    /// [`Floats::sum8`] of two rows.
    unsafe fn sum_pair(sum: Self::P, a: Self::F, b: Self::F) -> Self::P;
    /// Eight floats of the first row, then those of the second.
    unsafe fn store_pair(to: *mut f32, sum: Self::P);
}

/// The same intrinsic of each of two or four parts.
macro_rules! parts {
    (2, $f:expr, $a:ident) => {
        [$f($a[0]), $f($a[1])]
    };
    (2, $f:expr, $a:ident, $b:ident) => {
        [$f($a[0], $b[0]), $f($a[1], $b[1])]
    };
    (4, $f:expr, $a:ident) => {
        [$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])]
    };
    (4, $f:expr, $a:ident, $b:ident) => {
        [
            $f($a[0], $b[0]),
            $f($a[1], $b[1]),
            $f($a[2], $b[2]),
            $f($a[3], $b[3]),
        ]
    };
}

mod of_128;
mod of_256;
mod of_512;

/// The greatest of eight lanes.
#[inline(always)]
unsafe fn greatest_of_256(v: __m256) -> f32 {
    unsafe {
        greatest_of_128(_mm_max_ps(
            _mm256_castps256_ps128(v),
            _mm256_extractf128_ps::<1>(v),
        ))
    }
}

/// The greatest of four lanes.
#[inline(always)]
unsafe fn greatest_of_128(v: __m128) -> f32 {
    unsafe {
        let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
}
