//! Sixteen floats or 32-bit integers at a time, in one, two or four vectors.
//!
//! Each operation is rounded by itself, as the contract has it: nothing here fuses.

use super::isa::{Avx2, Avx512, AvxVnni, Sse41};
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

    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(to: *mut f32, v: Self::F);
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
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
    /// To floats, rounded half to even.
    unsafe fn convert(a: Self::S) -> Self::F;
    /// To integers, rounded half to even; NaN gives 0.
    unsafe fn round(a: Self::F) -> Self::S;
    /// Sixteen bytes; what a byte cannot hold becomes ±127 or −128.
    unsafe fn store_i8(to: *mut i8, a: Self::S);
    /// Sixteen 16-bit numbers that fit.
    unsafe fn store_i16(to: *mut i16, a: Self::S);
    /// The greatest lane, where none is NaN.
    unsafe fn greatest(v: Self::F) -> f32;
    unsafe fn zero8() -> Self::E;
    /// Adds the first eight lanes, then the others.
    unsafe fn sum8(sum: Self::E, v: Self::F) -> Self::E;
    unsafe fn store8(to: *mut f32, sum: Self::E);
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

impl Floats for Avx512 {
    type F = __m512;
    type S = __m512i;
    type M = __mmask16;
    type E = __m256;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn gt(a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn nan(a: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }
    #[inline(always)]
    unsafe fn select(m: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    unsafe fn bits(a: __m512) -> __m512i {
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    unsafe fn float(a: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn add_i32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub_i32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_i32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_max_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn shift23(a: __m512i) -> __m512i {
        unsafe { _mm512_slli_epi32::<23>(a) }
    }
    #[inline(always)]
    unsafe fn convert(a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512i {
        unsafe { _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: __m512i) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(a)) }
    }
    #[inline(always)]
    unsafe fn store_i16(to: *mut i16, a: __m512i) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtsepi32_epi16(a)) }
    }
    #[inline(always)]
    unsafe fn greatest(v: __m512) -> f32 {
        unsafe {
            greatest_of_256(_mm256_max_ps(
                _mm512_castps512_ps256(v),
                _mm512_extractf32x8_ps::<1>(v),
            ))
        }
    }
    #[inline(always)]
    unsafe fn zero8() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn sum8(sum: __m256, v: __m512) -> __m256 {
        unsafe {
            let sum = _mm256_add_ps(sum, _mm512_castps512_ps256(v));
            _mm256_add_ps(sum, _mm512_extractf32x8_ps::<1>(v))
        }
    }
    #[inline(always)]
    unsafe fn store8(to: *mut f32, sum: __m256) {
        unsafe { _mm256_storeu_ps(to, sum) }
    }
}

