//! Float rows on cores with a single-precision FPU: Cortex-M4F, M7, M33, M55.
#![allow(unsafe_code)]

use crate::kernels::float::{LANES, tree, widen};
use crate::kernels::integer::BATCH;
use crate::kernels::product::{Gates, Int8, Op, Output, Quantized};
use core::ops::Range;

core::arch::global_asm!(include_str!("fpu.S"), options(raw));

/// What the kernels for several rows are told of their shape.
#[repr(C)]
pub struct Shape {
    /// Bytes from row to row.
    pitch: usize,
    /// Rows.
    rows: usize,
    /// Times [`CHUNK`] weights.
    chunks: usize,
}

/// Weights that stay in registers while they meet every row.
const CHUNK: usize = 16;

unsafe extern "C" {
    fn palmtop_fpu_dot(lanes: *mut f32, a: *const f32, b: *const f32, eights: usize);
    fn palmtop_fpu_dot_f16(lanes: *mut f32, a: *const f32, b: *const u16, eights: usize);
    fn palmtop_fpu_rows(lanes: *mut f32, x: *const f32, w: *const f32, shape: &Shape);
    fn palmtop_fpu_rows_f16(lanes: *mut f32, x: *const f32, w: *const u16, shape: &Shape);
}

/// Weights of either format: one function for both takes half the flash of two.
#[derive(Clone, Copy)]
enum Weights<'w> {
    F32(&'w [f32]),
    F16(&'w [u16]),
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(weights) => weights.len(),
            Self::F16(weights) => weights.len(),
        }
    }

    /// Whether they begin at a multiple of 4: several registers at once are loaded only from there.
    fn is_aligned(&self) -> bool {
        match self {
            Self::F32(_) => true,
            Self::F16(weights) => weights.as_ptr().addr() % 4 == 0,
        }
    }

    /// Copies up to eight weights from `first` on as floats. They are read once, since flash is slow;
    /// a call that stays one keeps the compiler from reading them for every row.
    #[inline(never)]
    fn near(&self, first: usize, near: &mut [f32; LANES]) -> usize {
        let rest = self.len().saturating_sub(first).min(LANES);
        for (index, near) in near.iter_mut().enumerate().take(rest) {
            let index = first.saturating_add(index);
            *near = match self {
                Self::F32(weights) => weights.get(index).copied().unwrap_or(0.0),
                Self::F16(weights) => widen(weights.get(index).copied().unwrap_or(0)),
            };
        }
        rest
    }
}

/// [`float::dot`](crate::kernels::float::dot).
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    one(a, Weights::F32(b))
}

/// [`float::dot_f16`](crate::kernels::float::dot_f16).
pub fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    one(a, Weights::F16(b))
}

/// [`float::dot_rows`](crate::kernels::float::dot_rows).
pub fn dot_rows(rows: &[f32], stride: usize, weights: &[f32], sums: &mut [f32]) {
    several(rows, stride, Weights::F32(weights), sums);
}

/// [`float::dot_rows_f16`](crate::kernels::float::dot_rows_f16).
pub fn dot_rows_f16(rows: &[f32], stride: usize, weights: &[u16], sums: &mut [f32]) {
    several(rows, stride, Weights::F16(weights), sums);
}

#[inline(never)]
fn one(a: &[f32], b: Weights<'_>) -> f32 {
    let mut lanes = [0.0; LANES];
    let count = a.len().min(b.len());
    let mut done = 0;
    if count >= LANES && b.is_aligned() {
        let eights = count / LANES;
        done = eights.wrapping_mul(LANES);
        let (lanes, a) = (lanes.as_mut_ptr(), a.as_ptr());
        // SAFETY: `done` values, no more than either slice has; they begin at a multiple of 4.
        unsafe {
            match b {
                Weights::F32(b) => palmtop_fpu_dot(lanes, a, b.as_ptr(), eights),
                Weights::F16(b) => palmtop_fpu_dot_f16(lanes, a, b.as_ptr(), eights),
            }
        }
    }
    while done < count {
        let mut near = [0.0; LANES];
        let rest = b.near(done, &mut near);
        add(
            &mut lanes,
            a.get(done..).unwrap_or_default(),
            near.get(..rest).unwrap_or_default(),
        );
        done = done.saturating_add(LANES);
    }
    tree(lanes)
}

