//! Cores with Helium: Cortex-M55, M85.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

use crate::kernels::Layout;
use crate::kernels::call::Call;
use crate::kernels::integer::BATCH;
use crate::kernels::matmul::{Form, Rows, Weights};

// The processor is named here and not for the whole build: compilers that know it would turn loops over
// floats into Helium's instructions, which flush subnormal numbers.
core::arch::global_asm!(".cpu cortex-m55", include_str!("mve.S"), options(raw));

unsafe extern "C" {
    pub(super) fn palmtop_mve_gemv(
        w: *const i8,
        x: *const i8,
        sums: *mut i32,
        stride: usize,
        blocks: usize,
    );
    fn palmtop_mve_near(w: *const i8, near: *mut u8, groups: usize, stride: usize);
    fn palmtop_mve_gemm(
        near: *const u8,
        x: *const i8,
        sums: *mut i32,
        groups: usize,
        pitch: usize,
        tokens: usize,
        first: usize,
    );
    fn palmtop_mve_by_row(from: *const i32, to: *mut i32, tokens: usize);
    fn palmtop_mve_dot(a: *const i8, b: *const i8, count: usize) -> i32;
}

/// A processor on which the cost of a call counts.
pub const IS_SMALL: bool = true;

/// The layout that is read fastest: sixteen bytes of a row are a vector.
pub const LAYOUT: Layout = Layout::Rows;

/// Rows that are taken at once.
pub(super) const BLOCK: usize = 4;

/// Columns of four rows that are copied near at once: a kilobyte of stack.
pub(super) const NEAR: usize = 256;

/// The form of the activations that meet weights of this layout.
pub const fn form(_layout: Layout) -> Form {
    Form::Bytes
}

/// [`dots`](crate::kernels::matmul::dots) of whole blocks of rows in order: of how many rows.
pub fn dots(
    weights: &Weights<'_>,
    (first, rows): (usize, usize),
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) -> usize {
    let taken = match weights.layout() {
        Layout::Rows => rows / BLOCK * BLOCK,
        _ => return 0,
    };
    let x = (x, Form::Bytes);
    let Some(call) = Call::new(weights, (first, taken), BLOCK, x, tokens, sums) else {
        return 0;
    };
    if tokens == 1 {
        // SAFETY: reads `rows` rows of `stride` bytes, all of `weights`, and `stride` bytes of `x`;
        // writes `rows` sums. `Call` has measured the slices.
        unsafe {
            let (w, x, sums) = (
                call.weights.as_ptr(),
                call.x.as_ptr(),
                call.sums.as_mut_ptr(),
            );
            palmtop_mve_gemv(w, x, sums, call.stride, call.rows / BLOCK);
        }
    } else {
        gemm(call);
    }
    taken
}

/// Several tokens: four rows at a time.
#[inline(never)]
fn gemm(call: Call<'_>) {
    let mut dots = [0; BATCH * BLOCK];
    let blocks = call
        .weights
        .chunks_exact(call.stride.wrapping_mul(BLOCK).max(1));
    let sums = call
        .sums
        .chunks_exact_mut(call.tokens.wrapping_mul(BLOCK).max(1));
    for (block, sums) in blocks.zip(sums) {
        // SAFETY: `block` has four rows, `Call` has measured `x`; `dots` and `sums` have four times
        // `tokens` values.
        unsafe {
            gemm_block(block, call.x, (call.pitch, call.tokens), &mut dots);
            palmtop_mve_by_row(dots.as_ptr(), sums.as_mut_ptr(), call.tokens);
        }
    }
}

/// Products of four rows with some tokens: the four of a token lie together. Some columns of the rows
/// at a time are copied near, and meet all tokens.
///
/// # Safety
/// `block` has four rows, each a multiple of 16 bytes; `x` has `tokens` rows of as many bytes, `pitch`
/// bytes apart; there are at most [`BATCH`] tokens.
#[inline(never)]
pub(super) unsafe fn gemm_block(
    block: &[i8],
    x: &[i8],
    (pitch, tokens): (usize, usize),
    dots: &mut [i32; BATCH * BLOCK],
) {
    let mut near = MaybeUninit::<[u8; NEAR * BLOCK]>::uninit();
    let near = near.as_mut_ptr().cast::<u8>();
    let (stride, dots) = (block.len() / BLOCK, dots.as_mut_ptr());
    let mut col = 0usize;
    while col < stride {
        let groups = NEAR.min(stride.wrapping_sub(col)) / 16;
        let first = usize::from(col == 0);
        // SAFETY: `block` has four rows of `stride` bytes, of which columns from `col` on are read,
        // `groups` times sixteen, and as many of each of `tokens` rows of `x`. `near` has room for
        // them and is written before it is read. There are four dots for each of 16 tokens, which is
        // an even number.
        unsafe {
            palmtop_mve_near(block.as_ptr().add(col), near, groups, stride);
            let x = x.as_ptr().add(col);
            palmtop_mve_gemm(near, x, dots, groups, pitch, tokens, first);
        }
        col = col.wrapping_add(NEAR);
    }
}

/// [`integer::dot`](crate::kernels::integer::dot).
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    let count = a.len().min(b.len());
    // SAFETY: reads `count` bytes of each; the last vectors are loaded only as far.
    unsafe { palmtop_mve_dot(a.as_ptr(), b.as_ptr(), count) }
}
