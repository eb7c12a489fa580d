//! Products of int8 matrices with quantized rows, from weights to finished outputs.

use super::super::Layout;
use super::super::host::Level;
use super::super::matmul::Form;
use super::super::product::{Gated, Int8, Op, Output, Quantized};
use super::isa::Isa;
use super::tile::{BLOCK, Sums, Tile, row_sums, total};
use super::{pack, scratch};
use core::ops::Range;

/// Tokens that meet a panel of weights before the next panel.
const BATCH: usize = 256;

/// Tokens from which on it pays to pack rows that lie one after another.
const PACK_FROM: usize = 4;

/// A product whose operands were checked: parts of it, by rows and tokens, may run in any order and on
/// any thread.
pub(crate) struct Product<'a> {
    matrix: Int8<'a>,
    x: Quantized<'a>,
    gated: Option<Gated<'a>>,
    op: Op,
    out: *mut f32,
    stride: usize,
    range: Range<usize>,
    tokens: usize,
}

// SAFETY: `out` is written by `run` alone, whose callers keep threads to different parts.
unsafe impl Sync for Product<'_> {}

impl<'a> Product<'a> {
    /// Rows `range` (which begins at a multiple of 16) of `matrix` with `tokens` rows of `x`. `None`
    /// where the kernels of this machine do not apply: layouts of other targets, operands of the wrong
    /// size.
    pub fn new(
        matrix: &Int8<'a>,
        range: Range<usize>,
        x: &Quantized<'a>,
        tokens: usize,
        output: &'a mut Output<'_>,
    ) -> Option<Self> {
        let stride = matrix.weights.stride();
        let whole = range.end.next_multiple_of(matrix.weights.layout().block());
        let has_bias = !matrix.bias.is_empty();
        let fits = matches!(matrix.weights.layout(), Layout::Rows | Layout::Words16)
            && x.rows.form == Form::Bytes
            && stride.is_multiple_of(16)
            && range.start.is_multiple_of(BLOCK)
            && range.start < range.end
            && tokens > 0
            && matrix.weights.values().len() >= whole.checked_mul(stride)?
            && matrix.scales.len() >= range.end
            && matrix.sums.len() >= range.end
            && (!has_bias || matrix.bias.len() >= range.end)
            && x.rows.bytes.len() >= x.rows.pitch.checked_mul(tokens - 1)?.checked_add(stride)?
            && x.scales.len() >= tokens
            && x.zeros.len() >= tokens;
        let room = |token: usize| {
            let start = token.checked_mul(output.stride);
            let end = start.and_then(|start| start.checked_add(range.end));
            end.is_some_and(|end| end <= output.rows.len())
        };
        let has_room = match &output.gated {
            Some(gated) => (0..tokens).all(|token| room(gated.of(token).0)),
            None => room(tokens - 1),
        };
        (fits && has_room).then_some(Self {
            matrix: *matrix,
            x: *x,
            gated: output.gated,
            op: output.op,
            out: output.rows.as_mut_ptr(),
            stride: output.stride,
            range,
            tokens,
        })
    }

    /// Computes all of it.
    pub fn run_all(&self, level: Level) {
        // SAFETY: nothing else runs.
        unsafe { self.run(level, self.range.clone(), 0..self.tokens) }
    }

    /// Computes some rows (from a multiple of 16 on) with some tokens.
    ///
    /// # Safety
    /// No other thread computes any of these rows with any of these tokens meanwhile.
    pub unsafe fn run(&self, level: Level, rows: Range<usize>, tokens: Range<usize>) {
        let rows = rows.start.max(self.range.start)..rows.end.min(self.range.end);
        let tokens = tokens.start..tokens.end.min(self.tokens);
        let mut first = tokens.start;
        while first < tokens.end && rows.start < rows.end {
            let batch = first..tokens.end.min(first + BATCH);
            // SAFETY: `new` checked the sizes, the ranges are within them, and the level is one that
            // this machine has.
            unsafe { batch_of(level, self, rows.clone(), batch) };
            first += BATCH;
        }
    }
}