#[inline(never)]
fn several(rows: &[f32], stride: usize, weights: Weights<'_>, sums: &mut [f32]) {
    let mut lanes = [[0.0f32; LANES]; BATCH];
    let count = sums.len().min(BATCH);
    let chunks = weights.len() / CHUNK;
    let last = stride.checked_mul(count.wrapping_sub(1));
    let needed = last.and_then(|last| last.checked_add(chunks.wrapping_mul(CHUNK)));
    let mut done = 0;
    if chunks > 0 && needed.is_some_and(|needed| needed <= rows.len()) && weights.is_aligned() {
        done = chunks.wrapping_mul(CHUNK);
        let shape = Shape {
            pitch: stride.wrapping_mul(4),
            rows: count,
            chunks,
        };
        let (lanes, x) = (lanes.as_mut_ptr().cast(), rows.as_ptr());
        // SAFETY: `done` weights are there, and as many values in each of `count` rows, `stride`
        // apart, the last of which ends within `rows`. There are lanes for `BATCH` rows.
        unsafe {
            match weights {
                Weights::F32(weights) => palmtop_fpu_rows(lanes, x, weights.as_ptr(), &shape),
                Weights::F16(weights) => palmtop_fpu_rows_f16(lanes, x, weights.as_ptr(), &shape),
            }
        }
    }
    while done < weights.len() {
        let mut near = [0.0; LANES];
        let rest = weights.near(done, &mut near);
        let near = near.get(..rest).unwrap_or_default();
        for (row, lanes) in lanes.iter_mut().take(count).enumerate() {
            let start = row.saturating_mul(stride).saturating_add(done);
            add(lanes, rows.get(start..).unwrap_or_default(), near);
        }
        done = done.saturating_add(LANES);
    }
    for (sum, lanes) in sums.iter_mut().zip(&lanes) {
        *sum = joined(lanes);
    }
}

#[inline(never)]
fn joined(lanes: &[f32; LANES]) -> f32 {
    tree(*lanes)
}

/// Adds up to eight products, a lane each.
#[inline(never)]
fn add(lanes: &mut [f32; LANES], a: &[f32], b: &[f32]) {
    for ((lane, x), w) in lanes.iter_mut().zip(a).zip(b) {
        *lane += x * w;
    }
}

/// Where the kernels for outputs find what rows and tokens have.
#[repr(C)]
struct Layer {
    scales: *const f32,
    sums: *const i32,
    /// Null where there is none.
    bias: *const f32,
    x_scales: *const f32,
    zeros: *const i32,
    /// Null where outputs go to the tokens' own rows.
    targets: *const u32,
    /// Null where there are none; one where tokens have no rows of their own.
    gates: *const f32,
    factor: f32,
}

unsafe extern "C" {
    fn palmtop_fpu_put_one(out: *mut f32, dots: *const i32, rows: usize, layer: &Layer, op: usize);
    fn palmtop_fpu_put_four(
        out: *mut f32,
        dots: *const i32,
        tokens: usize,
        layer: &Layer,
        flags: usize,
        pitch: usize,
    );
}

/// What [`palmtop_fpu_put_four`] does beside scaling.
mod flag {
    pub const BIAS: usize = 1;
    pub const MORE: usize = 2;
    pub const MULTIPLY: usize = 4;
    pub const FACTOR: usize = 8;
    pub const GATE: usize = 16;
    pub const GATES: usize = 32;
    pub const TARGETS: usize = 64;
    pub const ADD: usize = 128;
}

/// Puts the outputs of rows from `first` on and of some tokens where they belong: whether that was
/// done. `dots` has the tokens of a row, row after row.
pub fn put(
    matrix: &Int8<'_>,
    rows: (usize, usize),
    dots: &[i32],
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) -> bool {
    put_rows(matrix, rows, dots, x, tokens, output).is_some()
}

