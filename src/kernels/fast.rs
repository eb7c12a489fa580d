//! Rows of floats by the fastest kernels that there are: the host's where it has some, else the
//! portable ones, which have the same names.

use super::activation::Activation;
use super::integer::Affine;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use super::x86;
use super::{float, integer};

/// [`integer::quantize`].
#[inline]
pub(crate) fn quantize(x: &[f32], q: &mut [i8]) -> Affine {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        let (mut scales, mut zeros) = ([0.0], [0]);
        let source = super::product::Source {
            values: x,
            width: x.len(),
            picks: None,
        };
        let mut target = x86::Target {
            pitch: q.len(),
            len: q.len(),
            bytes: &mut *q,
            scales: &mut scales,
            zeros: &mut zeros,
        };
        if x86::quantize(source, None, 1, &mut target) {
            let ([scale], [zero]) = (scales, zeros);
            return Affine { scale, zero };
        }
    }
    integer::quantize(x, q)
}

/// [`integer::quantize_symmetric`] of each vector of `width` values.
#[inline]
pub(crate) fn quantize_vectors(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if x86::quantize_vectors(x, width, q, scales) {
        return;
    }
    let width = width.max(1);
    let vectors = x.chunks_exact(width).zip(q.chunks_exact_mut(width));
    for ((x, q), scale) in vectors.zip(scales) {
        *scale = integer::quantize_symmetric(x, q);
    }
}

/// [`float::rms_norm`].
#[inline]
pub(crate) fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        let norm = x86::Norm {
            gain,
            bias: None,
            eps,
        };
        if x86::normalize(x, x.len(), norm) {
            return;
        }
    }
    float::rms_norm(x, gain, eps);
}

/// [`float::layer_norm`].
#[inline]
pub(crate) fn layer_norm(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        let norm = x86::Norm {
            gain,
            bias: Some(bias),
            eps,
        };
        if x86::normalize(x, x.len(), norm) {
            return;
        }
    }
    float::layer_norm(x, gain, bias, eps);
}

/// [`Activation::apply_slice`].
#[inline]
pub(crate) fn activate(activation: Activation, x: &mut [f32]) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if x86::activate(activation, x) {
        return;
    }
    activation.apply_slice(x);
}
