//! Four-bit weights in groups of 32 columns, an f16 scale per group, against signed bytes.

use super::float::widen;
use super::integer::BATCH;
use super::matmul::Rows;
use crate::format::GROUP;

/// Bytes of a group.
const BYTES: usize = GROUP / 2;

/// The weights of a group: byte j holds value j in its low and value j + 16 in its high four bits,
/// each plus 8.
#[inline(always)]
pub fn unpack(packed: &[u8; BYTES]) -> [i16; GROUP] {
    let mut weights = [0i16; GROUP];
    let (low, high) = weights.split_at_mut(BYTES);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(packed) {
        *low = i16::from(byte & 15) - 8;
        *high = i16::from(byte >> 4) - 8;
    }
    weights
}

/// For each row r of `rows` (as many as `sums`, at most 16):
/// `sums[r]` = Σ over the groups, in order from +0, of f32(Σ (q − zero)·w) · scale.
///
/// `packed` is a weight row of 16 bytes a group, `scales` its f16 bits. Each weight is read once.
#[inline(never)]
pub fn dot_rows(rows: Rows<'_>, zeros: &[i32], packed: &[u8], scales: &[u16], sums: &mut [f32]) {
    sums.fill(0.0);
    let (groups, _) = packed.as_chunks::<BYTES>();
    for (index, (group, scale)) in groups.iter().zip(scales).enumerate() {
        let scale = widen(*scale);
        let (weights, total) = weights_and_sum(group);
        let first = index.saturating_mul(GROUP);
        for ((sum, zero), row) in sums.iter_mut().zip(zeros).zip(0..BATCH) {
            // A row ends with the padding of 16, a group may end 16 later: its weights are zero,
            // and the zero point's part of them is in neither sum.
            let row = rows.from(row).get(first..).unwrap_or_default();
            let row = row
                .get(..GROUP.min(rows.pitch.saturating_sub(first)))
                .unwrap_or_default();
            let exact = dot(row, &weights).wrapping_sub(zero.wrapping_mul(total));
            *sum += exact as f32 * scale;
        }
    }
}

/// Kernels of cores with the DSP extension: dot products of bytes.
#[cfg(kernels = "dsp")]
use super::{arm::dsp::unpack4 as weights_and_sum, integer::dot};

/// The weights of a group, and their sum.
#[cfg(not(kernels = "dsp"))]
#[inline(always)]
fn weights_and_sum(packed: &[u8; BYTES]) -> ([i16; GROUP], i32) {
    let weights = unpack(packed);
    let total = weights.iter().map(|w| i32::from(*w)).sum();
    (weights, total)
}

/// Exact.
#[cfg(not(kernels = "dsp"))]
#[inline(always)]
fn dot(row: &[i8], weights: &[i16; GROUP]) -> i32 {
    let products = row.iter().zip(weights);
    products.map(|(q, w)| i32::from(*q) * i32::from(*w)).sum()
}
