//! Rows of floats: quantization, norms, activations. Each is the portable function of
//! the same name, sixteen values at a time; what is left at the end of a row goes through a copy.

use super::super::activation::Activation;
use super::super::integer::{Affine, TINY};
use super::super::{float, math};
use super::isa::Isa;
use core::arch::x86_64::{
    _mm_add_ps, _mm_div_ps, _mm_loadu_ps, _mm_set1_ps, _mm_sqrt_ps, _mm_storeu_ps,
};

/// Values of a step.
const STEP: usize = 16;

/// Sixteen values of a row, from `at` on; zeros past its end, unless it is known that all are there.
#[inline(always)]
unsafe fn values<I: Isa, const WHOLE: bool>(x: &[f32], at: usize) -> I::F {
    // SAFETY: the caller enabled the features; only values of the row are read.
    unsafe {
        if WHOLE || at + STEP <= x.len() {
            debug_assert!(at + STEP <= x.len());
            return I::load(x.as_ptr().add(at));
        }
        let mut copy = [0.0f32; STEP];
        for (to, from) in copy.iter_mut().zip(x.iter().skip(at)) {
            *to = *from;
        }
        I::load(copy.as_ptr())
    }
}

/// Puts sixteen values back; what is past the row's end is left out.
#[inline(always)]
unsafe fn put<I: Isa, const WHOLE: bool>(x: &mut [f32], at: usize, v: I::F) {
    // SAFETY: as in `values`.
    unsafe {
        if WHOLE || at + STEP <= x.len() {
            debug_assert!(at + STEP <= x.len());
            I::store(x.as_mut_ptr().add(at), v);
            return;
        }
        let mut copy = [0.0f32; STEP];
        I::store(copy.as_mut_ptr(), v);
        for (to, from) in x.iter_mut().skip(at).zip(copy) {
            *to = from;
        }
    }
}

/// The greatest of 16 lanes and `least`; lanes are no NaN.
#[inline(always)]
pub(super) unsafe fn greatest<I: Isa>(v: I::F, least: f32) -> f32 {
    // SAFETY: as in `values`.
    let lane = unsafe { I::greatest(v) };
    if lane > least { lane } else { least }
}

/// A norm: [`float::rms_norm`] without a bias, [`float::layer_norm`] with one.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub gain: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub eps: f32,
}

impl Norm<'_> {
    /// Whether it is one of rows of `width` values.
    pub fn fits(&self, width: usize) -> bool {
        self.gain.len() == width && self.bias.is_none_or(|bias| bias.len() == width)
    }
}

/// A row's mean (0 without a bias: x − 0 is x), and 1 / sqrt(variance + ε).
type Moments = (f32, f32);

/// Those of a row.
#[inline(always)]
pub(super) unsafe fn moments<I: Isa>(x: &[f32], norm: Norm<'_>) -> Moments {
    // SAFETY: as in `values`.
    unsafe {
        let n = x.len() as f32;
        let mean = match norm.bias {
            Some(_) => sum::<I>(x) / n,
            None => 0.0,
        };
        let variance = squares::<I>(x, mean) / n;
        let [inverse, ..] = inverses([variance; 4], norm);
        (mean, inverse)
    }
}

/// Those of four rows of the same length: each sum waits for itself, so that several are made at a
/// time.
#[inline(always)]
pub(super) unsafe fn moments_of_four<I: Isa>(x: [&[f32]; 4], norm: Norm<'_>) -> [Moments; 4] {
    // SAFETY: as in `values`.
    unsafe {
        let [first, ..] = x;
        let n = first.len() as f32;
        let means = match norm.bias {
            Some(_) => sums_of_four::<I, false>(x, [0.0; 4]).map(|sum| sum / n),
            None => [0.0; 4],
        };
        let variances = sums_of_four::<I, true>(x, means).map(|sum| sum / n);
        let inverses = inverses(variances, norm);
        let mut all = [(0.0, 0.0); 4];
        for (all, both) in all.iter_mut().zip(means.into_iter().zip(inverses)) {
            *all = both;
        }
        all
    }
}

/// 1 / sqrt(variance + ε) of four rows.
#[inline(always)]
unsafe fn inverses(variances: [f32; 4], norm: Norm<'_>) -> [f32; 4] {
    let mut inverses = [0.0; 4];
    // SAFETY: SSE is part of the target.
    unsafe {
        let sums = _mm_add_ps(_mm_loadu_ps(variances.as_ptr()), _mm_set1_ps(norm.eps));
        let by_roots = _mm_div_ps(_mm_set1_ps(1.0), _mm_sqrt_ps(sums));
        _mm_storeu_ps(inverses.as_mut_ptr(), by_roots);
    }
    inverses
}

