//! Kernels for 64-bit x86 with an operating system: chosen when the program runs, the same bits as the
//! portable ones.
//!
//! Integer sums are exact, so their order is free; everything that is rounded is done as the
//! contract says it, value by value, only several values at a time.
#![allow(unsafe_code)]

/// A function with a body that is generic over [`Isa`](isa::Isa), compiled for every level.
///
/// The function is safe to call for a level that the machine has, if its body is.
macro_rules! levels {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(level: $crate::kernels::host::Level, $($arg: $ty),*) {
            use $crate::kernels::host::Level;
            use $crate::kernels::x86::isa;

            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller's.
                unsafe { $body::<isa::Avx512>($($arg),*) }
            }
            #[target_feature(enable = "avx2,avxvnni")]
            unsafe fn avx_vnni($($arg: $ty),*) {
                // SAFETY: the caller's.
                unsafe { $body::<isa::AvxVnni>($($arg),*) }
            }
            #[target_feature(enable = "avx2")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: the caller's.
                unsafe { $body::<isa::Avx2>($($arg),*) }
            }
            #[target_feature(enable = "sse4.1")]
            unsafe fn sse41($($arg: $ty),*) {
                // SAFETY: the caller's.
                unsafe { $body::<isa::Sse41>($($arg),*) }
            }
            // SAFETY: the machine has what the level needs.
            unsafe {
                match level {
                    Level::Avx512 => avx512($($arg),*),
                    Level::AvxVnni => avx_vnni($($arg),*),
                    Level::Avx2 => avx2($($arg),*),
                    _ => sse41($($arg),*),
                }
            }
        }
    };
}

mod attention;
mod floats;
mod functions;
mod isa;
mod limits;
mod pack;
mod product;
mod rows;
mod scratch;
#[cfg(test)]
mod tests;
mod tile;

use super::activation::Activation;
use super::host::{Level, level};
use super::integer::Affine;
use super::product::{Int8, Output, Quantized};
pub(crate) use attention::Attention;
use core::ops::Range;
use product::Product;
pub(crate) use rows::Norm;

/// Applies rows `range` (from a multiple of 16 on) of a matrix to `tokens` rows. `false`, and nothing
/// done, where this machine has no kernels for that.
pub(crate) fn product(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: &Quantized<'_>,
    tokens: usize,
    output: &mut Output<'_>,
) -> bool {
    let level = level();
    if level == Level::Portable {
        return false;
    }
    match Product::new(matrix, range, x, tokens, output) {
        Some(product) => {
            product.run_all(level);
            true
        }
        None => false,
    }
}

/// The level, unless it is the portable one.
fn vectors() -> Option<Level> {
    Some(level()).filter(|level| *level != Level::Portable)
}

/// [`quantize`](super::integer::quantize), unless the level is the portable one.
pub(crate) fn quantize(x: &[f32], q: &mut [i8]) -> Option<Affine> {
    let mut affine = Affine::default();
    // SAFETY: `level` gives one that the machine has.
    vectors().map(|level| unsafe { rows::quantize(level, x, q, &mut affine) })?;
    Some(affine)
}

/// [`quantize_symmetric`](super::integer::quantize_symmetric) of each vector of `width` values,
/// likewise; says whether it did it.
pub(crate) fn quantize_vectors(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) -> bool {
    // SAFETY: as above.
    let done = vectors().map(|level| unsafe { rows::symmetric(level, x, width, q, scales) });
    done.is_some()
}

/// A norm of a row, left in `near`, and [`quantize`](super::integer::quantize) of that, likewise.
pub(crate) fn norm_quantize(
    x: &[f32],
    norm: Norm<'_>,
    near: &mut [f32],
    q: &mut [i8],
) -> Option<Affine> {
    let near = near.get_mut(..x.len())?;
    let fits = norm.gain.len() == x.len() && norm.bias.is_none_or(|bias| bias.len() == x.len());
    let level = vectors().filter(|_| fits)?;
    let mut affine = Affine::default();
    // SAFETY: as above.
    unsafe { rows::norm_quantize(level, x, norm, near, q, &mut affine) };
    Some(affine)
}

/// [`rms_norm`](super::float::rms_norm), likewise; says whether it did it.
pub(crate) fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) -> bool {
    // SAFETY: as above.
    let done = vectors().map(|level| unsafe { rows::rms_norm(level, x, gain, eps) });
    done.is_some()
}

/// [`layer_norm`](super::float::layer_norm), likewise.
pub(crate) fn layer_norm(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) -> bool {
    // SAFETY: as above.
    let done = vectors().map(|level| unsafe { rows::layer_norm(level, x, gain, bias, eps) });
    done.is_some()
}

/// [`Activation::apply_slice`], likewise.
pub(crate) fn activate(activation: Activation, x: &mut [f32]) -> bool {
    // SAFETY: as above.
    let done = vectors().map(|level| unsafe { rows::activate(level, activation, x) });
    done.is_some()
}

/// Integer attention, likewise.
pub(crate) fn attend(attention: &mut Attention<'_>) -> bool {
    vectors().is_some_and(|level| attention.run(level))
}

/// Products in registers at a level that the machine has: see [`measure`](super::measure).
pub(crate) fn multiply(level: Level, rounds: usize) -> u64 {
    let mut count = 0;
    // SAFETY: the caller's level.
    unsafe { limits::multiply(level, rounds, &mut count) };
    count
}

/// Reads bytes likewise.
pub(crate) fn read(level: Level, bytes: &[u8]) -> u64 {
    let mut count = 0;
    // SAFETY: the caller's level.
    unsafe { limits::read(level, bytes, &mut count) };
    count
}
