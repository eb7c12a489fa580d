//! Outputs of int8 layers on cores without a float unit: a kernel takes those whose numbers are usual
//! (nearly all), and the operations one by one the others.
#![allow(unsafe_code)]

use core::ops::Range;

use super::integer::BATCH;
use super::product::{Int8, Op, Output, Quantized};
use super::single::Single;

#[cfg(kernels = "v6m")]
use super::arm::v6m as target;
#[cfg(kernels = "v7m")]
use super::arm::v7m as target;
#[cfg(kernels = "rv32")]
use super::riscv::rv32 as target;

/// What a kernel is called with. For each i below `count`, out = f32(dotᵢ − numberᵢ · number) ·
/// (factorᵢ · factor) + biasᵢ. One token has a dot product, a scale and a sum for each row; one row
/// has a dot product, a scale and a zero point for each token.
///
/// A kernel ends before an output for which not all of these hold: factorᵢ is a positive normal
/// number; so is the product of the factors, and less than 2; the number is not 0 and below 2²⁴; the
/// bias is zero or normal; nothing becomes subnormal. It may end before others: the rest is computed
/// step by step, whatever it is.
#[repr(C)]
pub(super) struct Run {
    dots: *const i32,
    factors: *const f32,
    numbers: *const i32,
    /// Or null.
    bias: *const f32,
    out: *mut f32,
    number: i32,
    /// The factor's significand, 24 bits.
    significand: u32,
    /// What the sum of exponents lacks, less one for the leading one of a significand; in its place.
    exponent: u32,
    /// Exponents of factors are usual from here on, [`Run::EXPONENTS`] of them.
    least: u32,
    count: usize,
    /// Bytes from bias to bias.
    bias_step: usize,
    /// Bytes from output to output.
    out_step: usize,
}

impl Run {
    /// Greatest exponent of a usual factor: no output becomes infinite.
    const MOST: u32 = 200;

    /// Whether some step is not that of a value.
    #[cfg(kernels = "v7m")]
    #[inline]
    pub fn is_apart(&self) -> bool {
        self.out_step != size_of::<f32>()
            || !self.bias.is_null() && self.bias_step != size_of::<f32>()
    }

    /// Prepares what of a factor the kernel needs; `false` if it is not usual.
    fn set(&mut self, factor: f32) -> bool {
        let bits = factor.to_bits();
        let exponent = bits >> 23;
        self.significand = bits & 0x7f_ffff | 0x80_0000;
        // The product of a factor of the least exponent with this one is a normal number.
        self.least = 128u32.saturating_sub(exponent).max(1);
        let lack = exponent.wrapping_add(self.least).wrapping_sub(95);
        self.exponent = lack << 23;
        exponent.wrapping_sub(1) < Self::MOST
    }
}

/// A bias for each output, one for all, or none.
#[derive(Clone, Copy)]
enum Bias<'a> {
    None,
    One(&'a f32),
    Each(&'a [f32]),
    /// What was there.
    Out,
}

/// The operands of outputs that have one factor and one number in common.
struct Part<'a> {
    dots: &'a mut [i32],
    factors: &'a [f32],
    numbers: &'a [i32],
    factor: f32,
    number: i32,
}

