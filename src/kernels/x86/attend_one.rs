//! Integer attention of one query, as a decoder's steps have it: keys and values are taken from the
//! cache as they lie there, since putting them into blocks would cost more than the products.
//!
//! A cache is read once and seldom lies near: all heads go through it together, a few keys at a time,
//! while the next ones are fetched in the order in which they lie.

use super::attention::Attention;
use super::isa::Isa;
use super::rows::symmetric;
use super::scores::{CHUNK, Scoring, Weighing, pitch};
use super::scratch;
use super::tile::{BLOCK, row_sums, total};
use core::arch::x86_64::*;
use core::ops::Range;

/// Keys whose values meet four weights at a time.
const QUAD: usize = 4;

/// Keys of which each head in turn takes the values.
const TURN: usize = 32;

/// Bytes of a line of the machine's cache.
const LINE: usize = 64;

/// Whether keys and values are met once, so that this way is worth it, and have no incomplete vectors.
pub(super) fn takes(a: &Attention<'_>) -> bool {
    a.count == 1 && a.heads == a.kv_heads && a.d_kv.is_multiple_of(BLOCK)
}

levels! {
    /// Some heads.
    ///
    /// # Safety
    /// The machine has the level; `Attention::run` found that the sizes fit, and `takes` is true; `out` has
    /// the queries' vectors, and nobody else reads or writes those of these heads meanwhile.
    pub(super) unsafe fn heads_of(a: &Attention<'_>, out: *mut f32, heads: Range<usize>) = heads_by
}

/// The scratch: each part has something for every head, one after another.
struct Parts {
    k_scales: *mut f32,
    v_scales: *mut f32,
    biases: *mut f32,
    scores: *mut f32,
    weights: *mut i16,
    /// Of each four weights the upper bytes, then the lower ones.
    bytes: *mut u8,
    queries: *mut i8,
    /// Of the query, times the attention's.
    scales: *mut f32,
    /// What products begin with.
    starts: *mut i32,
    /// The greatest score, in some lane.
    most: *mut f32,
    /// Σ weight · value of the upper bytes and of the lower ones.
    sums: *mut i32,
}

impl Parts {
    /// The parts behind `memory`, and how many bytes there are.
    fn new(memory: *mut u8, keys: usize, d_kv: usize, heads: usize) -> (Self, usize) {
        let mut next = 0usize;
        let mut part = |bytes: usize| {
            let start = next;
            next += (bytes * heads).next_multiple_of(LINE);
            memory.wrapping_add(start)
        };
        let parts = Self {
            k_scales: part(keys * 4).cast(),
            v_scales: part(keys * 4).cast(),
            biases: part((keys + 1) * 4).cast(),
            scores: part(pitch(keys) * 4).cast(),
            weights: part(pitch(keys) * 2).cast(),
            bytes: part(pitch(keys) * 2),
            queries: part(d_kv).cast(),
            scales: part(4).cast(),
            starts: part(4).cast(),
            most: part(BLOCK * 4).cast(),
            sums: part(2 * 4 * d_kv.next_multiple_of(LINE)).cast(),
        };
        (parts, next)
    }
}

/// Keys or values of some heads.
#[derive(Clone, Copy)]
struct Vectors {
    /// The first head's at the first position.
    first: *const u8,
    /// Bytes from position to position.
    pitch: usize,
    /// Bytes of these heads at a position.
    width: usize,
}

impl Vectors {
    /// Brings the part `part` of `parts` of the keys from `key` to `key + count` into the cache.
    #[inline(always)]
    unsafe fn fetch(self, key: usize, count: usize, (part, parts): (usize, usize)) {
        for row in part * count / parts..(part + 1) * count / parts {
            for at in (0..self.width).step_by(LINE) {
                let at = self.first.wrapping_add((key + row) * self.pitch + at);
                // SAFETY: nothing is read.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
            }
        }
    }
}

#[inline(always)]
unsafe fn heads_by<I: Isa>(a: &Attention<'_>, out: *mut f32, heads: Range<usize>) {
    let (d_kv, count) = (a.d_kv, heads.len());
    let keys = a.keys.next_multiple_of(BLOCK);
    let (_, bytes) = Parts::new(core::ptr::null_mut(), keys, d_kv, count);
    let mut memory = scratch::take(bytes);
    let (s, _) = Parts::new(memory.start(), keys, d_kv, count);
    let vectors = |values: &[i8]| Vectors {
        first: values.as_ptr().wrapping_add(heads.start * d_kv).cast(),
        pitch: a.heads * d_kv,
        width: count * d_kv,
    };
    let (k, v) = (vectors(a.k), vectors(a.v));
    // SAFETY: the caller's; each part has the size that it is used with.
    unsafe {
        k.fetch(0, 2 * BLOCK, (0, 1));
        columns(a.k_scales, a.heads, a.keys, heads.clone(), s.k_scales, keys);
        for index in 0..count {
            let vector = out.add((heads.start + index) * d_kv);
            let vector = core::slice::from_raw_parts(vector, d_kv);
            let q = s.queries.add(index * d_kv);
            let scale = symmetric::<I>(vector, core::slice::from_raw_parts_mut(q, d_kv));
            s.scales.add(index).write(scale * a.scale);
            // Keys are taken as bytes plus 128.
            let start = (total::<I>(q.cast(), d_kv) << 7).wrapping_neg();
            s.starts.add(index).write(start);
            if let Some(bias) = a.bias {
                let biases = s.biases.add(index * (keys + 1));
                let biases = core::slice::from_raw_parts_mut(biases, a.keys + 1);
                bias(heads.start + index, biases);
            }
        }
        scores::<I>(a, k, &s, count);
        v.fetch(0, TURN, (0, 1));
        columns(a.v_scales, a.heads, a.keys, heads.clone(), s.v_scales, keys);
        for index in 0..count {
            let most = I::load(s.most.add(index * BLOCK));
            let weights = s.weights.add(index * pitch(keys));
            let row = Weighing {
                scores: s.scores.add(index * pitch(keys)),
                weights,
                keys,
                most: &most,
            };
            // Queries' scales are of no use any more: there are the outputs' factors.
            row.weigh::<I, 1>(s.v_scales.add(index * keys), s.scales.add(index));
            apart(weights, keys, s.bytes.add(2 * index * pitch(keys)));
            core::slice::from_raw_parts_mut(out.add((heads.start + index) * d_kv), d_kv).fill(0.0);
        }
        values::<I>(a, v, &s, out.add(heads.start * d_kv), count);
        for index in 0..count {
            let out = out.add((heads.start + index) * d_kv);
            let factor = s.scales.add(index).read();
            for out in core::slice::from_raw_parts_mut(out, d_kv) {
                *out *= factor;
            }
        }
    }
}

/// Copies columns of a matrix of `rows` rows and `width` columns, each to `pitch` numbers with zeros at
/// the end.
#[inline(always)]
unsafe fn columns(
    from: &[f32],
    width: usize,
    rows: usize,
    columns: Range<usize>,
    to: *mut f32,
    pitch: usize,
) {
    // SAFETY: the caller's: so much can be read and written.
    unsafe {
        let from = from.as_ptr().add(columns.start);
        let mut col = 0;
        while col < columns.len() {
            let (from, to) = (from.add(col), to.add(col * pitch));
            let count = if columns.len() - col >= 4 { 4 } else { 1 };
            let mut row = 0;
            while count == 4 && row + 4 <= rows {
                let line = |index: usize| _mm_loadu_ps(from.add((row + index) * width));
                let (mut a, mut b, mut c, mut d) = (line(0), line(1), line(2), line(3));
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (index, column) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(to.add(index * pitch + row), column);
                }
                row += 4;
            }
            for index in 0..count {
                for row in row..rows {
                    let number = from.add(row * width + index).read();
                    to.add(index * pitch + row).write(number);
                }
                to.add(index * pitch + rows).write_bytes(0, pitch - rows);
            }
            col += count;
        }
    }
}