/// Σ xᵢ, or Σ (xᵢ − mean)² where `SQUARES`, of each of four rows, in eight lanes.
#[inline(always)]
unsafe fn sums_of_four<I: Isa, const SQUARES: bool>(x: [&[f32]; 4], means: [f32; 4]) -> [f32; 4] {
    let [first, ..] = x;
    let whole = first.len() / STEP * STEP;
    // SAFETY: as in `values`; all rows are as long as the first.
    unsafe {
        let value = |row: usize, at: usize| {
            let v = I::load(x.get_unchecked(row).as_ptr().add(at));
            match SQUARES {
                true => {
                    let v = I::sub(v, I::splat(*means.get_unchecked(row)));
                    I::mul(v, v)
                }
                false => v,
            }
        };
        let (mut ab, mut cd) = (I::zero_pair(), I::zero_pair());
        let mut at = 0;
        while at < whole {
            ab = I::sum_pair(ab, value(0, at), value(1, at));
            cd = I::sum_pair(cd, value(2, at), value(3, at));
            at += STEP;
        }
        let mut lanes = [[0.0f32; float::LANES]; 4];
        I::store_pair(lanes.as_mut_ptr().cast(), ab);
        I::store_pair(lanes.as_mut_ptr().add(2).cast(), cd);
        let mut sums = [0.0; 4];
        for (((sum, lanes), x), mean) in sums.iter_mut().zip(lanes).zip(x).zip(means) {
            let rest = x.iter().skip(whole).map(|x| match SQUARES {
                true => (x - mean) * (x - mean),
                false => *x,
            });
            *sum = join(lanes, rest);
        }
        sums
    }
}

/// Sixteen values of a normed row.
#[inline(always)]
unsafe fn normed<I: Isa, const WHOLE: bool>(
    x: &[f32],
    at: usize,
    (mean, inverse): Moments,
    norm: Norm<'_>,
) -> I::F {
    // SAFETY: as in `values`.
    unsafe {
        let mut v = values::<I, WHOLE>(x, at);
        if norm.bias.is_some() {
            v = I::sub(v, I::splat(mean));
        }
        v = I::mul(
            I::mul(v, I::splat(inverse)),
            values::<I, WHOLE>(norm.gain, at),
        );
        match norm.bias {
            Some(bias) => I::add(v, values::<I, WHOLE>(bias, at)),
            None => v,
        }
    }
}

/// Normalizes a row into `near`, as long as it, as are gain and bias, and quantizes that.
#[inline(always)]
pub(super) unsafe fn norm_quantize<I: Isa>(
    x: &[f32],
    moments: Moments,
    norm: Norm<'_>,
    near: &mut [f32],
    q: &mut [i8],
) -> Affine {
    // SAFETY: as in `values`.
    unsafe {
        let mut bounds = Bounds::<I>::none();
        let mut at = 0;
        while at + 2 * STEP <= x.len() {
            let a = normed::<I, true>(x, at, moments, norm);
            let b = normed::<I, true>(x, at + STEP, moments, norm);
            bounds.widen_both(a, b);
            put::<I, true>(near, at, a);
            put::<I, true>(near, at + STEP, b);
            at += 2 * STEP;
        }
        while at < x.len() {
            let mut v = normed::<I, false>(x, at, moments, norm);
            if at + STEP > x.len() {
                // What is past the end becomes zeros.
                let mut copy = [0.0f32; STEP];
                I::store(copy.as_mut_ptr(), v);
                for past in copy.iter_mut().skip(x.len() - at) {
                    *past = 0.0;
                }
                v = I::load(copy.as_ptr());
            }
            bounds.widen(v);
            put::<I, false>(near, at, v);
            at += STEP;
        }
        quantize_within::<I>(near, q, bounds)
    }
}

/// Normalizes a row in place.
#[inline(always)]
pub(super) unsafe fn norm_in_place<I: Isa>(x: &mut [f32], moments: Moments, norm: Norm<'_>) {
    let mut at = 0;
    while at < x.len() {
        // SAFETY: as in `values`.
        unsafe {
            let v = normed::<I, false>(x, at, moments, norm);
            put::<I, false>(x, at, v);
        }
        at += STEP;
    }
}