impl Part<'_> {
    /// Makes the outputs, every `step`-th of `out`; or in the place of the products, as bits.
    fn put(&mut self, bias: Bias<'_>, out: Option<(&mut [f32], usize)>) {
        let count = self.dots.len();
        let (mut out, step) = out.map_or((None, 1), |(out, step)| (Some(out), step.max(1)));
        let outs = out.as_ref().map_or(count, |out| out.len().div_ceil(step));
        let biases = match bias {
            Bias::Each(each) => each.len(),
            _ => count,
        };
        let enough = self.factors.len().min(self.numbers.len());
        let count = count.min(enough).min(outs).min(biases);
        let mut done = 0;
        while done < count {
            done = done.wrapping_add(self.kernel(bias, out.as_deref_mut(), step, done..count));
            if done < count {
                let y = self.one(done, bias, out.as_deref(), step);
                let place = match &mut out {
                    Some(out) => out.get_mut(done.wrapping_mul(step)),
                    None => None,
                };
                if let Some(place) = place {
                    *place = y;
                } else if let Some(dot) = self.dots.get_mut(done) {
                    *dot = y.to_bits() as i32;
                }
                done = done.wrapping_add(1);
            }
        }
    }

    /// As many outputs from the first one on as the kernel makes.
    fn kernel(
        &mut self,
        bias: Bias<'_>,
        out: Option<&mut [f32]>,
        step: usize,
        range: Range<usize>,
    ) -> usize {
        let first = range.start;
        let dots = self.dots.as_mut_ptr().wrapping_add(first);
        let out = match out {
            Some(out) => out.as_mut_ptr().wrapping_add(first.wrapping_mul(step)),
            None => dots.cast::<f32>(),
        };
        let out_step = step.wrapping_mul(size_of::<f32>());
        let (bias, bias_step) = match bias {
            Bias::None => (core::ptr::null(), 0),
            Bias::One(bias) => (core::ptr::from_ref(bias), 0),
            Bias::Each(each) => (each.as_ptr().wrapping_add(first), size_of::<f32>()),
            Bias::Out => (out.cast_const(), out_step),
        };
        let mut run = Run {
            dots: dots.cast_const(),
            factors: self.factors.as_ptr().wrapping_add(first),
            numbers: self.numbers.as_ptr().wrapping_add(first),
            bias,
            out,
            number: self.number,
            significand: 0,
            exponent: 0,
            least: 0,
            count: range.len(),
            bias_step,
            out_step,
        };
        if !run.set(self.factor) {
            return 0;
        }
        // SAFETY: `put` has made sure that from `first` on there are as many products, factors,
        // numbers, biases and outputs as the range has, all of them 4 bytes; where outputs take the
        // place of products or are the biases, the kernel reads each before it writes it.
        unsafe { target::outputs(&run) }
    }

    /// One output, step by step.
    #[inline(never)]
    fn one(&self, index: usize, bias: Bias<'_>, out: Option<&[f32]>, step: usize) -> f32 {
        let at = |values: &[i32]| values.get(index).copied().unwrap_or(0);
        let exact = at(self.dots).wrapping_sub(at(self.numbers).wrapping_mul(self.number));
        let factor = self.factors.get(index).copied().unwrap_or(0.0);
        let y = Single::from_i32(exact) * (Single(factor) * Single(self.factor));
        let bias = match bias {
            Bias::None => None,
            Bias::One(bias) => Some(bias),
            Bias::Each(each) => each.get(index),
            Bias::Out => out.and_then(|out| out.get(index.wrapping_mul(step))),
        };
        bias.map_or(y, |bias| y + Single(*bias)).0
    }
}

/// Makes outputs of the products of `tokens` with rows `first` to `first + rows`: where they belong
/// (`true`), or, if more becomes of them than a sum, in the place of the products, as bits.
#[inline(never)]
pub(crate) fn put(
    matrix: &Int8<'_>,
    (first, rows): (usize, usize),
    dots: &mut [i32],
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) -> bool {
    let adds = output.op == Op::Add && matrix.bias.is_empty();
    let is_last = output.gated.is_none() && (adds || output.op == Op::Store);
    let end = first.saturating_add(rows);
    let count = tokens.len();
    let row_range = first..end;
    if count == 1 {
        let bias = match matrix.bias {
            _ if is_last && adds => Bias::Out,
            [] => Bias::None,
            bias => Bias::Each(bias.get(row_range.clone()).unwrap_or_default()),
        };
        let mut part = Part {
            dots: dots.get_mut(..rows).unwrap_or_default(),
            factors: matrix.scales.get(row_range.clone()).unwrap_or_default(),
            numbers: matrix.sums.get(row_range).unwrap_or_default(),
            factor: x.scales.get(tokens.start).copied().unwrap_or(0.0),
            number: x.zeros.get(tokens.start).copied().unwrap_or(0),
        };
        let out = is_last.then(|| (output.row(tokens.start, first, rows), 1));
        part.put(bias, out);
        return is_last;
    }
    // Where a kernel makes no steps, there are as many biases as outputs, and they stay in place.
    let is_last = is_last && target::APART;
    let mut biases = [0.0; BATCH];
    let stride = output.stride;
    let (factors, numbers) = (x.scales.get(tokens.clone()), x.zeros.get(tokens.clone()));
    let of_rows = dots.chunks_exact_mut(count.max(1));
    for (row, dots) in row_range.zip(of_rows) {
        let mut part = Part {
            dots,
            factors: factors.unwrap_or_default(),
            numbers: numbers.unwrap_or_default(),
            factor: matrix.scales.get(row).copied().unwrap_or(0.0),
            number: matrix.sums.get(row).copied().unwrap_or(0),
        };
        let bias = match matrix.bias.get(row) {
            _ if is_last && adds => Bias::Out,
            Some(bias) if target::APART => Bias::One(bias),
            Some(bias) => {
                let biases = biases.get_mut(..count).unwrap_or_default();
                biases.fill(*bias);
                Bias::Each(biases)
            }
            None => Bias::None,
        };
        let start = tokens.start.saturating_mul(stride).saturating_add(row);
        let out = output.rows.get_mut(start..).unwrap_or_default();
        part.put(bias, is_last.then_some((out, stride)));
    }
    is_last
}
