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
            let mut col = 0;
            while col < stride {
                let mut four = [turn; 4];
                for (index, four) in four.iter_mut().enumerate() {
                    let row = quad * 4 + index;
                    if row < rows {
                        let bytes = _mm_loadu_si128(w.add(row * pitch + col).cast());
                        *four = _mm_xor_si128(bytes, turn);
                    }
                }
                let words = transpose(four);
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

/// Packs 16 rows of `stride` signed bytes, two rows in turn, each byte as 16 bits: in blocks of 16
/// columns, `block_pitch` bytes apart.
///
/// # Safety
/// As for [`block`]; 512 bytes can be written of each block.
#[inline(always)]
pub(super) unsafe fn pairs<I: super::isa::Isa>(
    w: *const u8,
    pitch: usize,
    stride: usize,
    to: *mut u8,
    block_pitch: usize,
) {
    // SAFETY: as above; every level has SSE4.1.
    unsafe {
        for pair in 0..BLOCK / 2 {
            let (even, odd) = (w.add(2 * pair * pitch), w.add((2 * pair + 1) * pitch));
            let mut col = 0;
            while col < stride {
                let a = _mm_loadu_si128(even.add(col).cast());
                let b = _mm_loadu_si128(odd.add(col).cast());
                let to = to.add(col / BLOCK * block_pitch + pair * GROUP);
                I::widen(_mm_unpacklo_epi8(a, b), to);
                I::widen(_mm_unpackhi_epi8(a, b), to.add(GROUP / 2));
                col += BLOCK;
            }
        }
    }
}
