//! 32-bit RISC-V with multiplication.
#![allow(unsafe_code)]

use crate::kernels::Layout;
use crate::kernels::blocks::{Blocks, Core};
use crate::kernels::matmul::{Form, Rows, Weights};
#[cfg(outputs)]
use crate::kernels::outputs::Run;

core::arch::global_asm!(include_str!("rv32.S"), options(raw));
#[cfg(outputs)]
core::arch::global_asm!(include_str!("rv32_outputs.S"), options(raw));

unsafe extern "C" {
    fn palmtop_rv32_gemv(w: *const i8, x: *const i8, sums: *mut i32, cols: usize, blocks: usize);
    fn palmtop_rv32_rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize);
    fn palmtop_rv32_near(w: *const i8, near: *mut u32, cols: usize, row: usize, col: usize);
    fn palmtop_rv32_gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        cols: usize,
        pitch: usize,
        tokens: usize,
    );
    #[cfg(outputs)]
    fn palmtop_rv32_put(run: &Run) -> usize;
}

/// Its kernels.
struct Rv32;

impl Core for Rv32 {
    const LAYOUT: Layout = Layout::Bytes8;
    const NEAR_BYTES: usize = 1;
    const FORM: Form = Form::Bytes;

    #[inline]
    unsafe fn gemv(w: *const i8, x: *const i8, sums: *mut i32, cols: usize, blocks: usize) {
        // SAFETY: as the caller promises.
        unsafe { palmtop_rv32_gemv(w, x, sums, cols, blocks) }
    }

    #[inline]
    unsafe fn rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { palmtop_rv32_rows_gemv(w, x, sums, stride) }
    }

    #[inline]
    unsafe fn near(w: *const i8, near: *mut u32, cols: usize, (row, col): (usize, usize)) {
        // SAFETY: as the caller promises.
        unsafe { palmtop_rv32_near(w, near, cols, row, col) }
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
        unsafe { palmtop_rv32_gemm(near, x, sums, cols, pitch, tokens) }
    }
}

/// A processor on which the cost of a call counts.
pub const IS_SMALL: bool = true;

/// The layout that is read fastest.
pub const LAYOUT: Layout = Rv32::LAYOUT;

/// The form of the activations that meet weights of this layout.
pub const fn form(layout: Layout) -> Form {
    Blocks::<Rv32>::form(layout)
}

/// [`dots`](crate::kernels::matmul::dots), as far as there are kernels: of how many rows.
pub fn dots(
    weights: &Weights<'_>,
    rows: (usize, usize),
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) -> usize {
    Blocks::<Rv32>::dots(weights, rows, x, tokens, sums)
}

/// Whether biases and outputs may lie apart.
#[cfg(outputs)]
pub const APART: bool = true;

/// Makes outputs from the first one on: how many.
///
/// # Safety
/// What `run` says is there, as many times as it says.
#[cfg(outputs)]
#[inline]
pub unsafe fn outputs(run: &Run) -> usize {
    // SAFETY: as the caller promises.
    unsafe { palmtop_rv32_put(run) }
}
