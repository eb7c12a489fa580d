//! Batches of rows of floats, cut into parts for threads. Rows are independent: which part one is in
//! changes no bit.

use super::super::activation::Activation;
use super::super::host::Level;
use super::super::integer::Affine;
#[cfg(feature = "threads")]
use super::super::pool;
use super::super::product::Source;
use super::rows::{self, Norm};
use super::{isa::Isa, scratch};
use core::ops::Range;

/// What a value of a row costs, in multiplications of a product.
const VALUE: usize = 64;

/// Values of a part of what has no rows: a multiple of sixteen.
const PIECE: usize = 1024;

/// Calls `part` with ranges that make up 0 … `units` − 1, on as many threads as there are and as it is
/// worth for units of `values` values.
fn cut(units: usize, values: usize, part: &(dyn Fn(Range<usize>) + Sync)) {
    #[cfg(feature = "threads")]
    {
        let (parts, size) = pool::cut(units, values.saturating_mul(VALUE));
        pool::run(parts, &|index| {
            let start = index * size;
            part(start..units.min(start + size));
        });
    }
    #[cfg(not(feature = "threads"))]
    {
        let _ = (values, VALUE);
        part(0..units);
    }
}

/// Memory of which threads write different parts.
struct Shared<T>(*mut T);

// SAFETY: see `Shared::part`.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// `len` values from `start` on.
    ///
    /// # Safety
    /// They are within the memory, which is borrowed for as long as the result, and nothing else uses
    /// them meanwhile.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller's.
        unsafe { core::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Where quantized rows go.
pub(crate) struct Target<'a> {
    pub bytes: &'a mut [i8],
    /// Bytes from row to row.
    pub pitch: usize,
    /// Bytes of a row, zeros at its end included.
    pub len: usize,
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [i32],
}

/// A batch whose operands were checked.
struct Quantizing<'a> {
    source: Source<'a>,
    norm: Option<Norm<'a>>,
    bytes: Shared<i8>,
    pitch: usize,
    len: usize,
    scales: Shared<f32>,
    zeros: Shared<i32>,
}

/// Quantizes `count` rows, normalized before that if there is a norm. `false`, and nothing done, if
/// the operands do not fit each other.
pub(super) fn quantize(
    level: Level,
    source: Source<'_>,
    norm: Option<Norm<'_>>,
    count: usize,
    target: &mut Target<'_>,
) -> bool {
    let bytes = target.pitch.checked_mul(count);
    let fits = target.len <= target.pitch
        && source.width <= target.len
        && bytes.is_some_and(|bytes| bytes <= target.bytes.len())
        && count <= target.scales.len()
        && count <= target.zeros.len()
        && norm.is_none_or(|norm| norm.fits(source.width))
        && (0..count).all(|index| source.row(index).is_some());
    if fits {
        let job = Quantizing {
            source,
            norm,
            bytes: Shared(target.bytes.as_mut_ptr()),
            pitch: target.pitch,
            len: target.len,
            scales: Shared(target.scales.as_mut_ptr()),
            zeros: Shared(target.zeros.as_mut_ptr()),
        };
        cut(count, source.width, &|rows| {
            // SAFETY: the sizes were checked, parts have different rows, and the level is one that
            // this machine has.
            unsafe { quantize_rows(level, &job, rows) }
        });
    }
    fits
}

levels! {
    unsafe fn quantize_rows(job: &Quantizing<'_>, rows: Range<usize>) = quantize_rows_by
}

/// Some rows.
#[inline(always)]
unsafe fn quantize_rows_by<I: Isa>(job: &Quantizing<'_>, rows: Range<usize>) {
    let row = |index| job.source.row(index).unwrap_or_default();
    // SAFETY: `quantize` checked the sizes; these rows are this part's.
    unsafe {
        let bytes = |index: usize| job.bytes.part(index * job.pitch, job.len);
        let finish = |index: usize, affine: Affine| {
            if let ([scale], [zero]) = (job.scales.part(index, 1), job.zeros.part(index, 1)) {
                (*scale, *zero) = (affine.scale, affine.zero);
            }
        };
        let Some(norm) = job.norm else {
            for index in rows {
                finish(index, rows::quantize::<I>(row(index), bytes(index)));
            }
            return;
        };
        let width = job.source.width;
        let mut memory = scratch::take(width * size_of::<f32>());
        let near = core::slice::from_raw_parts_mut(memory.start().cast::<f32>(), width);
        let mut index = rows.start;
        while index < rows.end {
            let (count, moments) = next_moments::<I>(index..rows.end, row, norm);
            for (index, moments) in (index..).zip(moments).take(count) {
                let x = row(index);
                let affine = rows::norm_quantize::<I>(x, moments, norm, near, bytes(index));
                finish(index, affine);
            }
            index += count;
        }
    }
}

/// The moments of the first four rows, or of one where there are fewer, and how many those are.
#[inline(always)]
unsafe fn next_moments<'x, I: Isa>(
    rows: Range<usize>,
    row: impl Fn(usize) -> &'x [f32],
    norm: Norm<'_>,
) -> (usize, [(f32, f32); 4]) {
    let first = rows.start;
    // SAFETY: the caller enabled the features.
    unsafe {
        if rows.len() < 4 {
            return (1, [rows::moments::<I>(row(first), norm); 4]);
        }
        let four = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        (4, rows::moments_of_four::<I>(four, norm))
    }
}

