//! Integer attention of a batch of queries over a cache of keys and values.
//!
//! Keys and values of a head are put in blocks once for all queries of the batch. Then a few queries at
//! a time: scores by byte products, softmax, weights of 15 bits, and sums by products of 16 bits.

use super::super::host::Level;
#[cfg(feature = "threads")]
use super::super::pool;
use super::isa::Isa;
use super::rows::symmetric;
use super::scores::{CHUNK, Scoring, Weighing, pitch};
use super::tile::{BLOCK, BYTES, GROUP, MOST_BLOCKS, PAIRS, Sums, Tile, tokens_of, total};
use super::{attend_one, pack, scratch};
use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::ops::Range;

/// Keys of a part of a chunk: their values stay in the cache that is nearest while the queries take
/// turns.
const PART: usize = 128;

/// Queries that take turns with the same keys and values.
const QUERIES: usize = 24;

/// Writes the biases of a head: see [`Attention::bias`].
pub(crate) type Bias<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// A batch of queries with the cache that they attend to.
pub(crate) struct Attention<'a> {
    /// Vectors of all heads of a query, query after query; replaced by the outputs.
    pub queries: &'a mut [f32],
    /// Queries.
    pub count: usize,
    /// Heads of a query.
    pub heads: usize,
    /// Width of a head's vectors.
    pub d_kv: usize,
    /// Heads of a key.
    pub kv_heads: usize,
    /// `[positions, kv_heads, d_kv]`
    pub k: &'a [i8],
    /// `[positions, kv_heads, d_kv]`
    pub v: &'a [i8],
    /// `[positions, kv_heads]`
    pub k_scales: &'a [f32],
    /// `[positions, kv_heads]`
    pub v_scales: &'a [f32],
    /// Keys attended to: positions 0 … keys − 1.
    pub keys: usize,
    /// Factor of q·k.
    pub scale: f32,
    /// Writes the biases of a head for the last query of the batch and the keys 0, 1, 2, …; those of
    /// a query n places before it are the same from n on.
    pub bias: Option<&'a Bias<'a>>,
}

impl Attention<'_> {
    /// Computes all outputs; `false`, and nothing done, if the operands do not fit each other.
    pub fn run(&mut self, level: Level) -> bool {
        let vectors = self.keys.checked_mul(self.kv_heads);
        let values = vectors.and_then(|vectors| vectors.checked_mul(self.d_kv));
        let queries = self.heads.checked_mul(self.d_kv);
        let queries = queries.and_then(|width| width.checked_mul(self.count));
        let (Some(vectors), Some(values), Some(queries)) = (vectors, values, queries) else {
            return false;
        };
        let fits = values > 0
            && queries > 0
            && self.heads.is_multiple_of(self.kv_heads)
            && self.queries.len() >= queries
            && self.k.len() >= values
            && self.v.len() >= values
            && self.k_scales.len() >= vectors
            && self.v_scales.len() >= vectors;
        if fits {
            let out = Outputs(self.queries.as_mut_ptr());
            self.run_heads(level, &out);
        }
        fits
    }

    /// All heads of keys, on as many threads as there are and as it is worth. The sizes were
    /// checked.
    fn run_heads(&self, level: Level, out: &Outputs) {
        #[cfg(feature = "threads")]
        {
            let group = self.heads / self.kv_heads;
            let cost = self.keys * self.d_kv * (2 * self.count * group + 4);
            let (parts, size) = pool::cut(self.kv_heads, cost);
            pool::run(parts, &|part| {
                let start = part * size;
                let heads = start..self.kv_heads.min(start + size);
                // SAFETY: the level is one that this machine has; parts write to different heads.
                unsafe { self.some_heads(level, out, heads) };
            });
        }
        #[cfg(not(feature = "threads"))]
        // SAFETY: the level is one that this machine has.
        unsafe {
            self.some_heads(level, out, 0..self.kv_heads);
        }
    }

    /// Some heads of keys, in the way that is worth it.
    unsafe fn some_heads(&self, level: Level, out: &Outputs, kv_heads: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            match attend_one::takes(self) {
                true => attend_one::heads_of(level, self, out.0, kv_heads),
                false => heads_of(level, self, out, kv_heads),
            }
        }
    }
}

/// Where queries are read, and outputs written.
struct Outputs(*mut f32);

// SAFETY: threads have different heads.
unsafe impl Sync for Outputs {}

