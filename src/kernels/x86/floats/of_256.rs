//! Sixteen lanes in two vectors.

use super::super::isa::{Avx2, AvxVnni};
use super::{Floats, greatest_of_256};
use core::arch::x86_64::*;

/// What AVX2 has with and without VNNI.
macro_rules! of_256 {
    ($isa:ty) => {
        impl Floats for $isa {
            type F = [__m256; 2];
            type S = [__m256i; 2];
            type M = [__m256; 2];
            type E = __m256;
            type P = [__m256; 2];

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
            unsafe fn store_steps(to: *mut i8, a: [[__m256i; 2]; 4], shift: i32) {
                unsafe {
                    let shift = _mm256_set1_epi16(shift as i16);
                    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                    for (half, [a, b]) in [[a[0], a[1]], [a[2], a[3]]].into_iter().enumerate() {
                        let low = _mm256_add_epi16(_mm256_packs_epi32(a[0], a[1]), shift);
                        let high = _mm256_add_epi16(_mm256_packs_epi32(b[0], b[1]), shift);
                        let bytes = _mm256_packs_epi16(low, high);
                        let bytes = _mm256_max_epi8(bytes, _mm256_set1_epi8(-127));
                        // Each half has four bytes of each of the four vectors.
                        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
                        _mm256_storeu_si256(to.add(32 * half).cast(), bytes);
                    }
                }
            }
            #[inline(always)]
            unsafe fn store_weights(to: *mut i16, a: [[__m256; 2]; 2]) {
                unsafe {
                    for (half, a) in a.into_iter().enumerate() {
                        let a = Self::round(a);
                        let packed = _mm256_packs_epi32(a[0], a[1]);
                        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
                        _mm256_storeu_si256(to.add(16 * half).cast(), packed);
                    }
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
            #[inline(always)]
            unsafe fn zero_pair() -> [__m256; 2] {
                unsafe { [_mm256_setzero_ps(); 2] }
            }
            #[inline(always)]
            unsafe fn sum_pair(sum: [__m256; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                unsafe { [Self::sum8(sum[0], a), Self::sum8(sum[1], b)] }
            }
            #[inline(always)]
            unsafe fn store_pair(to: *mut f32, sum: [__m256; 2]) {
                unsafe {
                    _mm256_storeu_ps(to, sum[0]);
                    _mm256_storeu_ps(to.add(8), sum[1]);
                }
            }
        }
    };
}
of_256!(AvxVnni);
of_256!(Avx2);