/// The scores of all heads, and the greatest of each.
#[inline(always)]
unsafe fn scores<I: Isa>(a: &Attention<'_>, k: Vectors, s: &Parts, heads: usize) {
    // SAFETY: as in `heads_by`.
    unsafe {
        let (d_kv, keys) = (a.d_kv, a.keys.next_multiple_of(BLOCK));
        for index in 0..heads {
            let lowest = I::splat(f32::NEG_INFINITY);
            I::store(s.most.add(index * BLOCK), lowest);
        }
        let mut key = 0;
        while key < a.keys {
            let rows = BLOCK.min(a.keys - key);
            for index in 0..heads {
                k.fetch(key + 2 * BLOCK, BLOCK, (index, heads));
                let mut sums = [0i32; BLOCK];
                let from = k.first.add(key * k.pitch + index * d_kv);
                let q = s.queries.add(index * d_kv).cast();
                row_sums::<I, false>(from, k.pitch, d_kv, rows, q, sums.as_mut_ptr());
                let start = s.starts.add(index).read();
                for sum in &mut sums {
                    *sum = sum.wrapping_add(start);
                }
                let scoring = Scoring::<I> {
                    sums: sums.as_ptr(),
                    scale: I::splat(s.scales.add(index).read()),
                    k_scales: s.k_scales.add(index * keys + key),
                    biases: s.biases.add(index * (keys + 1) + key),
                    to: s.scores.add(index * pitch(keys) + key),
                    blocks: 1,
                };
                let most = s.most.add(index * BLOCK);
                let greater = scoring.scores(I::load(most), a.bias.is_some(), a.keys - key);
                I::store(most, greater);
            }
            key += BLOCK;
        }
    }
}

