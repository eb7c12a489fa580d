//! From products to weights: what attention does with the scores of a query.

use super::super::float;
use super::super::integer::TINY;
use super::functions::exp_below;
use super::isa::Isa;
use super::rows::greatest;
use super::tile::BLOCK;

/// Keys whose products are summed in i32 before they join the f32 sum (contract).
pub(super) const CHUNK: usize = 512;

/// The greatest weight.
const MOST: f32 = 32767.0;

/// Scores and weights from query to query: pairs of blocks, the last one of which may be empty.
pub(super) const fn pitch(keys: usize) -> usize {
    keys.next_multiple_of(2 * BLOCK)
}

/// Products of a query with some blocks of keys, which become scores.
pub(super) struct Scoring<I: Isa> {
    pub sums: *const i32,
    pub scale: I::F,
    pub k_scales: *const f32,
    /// Read only where there are some.
    pub biases: *const f32,
    pub to: *mut f32,
    pub blocks: usize,
}

impl<I: Isa> Scoring<I> {
    /// Stores the scores and gives the greater of them and `most`. Only so many `keys` exist: the scores
    /// of others are −∞.
    #[inline(always)]
    pub unsafe fn scores(&self, most: I::F, with_bias: bool, keys: usize) -> I::F {
        // SAFETY: as in `put`.
        unsafe {
            match (keys < self.blocks * BLOCK, with_bias) {
                (true, true) => self.put::<true>(most, |s, at| cut::<I>(s, keys, at)),
                (true, false) => self.put::<false>(most, |s, at| cut::<I>(s, keys, at)),
                (false, true) => self.put::<true>(most, |s, _| s),
                (false, false) => self.put::<false>(most, |s, _| s),
            }
        }
    }

    /// Stores the scores, each block as `last` leaves it, and gives the greater of them and `most`.
    #[inline(always)]
    unsafe fn put<const BIAS: bool>(&self, most: I::F, last: impl Fn(I::F, usize) -> I::F) -> I::F {
        let mut most = most;
        // SAFETY: the caller enabled the features; the pointers are good for what the fields say.
        unsafe {
            for at in (0..self.blocks * BLOCK).step_by(BLOCK) {
                let scale = I::mul(self.scale, I::load(self.k_scales.add(at)));
                let mut s = I::mul(I::convert(I::load_i32(self.sums.add(at))), scale);
                if BIAS {
                    s = I::add(s, I::load(self.biases.add(at)));
                }
                s = last(s, at);
                most = I::max(s, most);
                I::store(self.to.add(at), s);
            }
        }
        most
    }
}

/// Rows of scores that become weights.
pub(super) struct Weighing<F> {
    pub scores: *mut f32,
    pub weights: *mut i16,
    /// A multiple of [`BLOCK`]; rows are [`pitch`] apart.
    pub keys: usize,
    /// The greatest score of each row, in some lane.
    pub most: *const F,
}

