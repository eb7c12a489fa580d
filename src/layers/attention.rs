//! Attention of one query vector over a KV cache (Vaswani et al. 2017, section 3.2.1), in floats
//! or in integers.

use core::ops::Range;

use super::kv_cache::{KvCache, KvValues};
use super::position::{RelativeBias, Rotary};
use super::tile::Tile;
use crate::kernels::{Single, float, integer, softmax};
use crate::tensor::arena::{Carver, round4};
use crate::tensor::turn::{QUANTIZE, Turn};
use crate::tensor::{Op, Output, Region, part};

/// Keys whose integer products are summed in i32 before they join the f32 sum:
/// 512 · 32767 · 127 < 2³¹.
const CHUNK: usize = 512;

/// What attention costs in multiply-accumulates: for a value of a key and of what is found there, for a
/// score from product to weight, for a value of the query.
const PRODUCTS: usize = 7;
const SOFTMAX: usize = 220;
const QUERY: usize = 45;

/// What attention needs beside the query and the cache.
pub(crate) struct Scratch<'a> {
    scores: &'a mut [f32],
    weights: &'a mut [i16],
    sums: &'a mut [i32],
    query: &'a mut [i8],
}

/// Bytes of the scratch for `keys` keys.
pub(crate) const fn scratch_bytes(int8: bool, keys: u64, d_kv: u64) -> u64 {
    if int8 {
        keys * 4 + round4(keys * 2) + d_kv * 4 + round4(d_kv)
    } else {
        keys * 4
    }
}

impl<'a> Scratch<'a> {
    /// Carves the scratch.
    pub fn carve(carver: &mut Carver<'a>, int8: bool, keys: usize, d_kv: usize) -> Self {
        let (weights, d_kv) = if int8 { (keys, d_kv) } else { (0, 0) };
        Self {
            scores: carver.take(keys),
            sums: carver.take(d_kv),
            weights: carver.take(weights),
            query: carver.take(d_kv),
        }
    }
}

/// Where the query stands and what its scores get.
#[derive(Clone, Copy)]
struct Query<'m> {
    /// Keys attended to: positions 0 … keys − 1.
    keys: usize,
    /// Position of the query, for the bias.
    position: usize,
    /// Factor of q·k.
    scale: f32,
    bias: Option<RelativeBias<'m>>,
    head: usize,
    /// The head of keys and values that it shares with others (Ainslie et al. 2023; one for all:
    /// Shazeer 2019, "multi-query").
    kv_head: usize,
}

/// Replaces a head's vector (`d_kv`) by its attention output. By itself, so that the projections do
/// not pay for its stack.
#[inline(never)]
fn attend(vector: &mut [f32], cache: &KvCache<'_>, query: Query<'_>, s: &mut Scratch<'_>) {
    let (d_kv, head, kv_head) = (cache.d_kv.max(1), query.head, query.kv_head);
    let Some(scores) = s.scores.get_mut(..query.keys) else {
        return;
    };
    match &cache.values {
        KvValues::Float { .. } if !cfg!(feature = "floats") => {}
        KvValues::Float { k, v } => {
            for x in vector.iter_mut() {
                *x = (Single(*x) * Single(query.scale)).0;
            }
            for (key, score) in scores.iter_mut().enumerate() {
                *score = float::dot(vector, at(k, cache, key, kv_head));
            }
            add_bias(scores, &query, head);
            softmax::softmax(scores);
            vector.fill(0.0);
            for (key, p) in scores.iter().enumerate() {
                for (out, v) in vector.iter_mut().zip(at(v, cache, key, kv_head)) {
                    *out = Single(*out).plus(Single(*p).times(Single(*v))).0;
                }
            }
        }
        KvValues::Int8 {
            k,
            v,
            k_scales,
            v_scales,
        } => {
            let q_scale = Single(integer::quantize_symmetric(vector, s.query));
            let q_scale = q_scale * Single(query.scale);
            let k_scales = k_scales.iter().skip(kv_head).step_by(cache.heads.max(1));
            for (key, (score, k_scale)) in scores.iter_mut().zip(k_scales).enumerate() {
                let dot = integer::dot(s.query, at(k, cache, key, kv_head));
                *score = (Single::from_i32(dot) * (q_scale * Single(*k_scale))).0;
            }
            add_bias(scores, &query, head);
            let sum = softmax::exponentials(scores);
            let v_scales = v_scales
                .iter()
                .skip(kv_head)
                .step_by(cache.heads.max(1))
                .copied();
            let factor = softmax::weights(scores, v_scales, sum, s.weights);
            let Some(weights) = s.weights.get(..query.keys) else {
                return;
            };
            let pitch = cache.heads.saturating_mul(d_kv);
            let mut values = v.get(kv_head.saturating_mul(d_kv)..).unwrap_or_default();
            vector.fill(0.0);
            for weights in weights.chunks(CHUNK) {
                integer::weighted_sums(weights, values, pitch, s.sums);
                for (out, sum) in vector.iter_mut().zip(s.sums.iter()) {
                    *out = Single(*out).plus(Single::from_i32(*sum)).0;
                }
                values = values
                    .get(CHUNK.saturating_mul(pitch)..)
                    .unwrap_or_default();
            }
            for out in vector.iter_mut() {
                *out = Single(*out).times(Single(factor)).0;
            }
        }
    }
}

/// The vector of the cache's `head` at position `key`.
fn at<'c, T>(values: &'c [T], cache: &KvCache<'_>, key: usize, head: usize) -> &'c [T] {
    let vector = key.saturating_mul(cache.heads).saturating_add(head);
    part(values, vector.saturating_mul(cache.d_kv), cache.d_kv)
}

