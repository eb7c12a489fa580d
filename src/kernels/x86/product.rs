//! Products of int8 matrices with quantized rows, from weights to finished outputs.

use super::super::Layout;
use super::super::host::Level;
use super::super::matmul::Form;
#[cfg(feature = "threads")]
use super::super::pool;
use super::super::product::{Gated, Int8, Op, Output, Quantized};
use super::isa::Isa;
use super::tile::{BLOCK, MOST_BLOCKS, STARTED, Sums, Tile, row_sums, tokens_of, total};
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
    rectify: bool,
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
        let last = tokens.checked_sub(1)?;
        let whole = range.end.next_multiple_of(matrix.weights.layout().block());
        let has_bias = !matrix.bias.is_empty();
        let fits = matches!(matrix.weights.layout(), Layout::Rows | Layout::Words16)
            && x.rows.form == Form::Bytes
            && stride.is_multiple_of(16)
            && range.start.is_multiple_of(BLOCK)
            && range.start < range.end
            && matrix.weights.values().len() >= whole.checked_mul(stride)?
            && matrix.scales.len() >= range.end
            && matrix.sums.len() >= range.end
            && (!has_bias || matrix.bias.len() >= range.end)
            && x.rows.bytes.len() >= x.rows.pitch.checked_mul(last)?.checked_add(stride)?
            && x.scales.len() >= tokens
            && x.zeros.len() >= tokens;
        let room = |token: usize| {
            let start = token.checked_mul(output.stride);
            let end = start.and_then(|start| start.checked_add(range.end));
            end.is_some_and(|end| end <= output.rows.len())
        };
        let has_room = match &output.gated {
            Some(gated) => (0..tokens).all(|token| room(gated.of(token).0)),
            None => room(last),
        };
        (fits && has_room).then_some(Self {
            matrix: *matrix,
            x: *x,
            gated: output.gated,
            op: output.op,
            rectify: false,
            out: output.rows.as_mut_ptr(),
            stride: output.stride,
            range,
            tokens,
        })
    }

    /// The same with max(0, y) in place of each output y, before it is gated or joined with what was there.
    pub fn rectified(self) -> Self {
        let rectify = true;
        Self { rectify, ..self }
    }

    /// Computes all of it, on as many threads as there are and as it is worth.
    pub fn run_all(&self, level: Level) {
        #[cfg(feature = "threads")]
        {
            /// Rows that parts begin at a multiple of: those of the greatest tile.
            const UNIT: usize = MOST_BLOCKS * BLOCK;
            let stride = self.matrix.weights.stride();
            let units = self.range.len().div_ceil(UNIT);
            let (parts, size) = pool::cut(units, UNIT * stride * self.tokens);
            pool::run(parts, &|part| {
                let start = self.range.start + part * size * UNIT;
                // SAFETY: parts have different rows.
                unsafe { self.run(level, start..start + size * UNIT, 0..self.tokens) }
            });
        }
        #[cfg(not(feature = "threads"))]
        // SAFETY: nothing else runs.
        unsafe {
            self.run(level, self.range.clone(), 0..self.tokens);
        }
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
        // Weights are taken as bytes plus 128, which adds 128 · Σq to every sum. From each sum
        // zero · Σw is taken away too, in two parts: see `OfRows`.
        let mut starts = [0i32; BATCH];
        let mut factors = [0i32; BATCH];
        let zeros = p.x.zeros.as_ptr().add(tokens.start);
        for (index, (start, factor)) in starts.iter_mut().zip(&mut factors).enumerate() {
            if index >= tokens.len() {
                break;
            }
            let x = x.add((tokens.start + index) * pitch);
            *start = (total::<I>(x, stride) << 7).wrapping_neg();
            *factor = two_parts(zeros.add(index).read().wrapping_neg());
        }
        let mut sums = Sums::ZERO;
        let plain = p.matrix.weights.layout() == Layout::Rows;
        if plain && tokens.len() < PACK_FROM {
            let mut row = rows.start;
            while row < rows.end {
                let count = BLOCK.min(rows.end - row);
                let of_rows = OfRows::new(p, row, row + count);
                for (token, start) in tokens.clone().zip(&starts) {
                    let (w, x) = (w.add(row * stride), x.add(token * pitch));
                    row_sums::<I, true>(w, stride, stride, count, x, sums.0.as_mut_ptr());
                    let raw = Some(*start);
                    finish::<I>(p, &of_rows, (row, 1), token, raw, sums.0.as_ptr());
                }
                row += BLOCK;
            }
            return;
        }
        let most = match tokens.len() {
            1 => I::BLOCKS_ALONE,
            _ => I::BLOCKS,
        };
        let mut panel = match plain {
            true => Some(scratch::take(most * BLOCK * stride)),
            false => None,
        };
        let panel = panel.as_mut().map(scratch::Scratch::start);
        let mut row = rows.start;
        while row < rows.end {
            let blocks = match rows.end - row > (most - 1) * BLOCK {
                true => most,
                false => 1,
            };
            let end = rows.end.min(row + blocks * BLOCK);
            let of_rows = OfRows::new(p, row, end);
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
            // The next panel comes into the cache while this one is in use: a block with each of the
            // first tiles, then what is there already.
            let next = w.wrapping_add((row + blocks * BLOCK) * stride);
            let mut fetched = 0;
            let mut token = tokens.start;
            while token < tokens.end {
                let count = tokens_of(tokens.end - token, I::TOKENS);
                let index = token - tokens.start;
                let tile = Tile {
                    w: from,
                    block_pitch: BLOCK * stride,
                    x: x.add(token * pitch).cast(),
                    pitch,
                    groups: stride / 4,
                    out: sums.0.as_mut_ptr(),
                    starts: starts.as_ptr().add(index),
                    factors: factors.as_ptr().add(index),
                    of_rows: of_rows.parts.as_ptr(),
                    ahead: match fetched < most {
                        true => next.wrapping_add(fetched * BLOCK * stride),
                        false => from,
                    },
                    ..Tile::new(from)
                };
                I::tile::<STARTED>(blocks, count, &tile);
                fetched += 1;
                let tile = (token, count, sums.0.as_ptr());
                if finish_tile::<I>(p, &of_rows, (row, blocks), tile) {
                    token += count;
                    continue;
                }
                for t in 0..count {
                    let sums = sums.0.as_ptr().add(t * blocks * BLOCK);
                    let raw = of_rows.is_wide.then_some(0);
                    finish::<I>(p, &of_rows, (row, blocks), token + t, raw, sums);
                }
                token += count;
            }
            row += blocks * BLOCK;
        }
    }
}

