//! Armv6-M: Cortex-M0 and M0+.
#![allow(unsafe_code)]

use crate::kernels::Layout;
use crate::kernels::blocks::{Blocks, Core};
use crate::kernels::matmul::{Form, Rows, Weights};
use crate::kernels::outputs::Run;

core::arch::global_asm!(include_str!("v6m.S"), options(raw));
core::arch::global_asm!(include_str!("v6m_outputs.S"), options(raw));

unsafe extern "C" {
    fn palmtop_v6m_gemv(
        w: *const i8,
        x: *const i8,
        sums: *mut i32,
        cols: usize,
        blocks: usize,
        start: i32,
    );
    fn palmtop_v6m_sum(x: *const i8, cols: usize) -> i32;
    fn palmtop_v6m_rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize);
    fn palmtop_v6m_near(
        w: *const i8,
        near: *mut u32,
        cols: usize,
        row: usize,
        col: usize,
        flip: i32,
    );
    fn palmtop_v6m_gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        cols: usize,
        pitch: usize,
        tokens: usize,
    );
    fn palmtop_v6m_put(run: &Run) -> usize;
}

/// Its kernels.
struct V6m;

impl Core for V6m {
    const LAYOUT: Layout = Layout::Bytes4;
    const NEAR_BYTES: usize = 4;
    const FORM: Form = Form::Biased;

    #[inline]
    unsafe fn gemv(w: *const i8, x: *const i8, sums: *mut i32, cols: usize, blocks: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            // Weights are 128 more.
            let more = palmtop_v6m_sum(x, cols).wrapping_mul(128);
            palmtop_v6m_gemv(w, x, sums, cols, blocks, more.wrapping_neg());
        }
    }

    #[inline]
    unsafe fn rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { palmtop_v6m_rows_gemv(w, x, sums, stride) }
    }

    #[inline]
    unsafe fn near(w: *const i8, near: *mut u32, cols: usize, (row, col): (usize, usize)) {
        // Rows in order are signed bytes; those of this core's layout are 128 more.
        let flip = if col == 1 { 0 } else { -128 };
        // SAFETY: as the caller promises.
        unsafe { palmtop_v6m_near(w, near, cols, row, col, flip) }
    }

    #[inline]
    unsafe fn gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        cols: usize,
        pitch: usize,
        tokens: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe { palmtop_v6m_gemm(near, x, sums, cols, pitch, tokens) }
    }
}

/// A processor on which the cost of a call counts.
pub const IS_SMALL: bool = true;

/// The layout that is read fastest.
pub const LAYOUT: Layout = V6m::LAYOUT;

/// The form of the activations that meet weights of this layout.
pub const fn form(layout: Layout) -> Form {
    Blocks::<V6m>::form(layout)
}

/// [`dots`](crate::kernels::matmul::dots), as far as there are kernels: of how many rows.
pub fn dots(
    weights: &Weights<'_>,
    rows: (usize, usize),
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) -> usize {
    Blocks::<V6m>::dots(weights, rows, x, tokens, sums)
}

/// Whether biases and outputs may lie apart.
pub const APART: bool = false;

/// Makes outputs from the first one on: how many.
///
/// # Safety
/// What `run` says is there, as many times as it says; steps are those of a value.
#[inline]
pub unsafe fn outputs(run: &Run) -> usize {
    // SAFETY: as the caller promises.
    unsafe { palmtop_v6m_put(run) }
}