levels! {
    unsafe fn batch_of(product: &Product<'_>, rows: Range<usize>, tokens: Range<usize>) = batch
}

/// Some rows with at most [`BATCH`] tokens.
#[inline(always)]
unsafe fn batch<I: Isa>(p: &Product<'_>, rows: Range<usize>, tokens: Range<usize>) {
    // SAFETY: see `Product::run`.
    unsafe {
        let stride = p.matrix.weights.stride();
        let w: *const u8 = p.matrix.weights.values().as_ptr().cast();
        let x: *const u8 = p.x.rows.bytes.as_ptr().cast();
        let pitch = p.x.rows.pitch;
        // Weights are taken as bytes plus 128, which adds 128 · Σq to every sum.
        let mut shifts = [0i32; BATCH];
        for (token, shift) in tokens.clone().zip(&mut shifts) {
            *shift = total::<I>(x.add(token * pitch), stride) << 7;
        }
        let mut sums = Sums::ZERO;
        let plain = p.matrix.weights.layout() == Layout::Rows;
        if plain && tokens.len() < PACK_FROM {
            let mut row = rows.start;
            while row < rows.end {
                let count = BLOCK.min(rows.end - row);
                for (token, shift) in tokens.clone().zip(&shifts) {
                    let (w, x) = (w.add(row * stride), x.add(token * pitch));
                    row_sums::<I>(w, stride, count, x, sums.0.as_mut_ptr());
                    finish(p, row, count, token, *shift, sums.0.as_ptr());
                }
                row += BLOCK;
            }
            return;
        }
        let mut panel = match plain {
            true => Some(scratch::take(I::BLOCKS * BLOCK * stride)),
            false => None,
        };
        let panel = panel.as_mut().map(scratch::Scratch::start);
        let mut row = rows.start;
        while row < rows.end {
            let blocks = match rows.end - row > (I::BLOCKS - 1) * BLOCK {
                true => I::BLOCKS,
                false => 1,
            };
            let from = w.add(row * stride);
            let from = match panel {
                Some(panel) => {
                    for block in 0..blocks {
                        let inside = block * BLOCK * stride;
                        let count = BLOCK.min(rows.end - row - block * BLOCK);
                        let to = panel.add(inside);
                        pack::block(from.add(inside), stride, stride, count, to);
                    }
                    panel.cast_const()
                }
                None => from,
            };
            let mut token = tokens.start;
            while token < tokens.end {
                let count = I::TOKENS.min(tokens.end - token);
                let tile = Tile {
                    w: from,
                    block_pitch: BLOCK * stride,
                    x: x.add(token * pitch).cast(),
                    pitch,
                    groups: stride / 4,
                    out: sums.0.as_mut_ptr(),
                };
                I::tile::<false>(blocks, count, &tile);
                for t in 0..count {
                    let shift = *shifts.as_ptr().add(token + t - tokens.start);
                    for block in 0..blocks {
                        let row = row + block * BLOCK;
                        let count = BLOCK.min(rows.end - row);
                        let sums = sums.0.as_ptr().add((t * blocks + block) * BLOCK);
                        finish(p, row, count, token + t, shift, sums);
                    }
                }
                token += count;
            }
            row += blocks * BLOCK;
        }
    }
}

/// What the rows of a block have.
#[derive(Clone, Copy)]
struct OfRows {
    sums: [i32; BLOCK],
    scales: [f32; BLOCK],
    bias: Option<[f32; BLOCK]>,
}

/// `count` values from `from`, and zeros.
#[inline(always)]
unsafe fn padded<T: Copy + Default>(from: *const T, count: usize) -> [T; BLOCK] {
    // SAFETY: the caller's.
    unsafe {
        if count == BLOCK {
            return from.cast::<[T; BLOCK]>().read_unaligned();
        }
        let mut values = [T::default(); BLOCK];
        for (index, value) in values.iter_mut().enumerate().take(count) {
            *value = *from.add(index);
        }
        values
    }
}

/// Turns the sums of `count` rows with a token into outputs, each operation rounded as the contract
/// says.
#[inline(always)]
unsafe fn finish(
    p: &Product<'_>,
    row: usize,
    count: usize,
    token: usize,
    shift: i32,
    sums: *const i32,
) {
    // SAFETY: `Product::new` checked that all of these have the rows and the token.
    unsafe {
        let of_rows = OfRows {
            sums: padded(p.matrix.sums.as_ptr().add(row), count),
            scales: padded(p.matrix.scales.as_ptr().add(row), count),
            bias: match p.matrix.bias.is_empty() {
                true => None,
                false => Some(padded(p.matrix.bias.as_ptr().add(row), count)),
            },
        };
        let zero = *p.x.zeros.as_ptr().add(token);
        let scale = *p.x.scales.as_ptr().add(token);
        let sums = &*sums.cast::<[i32; BLOCK]>();
        let mut y = outputs(&of_rows, sums, (shift, zero, scale));
        let mut target = token;
        if let Some(gated) = &p.gated {
            if let Some(factor) = gated.factor {
                for y in &mut y {
                    *y *= factor;
                }
            }
            let gate;
            (target, gate) = gated.of(token);
            for y in &mut y {
                *y *= gate;
            }
        }
        let out = p.out.add(target * p.stride + row);
        if count == BLOCK {
            let out = &mut *out.cast::<[f32; BLOCK]>();
            match p.op {
                Op::Store => *out = y,
                Op::Multiply => {
                    for (out, y) in out.iter_mut().zip(y) {
                        *out *= y;
                    }
                }
                Op::Add => {
                    for (out, y) in out.iter_mut().zip(y) {
                        *out += y;
                    }
                }
            }
            return;
        }
        for (index, y) in y.iter().enumerate().take(count) {
            let out = &mut *out.add(index);
            *out = match p.op {
                Op::Store => *y,
                Op::Multiply => *out * y,
                Op::Add => *out + y,
            };
        }
    }
}

/// y = f32(Σ q·w − zero·Σ w) · (x.scale · w.scale), + b.
#[inline(always)]
fn outputs(
    of_rows: &OfRows,
    sums: &[i32; BLOCK],
    (shift, zero, scale): (i32, i32, f32),
) -> [f32; BLOCK] {
    let mut y = [0.0f32; BLOCK];
    let rows = of_rows.sums.iter().zip(&of_rows.scales);
    for ((y, sum), (row_sum, row_scale)) in y.iter_mut().zip(sums).zip(rows) {
        let exact = sum
            .wrapping_sub(shift)
            .wrapping_sub(zero.wrapping_mul(*row_sum));
        *y = exact as f32 * (scale * row_scale);
    }
    if let Some(bias) = &of_rows.bias {
        for (y, b) in y.iter_mut().zip(bias) {
            *y += b;
        }
    }
    y
}
