//! The few instructions that differ between machines. Those for dot products and small matrices have no
//! stable intrinsics, so they are written out.

use core::arch::aarch64::*;
use core::arch::asm;

/// How a machine multiplies bytes and sums up.
///
/// # Safety
/// Functions may only run where the instructions are there, inlined into a function that enables them.
pub(super) trait Isa {
    /// Adds to each of four lanes Σ of its four bytes of `w` times bytes 4·`LANE` … of `x`.
    unsafe fn dot_lane<const LANE: i32>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
    /// Adds to each of four lanes Σ of its four bytes of `w` times those of `x`.
    unsafe fn dot(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
}

/// Products of bytes as 16-bit numbers: two of them, each at most 128·127, still fit in one.
pub(super) struct Neon;

impl Isa for Neon {
    #[inline(always)]
    unsafe fn dot_lane<const LANE: i32>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe {
            let x = vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x));
            Self::dot(sum, w, vreinterpretq_s8_s32(x))
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe {
            let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
            let high = vmull_high_s8(w, x);
            vpadalq_s16(sum, vpaddq_s16(low, high))
        }
    }
}

/// `sdot`.
pub(super) struct Dot;

impl Isa for Dot {
    #[inline(always)]
    unsafe fn dot_lane<const LANE: i32>(
        mut sum: int32x4_t,
        w: int8x16_t,
        x: int8x16_t,
    ) -> int32x4_t {
        // SAFETY: the caller has the instruction; it touches registers only.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller has the instruction; it touches registers only.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

/// Adds w₀·x₀, w₀·x₁, w₁·x₀, w₁·x₁ to the four lanes, where each half of `w` and `x` is a vector of
/// eight bytes: `smmla`.
///
/// # Safety
/// As [`Isa`]'s functions.
#[inline(always)]
pub(super) unsafe fn product(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has the instruction; it touches registers only.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {w:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
