//! Products of int8 matrices with rows of quantized activations.

use super::integer::{self, BATCH};
use super::layout::Layout;

/// Weights that are copied at once, and then meet every row of a batch.
const CHUNK: usize = 64;

/// Most sums that a call of [`dots`] gives.
pub const SUMS: usize = if cfg!(kernels = "v6m") { 128 } else { 64 };

/// Most of them with several tokens.
pub const SUMS_OF_SEVERAL: usize = 64;

/// The bytes of an int8 matrix, in the order that its layout says.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'m> {
    values: &'m [i8],
    stride: usize,
    layout: Layout,
}

/// How a row of quantized activations lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A byte a value.
    Bytes,
    /// An unsigned byte a value: 128 more. Products then have the values and zero points that are
    /// 128 more.
    Biased,
    /// What [`prepare`](super::lanes::prepare) makes of it, for [`Layout::Lanes4`].
    Lanes,
}

impl Form {
    /// The form in which this target's kernels want the activations that meet int8 weights of a
    /// layout.
    pub const fn of(layout: Layout) -> Self {
        target::form(layout)
    }

    /// Bytes of a row of so many values, a multiple of 16.
    pub const fn bytes(self, values: usize) -> usize {
        match self {
            Self::Bytes | Self::Biased => values,
            Self::Lanes => values.saturating_mul(2),
        }
    }

    /// What values, and with them zero points, are more than they were.
    pub const fn offset(self) -> i32 {
        match self {
            Self::Biased => 128,
            _ => 0,
        }
    }

    /// Brings a row into this form in place; its values are in the last bytes.
    pub fn prepare(self, row: &mut [i8]) {
        match self {
            Self::Bytes => {}
            Self::Biased => {
                for value in row {
                    *value ^= i8::MIN;
                }
            }
            Self::Lanes => super::lanes::prepare(row),
        }
    }
}

/// The layout that this target's kernels read fastest; rows in order where there are none.
pub const fn native() -> Layout {
    target::LAYOUT
}

/// Rows of quantized activations: bytes from row to row, and what they are.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row after row.
    pub bytes: &'a [i8],
    /// Bytes from row to row.
    pub pitch: usize,
    /// What each row is.
    pub form: Form,
}

impl<'a> Rows<'a> {
    /// The rows from `index` on.
    #[must_use]
    pub fn skip(self, index: usize) -> Self {
        Self {
            bytes: self.from(index),
            ..self
        }
    }

    /// Row `index`, from its first byte to the end of all rows.
    #[inline]
    pub fn from(&self, index: usize) -> &'a [i8] {
        let start = index.saturating_mul(self.pitch);
        self.bytes.get(start..).unwrap_or_default()
    }
}

impl<'m> Weights<'m> {
    /// A matrix whose rows have `stride` bytes, a multiple of 16.
    pub const fn new(values: &'m [i8], stride: usize, layout: Layout) -> Self {
        Self {
            values,
            stride,
            layout,
        }
    }

    /// The layout.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes of a row, padding included.
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// All bytes.
    pub const fn values(&self) -> &'m [i8] {
        self.values
    }

    /// The form in which this target's kernels want the activations that meet these weights.
    pub const fn form(&self) -> Form {
        Form::of(self.layout)
    }

    /// The weights of `row` from column `first` on, as many as `out` has room for.
    #[inline]
    pub fn unpack(&self, row: usize, first: usize, out: &mut [i8]) {
        let (layout, stride) = (self.layout, self.stride);
        let at = |col: usize| {
            let index = layout.index(row, col, stride);
            self.values.get(index).copied().unwrap_or(0)
        };
        if cfg!(kernels = "v6m") {
            // One loop for all layouts: little flash, and only models for other cores need it.
            for (out, col) in out.iter_mut().zip(first..) {
                let before = match layout {
                    Layout::Lanes4 if col % 2 == 1 => at(col.saturating_sub(1)),
                    Layout::Words16 | Layout::Bytes4 => {
                        *out = at(col) ^ i8::MIN;
                        continue;
                    }
                    _ => 0,
                };
                *out = at(col).wrapping_add(i8::from(before < 0));
            }
            return;
        }
        match layout {
            Layout::Rows => {
                let start = layout.index(row, first, stride);
                let weights = self.values.get(start..).unwrap_or_default();
                for (out, weight) in out.iter_mut().zip(weights) {
                    *out = *weight;
                }
            }
            Layout::Bytes8 => {
                for (out, col) in out.iter_mut().zip(first..) {
                    *out = at(col);
                }
            }
            Layout::Words16 if first.is_multiple_of(4) => {
                // Four columns lie side by side, the next four a group further.
                let start = layout.index(row, first, stride);
                let groups = self.values.get(start..).unwrap_or_default().chunks(64);
                for (out, group) in out.chunks_mut(4).zip(groups) {
                    for (out, value) in out.iter_mut().zip(group) {
                        *out = *value ^ i8::MIN;
                    }
                }
            }
            Layout::Words16 | Layout::Bytes4 => {
                for (out, col) in out.iter_mut().zip(first..) {
                    *out = at(col) ^ i8::MIN;
                }
            }
            Layout::Lanes4 => {
                for (out, col) in out.iter_mut().zip(first..) {
                    // The even weight's sign was borrowed from the odd one.
                    let borrowed = col % 2 == 1 && at(col.saturating_sub(1)) < 0;
                    *out = at(col).wrapping_add(i8::from(borrowed));
                }
            }
        }
    }
}