/// The lanes' least and greatest values, and 0. Two of each, so that one does not wait for the one
/// before.
struct Bounds<I: Isa> {
    low: [I::F; 2],
    high: [I::F; 2],
}

impl<I: Isa> Bounds<I> {
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: the caller enabled the features.
        let zero = unsafe { I::splat(0.0) };
        Self {
            low: [zero; 2],
            high: [zero; 2],
        }
    }

    #[inline(always)]
    unsafe fn widen(&mut self, v: I::F) {
        let ([low, _], [high, _]) = (&mut self.low, &mut self.high);
        // SAFETY: as above.
        unsafe { (*low, *high) = (I::min(v, *low), I::max(v, *high)) };
    }

    /// Two vectors of values.
    #[inline(always)]
    unsafe fn widen_both(&mut self, a: I::F, b: I::F) {
        let ([low, low2], [high, high2]) = (&mut self.low, &mut self.high);
        // SAFETY: as above.
        unsafe {
            (*low, *high) = (I::min(a, *low), I::max(a, *high));
            (*low2, *high2) = (I::min(b, *low2), I::max(b, *high2));
        }
    }
}

/// [`quantize`](super::super::integer::quantize).
#[inline(always)]
pub(super) unsafe fn quantize<I: Isa>(x: &[f32], q: &mut [i8]) -> Affine {
    // SAFETY: as in `values`; `q` is written within its length.
    unsafe {
        let mut bounds = Bounds::<I>::none();
        let mut at = 0;
        while at + 2 * STEP <= x.len() {
            let two = (values::<I, true>(x, at), values::<I, true>(x, at + STEP));
            bounds.widen_both(two.0, two.1);
            at += 2 * STEP;
        }
        while at < x.len() {
            // The zeros past the end change nothing.
            bounds.widen(values::<I, false>(x, at));
            at += STEP;
        }
        quantize_within::<I>(x, q, bounds)
    }
}

/// Quantizes a row whose values are within the bounds.
#[inline(always)]
unsafe fn quantize_within<I: Isa>(x: &[f32], q: &mut [i8], bounds: Bounds<I>) -> Affine {
    // SAFETY: as in `values`; `q` is written within its length.
    unsafe {
        let ([low, low2], [high, high2]) = (bounds.low, bounds.high);
        let (low, high) = (I::min(low, low2), I::max(high, high2));
        let low = -greatest::<I>(I::sub(I::splat(0.0), low), 0.0);
        let high = greatest::<I>(high, 0.0);
        // 0 − low turned a low of +0 into one of −0, which the differences below do not show.
        let range = high - low;
        if !(TINY..=f32::MAX).contains(&range) {
            q.fill(0);
            return Affine::default();
        }
        let inverse = 254.0 / range;
        let zero = math::round_half_even(-127.0 - low * inverse) as i32;
        // No number is beyond the range, so that none is beyond ±254 steps once it is rounded.
        let by = I::splat(inverse);
        let steps = |v: I::F| I::round(I::mul(v, by));
        let count = x.len().min(q.len());
        let mut at = 0;
        while at + 4 * STEP <= count {
            let four = [
                steps(values::<I, true>(x, at)),
                steps(values::<I, true>(x, at + STEP)),
                steps(values::<I, true>(x, at + 2 * STEP)),
                steps(values::<I, true>(x, at + 3 * STEP)),
            ];
            I::store_steps(q.as_mut_ptr().add(at), four, zero);
            at += 4 * STEP;
        }
        let (shift, lowest) = (I::splat_i32(zero), I::splat_i32(-127));
        while at < count {
            let v = steps(values::<I, false>(x, at));
            let v = I::max_i32(I::add_i32(v, shift), lowest);
            put_i8::<I>(q, at, count, v);
            at += STEP;
        }
        if let Some(padding) = q.get_mut(count..) {
            padding.fill(0);
        }
        Affine {
            scale: range / 254.0,
            zero,
        }
    }
}

/// Puts sixteen values as bytes, up to `end`.
#[inline(always)]
unsafe fn put_i8<I: Isa>(q: &mut [i8], at: usize, end: usize, v: I::S) {
    // SAFETY: as in `values`; `end` is at most the length.
    unsafe {
        if at + STEP <= end {
            I::store_i8(q.as_mut_ptr().add(at), v);
            return;
        }
        let mut copy = [0i8; STEP];
        I::store_i8(copy.as_mut_ptr(), v);
        for (to, from) in q.iter_mut().take(end).skip(at).zip(copy) {
            *to = from;
        }
    }
}