impl<F> Weighing<F> {
    /// `N` rows, 1 or 2, and the factor of each one's output.
    #[inline(always)]
    pub unsafe fn weigh<I: Isa<F = F>, const N: usize>(
        &self,
        v_scales: *const f32,
        factors: *mut f32,
    ) where
        F: Copy,
    {
        let (keys, pitch) = (self.keys, pitch(self.keys));
        // SAFETY: the caller enabled the features; the pointers are good for what the fields say.
        unsafe {
            let mut most = [I::splat(0.0); N];
            for (t, most) in most.iter_mut().enumerate() {
                let lanes = self.most.add(t).read();
                *most = I::splat(greatest::<I>(lanes, f32::NEG_INFINITY));
            }
            let mut rows = Rows::<I, N> {
                scores: self.scores,
                pitch,
                most,
                heaviest: [I::splat(0.0); N],
                one: I::zero8(),
                two: I::zero_pair(),
            };
            let mut key = 0;
            while key + 2 * BLOCK <= keys {
                match N {
                    2 => rows.exponentials::<4>(key, v_scales),
                    _ => rows.exponentials::<2>(key, v_scales),
                }
                key += 2 * BLOCK;
            }
            if key < keys {
                match N {
                    2 => rows.exponentials::<2>(key, v_scales),
                    _ => rows.exponentials::<1>(key, v_scales),
                }
            }
            let mut lanes = [[0.0f32; float::LANES]; 2];
            match N {
                2 => I::store_pair(lanes.as_mut_ptr().cast(), rows.two),
                _ => I::store8(lanes.as_mut_ptr().cast(), rows.one),
            }
            let heaviest = rows.heaviest;
            for (t, (lanes, heaviest)) in lanes.into_iter().zip(heaviest).enumerate() {
                let (scores, weights) = (self.scores.add(t * pitch), self.weights.add(t * pitch));
                let heaviest = greatest::<I>(heaviest, 0.0);
                if !(TINY..=f32::MAX).contains(&heaviest) {
                    weights.write_bytes(0, keys);
                    factors.add(t).write(0.0);
                    continue;
                }
                factors.add(t).write(heaviest / (MOST * float::tree(lanes)));
                // No weight is heavier, so that none is beyond the limit once it is rounded.
                let by = I::splat(MOST / heaviest);
                let weight = |key: usize| I::mul(I::load(scores.add(key)), by);
                let mut key = 0;
                while key < keys {
                    I::store_weights(weights.add(key), [weight(key), weight(key + BLOCK)]);
                    key += 2 * BLOCK;
                }
            }
        }
    }
}

/// `N` rows, 1 or 2, while their scores become exponentials times the values' scales.
struct Rows<I: Isa, const N: usize> {
    scores: *mut f32,
    pitch: usize,
    /// What each row's exponents are taken from.
    most: [I::F; N],
    /// The greatest product, in some lane.
    heaviest: [I::F; N],
    /// The sum of the exponentials of one row, or of two.
    one: I::E,
    two: I::P,
}

impl<I: Isa, const N: usize> Rows<I, N> {
    /// `V` vectors, as many of each row, from `key` on.
    #[inline(always)]
    unsafe fn exponentials<const V: usize>(&mut self, key: usize, v_scales: *const f32) {
        // SAFETY: as in `Weighing::weigh`.
        unsafe {
            let mut x = [I::splat(0.0); V];
            for (x, most) in x.chunks_exact_mut(V / N).enumerate().zip(self.most) {
                let (t, x) = x;
                for (at, x) in x.iter_mut().enumerate() {
                    let scores = self.scores.add(t * self.pitch + key + at * BLOCK);
                    *x = I::sub(I::load(scores), most);
                }
            }
            let e = exp_below::<I, V>(x);
            for at in 0..V / N {
                let v_scales = I::load(v_scales.add(key + at * BLOCK));
                for (t, heaviest) in self.heaviest.iter_mut().enumerate() {
                    let w = I::mul(*e.get_unchecked(t * (V / N) + at), v_scales);
                    *heaviest = I::max(w, *heaviest);
                    I::store(self.scores.add(t * self.pitch + key + at * BLOCK), w);
                }
                let first = *e.get_unchecked(at);
                match N {
                    2 => self.two = I::sum_pair(self.two, first, *e.get_unchecked(V / N + at)),
                    _ => self.one = I::sum8(self.one, first),
                }
            }
        }
    }
}

/// The lanes of the keys from `at` on that are below `keys`, then those of keys that do not exist:
/// their weight is 0.
#[inline(always)]
unsafe fn cut<I: Isa>(s: I::F, keys: usize, at: usize) -> I::F {
    let mut lanes = [0.0f32; BLOCK];
    // SAFETY: the caller enabled the features.
    unsafe {
        I::store(lanes.as_mut_ptr(), s);
        for lane in lanes.iter_mut().skip(keys.saturating_sub(at)) {
            *lane = f32::NEG_INFINITY;
        }
        I::load(lanes.as_ptr())
    }
}
