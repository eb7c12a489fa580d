//! Turns rows that lie one after another into blocks of 16.

use super::tile::{BLOCK, GROUP};
use core::arch::x86_64::*;

/// Packs `rows` (1 … 16) rows of `stride` signed bytes into a block: each four columns of 16 rows in
/// turn, each byte plus 128. Rows that are missing become zeros.
///
/// # Safety
/// `stride` is a multiple of 16; so many bytes can be read of each row, `pitch` bytes apart, and
/// 16 · `stride` be written.
#[inline(always)]
pub(super) unsafe fn block(w: *const u8, pitch: usize, stride: usize, rows: usize, to: *mut u8) {
    // SAFETY: as above; SSE2 is part of the target.
    unsafe {
        let turn = _mm_set1_epi8(i8::MIN);
        for quad in 0..BLOCK / 4 {
            let row = |index: usize, col: usize| {
                let index = quad * 4 + index;
                if index < rows {
                    _mm_xor_si128(_mm_loadu_si128(w.add(index * pitch + col).cast()), turn)
                } else {
                    turn
                }
            };
            let mut col = 0;
            while col < stride {
                let words = transpose([row(0, col), row(1, col), row(2, col), row(3, col)]);
                for (word, four) in words.into_iter().enumerate() {
                    let at = (col / 4 + word) * GROUP + quad * 16;
                    _mm_storeu_si128(to.add(at).cast(), four);
                }
                col += 16;
            }
        }
    }
}

/// The four rows' words: first all first ones, and so on.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    // SAFETY: SSE2 is part of the target.
    unsafe {
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [
            _mm_unpacklo_epi64(ab, cd),
            _mm_unpackhi_epi64(ab, cd),
            _mm_unpacklo_epi64(ab2, cd2),
            _mm_unpackhi_epi64(ab2, cd2),
        ]
    }
}
