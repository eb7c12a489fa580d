//! Products of int8 matrices on cores that multiply one pair of bytes at a time: which kernel takes
//! which part of a product.

#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::call::Call;
use super::layout::Layout;
use super::matmul::{Form, Rows, Weights};

/// Rows that all kernels for several tokens, and those for rows in order, take at once.
const ROWS: usize = 4;

/// Words of the weights that are copied near at once.
const NEAR: usize = 256;

/// A core's kernels.
pub(super) trait Core {
    /// The layout that is read fastest, in blocks of 4 or 8 rows.
    const LAYOUT: Layout;

    /// Bytes that a near weight takes.
    const NEAR_BYTES: usize;

    /// How activations lie that meet weights of that layout, or rows in order.
    const FORM: Form;

    /// Σ of one row of activations and `blocks` blocks of rows of `cols` columns, a multiple of 16, in
    /// [`Core::LAYOUT`].
    ///
    /// # Safety
    /// `w` has as many bytes, `x` has `cols`, `sums` has room for the blocks' rows.
    unsafe fn gemv(w: *const i8, x: *const i8, sums: *mut i32, cols: usize, blocks: usize);

    /// The same of four rows of `stride` bytes in order.
    ///
    /// # Safety
    /// As [`Core::gemv`].
    unsafe fn rows_gemv(w: *const i8, x: *const i8, sums: *mut i32, stride: usize);

    /// Copies `cols` columns of four rows, where weights are `steps.0` bytes apart from row to row and
    /// `steps.1` from column to column.
    ///
    /// # Safety
    /// These bytes are there; `cols` is a multiple of 16, and `near` has room for four times as many.
    unsafe fn near(w: *const i8, near: *mut u32, cols: usize, steps: (usize, usize));

    /// Adds to `sums`, `tokens` of each of four rows, the products of near weights and rows of
    /// activations `pitch` bytes apart.
    ///
    /// # Safety
    /// The weights have been copied; `x` has `cols` bytes a token; there are four times `tokens` sums.
    unsafe fn gemm(
        near: *const u32,
        x: *const i8,
        sums: *mut i32,
        cols: usize,
        pitch: usize,
        tokens: usize,
    );
}

/// Which part of a product is taken, and by which kernels.
pub(super) struct Blocks<C>(PhantomData<C>);

impl<C: Core> Blocks<C> {
    /// The form of the activations that meet weights of this layout.
    pub const fn form(layout: Layout) -> Form {
        if layout as u8 == C::LAYOUT as u8 || layout as u8 == Layout::Rows as u8 {
            C::FORM
        } else {
            Form::Bytes
        }
    }

    /// [`dots`](super::matmul::dots) of the rows that there are kernels for: how many of `rows` that
    /// were.
    pub fn dots(
        weights: &Weights<'_>,
        (first, rows): (usize, usize),
        x: Rows<'_>,
        tokens: usize,
        sums: &mut [i32],
    ) -> usize {
        let layout = weights.layout();
        let own = layout == C::LAYOUT;
        // A batch's four rows may be half a block; rows in order end where the matrix does.
        let (taken, unit) = match layout {
            Layout::Rows => (rows / ROWS * ROWS, ROWS),
            _ if !own => return 0,
            _ if tokens == 1 => (rows, layout.block()),
            _ => (rows, ROWS),
        };
        let x = (x, C::FORM);
        let Some(call) = Call::new(weights, (first, taken), unit, x, tokens, sums) else {
            return 0;
        };
        if tokens > 1 {
            Self::gemm(call, own, first);
        } else if own {
            // SAFETY: `weights` has `rows` times `stride` bytes in whole blocks, `x` has `stride`,
            // `sums` has room for `rows`; `Call` has measured them.
            unsafe {
                let (w, sums) = (call.weights.as_ptr(), call.sums.as_mut_ptr());
                C::gemv(
                    w,
                    call.x.as_ptr(),
                    sums,
                    call.stride,
                    call.rows / layout.block(),
                );
            }
        } else {
            let blocks = call
                .weights
                .chunks_exact(call.stride.wrapping_mul(ROWS).max(1));
            for (sums, block) in call.sums.chunks_exact_mut(ROWS).zip(blocks) {
                // SAFETY: `block` has four rows of `stride` bytes, `x` has `stride`; four sums.
                unsafe {
                    C::rows_gemv(
                        block.as_ptr(),
                        call.x.as_ptr(),
                        sums.as_mut_ptr(),
                        call.stride,
                    );
                }
            }
        }
        taken
    }

    /// Several tokens: four rows at a time are copied near, some columns of them, and meet all tokens.
    #[inline(never)]
    fn gemm(call: Call<'_>, own: bool, first: usize) {
        let mut near = MaybeUninit::<[u32; NEAR]>::uninit();
        let near = near.as_mut_ptr().cast::<u32>();
        let stride = call.stride;
        let steps = if own {
            (1, C::LAYOUT.block())
        } else {
            (stride, 1)
        };
        call.sums.fill(0);
        let mut left = call.sums;
        let mut row = 0usize;
        // Without a division, which costs time and stack where there is no instruction for it.
        while let Some((sums, rest)) =
            left.split_at_mut_checked(call.tokens.wrapping_mul(ROWS).max(1))
        {
            left = rest;
            let start = if own {
                // `weights` begin with the block that holds `first`.
                let block = C::LAYOUT.block();
                let row = row.wrapping_add(first % block);
                (row / block)
                    .wrapping_mul(block)
                    .wrapping_mul(stride)
                    .wrapping_add(row % block)
            } else {
                row.wrapping_mul(stride)
            };
            row = row.wrapping_add(ROWS);
            let most = NEAR * 4 / ROWS / C::NEAR_BYTES;
            let mut col = 0usize;
            while col < stride {
                let cols = most.min(stride.wrapping_sub(col));
                let at = start.wrapping_add(col.wrapping_mul(steps.1));
                // SAFETY: `start` is the first weight of four rows that `weights` has, and `col` and
                // `cols` stay within them and within each of `tokens` rows of `x`.
                unsafe {
                    C::near(call.weights.as_ptr().add(at), near, cols, steps);
                    let x = call.x.as_ptr().add(col);
                    C::gemm(near, x, sums.as_mut_ptr(), cols, call.pitch, call.tokens);
                }
                col = col.wrapping_add(most);
            }
        }
    }
}
