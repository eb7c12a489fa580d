//! Sixteen lanes in four vectors.

use super::super::isa::Sse41;
use super::{Floats, greatest_of_128};
use core::arch::x86_64::*;

impl Floats for Sse41 {
    type F = [__m128; 4];
    type S = [__m128i; 4];
    type M = [__m128; 4];
    type E = [__m128; 2];
    type P = [[__m128; 2]; 2];

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
    unsafe fn store_steps(to: *mut i8, a: [[__m128i; 4]; 4], shift: i32) {
        unsafe {
            let shift = _mm_set1_epi16(shift as i16);
            for (quarter, a) in a.into_iter().enumerate() {
                let low = _mm_add_epi16(_mm_packs_epi32(a[0], a[1]), shift);
                let high = _mm_add_epi16(_mm_packs_epi32(a[2], a[3]), shift);
                let bytes = _mm_max_epi8(_mm_packs_epi16(low, high), _mm_set1_epi8(-127));
                _mm_storeu_si128(to.add(16 * quarter).cast(), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_weights(to: *mut i16, a: [[__m128; 4]; 2]) {
        unsafe {
            for (half, a) in a.into_iter().enumerate() {
                let a = Self::round(a);
                let to = to.add(16 * half);
                _mm_storeu_si128(to.cast(), _mm_packs_epi32(a[0], a[1]));
                _mm_storeu_si128(to.add(8).cast(), _mm_packs_epi32(a[2], a[3]));
            }
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
    #[inline(always)]
    unsafe fn zero_pair() -> [[__m128; 2]; 2] {
        unsafe { [Self::zero8(); 2] }
    }
    #[inline(always)]
    unsafe fn sum_pair(sum: [[__m128; 2]; 2], a: [__m128; 4], b: [__m128; 4]) -> [[__m128; 2]; 2] {
        unsafe { [Self::sum8(sum[0], a), Self::sum8(sum[1], b)] }
    }
    #[inline(always)]
    unsafe fn store_pair(to: *mut f32, sum: [[__m128; 2]; 2]) {
        unsafe {
            Self::store8(to, sum[0]);
            Self::store8(to.add(8), sum[1]);
        }
    }
}