/// What the rows of a panel have, filled up with zeros.
#[repr(C, align(64))]
struct OfRows {
    sums: [i32; MOST_BLOCKS * BLOCK],
    /// Each sum as two 16-bit numbers, low + 256 · high, so that one instruction multiplies both.
    parts: [i32; MOST_BLOCKS * BLOCK],
    /// Some sum has more than 24 bits, which no sum of 65536 weights has: no parts then.
    is_wide: bool,
    scales: [f32; MOST_BLOCKS * BLOCK],
    bias: [f32; MOST_BLOCKS * BLOCK],
    /// Rows that there are.
    count: usize,
}

impl OfRows {
    /// Those of the rows from `row` on.
    #[inline(always)]
    fn new(p: &Product<'_>, row: usize, end: usize) -> Self {
        let count = (end - row).min(MOST_BLOCKS * BLOCK);
        let mut of_rows = Self {
            sums: [0; MOST_BLOCKS * BLOCK],
            parts: [0; MOST_BLOCKS * BLOCK],
            is_wide: false,
            scales: [0.0; MOST_BLOCKS * BLOCK],
            bias: [0.0; MOST_BLOCKS * BLOCK],
            count,
        };
        copy(&mut of_rows.sums, p.matrix.sums, row, count);
        copy(&mut of_rows.scales, p.matrix.scales, row, count);
        copy(&mut of_rows.bias, p.matrix.bias, row, count);
        let mut wide = 0;
        for (parts, sum) in of_rows.parts.iter_mut().zip(of_rows.sums) {
            wide |= sum.wrapping_add(1 << 23) >> 24;
            *parts = (sum & 0xFF) | ((sum >> 8) << 16);
        }
        of_rows.is_wide = wide != 0;
        if of_rows.is_wide {
            of_rows.parts = [0; MOST_BLOCKS * BLOCK];
        }
        of_rows
    }
}

/// A factor of [`OfRows::parts`]: x for the low number, 256 · x for the high one.
#[inline(always)]
fn two_parts(x: i32) -> i32 {
    (x & 0xFFFF) | (x << 24)
}

/// Copies `count` values from `row` on, as far as there are any.
#[inline(always)]
fn copy<T: Copy>(to: &mut [T], from: &[T], row: usize, count: usize) {
    for (to, from) in to.iter_mut().zip(from.iter().skip(row).take(count)) {
        *to = *from;
    }
}

