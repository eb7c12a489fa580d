//! The innermost loop of every matrix product: a few blocks of 16 rows with a few tokens, all sums in
//! registers.

use super::isa::Isa;
use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// Rows of a block.
pub(super) const BLOCK: usize = 16;

/// Bytes of a group of a block: four of each of its rows.
pub(super) const GROUP: usize = 4 * BLOCK;

/// Bytes of each stream of weights that come into the cache ahead where there is one token, so that
/// memory bounds the speed.
const ALONE: usize = 2048;

/// Most tokens and blocks that a tile has.
pub(super) const MOST_TOKENS: usize = 6;
pub(super) const MOST_BLOCKS: usize = 4;

/// Kind of a tile: Σ i16·i16.
pub(super) const PAIRS: u8 = 0;
/// Σ u8·i8, added to what each token's sums begin with.
pub(super) const BYTES: u8 = 1;
/// The same, and each row's numbers times the token's factors.
pub(super) const STARTED: u8 = 2;

/// Tokens of the next tile of several that together have `rest`: no short tile is left for the end,
/// which would use the machine badly.
#[inline(always)]
pub(super) fn tokens_of(rest: usize, most: usize) -> usize {
    if rest > most && rest < 2 * most {
        rest.div_ceil(2)
    } else {
        rest.min(most)
    }
}

/// The sums of a tile: token after token, row after row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub [i32; MOST_TOKENS * MOST_BLOCKS * BLOCK]);

impl Sums {
    pub const ZERO: Self = Self([0; MOST_TOKENS * MOST_BLOCKS * BLOCK]);
}

/// Where a tile's operands lie. Weights are in blocks of 16 rows; group g of a block has, for each row,
/// the four bytes (unsigned, or two 16-bit numbers) that meet bytes 4·g … 4·g + 3 of a token's row.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first block.
    pub w: *const u8,
    /// Bytes from block to block.
    pub block_pitch: usize,
    /// The first token's row.
    pub x: *const i8,
    /// Bytes from token to token.
    pub pitch: usize,
    /// Groups of a block.
    pub groups: usize,
    /// Room for `R · LANES · T` sums.
    pub out: *mut i32,
    /// Whether [`PAIRS`] are added to the sums that lie there.
    pub resume: bool,
    /// What each token's sums begin with, unless they are [`PAIRS`].
    pub starts: *const i32,
    /// Two 16-bit factors of each token, for [`STARTED`].
    pub factors: *const i32,
    /// Two 16-bit numbers of each row, which these factors multiply.
    pub of_rows: *const i32,
    /// Where to fetch into the cache meanwhile, a line a group; nothing is read there.
    pub ahead: *const u8,
}

impl Tile {
    /// A tile of nothing yet, with weights at `w`.
    pub fn new(w: *const u8) -> Self {
        Self {
            w,
            block_pitch: 0,
            x: core::ptr::null(),
            pitch: 0,
            groups: 0,
            out: core::ptr::null_mut(),
            resume: false,
            starts: core::ptr::null(),
            factors: core::ptr::null(),
            of_rows: core::ptr::null(),
            // Where nothing is mapped, each fetch would search all tables for it.
            ahead: w,
        }
    }

    /// Computes `R` vectors of rows with `T` tokens. Sums lie token after token.
    ///
    /// # Safety
    /// The features of `I` are enabled, and the pointers are good for what the fields say.
    #[inline(always)]
    pub unsafe fn sums<I: Isa, const R: usize, const T: usize, const KIND: u8>(&self) {
        // SAFETY: as above; R vectors are R · LANES / 16 blocks.
        unsafe {
            let per_block = BLOCK / I::LANES;
            let mut from = [self.w; R];
            for (r, from) in from.iter_mut().enumerate() {
                let inside = (r % per_block) * I::LANES * 4;
                *from = self.w.add((r / per_block) * self.block_pitch + inside);
            }
            let mut x = [self.x; T];
            for (t, x) in x.iter_mut().enumerate() {
                *x = self.x.add(t * self.pitch);
            }
            let mut sums = [[I::zeros(); R]; T];
            if KIND == PAIRS && self.resume {
                for (t, sums) in sums.iter_mut().enumerate() {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = I::lanes(self.out.add((t * R + r) * I::LANES).cast_const().cast());
                    }
                }
            }
            if KIND != PAIRS {
                for (t, sums) in sums.iter_mut().enumerate() {
                    *sums = [I::splat_lanes(self.starts.add(t)); R];
                }
            }
            if KIND == STARTED {
                let mut of_rows = [I::zeros(); R];
                for (r, of_rows) in of_rows.iter_mut().enumerate() {
                    *of_rows = I::lanes(self.of_rows.add(r * I::LANES).cast());
                }
                for (t, sums) in sums.iter_mut().enumerate() {
                    let factors = I::splat_lanes(self.factors.add(t));
                    for (sum, of_row) in sums.iter_mut().zip(of_rows) {
                        *sum = I::dot2(*sum, of_row, factors);
                    }
                }
            }
            for group in 0..self.groups {
                if T > 1 {
                    let ahead = self.ahead.wrapping_add(group * GROUP);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
                let mut w = [I::zeros(); R];
                for (w, from) in w.iter_mut().zip(from) {
                    if T == 1 {
                        let ahead = from.wrapping_add(group * GROUP + ALONE);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    *w = I::lanes(from.add(group * GROUP));
                }
                for (sums, x) in sums.iter_mut().zip(x) {
                    let x = x.add(group * 4);
                    if KIND == PAIRS {
                        let x = I::splat2(x.cast());
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = I::dot2(*sum, w, x);
                        }
                    } else {
                        let x = I::splat4(x);
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = I::dot4(*sum, w, x);
                        }
                    }
                }
            }
            for (t, sums) in sums.iter().enumerate() {
                for (r, sum) in sums.iter().enumerate() {
                    I::store_lanes(self.out.add((t * R + r) * I::LANES), *sum);
                }
            }
        }
    }
}