/// Rows to be normalized in place.
struct Normalizing<'a> {
    rows: Shared<f32>,
    width: usize,
    norm: Norm<'a>,
}

/// Normalizes rows of `width` values in place; `false`, and nothing done, if the norm has another
/// width.
pub(super) fn normalize(level: Level, x: &mut [f32], width: usize, norm: Norm<'_>) -> bool {
    let fits = width > 0 && norm.fits(width);
    if fits {
        let count = x.len() / width;
        let rows = Shared(x.as_mut_ptr());
        let job = Normalizing { rows, width, norm };
        cut(count, width, &|rows| {
            // SAFETY: as in `quantize`.
            unsafe { normalize_rows(level, &job, rows) }
        });
    }
    fits
}

levels! {
    unsafe fn normalize_rows(job: &Normalizing<'_>, rows: Range<usize>) = normalize_rows_by
}

/// Some rows.
#[inline(always)]
unsafe fn normalize_rows_by<I: Isa>(job: &Normalizing<'_>, rows: Range<usize>) {
    // SAFETY: `normalize` counted the rows; these are this part's, and each borrow of one ends before
    // the next begins.
    unsafe {
        let row = |index: usize| &*job.rows.part(index * job.width, job.width);
        let mut index = rows.start;
        while index < rows.end {
            let (count, moments) = next_moments::<I>(index..rows.end, row, job.norm);
            for (index, moments) in (index..).zip(moments).take(count) {
                let x = job.rows.part(index * job.width, job.width);
                rows::norm_in_place::<I>(x, moments, job.norm);
            }
            index += count;
        }
    }
}

/// Quantizes each vector of `width` values symmetrically, as many as all three have.
pub(super) fn symmetric(level: Level, x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    let width = width.max(1);
    let count = (x.len() / width).min(q.len() / width).min(scales.len());
    let (q, scales) = (Shared(q.as_mut_ptr()), Shared(scales.as_mut_ptr()));
    cut(count, width, &|vectors| {
        let (start, count) = (vectors.start, vectors.len());
        let x = x
            .get(start * width..vectors.end * width)
            .unwrap_or_default();
        // SAFETY: so many there are, and parts have different ones; the level is one that this
        // machine has.
        unsafe {
            let q = q.part(start * width, count * width);
            vectors_of(level, x, width, q, scales.part(start, count));
        }
    });
}

levels! {
    unsafe fn vectors_of(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) = vectors_by
}

/// Some vectors.
#[inline(always)]
unsafe fn vectors_by<I: Isa>(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    let vectors = x.chunks_exact(width).zip(q.chunks_exact_mut(width));
    for ((x, q), scale) in vectors.zip(scales) {
        // SAFETY: the caller enabled the features.
        *scale = unsafe { rows::symmetric::<I>(x, q) };
    }
}

/// [`Activation::apply_slice`].
pub(super) fn activate(level: Level, activation: Activation, x: &mut [f32]) {
    let len = x.len();
    let x = Shared(x.as_mut_ptr());
    cut(len.div_ceil(PIECE), PIECE, &|pieces| {
        let start = pieces.start * PIECE;
        let count = len.min(pieces.end * PIECE) - start;
        // SAFETY: as in `symmetric`.
        unsafe { activate_some(level, activation, x.part(start, count)) };
    });
}

levels! {
    unsafe fn activate_some(activation: Activation, x: &mut [f32]) = activate_by
}

#[inline(always)]
unsafe fn activate_by<I: Isa>(activation: Activation, x: &mut [f32]) {
    // SAFETY: the caller enabled the features.
    unsafe { rows::activate::<I>(activation, x) };
}