levels! {
    unsafe fn heads_of(a: &Attention<'_>, out: &Outputs, kv_heads: Range<usize>) = heads_by
}

/// Where the parts of the scratch lie, in bytes.
struct Parts {
    /// Keys in blocks of 16, four columns in turn, each byte plus 128.
    k: usize,
    /// Values in blocks of 16 columns, two keys in turn.
    v: usize,
    k_scales: usize,
    v_scales: usize,
    /// Biases by distance.
    biases: usize,
    scores: usize,
    weights: usize,
    query: usize,
    /// Sixteen rows, filled up to the stride.
    rows: usize,
    total: usize,
}

impl Parts {
    fn new(keys: usize, stride: usize, count: usize, tokens: usize) -> Self {
        let mut next = 0usize;
        let mut part = |bytes: usize| {
            let start = next;
            next += bytes.next_multiple_of(64);
            start
        };
        Self {
            k: part(keys * stride),
            v: part(keys / 2 * GROUP * (stride / BLOCK)),
            k_scales: part(keys * 4),
            v_scales: part(keys * 4),
            biases: part((keys + count) * 4),
            scores: part(pitch(keys) * 4 * tokens),
            weights: part(pitch(keys) * 2 * tokens),
            query: part(stride * tokens),
            rows: part(BLOCK * stride),
            total: next,
        }
    }
}

/// The queries' heads that share some heads of keys.
#[inline(always)]
unsafe fn heads_by<I: Isa>(a: &Attention<'_>, out: &Outputs, kv_heads: Range<usize>) {
    let (d_kv, stride) = (a.d_kv, a.d_kv.next_multiple_of(BLOCK));
    let keys = a.keys.next_multiple_of(BLOCK);
    let parts = Parts::new(keys, stride, a.count, QUERIES.min(a.count));
    let mut memory = scratch::take(parts.total);
    let memory = memory.start();
    let group = a.heads / a.kv_heads;
    for kv_head in kv_heads {
        // SAFETY: `Attention::run` checked the sizes; each part has the size that it is used with.
        unsafe {
            let from = kv_head * d_kv;
            let pitch = a.kv_heads * d_kv;
            let (k, v) = (a.k.as_ptr().add(from), a.v.as_ptr().add(from));
            let padded = memory.add(parts.rows);
            let mut key = 0;
            while key < keys {
                let rows = BLOCK.min(a.keys - key);
                let to = memory.add(parts.k + key * stride);
                // Vectors of a head are far apart, which the machine does not foresee.
                for row in 2 * BLOCK..3 * BLOCK {
                    for from in [k, v] {
                        let from = from.wrapping_add((key + row) * pitch);
                        _mm_prefetch::<_MM_HINT_T0>(from);
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(d_kv - 1));
                    }
                }
                let (k, v) = (k.add(key * pitch).cast(), v.add(key * pitch).cast());
                if d_kv == stride {
                    pack::block(k, pitch, stride, rows, to);
                } else {
                    fill(k, pitch, (rows, d_kv), padded, stride);
                    pack::block(padded, stride, stride, rows, to);
                }
                let to = memory.add(parts.v + key / 2 * GROUP);
                if d_kv == stride && rows == BLOCK {
                    pack::pairs::<I>(v, pitch, stride, to, keys / 2 * GROUP);
                } else {
                    fill(v, pitch, (rows, d_kv), padded, stride);
                    pack::pairs::<I>(padded, stride, stride, to, keys / 2 * GROUP);
                }
                key += BLOCK;
            }
            for (part, scales) in [(parts.k_scales, a.k_scales), (parts.v_scales, a.v_scales)] {
                let to = core::slice::from_raw_parts_mut(memory.add(part).cast::<f32>(), keys);
                let from = scales.iter().skip(kv_head).step_by(a.kv_heads);
                let (to, rest) = to.split_at_mut(a.keys);
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
                rest.fill(0.0);
            }
            for head in kv_head * group..(kv_head + 1) * group {
                if let Some(bias) = a.bias {
                    let to = memory.add(parts.biases).cast::<f32>();
                    bias(head, core::slice::from_raw_parts_mut(to, keys + a.count));
                }
                let mut first = 0;
                while first < a.count {
                    let tokens = QUERIES.min(a.count - first);
                    head_by::<I>(a, out, head, first..first + tokens, memory, &parts);
                    first += tokens;
                }
            }
        }
    }
}

/// Copies rows of `cols` bytes, each filled with zeros up to `stride`, and zeros for missing rows.
#[inline(always)]
unsafe fn fill(
    from: *const u8,
    pitch: usize,
    (rows, cols): (usize, usize),
    to: *mut u8,
    stride: usize,
) {
    // SAFETY: the caller's: so many rows can be read, and 16 · `stride` bytes be written.
    unsafe {
        to.write_bytes(0, BLOCK * stride);
        for row in 0..rows {
            to.add(row * stride)
                .copy_from_nonoverlapping(from.add(row * pitch), cols);
        }
    }
}