/// [`finish`] of a whole tile in the usual cases, in which nothing is asked again for each vector; says
/// whether it did it. The tile: its first token, how many there are, and its sums.
#[inline(always)]
unsafe fn finish_tile<I: Isa>(
    p: &Product<'_>,
    of_rows: &OfRows,
    at: (usize, usize),
    tile: (usize, usize, *const i32),
) -> bool {
    let (_, blocks) = at;
    let is_whole = of_rows.count == blocks * BLOCK && !of_rows.is_wide;
    if !is_whole || p.gated.is_some() || !p.matrix.bias.is_empty() {
        return false;
    }
    // SAFETY: as in `finish`; `out` is where the output lies.
    unsafe {
        match (p.op, p.rectify) {
            (Op::Store, false) => each_output::<I>(p, of_rows, at, tile, |y, _| y),
            (Op::Store, true) => {
                // As in `finish`.
                each_output::<I>(p, of_rows, at, tile, |y, _| I::max(I::splat(0.0), y));
            }
            (Op::Add, false) => {
                each_output::<I>(p, of_rows, at, tile, |y, out| I::add(I::load(out), y));
            }
            _ => return false,
        }
    }
    true
}

/// Stores what `join` makes of each output and of the place where it goes.
#[inline(always)]
unsafe fn each_output<I: Isa>(
    p: &Product<'_>,
    of_rows: &OfRows,
    (row, blocks): (usize, usize),
    (token, count, sums): (usize, usize, *const i32),
    join: impl Fn(I::F, *const f32) -> I::F,
) {
    // SAFETY: as in `finish`.
    unsafe {
        let mut sums = sums;
        for token in token..token + count {
            let scale = I::splat(*p.x.scales.as_ptr().add(token));
            let mut out = p.out.add(token * p.stride + row);
            let mut scales = of_rows.scales.as_ptr();
            for _ in 0..blocks {
                let y = I::convert(I::load_i32(sums));
                let y = I::mul(y, I::mul(scale, I::load(scales)));
                I::store(out, join(y, out));
                sums = sums.add(BLOCK);
                scales = scales.add(BLOCK);
                out = out.add(BLOCK);
            }
        }
    }
}

/// Turns the sums of `blocks` blocks of rows with a token into outputs, each operation rounded as the
/// contract says: y = f32(Σ q·w − zero·Σ w) · (x.scale · w.scale), + b. Sums may be `raw`: without
/// −zero·Σ w, and what is left to be added to them.
#[inline(always)]
unsafe fn finish<I: Isa>(
    p: &Product<'_>,
    of_rows: &OfRows,
    (row, blocks): (usize, usize),
    token: usize,
    raw: Option<i32>,
    sums: *const i32,
) {
    // SAFETY: `Product::new` checked that all of these have the rows and the token.
    unsafe {
        let zero = I::splat_i32(*p.x.zeros.as_ptr().add(token));
        let scale = I::splat(*p.x.scales.as_ptr().add(token));
        let (mut target, mut by) = (token, None);
        if let Some(gated) = &p.gated {
            let gate;
            (target, gate) = gated.of(token);
            by = Some((gated.factor.map(|factor| I::splat(factor)), I::splat(gate)));
        }
        let out = p.out.add(target * p.stride + row);
        let has_bias = !p.matrix.bias.is_empty();
        let mut at = 0;
        while at < blocks * BLOCK {
            let mut exact = I::load_i32(sums.add(at));
            if let Some(start) = raw {
                let row_sums = I::load_i32(of_rows.sums.as_ptr().add(at));
                exact = I::add_i32(exact, I::splat_i32(start));
                exact = I::sub_i32(exact, I::mul_i32(zero, row_sums));
            }
            let scales = I::mul(scale, I::load(of_rows.scales.as_ptr().add(at)));
            let mut y = I::mul(I::convert(exact), scales);
            if has_bias {
                y = I::add(y, I::load(of_rows.bias.as_ptr().add(at)));
            }
            if p.rectify {
                // The second one where they are equal or one is NaN: −0 and NaN stay.
                y = I::max(I::splat(0.0), y);
            }
            if let Some((factor, gate)) = by {
                if let Some(factor) = factor {
                    y = I::mul(y, factor);
                }
                y = I::mul(y, gate);
            }
            let out = out.add(at);
            let rest = of_rows.count - at;
            if rest >= BLOCK {
                match p.op {
                    Op::Store => {}
                    Op::Multiply => y = I::mul(I::load(out), y),
                    Op::Add => y = I::add(I::load(out), y),
                }
                I::store(out, y);
            } else {
                let mut values = [0.0f32; BLOCK];
                I::store(values.as_mut_ptr(), y);
                for (index, y) in values.iter().enumerate().take(rest) {
                    let out = &mut *out.add(index);
                    *out = match p.op {
                        Op::Store => *y,
                        Op::Multiply => *out * y,
                        Op::Add => *out + y,
                    };
                }
            }
            at += BLOCK;
        }
    }
}
