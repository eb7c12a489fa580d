//! Cores with the DSP extension: Cortex-M4, M7, M33.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

use crate::kernels::Layout;
use crate::kernels::call::Call;
use crate::kernels::matmul::{Form, Rows, Weights};

#[cfg(not(armv8m))]
core::arch::global_asm!(include_str!("dsp.S"), options(raw));
// The extension is no part of Armv8-M's main line.
#[cfg(armv8m)]
core::arch::global_asm!(".cpu cortex-m33", include_str!("dsp.S"), options(raw));

unsafe extern "C" {
    fn palmtop_dsp_lanes_gemv(
        w: *const i8,
        x: *const i8,
        sums: *mut i32,
        groups: usize,
        blocks: usize,
    );
    fn palmtop_dsp_lanes_near(w: *const i8, near: *mut u32, quads: usize);
    fn palmtop_dsp_rows_near(w: *const i8, near: *mut u32, quads: usize, stride: usize);
    fn palmtop_dsp_lanes_gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        groups: usize,
        pitch: usize,
        tokens: usize,
    );
    fn palmtop_dsp_rows_gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        groups: usize,
        pitch: usize,
        tokens: usize,
    );
    fn palmtop_dsp_rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize);
    fn palmtop_dsp_dot(a: *const i8, b: *const i8, count: usize) -> i32;
    fn palmtop_dsp_unpack4(packed: *const u8, near: *mut i8) -> i32;
    fn palmtop_dsp_prepare(values: *const i8, lanes: *mut i8, quads: usize);
}

/// A processor on which the cost of a call counts.
pub const IS_SMALL: bool = true;

/// The layout that is read fastest.
pub const LAYOUT: Layout = Layout::Lanes4;

/// Rows of a block.
const BLOCK: usize = 4;

/// Columns of two rows that are copied near at once; twice two bytes each.
const NEAR: usize = 256;

/// The form of the activations that meet weights of this layout.
pub const fn form(layout: Layout) -> Form {
    match layout {
        Layout::Lanes4 => Form::Lanes,
        _ => Form::Bytes,
    }
}

/// [`dots`](crate::kernels::matmul::dots) of the rows that there are kernels for: how many of `rows`
/// that were.
pub fn dots(
    weights: &Weights<'_>,
    (first, rows): (usize, usize),
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) -> usize {
    let (lanes, taken) = match weights.layout() {
        Layout::Lanes4 => (true, rows),
        // Rows in order end where the matrix does.
        Layout::Rows => (false, rows / BLOCK * BLOCK),
        _ => return 0,
    };
    let x = (x, form(weights.layout()));
    let Some(call) = Call::new(weights, (first, taken), BLOCK, x, tokens, sums) else {
        return 0;
    };
    match (lanes, tokens) {
        (true, 1) => {
            // SAFETY: reads the whole of `weights`, `rows` times `stride` bytes, and `stride` pairs
            // of bytes of `x`; writes `rows` sums. `Call` has measured the slices.
            unsafe {
                palmtop_dsp_lanes_gemv(
                    call.weights.as_ptr(),
                    call.x.as_ptr(),
                    call.sums.as_mut_ptr(),
                    call.stride / 16,
                    call.rows / BLOCK,
                );
            }
        }
        (false, 1) => rows_gemv(call),
        (lanes, _) => gemm(call, lanes),
    }
    taken
}

/// Rows in order.
#[inline(never)]
fn rows_gemv(call: Call<'_>) {
    let blocks = call
        .weights
        .chunks_exact(BLOCK.wrapping_mul(call.stride).max(1));
    for (sums, block) in call.sums.chunks_exact_mut(BLOCK).zip(blocks) {
        // SAFETY: reads `block`, four rows of `stride` bytes, and `stride` bytes of `x`; writes four
        // sums.
        unsafe {
            palmtop_dsp_rows_gemv(
                block.as_ptr(),
                call.x.as_ptr(),
                sums.as_mut_ptr(),
                call.stride,
            );
        }
    }
}

/// Several tokens: two rows at a time are copied near, some columns of them, and meet all tokens.
#[inline(never)]
fn gemm(call: Call<'_>, lanes: bool) {
    let mut near = MaybeUninit::<[u32; NEAR]>::uninit();
    let near = near.as_mut_ptr().cast::<u32>();
    let stride = call.stride;
    call.sums.fill(0);
    let pairs = call
        .sums
        .chunks_exact_mut(call.tokens.wrapping_mul(2).max(1));
    for (pair, sums) in pairs.enumerate() {
        let mut col = 0usize;
        while col < stride {
            let columns = NEAR.min(stride.wrapping_sub(col));
            let sums = sums.as_mut_ptr();
            let (quads, groups) = (columns / 4, columns / 16);
            // SAFETY: `pair` counts the pairs of rows, so that two rows from row 2·pair on, and in
            // lanes the block of four rows that they are half of, are in `weights`; `col` and
            // `columns` stay within a row of weights and of each of `tokens` rows of `x`. `near` has
            // room for `NEAR` columns, a word each, and what is read of it was written before. Two
            // times `tokens` sums are written.
            unsafe {
                let x = call.x.as_ptr();
                if lanes {
                    let at = (pair / 2)
                        .wrapping_mul(BLOCK)
                        .wrapping_mul(stride)
                        .wrapping_add(col.wrapping_mul(BLOCK))
                        .wrapping_add(pair % 2 * 8);
                    palmtop_dsp_lanes_near(call.weights.as_ptr().add(at), near, quads);
                    let x = x.add(col.wrapping_mul(2));
                    palmtop_dsp_lanes_gemm(near, x, sums, groups, call.pitch, call.tokens);
                } else {
                    let at = pair.wrapping_mul(2).wrapping_mul(stride).wrapping_add(col);
                    palmtop_dsp_rows_near(call.weights.as_ptr().add(at), near, quads, stride);
                    let x = x.add(col);
                    palmtop_dsp_rows_gemm(near, x, sums, groups, call.pitch, call.tokens);
                }
            }
            col = col.wrapping_add(NEAR);
        }
    }
}

/// [`lanes::prepare`](crate::kernels::lanes::prepare); whether it was done.
pub fn prepare(row: &mut [i8]) -> bool {
    let quads = row.len() / 8;
    if quads == 0 || row.len() % 8 != 0 || row.as_ptr().addr() % 4 != 0 {
        return false;
    }
    let lanes = row.as_mut_ptr();
    // SAFETY: reads `quads` times four bytes from the middle of `row` on and writes as many times
    // eight from its start on. The four bytes that are read next are never overwritten before.
    unsafe { palmtop_dsp_prepare(lanes.add(quads.wrapping_mul(4)), lanes, quads) };
    true
}

/// [`integer::dot`](crate::kernels::integer::dot).
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    let count = a.len().min(b.len());
    // SAFETY: reads `count` bytes of each, words wherever they begin: these cores take any address.
    unsafe { palmtop_dsp_dot(a.as_ptr(), b.as_ptr(), count) }
}

/// The weights of a group, and their sum: [`int4::unpack`](crate::kernels::int4::unpack).
pub fn unpack4(packed: &[u8; 16]) -> ([i8; 32], i32) {
    let mut near = [0; 32];
    // SAFETY: reads 16 bytes, words wherever they begin, and writes 32.
    let total = unsafe { palmtop_dsp_unpack4(packed.as_ptr(), near.as_mut_ptr()) };
    (near, total)
}
