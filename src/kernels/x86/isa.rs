//! Vectors of integers as the kernels see them, and the four sets of instructions that have them.
//!
//! Kernels are generic over [`Isa`] and inlined whole into functions that enable a set's features
//! (see `levels!`), so that every operation here becomes one or a few instructions there.

use super::tile::Tile;
use core::arch::asm;
use core::arch::x86_64::*;

/// A set of vector instructions.
///
/// # Safety
/// Every function may only run where the features of the set are enabled; pointers must be good for
/// what is read or written through them, at any alignment.
pub(super) trait Isa: super::floats::Floats {
    /// A vector of 32-bit lanes.
    type V: Copy;
    /// Four bytes of activations for every lane, ready for [`Isa::dot4`].
    type X: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Blocks of 16 rows that a tile of the matrix product has.
    const BLOCKS: usize;
    /// The same where there is one token: enough sums for the latency of products.
    const BLOCKS_ALONE: usize;
    /// Tokens that a tile of the matrix product has.
    const TOKENS: usize;

    unsafe fn zeros() -> Self::V;
    /// A number for every lane.
    unsafe fn splat_lanes(from: *const i32) -> Self::V;
    unsafe fn lanes(from: *const u8) -> Self::V;
    /// `bytes` bytes (a multiple of 16, fewer than a vector has), then zeros.
    unsafe fn lanes_part(from: *const u8, bytes: usize) -> Self::V;
    unsafe fn store_lanes(to: *mut i32, v: Self::V);
    /// Each byte with its highest bit turned over: what adds 128.
    unsafe fn flip(v: Self::V) -> Self::V;
    /// Four signed bytes for every lane.
    unsafe fn splat4(from: *const i8) -> Self::X;
    /// Adds to each lane Σ of its four products u8 · i8.
    unsafe fn dot4(sum: Self::V, w: Self::V, x: Self::X) -> Self::V;
    /// The same where every lane has its own activations.
    unsafe fn dot4_own(sum: Self::V, w: Self::V, x: Self::V) -> Self::V;
    /// Two 16-bit numbers for every lane.
    unsafe fn splat2(from: *const i16) -> Self::V;
    /// Adds to each lane Σ of its two products i16 · i16.
    unsafe fn dot2(sum: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Writes sixteen signed bytes as 16 bits each.
    unsafe fn widen(v: __m128i, to: *mut u8);
    /// The sums of four vectors' lanes, in order.
    unsafe fn sum4(v: [Self::V; 4]) -> __m128i;
    /// The bytes of four vectors in turn: word j of the 128 bits at l of vector i is byte 16·l + 4·i + j of
    /// each.
    unsafe fn in_turn(v: [Self::V; 4]) -> [Self::V; 4];
    /// A tile of a matrix product, of one block or as many as the constants say: see [`Tile::sums`].
    unsafe fn tile<const KIND: u8>(blocks: usize, tokens: usize, tile: &Tile);
}

/// The sums of the halves' lanes.
#[inline(always)]
unsafe fn fold(v: __m256i) -> __m128i {
    unsafe { _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)) }
}

/// The sums of the halves' lanes.
#[inline(always)]
unsafe fn fold_512(v: __m512i) -> __m256i {
    unsafe { _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v)) }
}