/// Rows of a matrix that one call of [`dots`] takes with so many tokens: a multiple of 4.
pub const fn rows_at_once(tokens: usize) -> usize {
    match tokens {
        // What a call costs by itself counts where a row is short, and where it sums activations.
        0..=1 if target::IS_SMALL => SUMS,
        0..=4 => 16,
        5..=8 => 8,
        _ => 4,
    }
}

/// `sums[r · tokens + t]` = Σ q·w of row `first + r` and token t, for `rows` rows (at most
/// [`rows_at_once`]) and at most 16 tokens. `first` is a multiple of
/// [`rows_at_once`], or of 16 where that is more. Kernels take
/// whole blocks of rows: where `sums` has room for four times ⌈`rows` / 4⌉ rows, they fill all of it.
///
/// Each weight is read once. Exact as [`integer::dot`] is.
#[inline(never)]
pub fn dots(
    weights: &Weights<'_>,
    first: usize,
    rows: usize,
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) {
    #[cfg(all(feature = "std", target_arch = "aarch64"))]
    if super::aarch64::dots(super::host::level(), weights, first, rows, x, tokens, sums) {
        return;
    }
    let done = target::dots(weights, (first, rows), x, tokens, sums);
    if done < rows {
        let sums = sums.get_mut(done.saturating_mul(tokens)..);
        let first = first.saturating_add(done);
        portable(
            weights,
            first,
            rows.saturating_sub(done),
            x,
            tokens,
            sums.unwrap_or_default(),
        );
    }
}

#[cfg(kernels = "dsp")]
use super::arm::dsp as target;
#[cfg(kernels = "mve")]
use super::arm::mve as target;
#[cfg(kernels = "v6m")]
use super::arm::v6m as target;
#[cfg(kernels = "v7m")]
use super::arm::v7m as target;
#[cfg(kernels = "rv32")]
use super::riscv::rv32 as target;

/// Targets without kernels of their own.
#[cfg(not(any(
    kernels = "v6m",
    kernels = "v7m",
    kernels = "dsp",
    kernels = "mve",
    kernels = "rv32"
)))]
mod target {
    use super::{Form, Layout, Rows, Weights};

    pub const LAYOUT: Layout = Layout::Rows;
    pub const IS_SMALL: bool = false;

    pub const fn form(_layout: Layout) -> Form {
        Form::Bytes
    }

    pub const fn dots(
        _weights: &Weights<'_>,
        _rows: (usize, usize),
        _x: Rows<'_>,
        _tokens: usize,
        _sums: &mut [i32],
    ) -> usize {
        0
    }
}

/// Σ (128 + a)·b of biased a.
fn biased_dot(a: &[i8], b: &[i8]) -> i32 {
    let product = |(a, b): (&i8, &i8)| i32::from(*a as u8).wrapping_mul((*b).into());
    let products = a.iter().zip(b).map(product);
    products.fold(0, i32::wrapping_add)
}

/// [`dots`] on any target, in any layout; activations are bytes, biased or not.
#[inline(never)]
pub fn portable(
    weights: &Weights<'_>,
    first: usize,
    rows: usize,
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) {
    let tokens = tokens.min(BATCH);
    for (row, sums) in sums.chunks_mut(tokens.max(1)).take(rows).enumerate() {
        let row = first.saturating_add(row);
        if let (Layout::Rows, Form::Bytes, [sum]) = (weights.layout, x.form, &mut *sums) {
            let start = row.saturating_mul(weights.stride);
            let values = weights.values.get(start..).unwrap_or_default();
            let values = values.get(..weights.stride).unwrap_or_default();
            *sum = integer::dot(x.from(0), values);
            continue;
        }
        sums.fill(0);
        let mut near = [0i8; CHUNK];
        let mut col = 0;
        while col < weights.stride {
            let count = CHUNK.min(weights.stride.saturating_sub(col));
            let near = near.get_mut(..count).unwrap_or_default();
            weights.unpack(row, col, near);
            // Flash is slow, so the copy must stay one: without this the compiler may read the
            // weights themselves again for every token.
            let near = core::hint::black_box(near);
            for (token, sum) in sums.iter_mut().enumerate() {
                let row = x.from(token).get(col..).unwrap_or_default();
                *sum = sum.wrapping_add(match x.form {
                    Form::Bytes => integer::dot(row, near),
                    Form::Biased if cfg!(kernels = "v6m") => biased_dot(row, near),
                    // No other target brings activations into this form for portable kernels.
                    _ => 0,
                });
            }
            col = col.saturating_add(CHUNK);
        }
    }
}