/// What AVX2 has with and without VNNI.
macro_rules! of_256 {
    ($isa:ty) => {
        impl Floats for $isa {
            type F = [__m256; 2];
            type S = [__m256i; 2];
            type M = [__m256; 2];
            type E = __m256;

            #[inline(always)]
            unsafe fn load(from: *const f32) -> [__m256; 2] {
                unsafe { [_mm256_loadu_ps(from.add(0)), _mm256_loadu_ps(from.add(8))] }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, v: [__m256; 2]) {
                unsafe {
                    _mm256_storeu_ps(to.add(0), v[0]);
                    _mm256_storeu_ps(to.add(8), v[1]);
                }
            }
            #[inline(always)]
            unsafe fn splat(x: f32) -> [__m256; 2] {
                unsafe { [_mm256_set1_ps(x); 2] }
            }
            #[inline(always)]
            unsafe fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_add_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_sub_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_mul_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn div(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_div_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_min_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_max_ps, a, b) }
            }
            #[inline(always)]
            unsafe fn gt(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe {
                    [
                        _mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]),
                        _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1]),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn nan(a: [__m256; 2]) -> [__m256; 2] {
                unsafe {
                    [
                        _mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[0]),
                        _mm256_cmp_ps::<_CMP_UNORD_Q>(a[1], a[1]),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn select(m: [__m256; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe {
                    [
                        _mm256_blendv_ps(b[0], a[0], m[0]),
                        _mm256_blendv_ps(b[1], a[1], m[1]),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn bits(a: [__m256; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_castps_si256, a) }
            }
            #[inline(always)]
            unsafe fn float(a: [__m256i; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_castsi256_ps, a) }
            }
            #[inline(always)]
            unsafe fn load_i32(from: *const i32) -> [__m256i; 2] {
                unsafe {
                    [
                        _mm256_loadu_si256(from.add(0).cast()),
                        _mm256_loadu_si256(from.add(8).cast()),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn splat_i32(x: i32) -> [__m256i; 2] {
                unsafe { [_mm256_set1_epi32(x); 2] }
            }
            #[inline(always)]
            unsafe fn add_i32(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_add_epi32, a, b) }
            }
            #[inline(always)]
            unsafe fn sub_i32(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_sub_epi32, a, b) }
            }
            #[inline(always)]
            unsafe fn mul_i32(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_mullo_epi32, a, b) }
            }
            #[inline(always)]
            unsafe fn max_i32(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_max_epi32, a, b) }
            }
            #[inline(always)]
            unsafe fn and(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_and_si256, a, b) }
            }
            #[inline(always)]
            unsafe fn or(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_or_si256, a, b) }
            }
            #[inline(always)]
            unsafe fn shift23(a: [__m256i; 2]) -> [__m256i; 2] {
                unsafe { parts!(2, _mm256_slli_epi32::<23>, a) }
            }
            #[inline(always)]
            unsafe fn convert(a: [__m256i; 2]) -> [__m256; 2] {
                unsafe { parts!(2, _mm256_cvtepi32_ps, a) }
            }
            #[inline(always)]
            unsafe fn round(a: [__m256; 2]) -> [__m256i; 2] {
                unsafe {
                    [
                        _mm256_and_si256(
                            _mm256_cvtps_epi32(a[0]),
                            _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(a[0], a[0])),
                        ),
                        _mm256_and_si256(
                            _mm256_cvtps_epi32(a[1]),
                            _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(a[1], a[1])),
                        ),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn store_i8(to: *mut i8, a: [__m256i; 2]) {
                unsafe {
                    let halves: [__m128i; 4] = [
                        _mm256_castsi256_si128(a[0]),
                        _mm256_extracti128_si256::<1>(a[0]),
                        _mm256_castsi256_si128(a[1]),
                        _mm256_extracti128_si256::<1>(a[1]),
                    ];
                    let low = _mm_packs_epi32(halves[0], halves[1]);
                    let high = _mm_packs_epi32(halves[2], halves[3]);
                    _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
                }
            }
            #[inline(always)]
            unsafe fn store_i16(to: *mut i16, a: [__m256i; 2]) {
                unsafe {
                    let halves: [__m128i; 4] = [
                        _mm256_castsi256_si128(a[0]),
                        _mm256_extracti128_si256::<1>(a[0]),
                        _mm256_castsi256_si128(a[1]),
                        _mm256_extracti128_si256::<1>(a[1]),
                    ];
                    _mm_storeu_si128(to.cast(), _mm_packs_epi32(halves[0], halves[1]));
                    _mm_storeu_si128(to.add(8).cast(), _mm_packs_epi32(halves[2], halves[3]));
                }
            }
            #[inline(always)]
            unsafe fn greatest(v: [__m256; 2]) -> f32 {
                unsafe { greatest_of_256(_mm256_max_ps(v[0], v[1])) }
            }
            #[inline(always)]
            unsafe fn zero8() -> __m256 {
                unsafe { _mm256_setzero_ps() }
            }
            #[inline(always)]
            unsafe fn sum8(sum: __m256, v: [__m256; 2]) -> __m256 {
                unsafe { _mm256_add_ps(_mm256_add_ps(sum, v[0]), v[1]) }
            }
            #[inline(always)]
            unsafe fn store8(to: *mut f32, sum: __m256) {
                unsafe { _mm256_storeu_ps(to, sum) }
            }
        }
    };
}
of_256!(AvxVnni);
of_256!(Avx2);

