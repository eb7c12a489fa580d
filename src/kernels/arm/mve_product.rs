//! Whole int8 layers on cores with Helium: rows of weights four at a time, from products to outputs.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::ops::Range;

use super::mve::{BLOCK, gemm_block, palmtop_mve_gemv};
use crate::kernels::integer::BATCH;
use crate::kernels::matmul::{Form, SUMS};
use crate::kernels::product::{Int8, Op, Output, Quantized};
use crate::kernels::{Layout, Single};

core::arch::global_asm!(".cpu cortex-m55", include_str!("mve_put.S"), options(raw));

/// What the kernels for outputs find where; as they say it.
#[repr(C)]
struct Layer {
    scales: *const f32,
    sums: *const i32,
    bias: *const f32,
    x_scales: *const f32,
    zeros: *const i32,
    targets: *const u32,
    gates: *const f32,
    factor: f32,
    limit: i32,
}

/// What is done beside scaling.
mod flag {
    pub const BIAS: usize = 1;
    pub const JOIN: usize = 2;
    pub const MULTIPLY: usize = 4;
    pub const FACTOR: usize = 8;
    pub const GATES: usize = 16;
    pub const TARGETS: usize = 32;
}

unsafe extern "C" {
    fn palmtop_mve_put_one(
        out: *mut f32,
        dots: *const i32,
        fours: usize,
        layer: &Layer,
        flags: usize,
    ) -> usize;
    fn palmtop_mve_put_four(
        out: *mut f32,
        dots: *const i32,
        tokens: usize,
        layer: &Layer,
        flags: usize,
        pitch: usize,
    ) -> usize;
}

/// Puts the outputs of rows `range` and of some tokens where they belong, as far as there are kernels
/// for that: the rows that are left.
pub(crate) fn product(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) -> Range<usize> {
    let done = blocks(matrix, range.clone(), x, tokens, output);
    range.start.saturating_add(done.unwrap_or(0))..range.end
}

