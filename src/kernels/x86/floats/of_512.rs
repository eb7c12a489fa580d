//! Sixteen lanes in one vector.

use super::super::isa::Avx512;
use super::{Floats, greatest_of_256};
use core::arch::asm;
use core::arch::x86_64::*;

/// y's exponent plus k, as far as each mask says yes. By name, because compilers make choices of
/// their own of such masks.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(y: __m512, k: __m512, number: __mmask16, not_less: __mmask16) -> __m512 {
    let scaled;
    // SAFETY: the instructions have no effect but on their registers, and their set is enabled.
    unsafe {
        asm!(
            "vpslld {scaled}{{{number}}}{{z}}, {k}, 23",
            "vpaddd {scaled}{{{not_less}}}{{z}}, {scaled}, {y}",
            scaled = out(zmm_reg) scaled,
            number = in(kreg) number,
            not_less = in(kreg) not_less,
            k = in(zmm_reg) k,
            y = in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    scaled
}

impl Floats for Avx512 {
    type F = __m512;
    type S = __m512i;
    type M = __mmask16;
    type E = __m256;
    type P = __m512;

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
    unsafe fn sub_exact(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(b, c, a) }
    }
    #[inline(always)]
    unsafe fn scale_from(y: __m512, k: __m512, x: __m512, least: __m512) -> __m512 {
        unsafe {
            // Masks take the place of two choices: y + 0 is still NaN.
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
            let not_less = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, least);
            scaled(y, k, number, not_less)
        }
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
    unsafe fn store_steps(to: *mut i8, [a, b, c, d]: [__m512i; 4], shift: i32) {
        unsafe {
            let shift = _mm512_set1_epi16(shift as i16);
            let ab = _mm512_add_epi16(_mm512_packs_epi32(a, b), shift);
            let cd = _mm512_add_epi16(_mm512_packs_epi32(c, d), shift);
            let bytes = _mm512_max_epi8(_mm512_packs_epi16(ab, cd), _mm512_set1_epi8(-127));
            // Each quarter has four bytes of each of the four vectors.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi32(order, bytes));
        }
    }
    #[inline(always)]
    unsafe fn store_weights(to: *mut i16, [a, b]: [__m512; 2]) {
        unsafe {
            // The low halves, which are 0 of what NaN becomes.
            const ORDER: [i16; 32] = {
                let mut order = [0; 32];
                let mut at = 0;
                while at < 32 {
                    order[at] = 2 * at as i16;
                    at += 1;
                }
                order
            };
            let (a, b) = (_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(a, order, b));
        }
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
    #[inline(always)]
    unsafe fn zero_pair() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn sum_pair(sum: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4::<0b0100_0100>(a, b));
            _mm512_add_ps(sum, _mm512_shuffle_f32x4::<0b1110_1110>(a, b))
        }
    }
    #[inline(always)]
    unsafe fn store_pair(to: *mut f32, sum: __m512) {
        unsafe { _mm512_storeu_ps(to, sum) }
    }
}