/// Adds to each lane Σ of its two products. By name: of the intrinsic, compilers that do not know the
/// machine make two instructions.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot2_512(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the instruction has no effect but on its registers, and its set is enabled.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The same with 256 bits.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot2_256(mut sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: as above.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {sum}, {a}, {b}",
            sum = inout(ymm_reg) sum,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Isa for Avx512 {
    type V = __m512i;
    type X = __m512i;
    const LANES: usize = 16;
    const BLOCKS: usize = 4;
    const BLOCKS_ALONE: usize = 4;
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn zeros() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn splat_lanes(from: *const i32) -> __m512i {
        unsafe { _mm512_set1_epi32(from.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn lanes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn lanes_part(from: *const u8, bytes: usize) -> __m512i {
        unsafe { _mm512_maskz_loadu_epi32(((1u32 << (bytes / 4)) - 1) as u16, from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_lanes(to: *mut i32, v: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn flip(v: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(v, _mm512_set1_epi8(i8::MIN)) }
    }
    #[inline(always)]
    unsafe fn splat4(from: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot4(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot4_own(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn splat2(from: *const i16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot2(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe { dot2_512(sum, a, b) }
    }
    #[inline(always)]
    unsafe fn widen(v: __m128i, to: *mut u8) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_cvtepi8_epi16(v)) }
    }
    #[inline(always)]
    unsafe fn sum4([a, b, c, d]: [__m512i; 4]) -> __m128i {
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let (low, high) = (_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            fold(fold_512(_mm512_add_epi32(low, high)))
        }
    }
    #[inline(always)]
    unsafe fn in_turn([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            let (ab2, cd2) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
            [
                _mm512_unpacklo_epi16(ab, cd),
                _mm512_unpackhi_epi16(ab, cd),
                _mm512_unpacklo_epi16(ab2, cd2),
                _mm512_unpackhi_epi16(ab2, cd2),
            ]
        }
    }
    #[inline(always)]
    unsafe fn tile<const KIND: u8>(blocks: usize, tokens: usize, tile: &Tile) {
        unsafe {
            match (blocks, tokens) {
                (4, 6) => tile.sums::<Self, 4, 6, KIND>(),
                (4, 5) => tile.sums::<Self, 4, 5, KIND>(),
                (4, 4) => tile.sums::<Self, 4, 4, KIND>(),
                (4, 3) => tile.sums::<Self, 4, 3, KIND>(),
                (4, 2) => tile.sums::<Self, 4, 2, KIND>(),
                (4, _) => tile.sums::<Self, 4, 1, KIND>(),
                (_, 6) => tile.sums::<Self, 1, 6, KIND>(),
                (_, 5) => tile.sums::<Self, 1, 5, KIND>(),
                (_, 4) => tile.sums::<Self, 1, 4, KIND>(),
                (_, 3) => tile.sums::<Self, 1, 3, KIND>(),
                (_, 2) => tile.sums::<Self, 1, 2, KIND>(),
                _ => tile.sums::<Self, 1, 1, KIND>(),
            }
        }
    }
}

/// The tiles of sets with 16 registers.
macro_rules! small_tiles {
    ($tokens:literal: $($count:literal)*, $vectors:literal, alone $blocks:literal: $alone:literal) => {
        const BLOCKS: usize = 1;
        const BLOCKS_ALONE: usize = $blocks;
        const TOKENS: usize = $tokens;

        #[inline(always)]
        unsafe fn tile<const KIND: u8>(blocks: usize, tokens: usize, tile: &Tile) {
            unsafe {
                match (blocks, tokens) {
                    $((1, $count) => tile.sums::<Self, $vectors, $count, KIND>(),)*
                    ($blocks, 1) => tile.sums::<Self, $alone, 1, KIND>(),
                    _ => tile.sums::<Self, $vectors, 1, KIND>(),
                }
            }
        }
    };
}

/// What AVX2 has with and without VNNI.
macro_rules! common_256 {
    () => {
        type V = __m256i;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zeros() -> __m256i {
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn splat_lanes(from: *const i32) -> __m256i {
            unsafe { _mm256_set1_epi32(from.read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn lanes(from: *const u8) -> __m256i {
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn lanes_part(from: *const u8, _bytes: usize) -> __m256i {
            // A multiple of 16 below 32.
            unsafe { _mm256_zextsi128_si256(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store_lanes(to: *mut i32, v: __m256i) {
            unsafe { _mm256_storeu_si256(to.cast(), v) }
        }
        #[inline(always)]
        unsafe fn flip(v: __m256i) -> __m256i {
            unsafe { _mm256_xor_si256(v, _mm256_set1_epi8(i8::MIN)) }
        }
        #[inline(always)]
        unsafe fn splat2(from: *const i16) -> __m256i {
            unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn widen(v: __m128i, to: *mut u8) {
            unsafe { _mm256_storeu_si256(to.cast(), _mm256_cvtepi8_epi16(v)) }
        }
        #[inline(always)]
        unsafe fn sum4([a, b, c, d]: [__m256i; 4]) -> __m128i {
            unsafe {
                let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                let (low, high) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
                fold(_mm256_add_epi32(low, high))
            }
        }
        #[inline(always)]
        unsafe fn in_turn([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
            unsafe {
                let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
                let (ab2, cd2) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
                [
                    _mm256_unpacklo_epi16(ab, cd),
                    _mm256_unpackhi_epi16(ab, cd),
                    _mm256_unpacklo_epi16(ab2, cd2),
                    _mm256_unpackhi_epi16(ab2, cd2),
                ]
            }
        }
    };
}

/// AVX2 with VNNI.
#[derive(Clone, Copy)]
pub(super) struct AvxVnni;

impl Isa for AvxVnni {
    type X = __m256i;
    common_256!();
    small_tiles!(6: 6 5 4 3 2, 2, alone 4: 8);

    #[inline(always)]
    unsafe fn dot2(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { dot2_256(sum, a, b) }
    }
    #[inline(always)]
    unsafe fn splat4(from: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot4(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot4_own(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sum, w, x) }
    }
}

/// AVX2. Bytes are widened to 16 bits, because the instruction that multiplies bytes saturates.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Isa for Avx2 {
    /// The even and the odd bytes, each as 16 bits.
    type X = [__m256i; 2];
    common_256!();
    small_tiles!(4: 4 3 2, 2, alone 4: 8);

    #[inline(always)]
    unsafe fn dot2(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn splat4(from: *const i8) -> [__m256i; 2] {
        unsafe { Self::widened(_mm256_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot4(sum: __m256i, w: __m256i, [even, odd]: [__m256i; 2]) -> __m256i {
        unsafe {
            let low = _mm256_and_si256(w, _mm256_set1_epi16(0xFF));
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, even));
            _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), odd))
        }
    }
    #[inline(always)]
    unsafe fn dot4_own(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe { Self::dot4(sum, w, Self::widened(x)) }
    }
}

impl Avx2 {
    #[inline(always)]
    unsafe fn widened(x: __m256i) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
                _mm256_srai_epi16::<8>(x),
            ]
        }
    }
}

/// SSE4.1, as AVX2 with half the lanes.
#[derive(Clone, Copy)]
pub(super) struct Sse41;

impl Isa for Sse41 {
    type V = __m128i;
    /// The even and the odd bytes, each as 16 bits.
    type X = [__m128i; 2];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zeros() -> __m128i {
        unsafe { _mm_setzero_si128() }
    }
    #[inline(always)]
    unsafe fn splat_lanes(from: *const i32) -> __m128i {
        unsafe { _mm_set1_epi32(from.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn lanes(from: *const u8) -> __m128i {
        unsafe { _mm_loadu_si128(from.cast()) }
    }
    #[inline(always)]
    unsafe fn lanes_part(_from: *const u8, _bytes: usize) -> __m128i {
        // No multiple of 16 is below 16 but 0.
        unsafe { _mm_setzero_si128() }
    }
    #[inline(always)]
    unsafe fn store_lanes(to: *mut i32, v: __m128i) {
        unsafe { _mm_storeu_si128(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn flip(v: __m128i) -> __m128i {
        unsafe { _mm_xor_si128(v, _mm_set1_epi8(i8::MIN)) }
    }
    #[inline(always)]
    unsafe fn splat4(from: *const i8) -> [__m128i; 2] {
        unsafe { Self::widened(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot4(sum: __m128i, w: __m128i, [even, odd]: [__m128i; 2]) -> __m128i {
        unsafe {
            let low = _mm_and_si128(w, _mm_set1_epi16(0xFF));
            let sum = _mm_add_epi32(sum, _mm_madd_epi16(low, even));
            _mm_add_epi32(sum, _mm_madd_epi16(_mm_srli_epi16::<8>(w), odd))
        }
    }
    #[inline(always)]
    unsafe fn dot4_own(sum: __m128i, w: __m128i, x: __m128i) -> __m128i {
        unsafe { Self::dot4(sum, w, Self::widened(x)) }
    }
    #[inline(always)]
    unsafe fn splat2(from: *const i16) -> __m128i {
        unsafe { _mm_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot2(sum: __m128i, a: __m128i, b: __m128i) -> __m128i {
        unsafe { _mm_add_epi32(sum, _mm_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn widen(v: __m128i, to: *mut u8) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm_cvtepi8_epi16(v));
            _mm_storeu_si128(to.add(16).cast(), _mm_cvtepi8_epi16(_mm_srli_si128::<8>(v)));
        }
    }
    #[inline(always)]
    unsafe fn sum4([a, b, c, d]: [__m128i; 4]) -> __m128i {
        unsafe {
            let ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
            let cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
            _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd))
        }
    }
    #[inline(always)]
    unsafe fn in_turn([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
        unsafe {
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let (ab2, cd2) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            [
                _mm_unpacklo_epi16(ab, cd),
                _mm_unpackhi_epi16(ab, cd),
                _mm_unpacklo_epi16(ab2, cd2),
                _mm_unpackhi_epi16(ab2, cd2),
            ]
        }
    }
    small_tiles!(2: 2, 4, alone 2: 8);
}

impl Sse41 {
    #[inline(always)]
    unsafe fn widened(x: __m128i) -> [__m128i; 2] {
        unsafe {
            [
                _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(x)),
                _mm_srai_epi16::<8>(x),
            ]
        }
    }
}
