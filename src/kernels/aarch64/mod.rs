//! Products of int8 matrices on 64-bit Arm machines with an operating system: NEON, its dot products
//! (`sdot`) and its products of small matrices (`smmla`), whichever the machine has.
//!
//! Matrices are read in the layouts [`Layout::Words16`] and [`Layout::Rows`]. A weight that was stored
//! with 128 added is made signed again where it is loaded, so that every sum is the portable one
//! without a correction.

#![allow(unsafe_code)]

mod isa;
mod tile;

use super::host::Level;
use super::integer::BATCH;
use super::layout::Layout;
use super::matmul::{Form, Rows, Weights, rows_at_once};
use isa::{Dot, Neon};
use tile::{BLOCK, QUAD, Tile};

/// [`matmul::dots`](super::matmul::dots) with the instructions of `level`. Says whether it did it:
/// not for other layouts, other forms of activations, a level that the machine lacks, or slices
/// that are too short.
pub fn dots(
    level: Level,
    weights: &Weights<'_>,
    first: usize,
    rows: usize,
    x: Rows<'_>,
    tokens: usize,
    sums: &mut [i32],
) -> bool {
    if level == Level::Portable || !level.is_available() {
        return false;
    }
    let stride = weights.stride();
    let count = rows.min(rows_at_once(tokens));
    let fits = x.form == Form::Bytes
        && (1..=BATCH).contains(&tokens)
        && count > 0
        && first.is_multiple_of(rows_at_once(tokens))
        && stride > 0
        && stride.is_multiple_of(16)
        && sums.len() >= count.saturating_mul(tokens);
    let (start, last, group_pitch) = match weights.layout() {
        // A block is there as a whole.
        Layout::Words16 => {
            let block = (first / BLOCK).saturating_mul(BLOCK).saturating_mul(stride);
            let quad = (first % BLOCK / QUAD).saturating_mul(16);
            let end = block.saturating_add(BLOCK.saturating_mul(stride));
            (block.saturating_add(quad), end, 64)
        }
        Layout::Rows => {
            let start = first.saturating_mul(stride);
            let end = start.saturating_add(count.saturating_mul(stride));
            (start, end, 0)
        }
        _ => return false,
    };
    let x_end = (tokens.saturating_sub(1).saturating_mul(x.pitch)).saturating_add(stride);
    let values = weights.values();
    if !fits || last > values.len() || x_end > x.bytes.len() || last == usize::MAX {
        return false;
    }
    let tile = Tile {
        // SAFETY: start < last, which is within the values.
        w: unsafe { values.as_ptr().add(start) },
        group_pitch,
        stride,
        rows: count,
        x: x.bytes.as_ptr(),
        pitch: x.pitch,
        tokens,
        sums: sums.as_mut_ptr(),
    };
    // SAFETY: the machine has the level's features, and the checks above are what `Tile` asks for.
    unsafe {
        match level {
            Level::NeonMatrix if tokens > 1 => matrix(&tile),
            Level::NeonMatrix | Level::NeonDot => dot(&tile),
            _ => neon(&tile),
        }
    }
    true
}

#[target_feature(enable = "neon")]
unsafe fn neon(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { tile.dots::<Neon>() }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { tile.dots::<Dot>() }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn matrix(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe { tile.products() }
}
