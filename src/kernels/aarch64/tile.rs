//! A few rows of weights with a few tokens, all sums in registers.

use super::isa::{Isa, product};
use core::arch::aarch64::*;

/// Rows of a block of packed weights.
pub(super) const BLOCK: usize = 16;

/// Rows whose words fill a vector.
pub(super) const QUAD: usize = 4;

/// What is to be multiplied.
///
/// `tokens` (1 … 16) rows of `stride` bytes (a multiple of 16) can be read from `x` on, `pitch` bytes
/// apart, and `rows · tokens` sums be written. Of packed weights (`group_pitch` 64: bytes between
/// groups of four columns), `w` is the first quad's first word, and the blocks of all quads can be read
/// to their ends; otherwise (`group_pitch` 0) `rows` rows of `stride` bytes can be read from `w` on.
pub(super) struct Tile {
    pub w: *const i8,
    pub group_pitch: usize,
    pub stride: usize,
    pub rows: usize,
    pub x: *const i8,
    pub pitch: usize,
    pub tokens: usize,
    pub sums: *mut i32,
}

impl Tile {
    /// All sums by dot products.
    ///
    /// # Safety
    /// The fields are as [`Tile`] says, and the machine has `I`.
    #[inline(always)]
    pub unsafe fn dots<I: Isa>(&self) {
        // SAFETY: the caller's; rows and tokens stay below those that there are.
        unsafe {
            let mut row = 0;
            while row < self.rows {
                let mut token = 0;
                while token < self.tokens {
                    let left = self.tokens - token;
                    let two = self.rows - row > QUAD && self.group_pitch > 0;
                    match (two, left) {
                        (true, 4..) => self.dots_of::<I, 2, 4>(row, token),
                        (true, 2..) => self.dots_of::<I, 2, 2>(row, token),
                        (true, _) => self.dots_of::<I, 2, 1>(row, token),
                        (false, 4..) => self.dots_of::<I, 1, 4>(row, token),
                        (false, 2..) => self.dots_of::<I, 1, 2>(row, token),
                        (false, _) => self.dots_of::<I, 1, 1>(row, token),
                    }
                    token += match left {
                        4.. => 4,
                        2.. => 2,
                        _ => 1,
                    };
                }
                row += match self.rows - row > QUAD && self.group_pitch > 0 {
                    true => 2 * QUAD,
                    false => QUAD,
                };
            }
        }
    }

    /// `Q` quads from `row` on with `T` tokens from `token` on; `Q` is 1 unless weights are packed.
    ///
    /// # Safety
    /// As [`Tile::dots`]; the rows and tokens are there, but for rows of the last quad.
    #[inline(always)]
    unsafe fn dots_of<I: Isa, const Q: usize, const T: usize>(&self, row: usize, token: usize) {
        // SAFETY: the caller's.
        unsafe {
            let zero = vdupq_n_s32(0);
            let x: [*const i8; T] = core::array::from_fn(|t| self.x.add((token + t) * self.pitch));
            if self.group_pitch == 0 {
                let w = self.row_starts(row);
                let mut lanes = [[zero; QUAD]; T];
                let mut col = 0;
                while col < self.stride {
                    let w = w.map(|w| vld1q_s8(w.add(col)));
                    for (lanes, x) in lanes.iter_mut().zip(x) {
                        let x = vld1q_s8(x.add(col));
                        for (lanes, w) in lanes.iter_mut().zip(w) {
                            *lanes = I::dot(*lanes, w, x);
                        }
                    }
                    col += 16;
                }
                for (t, [a, b, c, d]) in lanes.into_iter().enumerate() {
                    let sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
                    self.put(row, token + t, sums);
                }
                return;
            }
            let mut sums = [[zero; Q]; T];
            let mut col = 0;
            while col < self.stride {
                let x = x.map(|x| vld1q_s8(x.add(col)));
                macro_rules! group {
                    ($lane:literal) => {
                        let w: [int8x16_t; Q] =
                            core::array::from_fn(|q| self.word(row + q * QUAD, col + 4 * $lane));
                        for (sums, x) in sums.iter_mut().zip(x) {
                            for (sum, w) in sums.iter_mut().zip(w) {
                                *sum = I::dot_lane::<$lane>(*sum, w, x);
                            }
                        }
                    };
                }
                group!(0);
                group!(1);
                group!(2);
                group!(3);
                col += 16;
            }
            for (t, sums) in sums.into_iter().enumerate() {
                for (q, sums) in sums.into_iter().enumerate() {
                    self.put(row + q * QUAD, token + t, sums);
                }
            }
        }
    }