fn add_bias(scores: &mut [f32], query: &Query<'_>, head: usize) {
    if let Some(bias) = &query.bias {
        for (key, score) in scores.iter_mut().enumerate() {
            *score = (Single(*score) + Single(bias.at(query.position, key, head))).0;
        }
    }
}

/// The projections of queries and outputs around [`attend`], for a tile of tokens.
#[derive(Clone, Copy)]
pub(crate) struct Attending<'p, 'm> {
    /// Where the matrices lie.
    pub region: Region<'p, 'm>,
    pub q: u16,
    pub o: u16,
    /// Width of all heads' vectors together.
    pub inner: usize,
    pub rotary: Option<Rotary<'m>>,
    pub bias: Option<RelativeBias<'m>>,
    /// Factor of q·k.
    pub scale: f32,
}

/// Which tokens attend to which keys.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// Position of the tile's first token.
    pub first: usize,
    /// Tokens of the tile.
    pub count: usize,
    /// Keys attended to: positions 0 … keys − 1.
    pub keys: usize,
}

impl Attending<'_, '_> {
    /// o · Attention(q · x) for the rows of `tile`, with `wide` (`count · inner`) as scratch; what of
    /// it `turn` has.
    #[allow(clippy::too_many_arguments)]
    pub fn apply(
        &self,
        tile: &mut Tile<'_>,
        wide: &mut [f32],
        cache: &KvCache<'_>,
        scratch: &mut Scratch<'_>,
        span: Span,
        output: &mut Output<'_>,
        turn: &mut Turn,
    ) {
        let (inner, count) = (self.inner, span.count);
        let mut queries = Output {
            rows: wide,
            stride: inner,
            op: Op::Store,
            gated: None,
        };
        self.region
            .apply(self.q, tile.input(), count, &mut queries, turn);

        // A piece is a head of a token.
        let d_kv = cache.d_kv.max(1);
        let heads = inner.checked_div(d_kv).unwrap_or(0).max(1);
        let all = count.saturating_mul(heads);
        let some = turn.take(all, self.cost(d_kv, span.keys), 1);
        let vectors = wide.get_mut(some.start.saturating_mul(d_kv)..);
        let vectors = vectors.unwrap_or_default().chunks_exact_mut(d_kv);
        for (piece, vector) in some.clone().zip(vectors) {
            if let Some(rotary) = &self.rotary {
                let token = piece.checked_div(heads).unwrap_or(0);
                rotary.apply(vector, span.first.saturating_add(token));
            }
        }
        let whole = some.len() == all;
        if !whole || !self.attend_by_host(wide, cache, span) {
            self.attend_one_by_one(wide, cache, scratch, span, some);
        }

        let tokens = turn.take(count, inner.saturating_mul(QUANTIZE), 1);
        let input = tile.requantize(wide, inner, tokens);
        self.region.apply(self.o, input, count, output, turn);
    }

    /// What a head of a token costs in multiply-accumulates: two products with each key, and the
    /// softmax.
    fn cost(&self, d_kv: usize, keys: usize) -> usize {
        let of_a_key = d_kv.saturating_mul(PRODUCTS).saturating_add(SOFTMAX);
        let rest = d_kv.saturating_mul(QUERY);
        keys.saturating_mul(of_a_key).saturating_add(rest)
    }

    /// Attention by the kernels of this machine, if it has some for that.
    fn attend_by_host(&self, _wide: &mut [f32], _cache: &KvCache<'_>, _span: Span) -> bool {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        if let KvValues::Int8 {
            k,
            v,
            k_scales,
            v_scales,
        } = &_cache.values
        {
            let d_kv = _cache.d_kv.max(1);
            let last = _span.first.saturating_add(_span.count).saturating_sub(1);
            let bias = |head: usize, line: &mut [f32]| {
                if let Some(bias) = &self.bias {
                    for (key, value) in line.iter_mut().enumerate() {
                        *value = bias.at(last, key, head);
                    }
                }
            };
            let mut attention = crate::kernels::x86::Attention {
                queries: _wide,
                count: _span.count,
                heads: self.inner / d_kv,
                d_kv,
                kv_heads: _cache.heads,
                k,
                v,
                k_scales,
                v_scales,
                keys: _span.keys,
                scale: self.scale,
                bias: match self.bias {
                    Some(_) => Some(&bias),
                    None => None,
                },
            };
            return crate::kernels::x86::attend(&mut attention);
        }
        false
    }

    fn attend_one_by_one(
        &self,
        wide: &mut [f32],
        cache: &KvCache<'_>,
        scratch: &mut Scratch<'_>,
        span: Span,
        pieces: Range<usize>,
    ) {
        let d_kv = cache.d_kv.max(1);
        let heads = self.inner.checked_div(d_kv).unwrap_or(0).max(1);
        let group = heads.checked_div(cache.heads.max(1)).unwrap_or(0);
        let vectors = wide.get_mut(pieces.start.saturating_mul(d_kv)..);
        let vectors = vectors.unwrap_or_default().chunks_exact_mut(d_kv);
        for (piece, vector) in pieces.zip(vectors) {
            let token = piece.checked_div(heads).unwrap_or(0);
            let head = piece.saturating_sub(token.saturating_mul(heads));
            let query = Query {
                keys: span.keys,
                position: span.first.saturating_add(token),
                scale: self.scale,
                bias: self.bias,
                head,
                kv_head: head.checked_div(group).unwrap_or(0),
            };
            attend(vector, cache, query, scratch);
        }
    }
}