#[inline(never)]
fn put_rows(
    matrix: &Int8<'_>,
    (first, rows): (usize, usize),
    dots: &[i32],
    x: &Quantized<'_>,
    tokens: Range<usize>,
    output: &mut Output<'_>,
) -> Option<()> {
    let count = tokens.len();
    let end = first.checked_add(rows)?;
    let (scales, sums) = (matrix.scales.get(first..end)?, matrix.sums.get(first..end)?);
    let (bias, mut flags) = match matrix.bias {
        [] => (core::ptr::null(), 0),
        bias => (bias.get(first..end)?.as_ptr(), flag::BIAS),
    };
    let dots = dots.get(..rows.checked_mul(count)?)?;
    if rows % 4 != 0 || rows == 0 {
        return None;
    }
    let (x_scales, zeros) = (x.scales.get(tokens.clone())?, x.zeros.get(tokens.clone())?);
    let mut layer = Layer {
        scales: scales.as_ptr(),
        sums: sums.as_ptr(),
        bias,
        x_scales: x_scales.as_ptr(),
        zeros: zeros.as_ptr(),
        targets: core::ptr::null(),
        gates: core::ptr::null(),
        factor: 1.0,
    };
    // The first and the last row of outputs, and from where on they are told.
    let last = tokens.start.checked_add(count.checked_sub(1)?)?;
    let (mut from, mut to, mut told) = (tokens.start, last, tokens.start);
    if let Some(gated) = &output.gated {
        flags |= flag::GATE | flag::MORE;
        if let Some(factor) = gated.factor {
            flags |= flag::FACTOR;
            layer.factor = factor;
        }
        match &gated.gates {
            Gates::All(gate) => layer.gates = gate,
            Gates::Each(targets, gates) => {
                flags |= flag::GATES | flag::TARGETS;
                let targets = targets.get(tokens.clone())?;
                layer.targets = targets.as_ptr();
                layer.gates = gates.get(tokens)?.as_ptr();
                (from, told) = (*targets.first()? as usize, 0);
                to = targets.iter().fold(0, |to, row| to.max(*row)) as usize;
            }
        }
    }
    let pitch = output.stride;
    let row = |row: usize| row.checked_mul(pitch)?.checked_add(first);
    output.rows.get(..row(to)?.checked_add(rows)?)?;
    let mut dots = dots.as_ptr();
    let op = match output.op {
        Op::Store => 0,
        Op::Add => 1,
        Op::Multiply => 2,
    };
    if count == 1 {
        let gated = flags & (flag::FACTOR | flag::GATE);
        // SAFETY: a multiple of four `rows`, of which scales, sums, bias, `dots` and outputs have been
        // measured, and one token, with its gate if there are any.
        unsafe {
            let out = output.rows.as_mut_ptr().add(row(from)?);
            palmtop_fpu_put_one(out, dots, rows, &layer, op | gated / 2);
        };
        return Some(());
    }
    flags |= match output.op {
        Op::Store => 0,
        Op::Add => flag::MORE | flag::ADD,
        Op::Multiply => flag::MORE | flag::MULTIPLY,
    };
    let mut out = output.rows.as_mut_ptr().wrapping_add(row(told)?);
    for _ in 0..rows / 4 {
        // SAFETY: four of `rows` rows, of which scales, sums, bias and `count` dots each have been
        // measured; so many tokens have a scale and a zero point, and if they are told a gate and a
        // row of outputs. All columns of the last of these rows are there; `out` is in the first of
        // them, or where they are told in that of the whole slice.
        unsafe {
            palmtop_fpu_put_four(out, dots, count, &layer, flags, pitch.wrapping_mul(4));
        }
        out = out.wrapping_add(4);
        dots = dots.wrapping_add(count.wrapping_mul(4));
        layer.scales = layer.scales.wrapping_add(4);
        layer.sums = layer.sums.wrapping_add(4);
        if !bias.is_null() {
            layer.bias = layer.bias.wrapping_add(4);
        }
    }
    Some(())
}
