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

mod attend_one;
mod attention;
mod batch;
mod floats;
mod functions;
mod isa;
mod limits;
mod pack;
mod product;
mod rows;
mod scores;
mod scratch;
#[cfg(test)]
mod tests;
mod tile;

use super::activation::Activation;
use super::host::{Level, level};
use super::product::{Int8, Output, Quantized, Source};
pub(crate) use attention::Attention;
pub(crate) use batch::Target;
use core::ops::Range;
use product::Product;
pub(crate) use rows::Norm;

/// Applies rows `range` (from a multiple of 16 on) of a matrix to `tokens` rows, with max(0, y) for
/// each output y if it is to `rectify`. `false`, and nothing done, where this machine has no kernels
/// for that.
pub(crate) fn product(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: &Quantized<'_>,
    tokens: usize,
    rectify: bool,
    output: &mut Output<'_>,
) -> bool {
    let level = level();
    if level == Level::Portable {
        return false;
    }
    match Product::new(matrix, range, x, tokens, output) {
        Some(product) => {
            let product = if rectify {
                product.rectified()
            } else {
                product
            };
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

/// Quantizes rows as [`quantize`](super::integer::quantize) does, normalized before that if there is a
/// norm; says whether it did it: not at the portable level.
pub(crate) fn quantize(
    source: Source<'_>,
    norm: Option<Norm<'_>>,
    count: usize,
    target: &mut Target<'_>,
) -> bool {
    vectors().is_some_and(|level| batch::quantize(level, source, norm, count, target))
}

/// [`quantize_symmetric`](super::integer::quantize_symmetric) of each vector of `width` values,
/// likewise.
pub(crate) fn quantize_vectors(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) -> bool {
    let done = vectors().map(|level| batch::symmetric(level, x, width, q, scales));
    done.is_some()
}

/// A norm of each row of `width` values, in place, likewise.
pub(crate) fn normalize(x: &mut [f32], width: usize, norm: Norm<'_>) -> bool {
    vectors().is_some_and(|level| batch::normalize(level, x, width, norm))
}

/// [`Activation::apply_slice`], likewise.
pub(crate) fn activate(activation: Activation, x: &mut [f32]) -> bool {
    let done = vectors().map(|level| batch::activate(level, activation, x));
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