/// Whole blocks of rows: how many rows that were.
#[inline(never)]
fn blocks(
    matrix: &Int8<'_>,
    range: Range<usize>,
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) -> Option<usize> {
    let (first, rows) = (range.start, range.len() / BLOCK * BLOCK);
    let (count, stride) = (tokens.len(), matrix.weights.stride());
    let sound = matrix.weights.layout() == Layout::Rows
        && x.rows.form == Form::Bytes
        && (1..=BATCH).contains(&count)
        && rows > 0
        && stride > 0
        && stride % 16 == 0;
    if !sound {
        return None;
    }
    let end = first.checked_add(rows)?;
    let weights = first.checked_mul(stride)?..end.checked_mul(stride)?;
    let weights = matrix.weights.values().get(weights)?;
    let values = x.rows.pitch.checked_mul(count.checked_sub(1)?)?;
    let values = x
        .rows
        .from(tokens.start)
        .get(..values.checked_add(stride)?)?;
    let (scales, sums) = (matrix.scales.get(first..end)?, matrix.sums.get(first..end)?);
    let mut flags = match output.op {
        Op::Store => 0,
        Op::Add => flag::JOIN,
        Op::Multiply => flag::JOIN | flag::MULTIPLY,
    };
    let bias = match matrix.bias {
        [] => core::ptr::null(),
        bias => {
            flags |= flag::BIAS;
            bias.get(first..end)?.as_ptr()
        }
    };
    let (x_scales, zeros) = (x.scales.get(tokens.clone())?, x.zeros.get(tokens.clone())?);
    let (mut targets, mut gates, mut factor) = ([0u32; BATCH], [0.0f32; BATCH], 1.0);
    if let Some(gated) = output.gated {
        flags |= flag::GATES | flag::TARGETS;
        if let Some(by) = gated.factor {
            flags |= flag::FACTOR;
            factor = by;
        }
    }
    // Every row of outputs is there.
    for ((token, target), gate) in tokens.clone().zip(&mut targets).zip(&mut gates) {
        let (row, of_token) = output.target(token);
        let start = row.checked_mul(output.stride)?.checked_add(first)?;
        output.rows.get(start..start.checked_add(rows)?)?;
        *target = row as u32;
        *gate = of_token.unwrap_or(0.0);
    }
    let mut layer = Layer {
        scales: scales.as_ptr(),
        sums: sums.as_ptr(),
        bias,
        x_scales: x_scales.as_ptr(),
        zeros: zeros.as_ptr(),
        targets: targets.as_ptr(),
        gates: gates.as_ptr(),
        factor,
        limit: limit(x_scales),
    };
    let mut dots = [0i32; SUMS];
    // With one token, rows whose sums have room; else those of a block.
    let step = if count == 1 { SUMS } else { BLOCK };
    let start = match output.gated {
        // Rows of outputs are told token by token.
        Some(_) if count > 1 => 0,
        _ => targets.first().map_or(0, |target| *target as usize),
    };
    let mut done = 0;
    for block in weights.chunks(stride.saturating_mul(step).max(1)) {
        let rows = step.min(rows.wrapping_sub(done));
        let out = start.wrapping_mul(output.stride).wrapping_add(first);
        let out = out.wrapping_add(done);
        // SAFETY: `block` has `rows` rows of `stride` bytes, a multiple of four rows; `values` have
        // `count` rows, `pitch` bytes apart. Scales, sums and bias have been measured for all rows,
        // what tokens have for all of these, and every token's row of outputs has all columns; `out`
        // is the first of them, of the first token or, where targets are told, of the first row.
        // There are four dots for each of at most 16 tokens, or one for each of at most 64 rows.
        let is_put = unsafe {
            let out = output.rows.as_mut_ptr().wrapping_add(out);
            if count == 1 {
                palmtop_mve_gemv(
                    block.as_ptr(),
                    values.as_ptr(),
                    dots.as_mut_ptr(),
                    stride,
                    rows / BLOCK,
                );
                palmtop_mve_put_one(out, dots.as_ptr(), rows / BLOCK, &layer, flags)
            } else {
                gemm_block(block, values, (x.rows.pitch, count), &mut dots);
                let pitch = output.stride.wrapping_mul(4);
                palmtop_mve_put_four(out, dots.as_ptr(), count, &layer, flags, pitch)
            }
        };
        if is_put == 0 {
            let dots = dots.get(..rows.wrapping_mul(count)).unwrap_or(&dots);
            let first = first.wrapping_add(done);
            one_by_one(matrix, first, dots, x, tokens.clone(), output);
        }
        layer.scales = layer.scales.wrapping_add(step);
        layer.sums = layer.sums.wrapping_add(step);
        if !bias.is_null() {
            layer.bias = layer.bias.wrapping_add(step);
        }
        done = done.wrapping_add(rows);
    }
    Some(rows)
}

/// Scales of rows that are, as bits, less than this may make subnormal products with these scales of
/// tokens, or are no positive numbers.
fn limit(x_scales: &[f32]) -> i32 {
    // A row's scale is normal itself, whatever the tokens have.
    let mut limit = 1 << 23;
    for scale in x_scales {
        let bits = scale.to_bits();
        // Exponents a and b make at least 2^(a + b − 254).
        let exponent = (bits >> 23) as i32;
        match exponent {
            _ if bits == 0 => {}
            1..=254 => limit = limit.max(128i32.wrapping_sub(exponent) << 23),
            _ => return i32::MAX,
        }
    }
    limit
}

/// The same in scalar floats, which keep subnormal numbers.
#[cold]
#[inline(never)]
fn one_by_one(
    matrix: &Int8<'_>,
    first: usize,
    dots: &[i32],
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) {
    let is_one = tokens.len() == 1;
    for (index, dot) in dots.iter().enumerate() {
        let (row, token) = match is_one {
            true => (index, 0),
            false => (index % BLOCK, index / BLOCK),
        };
        let (row, token) = (first.wrapping_add(row), tokens.start.wrapping_add(token));
        let of_row = (matrix.scales.get(row), matrix.sums.get(row));
        let of_token = (x.scales.get(token), x.zeros.get(token));
        if let ((Some(scale), Some(sum)), (Some(x_scale), Some(zero))) = (of_row, of_token) {
            let exact = dot.wrapping_sub(zero.wrapping_mul(*sum));
            let y = Single::from_i32(exact) * (Single(*x_scale) * Single(*scale));
            let bias = matrix.bias.get(row);
            let y = bias.map_or(y, |bias| y + Single(*bias));
            output.put(token, row, y.0);
        }
    }
}