/// One head of a few queries.
#[inline(always)]
unsafe fn head_by<I: Isa>(
    a: &Attention<'_>,
    out: &Outputs,
    head: usize,
    tokens: Range<usize>,
    memory: *mut u8,
    parts: &Parts,
) {
    // SAFETY: as in `heads_by`.
    unsafe {
        let (d_kv, stride) = (a.d_kv, a.d_kv.next_multiple_of(BLOCK));
        let width = a.heads * d_kv;
        let keys = a.keys.next_multiple_of(BLOCK);
        let count = tokens.len();
        let vectors = out.0.add(tokens.start * width + head * d_kv);

        let query = memory.add(parts.query).cast::<i8>();
        let (mut scales, mut starts) = ([0.0f32; QUERIES], [0i32; QUERIES]);
        for (t, (scale, start)) in scales.iter_mut().zip(&mut starts).enumerate().take(count) {
            let vector = core::slice::from_raw_parts(vectors.add(t * width), d_kv);
            let q = query.add(t * stride);
            q.add(d_kv).write_bytes(0, stride - d_kv);
            *scale = symmetric::<I>(vector, core::slice::from_raw_parts_mut(q, d_kv)) * a.scale;
            *start = (total::<I>(q.cast_const().cast(), stride) << 7).wrapping_neg();
        }

        // Scores.
        let mut sums = [Sums::ZERO; QUERIES / 2];
        let mut most = [I::splat(f32::NEG_INFINITY); QUERIES];
        let scores = memory.add(parts.scores).cast::<f32>();
        let k_scales = memory.add(parts.k_scales).cast::<f32>();
        let biases = memory.add(parts.biases).cast::<f32>();
        let mut key = 0;
        while key < keys {
            let blocks = match keys - key >= I::BLOCKS * BLOCK {
                true => I::BLOCKS,
                false => 1,
            };
            let mut first = 0;
            while first < count {
                let count = tokens_of(count - first, I::TOKENS);
                let w = memory.add(parts.k + key * stride).cast_const();
                let tile = Tile {
                    w,
                    block_pitch: BLOCK * stride,
                    x: query.add(first * stride).cast_const(),
                    pitch: stride,
                    groups: stride / 4,
                    out: sums.as_mut_ptr().cast(),
                    starts: starts.as_ptr().add(first),
                    ..Tile::new(w)
                };
                I::tile::<BYTES>(blocks, count, &tile);
                for t in first..first + count {
                    let inside = (t - first) * blocks * BLOCK;
                    let last = a.count - 1 - (tokens.start + t);
                    let scoring = Scoring::<I> {
                        sums: sums.as_ptr().cast::<i32>().add(inside),
                        scale: I::splat(*scales.get_unchecked(t)),
                        k_scales: k_scales.add(key).cast_const(),
                        biases: biases.add(last + key).cast_const(),
                        to: scores.add(t * pitch(keys) + key),
                        blocks,
                    };
                    let most = most.get_unchecked_mut(t);
                    *most = scoring.scores(*most, a.bias.is_some(), a.keys - key);
                }
                first += count;
            }
            key += blocks * BLOCK;
        }

        // Weights.
        let v_scales = memory.add(parts.v_scales).cast::<f32>();
        let weights = memory.add(parts.weights).cast::<i16>();
        let mut factors = [0.0f32; QUERIES];
        let mut t = 0;
        while t < count {
            let rows = Weighing {
                scores: scores.add(t * pitch(keys)),
                weights: weights.add(t * pitch(keys)),
                keys,
                most: most.as_ptr().add(t),
            };
            let factors = factors.as_mut_ptr().add(t);
            if count - t > 1 {
                rows.weigh::<I, 2>(v_scales, factors);
                t += 2;
            } else {
                rows.weigh::<I, 1>(v_scales, factors);
                t += 1;
            }
        }

        // Sums of values.
        let block_pitch = keys / 2 * GROUP;
        let mut col = 0;
        while col < stride {
            let blocks = match stride - col >= I::BLOCKS * BLOCK {
                true => I::BLOCKS,
                false => 1,
            };
            let mut outs = [0.0f32; QUERIES * MOST_BLOCKS * BLOCK];
            let mut key = 0;
            while key < keys {
                let end = keys.min(key + CHUNK);
                let mut resume = false;
                while key < end {
                    let part = PART.min(end - key);
                    let mut first = 0;
                    while first < count {
                        let count = tokens_of(count - first, I::TOKENS);
                        let w = memory.add(parts.v + col / BLOCK * block_pitch + key / 2 * GROUP);
                        let w = w.cast_const();
                        let weights = weights.add(first * pitch(keys) + key).cast_const();
                        let out = sums.as_mut_ptr().cast::<i32>();
                        let tile = Tile {
                            w,
                            block_pitch,
                            x: weights.cast(),
                            pitch: pitch(keys) * 2,
                            groups: part / 2,
                            out: out.add(first * blocks * BLOCK),
                            resume,
                            ..Tile::new(w)
                        };
                        I::tile::<PAIRS>(blocks, count, &tile);
                        first += count;
                    }
                    resume = true;
                    key += part;
                }
                for at in 0..count * blocks {
                    let out = outs.as_mut_ptr().add(at * BLOCK);
                    let sums = sums.as_ptr().cast::<i32>();
                    let sum = I::convert(I::load_i32(sums.add(at * BLOCK)));
                    I::store(out, I::add(I::load(out), sum));
                }
            }
            for (t, factor) in factors.iter().enumerate().take(count) {
                for block in 0..blocks {
                    let out = outs.as_mut_ptr().add((t * blocks + block) * BLOCK);
                    let col = col + block * BLOCK;
                    let to = vectors.add(t * width + col);
                    let y = I::mul(I::load(out), I::splat(*factor));
                    if d_kv - col >= BLOCK {
                        I::store(to, y);
                    } else {
                        I::store(out, y);
                        to.copy_from_nonoverlapping(out, d_kv - col);
                    }
                }
            }
            col += blocks * BLOCK;
        }
    }
}