/// [`quantize_symmetric`](super::super::integer::quantize_symmetric).
#[inline(always)]
pub(super) unsafe fn symmetric<I: Isa>(x: &[f32], q: &mut [i8]) -> f32 {
    // SAFETY: as in `quantize`.
    unsafe {
        let magnitude = I::splat_i32(0x7FFF_FFFF);
        let mut most = I::splat(0.0);
        let mut at = 0;
        while at < x.len() {
            let v = I::float(I::and(I::bits(values::<I, false>(x, at)), magnitude));
            most = I::max(v, most);
            at += STEP;
        }
        let most = greatest::<I>(most, 0.0);
        if !(TINY..=f32::MAX).contains(&most) {
            q.fill(0);
            return 0.0;
        }
        // No number is beyond ±127 steps once it is rounded.
        let by = I::splat(127.0 / most);
        let steps = |v: I::F| I::round(I::mul(v, by));
        let count = x.len().min(q.len());
        let mut at = 0;
        while at + 4 * STEP <= count {
            let four = [
                steps(values::<I, true>(x, at)),
                steps(values::<I, true>(x, at + STEP)),
                steps(values::<I, true>(x, at + 2 * STEP)),
                steps(values::<I, true>(x, at + 3 * STEP)),
            ];
            I::store_steps(q.as_mut_ptr().add(at), four, 0);
            at += 4 * STEP;
        }
        while at < count {
            put_i8::<I>(q, at, count, steps(values::<I, false>(x, at)));
            at += STEP;
        }
        most / 127.0
    }
}

/// Joins eight lanes, after the values of `rest` went to theirs.
#[inline(always)]
fn join(mut lanes: [f32; float::LANES], rest: impl Iterator<Item = f32>) -> f32 {
    for (index, x) in rest.enumerate() {
        if let Some(lane) = lanes.get_mut(index % float::LANES) {
            *lane += x;
        }
    }
    float::tree(lanes)
}

/// The lanes of a sum.
#[inline(always)]
unsafe fn lanes<I: Isa>(sum: I::E) -> [f32; float::LANES] {
    let mut lanes = [0.0f32; float::LANES];
    // SAFETY: the caller enabled the features.
    unsafe { I::store8(lanes.as_mut_ptr(), sum) };
    lanes
}

/// Σ xᵢ in eight lanes.
#[inline(always)]
unsafe fn sum<I: Isa>(x: &[f32]) -> f32 {
    let whole = x.len() / STEP * STEP;
    // SAFETY: as in `values`.
    unsafe {
        let mut sum = I::zero8();
        let mut at = 0;
        while at < whole {
            sum = I::sum8(sum, I::load(x.as_ptr().add(at)));
            at += STEP;
        }
        join(lanes::<I>(sum), x.iter().skip(whole).copied())
    }
}

/// Σ (xᵢ − mean)² in eight lanes.
#[inline(always)]
unsafe fn squares<I: Isa>(x: &[f32], mean: f32) -> f32 {
    let whole = x.len() / STEP * STEP;
    // SAFETY: as in `values`.
    unsafe {
        let mut sum = I::zero8();
        let from = I::splat(mean);
        let mut at = 0;
        while at < whole {
            let v = I::sub(I::load(x.as_ptr().add(at)), from);
            sum = I::sum8(sum, I::mul(v, v));
            at += STEP;
        }
        let rest = x.iter().skip(whole).map(|x| (x - mean) * (x - mean));
        join(lanes::<I>(sum), rest)
    }
}

/// [`Activation::apply_slice`].
#[inline(always)]
pub(super) unsafe fn activate<I: Isa>(activation: Activation, x: &mut [f32]) {
    // SAFETY: as in `values`.
    unsafe {
        let mut at = 0;
        while at < x.len() {
            let v = values::<I, false>(x, at);
            let y = match activation {
                // As the portable one: −0 and NaN stay.
                Activation::Relu => {
                    let zero = I::splat(0.0);
                    I::select(I::gt(zero, v), zero, v)
                }
                Activation::GeluTanh => super::functions::gelu_tanh::<I>(v),
                Activation::Silu => super::functions::silu::<I>(v),
                Activation::Gelu => super::functions::gelu::<I>(v),
            };
            put::<I, false>(x, at, y);
            at += STEP;
        }
    }
}