impl Floats for Sse41 {
    type F = [__m128; 4];
    type S = [__m128i; 4];
    type M = [__m128; 4];
    type E = [__m128; 2];

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [__m128; 4] {
        unsafe {
            [
                _mm_loadu_ps(from.add(0)),
                _mm_loadu_ps(from.add(4)),
                _mm_loadu_ps(from.add(8)),
                _mm_loadu_ps(from.add(12)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [__m128; 4]) {
        unsafe {
            _mm_storeu_ps(to.add(0), v[0]);
            _mm_storeu_ps(to.add(4), v[1]);
            _mm_storeu_ps(to.add(8), v[2]);
            _mm_storeu_ps(to.add(12), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [__m128; 4] {
        unsafe { [_mm_set1_ps(x); 4] }
    }
    #[inline(always)]
    unsafe fn add(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_add_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_sub_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_mul_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_div_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_min_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_max_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn gt(a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_cmpgt_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn nan(a: [__m128; 4]) -> [__m128; 4] {
        unsafe {
            [
                _mm_cmpunord_ps(a[0], a[0]),
                _mm_cmpunord_ps(a[1], a[1]),
                _mm_cmpunord_ps(a[2], a[2]),
                _mm_cmpunord_ps(a[3], a[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn select(m: [__m128; 4], a: [__m128; 4], b: [__m128; 4]) -> [__m128; 4] {
        unsafe {
            [
                _mm_blendv_ps(b[0], a[0], m[0]),
                _mm_blendv_ps(b[1], a[1], m[1]),
                _mm_blendv_ps(b[2], a[2], m[2]),
                _mm_blendv_ps(b[3], a[3], m[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn bits(a: [__m128; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_castps_si128, a) }
    }
    #[inline(always)]
    unsafe fn float(a: [__m128i; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_castsi128_ps, a) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> [__m128i; 4] {
        unsafe {
            [
                _mm_loadu_si128(from.add(0).cast()),
                _mm_loadu_si128(from.add(4).cast()),
                _mm_loadu_si128(from.add(8).cast()),
                _mm_loadu_si128(from.add(12).cast()),
            ]
        }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> [__m128i; 4] {
        unsafe { [_mm_set1_epi32(x); 4] }
    }
    #[inline(always)]
    unsafe fn add_i32(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_add_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn sub_i32(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_sub_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn mul_i32(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_mullo_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_max_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn and(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_and_si128, a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: [__m128i; 4], b: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_or_si128, a, b) }
    }
    #[inline(always)]
    unsafe fn shift23(a: [__m128i; 4]) -> [__m128i; 4] {
        unsafe { parts!(4, _mm_slli_epi32::<23>, a) }
    }
    #[inline(always)]
    unsafe fn convert(a: [__m128i; 4]) -> [__m128; 4] {
        unsafe { parts!(4, _mm_cvtepi32_ps, a) }
    }
    #[inline(always)]
    unsafe fn round(a: [__m128; 4]) -> [__m128i; 4] {
        unsafe {
            [
                _mm_and_si128(
                    _mm_cvtps_epi32(a[0]),
                    _mm_castps_si128(_mm_cmpord_ps(a[0], a[0])),
                ),
                _mm_and_si128(
                    _mm_cvtps_epi32(a[1]),
                    _mm_castps_si128(_mm_cmpord_ps(a[1], a[1])),
                ),
                _mm_and_si128(
                    _mm_cvtps_epi32(a[2]),
                    _mm_castps_si128(_mm_cmpord_ps(a[2], a[2])),
                ),
                _mm_and_si128(
                    _mm_cvtps_epi32(a[3]),
                    _mm_castps_si128(_mm_cmpord_ps(a[3], a[3])),
                ),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: [__m128i; 4]) {
        unsafe {
            let halves = a;
            let low = _mm_packs_epi32(halves[0], halves[1]);
            let high = _mm_packs_epi32(halves[2], halves[3]);
            _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
        }
    }
    #[inline(always)]
    unsafe fn store_i16(to: *mut i16, a: [__m128i; 4]) {
        unsafe {
            let halves = a;
            _mm_storeu_si128(to.cast(), _mm_packs_epi32(halves[0], halves[1]));
            _mm_storeu_si128(to.add(8).cast(), _mm_packs_epi32(halves[2], halves[3]));
        }
    }
    #[inline(always)]
    unsafe fn greatest(v: [__m128; 4]) -> f32 {
        unsafe { greatest_of_128(_mm_max_ps(_mm_max_ps(v[0], v[1]), _mm_max_ps(v[2], v[3]))) }
    }
    #[inline(always)]
    unsafe fn zero8() -> [__m128; 2] {
        unsafe { [_mm_setzero_ps(); 2] }
    }
    #[inline(always)]
    unsafe fn sum8(sum: [__m128; 2], v: [__m128; 4]) -> [__m128; 2] {
        unsafe {
            [
                _mm_add_ps(_mm_add_ps(sum[0], v[0]), v[2]),
                _mm_add_ps(_mm_add_ps(sum[1], v[1]), v[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store8(to: *mut f32, sum: [__m128; 2]) {
        unsafe {
            _mm_storeu_ps(to, sum[0]);
            _mm_storeu_ps(to.add(4), sum[1]);
        }
    }
}