    /// All sums by products of small matrices.
    ///
    /// # Safety
    /// As [`Tile::dots`], with `smmla`.
    #[inline(always)]
    pub unsafe fn products(&self) {
        // SAFETY: the caller's; rows and tokens stay below those that there are.
        unsafe {
            let mut row = 0;
            while row < self.rows {
                let mut token = 0;
                while token < self.tokens {
                    // Pairs of tokens; of an odd number, the last one is its own pair.
                    match self.tokens - token {
                        7.. => self.products_of::<4>(row, token),
                        5.. => self.products_of::<3>(row, token),
                        3.. => self.products_of::<2>(row, token),
                        _ => self.products_of::<1>(row, token),
                    }
                    token += match self.tokens - token {
                        7.. => 8,
                        5.. => 6,
                        3.. => 4,
                        _ => 2,
                    };
                }
                row += QUAD;
            }
        }
    }

    /// A quad from `row` on with `P` pairs of tokens from `token` on.
    ///
    /// # Safety
    /// As [`Tile::products`]; all tokens are there, but for the last one.
    #[inline(always)]
    unsafe fn products_of<const P: usize>(&self, row: usize, token: usize) {
        // SAFETY: the caller's.
        unsafe {
            let x: [[*const i8; 2]; P] = core::array::from_fn(|pair| {
                core::array::from_fn(|t| {
                    let token = (token + 2 * pair + t).min(self.tokens - 1);
                    self.x.add(token * self.pitch)
                })
            });
            let starts = match self.group_pitch {
                0 => self.row_starts(row),
                _ => [self.w; QUAD],
            };
            let mut sums = [[vdupq_n_s32(0); 2]; P];
            let mut col = 0;
            while col < self.stride {
                // Of rows 0 and 1, then of rows 2 and 3: columns 0 to 7, then 8 to 15.
                let w = if self.group_pitch == 0 {
                    let [a, b, c, d] = starts.map(|w| vld1q_s8(w.add(col)));
                    let ([a, b], [c, d]) = (halves(a, b), halves(c, d));
                    [[a, c], [b, d]]
                } else {
                    core::array::from_fn(|half| {
                        let near = vreinterpretq_s32_s8(self.word(row, col + 8 * half));
                        let far = vreinterpretq_s32_s8(self.word(row, col + 8 * half + 4));
                        [vzip1q_s32(near, far), vzip2q_s32(near, far)]
                            .map(|w| vreinterpretq_s8_s32(w))
                    })
                };
                for (sums, [even, odd]) in sums.iter_mut().zip(x) {
                    let x = halves(vld1q_s8(even.add(col)), vld1q_s8(odd.add(col)));
                    for (w, x) in w.into_iter().zip(x) {
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = product(*sum, w, x);
                        }
                    }
                }
                col += 16;
            }
            for (pair, [low, high]) in sums.into_iter().enumerate() {
                // Row 0 with both tokens, row 1 with both tokens, …
                let token = token + 2 * pair;
                self.put(row, token, vuzp1q_s32(low, high));
                if token + 1 < self.tokens {
                    self.put(row, token + 1, vuzp2q_s32(low, high));
                }
            }
        }
    }

    /// Four columns from `col` on of the quad at `row` in packed weights, signed.
    ///
    /// # Safety
    /// The quad is there, and the column.
    #[inline(always)]
    unsafe fn word(&self, row: usize, col: usize) -> int8x16_t {
        // SAFETY: a quad takes 4 · 4 bytes of each group.
        unsafe {
            let w = self.w.add(col / 4 * self.group_pitch + row * 4);
            veorq_s8(vld1q_s8(w), vdupq_n_s8(i8::MIN))
        }
    }

    /// The rows of a quad of weights that are not packed; the last one again for those that are
    /// missing.
    ///
    /// # Safety
    /// Row `row` is there.
    #[inline(always)]
    unsafe fn row_starts(&self, row: usize) -> [*const i8; QUAD] {
        // SAFETY: no row after the last one is taken.
        core::array::from_fn(|index| unsafe {
            self.w.add((row + index).min(self.rows - 1) * self.stride)
        })
    }

    /// Stores the sums of a quad, as far as its rows are there.
    ///
    /// # Safety
    /// Row and token are there.
    #[inline(always)]
    unsafe fn put(&self, row: usize, token: usize, sums: int32x4_t) {
        let mut four = [0i32; QUAD];
        // SAFETY: rows after the last one are left out.
        unsafe {
            vst1q_s32(four.as_mut_ptr(), sums);
            for (row, sum) in (row..self.rows).zip(four) {
                *self.sums.add(row * self.tokens + token) = sum;
            }
        }
    }
}

/// The first halves of both, then the second ones.
#[inline(always)]
unsafe fn halves(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON is part of the target.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vzip1q_s64(a, b), vzip2q_s64(a, b)].map(|half| vreinterpretq_s8_s64(half))
    }
}