/// `sums[i]` = Σ u8·i8 of row i of 16, whose bytes are in order and signed, with `x`: for rows that lie
/// one after another, or `pitch` bytes apart; with those that follow brought into the cache, if `FETCH`.
/// Each sum has 128·Σx too much.
///
/// # Safety
/// The features of `I` are enabled; `stride` (a multiple of 16) bytes can be read from `x` and from each
/// of `rows` (1 … 16) rows, and 16 sums can be written.
#[inline(always)]
pub(super) unsafe fn row_sums<I: Isa, const FETCH: bool>(
    w: *const u8,
    pitch: usize,
    stride: usize,
    rows: usize,
    x: *const u8,
    sums: *mut i32,
) {
    /// Rows whose sums are in registers.
    const ROWS: usize = 8;
    /// Rows that come into the cache ahead: too many streams for the machine to foresee.
    const AHEAD: usize = 16;
    let width = 4 * I::LANES;
    for half in 0..BLOCK / ROWS {
        // Rows that are not there are the last one again.
        // SAFETY: as above.
        unsafe {
            let mut from = [w; ROWS];
            for (row, from) in from.iter_mut().enumerate() {
                *from = w.add((half * ROWS + row).min(rows - 1) * pitch);
            }
            let w = from;
            let mut lanes = [I::zeros(); ROWS];
            let mut col = 0;
            while col + width <= stride {
                let x = I::lanes(x.add(col));
                for (lanes, w) in lanes.iter_mut().zip(w) {
                    if FETCH {
                        _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD * pitch + col).cast());
                    }
                    *lanes = I::dot4_own(*lanes, I::flip(I::lanes(w.add(col))), x);
                }
                col += width;
            }
            if col < stride {
                let rest = stride - col;
                let x = I::lanes_part(x.add(col), rest);
                for (lanes, w) in lanes.iter_mut().zip(w) {
                    *lanes = I::dot4_own(*lanes, I::flip(I::lanes_part(w.add(col), rest)), x);
                }
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            let to = sums.add(half * ROWS).cast();
            core::arch::x86_64::_mm_storeu_si128(to, I::sum4([a, b, c, d]));
            core::arch::x86_64::_mm_storeu_si128(to.add(1), I::sum4([e, f, g, h]));
        }
    }
}

/// Σ of `count` (a multiple of 16) signed bytes.
///
/// # Safety
/// The features of `I` are enabled, and so many bytes can be read.
#[inline(always)]
pub(super) unsafe fn total<I: Isa>(x: *const u8, count: usize) -> i32 {
    let width = 4 * I::LANES;
    // SAFETY: as above.
    unsafe {
        let mut lanes = I::zeros();
        let ones = I::lanes([1u8; 64].as_ptr());
        let mut col = 0;
        while col + width <= count {
            lanes = I::dot4_own(lanes, ones, I::lanes(x.add(col)));
            col += width;
        }
        if col < count {
            lanes = I::dot4_own(lanes, ones, I::lanes_part(x.add(col), count - col));
        }
        let sum = I::sum4([lanes, I::zeros(), I::zeros(), I::zeros()]);
        core::arch::x86_64::_mm_cvtsi128_si32(sum)
    }
}
