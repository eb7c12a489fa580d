//! Rows of floats: quantization, norms, activations, dequantization. Each is the portable function of
//! the same name, sixteen values at a time; what is left at the end of a row goes through a copy.

use super::super::activation::Activation;
use super::super::integer::{Affine, TINY};
use super::super::{float, math};
use super::isa::Isa;

/// Values of a step.
const STEP: usize = 16;

/// Sixteen values of a row, from `at` on; zeros past its end.
#[inline(always)]
unsafe fn values<I: Isa>(x: &[f32], at: usize) -> I::F {
    // SAFETY: the caller enabled the features; only values of the row are read.
    unsafe {
        if at + STEP <= x.len() {
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
unsafe fn put<I: Isa>(x: &mut [f32], at: usize, v: I::F) {
    // SAFETY: as in `values`.
    unsafe {
        if at + STEP <= x.len() {
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

levels! {
    pub(super) unsafe fn norm_quantize(x: &[f32], norm: Norm<'_>, near: &mut [f32], q: &mut [i8], affine: &mut Affine) = norm_quantize_by
}

/// Normalizes a row into `near`, as long as it, and quantizes that.
#[inline(always)]
unsafe fn norm_quantize_by<I: Isa>(
    x: &[f32],
    norm: Norm<'_>,
    near: &mut [f32],
    q: &mut [i8],
    affine: &mut Affine,
) {
    // SAFETY: as in `values`.
    unsafe {
        let n = x.len() as f32;
        let mean = match norm.bias {
            Some(_) => sum::<I>(x) / n,
            // x − 0 is x.
            None => 0.0,
        };
        let variance = squares::<I>(x, mean) / n;
        let inverse = I::splat(1.0 / math::sqrt(variance + norm.eps));
        let mean = I::splat(mean);
        let (mut low, mut high) = (I::splat(0.0), I::splat(0.0));
        let mut at = 0;
        while at < x.len() {
            let mut v = I::mul(I::sub(values::<I>(x, at), mean), inverse);
            v = I::mul(v, values::<I>(norm.gain, at));
            if let Some(bias) = norm.bias {
                v = I::add(v, values::<I>(bias, at));
            }
            if at + STEP > x.len() {
                // What is past the end becomes zeros.
                let mut copy = [0.0f32; STEP];
                I::store(copy.as_mut_ptr(), v);
                for past in copy.iter_mut().skip(x.len() - at) {
                    *past = 0.0;
                }
                v = I::load(copy.as_ptr());
            }
            (low, high) = (I::min(v, low), I::max(v, high));
            put::<I>(near, at, v);
            at += STEP;
        }
        quantize_within::<I>(near, q, (low, high), affine);
    }
}

levels! {
    pub(super) unsafe fn quantize(x: &[f32], q: &mut [i8], affine: &mut Affine) = quantize_by
}

/// [`quantize`](super::super::integer::quantize).
#[inline(always)]
unsafe fn quantize_by<I: Isa>(x: &[f32], q: &mut [i8], affine: &mut Affine) {
    // SAFETY: as in `values`; `q` is written within its length.
    unsafe {
        let (mut low, mut high) = (I::splat(0.0), I::splat(0.0));
        let mut at = 0;
        while at < x.len() {
            // The zeros past the end change nothing.
            let v = values::<I>(x, at);
            (low, high) = (I::min(v, low), I::max(v, high));
            at += STEP;
        }
        quantize_within::<I>(x, q, (low, high), affine);
    }
}

/// Quantizes a row whose values are within the lanes of `low` and `high`.
#[inline(always)]
unsafe fn quantize_within<I: Isa>(
    x: &[f32],
    q: &mut [i8],
    (low, high): (I::F, I::F),
    affine: &mut Affine,
) {
    // SAFETY: as in `values`; `q` is written within its length.
    unsafe {
        let low = -greatest::<I>(I::sub(I::splat(0.0), low), 0.0);
        let high = greatest::<I>(high, 0.0);
        // 0 − low turned a low of +0 into one of −0, which the differences below do not show.
        let range = high - low;
        if !(TINY..=f32::MAX).contains(&range) {
            q.fill(0);
            *affine = Affine::default();
            return;
        }
        let inverse = 254.0 / range;
        let zero = math::round_half_even(-127.0 - low * inverse) as i32;
        let (by, most, least) = (I::splat(inverse), I::splat(254.0), I::splat(-254.0));
        let (shift, lowest) = (I::splat_i32(zero), I::splat_i32(-127));
        let count = x.len().min(q.len());
        let mut at = 0;
        while at < count {
            let v = I::mul(values::<I>(x, at), by);
            let v = I::round(I::max(least, I::min(most, v)));
            let v = I::max_i32(I::add_i32(v, shift), lowest);
            put_i8::<I>(q, at, count, v);
            at += STEP;
        }
        if let Some(padding) = q.get_mut(count..) {
            padding.fill(0);
        }
        *affine = Affine {
            scale: range / 254.0,
            zero,
        };
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

levels! {
    pub(super) unsafe fn symmetric(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32])
        = vectors_by
}

/// [`symmetric_by`] of each vector of `width` values.
#[inline(always)]
unsafe fn vectors_by<I: Isa>(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    let vectors = x
        .chunks_exact(width.max(1))
        .zip(q.chunks_exact_mut(width.max(1)));
    for ((x, q), scale) in vectors.zip(scales) {
        // SAFETY: the caller enabled the features.
        unsafe { symmetric_by::<I>(x, q, scale) };
    }
}

/// [`quantize_symmetric`](super::super::integer::quantize_symmetric).
#[inline(always)]
pub(super) unsafe fn symmetric_by<I: Isa>(x: &[f32], q: &mut [i8], scale: &mut f32) {
    // SAFETY: as in `quantize_by`.
    unsafe {
        let magnitude = I::splat_i32(0x7FFF_FFFF);
        let mut most = I::splat(0.0);
        let mut at = 0;
        while at < x.len() {
            let v = I::float(I::and(I::bits(values::<I>(x, at)), magnitude));
            most = I::max(v, most);
            at += STEP;
        }
        let most = greatest::<I>(most, 0.0);
        if !(TINY..=f32::MAX).contains(&most) {
            q.fill(0);
            *scale = 0.0;
            return;
        }
        let (by, limit, least) = (I::splat(127.0 / most), I::splat(127.0), I::splat(-127.0));
        let count = x.len().min(q.len());
        let mut at = 0;
        while at < count {
            let v = I::mul(values::<I>(x, at), by);
            put_i8::<I>(q, at, count, I::round(I::max(least, I::min(limit, v))));
            at += STEP;
        }
        *scale = most / 127.0;
    }
}

/// Joins eight lanes, after the values from `at` on went to theirs.
#[inline(always)]
unsafe fn join<I: Isa>(sum: I::E, rest: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; float::LANES];
    // SAFETY: as in `values`.
    unsafe { I::store8(lanes.as_mut_ptr(), sum) };
    for (index, x) in rest.enumerate() {
        if let Some(lane) = lanes.get_mut(index % float::LANES) {
            *lane += x;
        }
    }
    float::tree(lanes)
}

/// Σ xᵢ in eight lanes.
#[inline(always)]
unsafe fn sum<I: Isa>(x: &[f32]) -> f32 {
    let whole = x.len() / STEP * STEP;
    // SAFETY: as in `values`.
    unsafe {
        let mut lanes = I::zero8();
        let mut at = 0;
        while at < whole {
            lanes = I::sum8(lanes, I::load(x.as_ptr().add(at)));
            at += STEP;
        }
        join::<I>(lanes, x.iter().skip(whole).copied())
    }
}

/// Σ (xᵢ − mean)² in eight lanes.
#[inline(always)]
unsafe fn squares<I: Isa>(x: &[f32], mean: f32) -> f32 {
    let whole = x.len() / STEP * STEP;
    // SAFETY: as in `values`.
    unsafe {
        let mut lanes = I::zero8();
        let from = I::splat(mean);
        let mut at = 0;
        while at < whole {
            let v = I::sub(I::load(x.as_ptr().add(at)), from);
            lanes = I::sum8(lanes, I::mul(v, v));
            at += STEP;
        }
        let rest = x.iter().skip(whole).map(|x| (x - mean) * (x - mean));
        join::<I>(lanes, rest)
    }
}

levels! {
    pub(super) unsafe fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) = rms_norm_by
}

/// [`rms_norm`](float::rms_norm).
#[inline(always)]
unsafe fn rms_norm_by<I: Isa>(x: &mut [f32], gain: &[f32], eps: f32) {
    // SAFETY: as in `values`.
    unsafe {
        // x − 0 is x.
        let mean = squares::<I>(x, 0.0) / x.len() as f32;
        let inverse = I::splat(1.0 / math::sqrt(mean + eps));
        let count = x.len().min(gain.len());
        let x = x.get_mut(..count).unwrap_or_default();
        let mut at = 0;
        while at < count {
            let v = I::mul(values::<I>(x, at), inverse);
            put::<I>(x, at, I::mul(v, values::<I>(gain, at)));
            at += STEP;
        }
    }
}

levels! {
    pub(super) unsafe fn layer_norm(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32)
        = layer_norm_by
}

/// [`layer_norm`](float::layer_norm).
#[inline(always)]
unsafe fn layer_norm_by<I: Isa>(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    // SAFETY: as in `values`.
    unsafe {
        let n = x.len() as f32;
        let mean = sum::<I>(x) / n;
        let variance = squares::<I>(x, mean) / n;
        let inverse = I::splat(1.0 / math::sqrt(variance + eps));
        let mean = I::splat(mean);
        let count = x.len().min(gain.len()).min(bias.len());
        let x = x.get_mut(..count).unwrap_or_default();
        let mut at = 0;
        while at < count {
            let v = I::mul(I::sub(values::<I>(x, at), mean), inverse);
            let v = I::mul(v, values::<I>(gain, at));
            put::<I>(x, at, I::add(v, values::<I>(bias, at)));
            at += STEP;
        }
    }
}

levels! {
    pub(super) unsafe fn activate(activation: Activation, x: &mut [f32]) = activate_by
}

/// [`Activation::apply_slice`].
#[inline(always)]
unsafe fn activate_by<I: Isa>(activation: Activation, x: &mut [f32]) {
    // SAFETY: as in `values`.
    unsafe {
        let mut at = 0;
        while at < x.len() {
            let v = values::<I>(x, at);
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
            put::<I>(x, at, y);
            at += STEP;
        }
    }
}