/// Parts the bytes of `count` (a multiple of 16) weights: of each four the upper ones, then the lower
/// ones.
#[inline(always)]
unsafe fn apart(weights: *const i16, count: usize, to: *mut u8) {
    // SAFETY: the caller's: so many weights can be read, and twice as many bytes be written.
    unsafe {
        let mut key = 0;
        while key < count {
            let a = _mm_loadu_si128(weights.add(key).cast());
            let b = _mm_loadu_si128(weights.add(key + BLOCK / 2).cast());
            let upper = _mm_packus_epi16(_mm_srli_epi16::<8>(a), _mm_srli_epi16::<8>(b));
            let low = _mm_set1_epi16(0xFF);
            let lower = _mm_packus_epi16(_mm_and_si128(a, low), _mm_and_si128(b, low));
            let to = to.add(2 * key).cast::<__m128i>();
            _mm_storeu_si128(to, _mm_unpacklo_epi32(upper, lower));
            _mm_storeu_si128(to.add(1), _mm_unpackhi_epi32(upper, lower));
            key += BLOCK;
        }
    }
}

/// Adds Σ weight · value to the outputs of all heads.
#[inline(always)]
unsafe fn values<I: Isa>(a: &Attention<'_>, v: Vectors, s: &Parts, out: *mut f32, heads: usize) {
    // SAFETY: as in `heads_by`.
    unsafe {
        let (d_kv, keys) = (a.d_kv, a.keys.next_multiple_of(BLOCK));
        let width = 4 * I::LANES;
        let sums_of_head = 2 * d_kv.next_multiple_of(LINE);
        let mut key = 0;
        while key < a.keys {
            let rows = TURN.min(a.keys - key);
            let begins = key.is_multiple_of(CHUNK);
            let ends = key + rows == a.keys || (key + rows).is_multiple_of(CHUNK);
            for index in 0..heads {
                v.fetch(key + TURN, TURN, (index, heads));
                let bytes = s.bytes.add(2 * (index * pitch(keys) + key));
                for col in (0..d_kv).step_by(width) {
                    let cols = width.min(d_kv - col);
                    let from = v.first.add(key * v.pitch + index * d_kv + col);
                    let sums = s.sums.add(index * sums_of_head + 2 * col);
                    let mut both = [[I::zeros(); QUAD]; 2];
                    if !begins {
                        both = load::<I>(sums);
                    }
                    if cols == width {
                        quads::<I>(&mut both, from, v.pitch, rows, bytes, |at| I::lanes(at));
                    } else {
                        let part = |at| I::lanes_part(at, cols);
                        quads::<I>(&mut both, from, v.pitch, rows, bytes, part);
                    }
                    for (half, vectors) in both.into_iter().enumerate() {
                        for (at, vector) in vectors.into_iter().enumerate() {
                            I::store_lanes(sums.add((half * QUAD + at) * I::LANES), vector);
                        }
                    }
                    if ends {
                        let out =
                            core::slice::from_raw_parts_mut(out.add(index * d_kv + col), cols);
                        let sums = core::slice::from_raw_parts(sums, 2 * width);
                        for (col, out) in out.iter_mut().enumerate() {
                            let at = col % 16 / 4 * I::LANES + col / 16 * 4 + col % 4;
                            let (upper, lower) =
                                (sums.get_unchecked(at), sums.get_unchecked(width + at));
                            *out += (upper << 8).wrapping_add(*lower) as f32;
                        }
                    }
                }
            }
            key += rows;
        }
    }
}

/// The sums of an earlier turn.
#[inline(always)]
unsafe fn load<I: Isa>(sums: *const i32) -> [[I::V; QUAD]; 2] {
    // SAFETY: as in `values`.
    unsafe {
        let mut both = [[I::zeros(); QUAD]; 2];
        for (at, sum) in both.as_flattened_mut().iter_mut().enumerate() {
            *sum = I::lanes(sums.add(at * I::LANES).cast());
        }
        both
    }
}

/// Adds Σ weight · value of `rows` keys to a vector of columns, four keys at a time. Weights have 15
/// bits: their bytes meet the values one after the other.
#[inline(always)]
unsafe fn quads<I: Isa>(
    [upper, lower]: &mut [[I::V; QUAD]; 2],
    from: *const u8,
    pitch: usize,
    rows: usize,
    bytes: *const u8,
    load: impl Fn(*const u8) -> I::V,
) {
    // SAFETY: as in `values`; there are weights, of zero, for keys up to a multiple of 16, and no
    // vector that does not exist is read.
    unsafe {
        let mut key = 0;
        while key < rows {
            let mut values = [I::zeros(); QUAD];
            for (row, values) in values.iter_mut().enumerate() {
                *values = load(from.add((key + row).min(rows - 1) * pitch));
            }
            let weights = bytes.add(2 * key).cast::<i32>();
            let (up, low) = (I::splat_lanes(weights), I::splat_lanes(weights.add(1)));
            for (index, values) in I::in_turn(values).into_iter().enumerate() {
                let upper = upper.get_unchecked_mut(index);
                *upper = I::dot4_own(*upper, up, values);
                let lower = lower.get_unchecked_mut(index);
                *lower = I::dot4_own(*lower, low, values);
            }
            key += QUAD;
        }
    }
}
