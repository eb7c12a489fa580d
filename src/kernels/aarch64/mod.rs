//! Products of int8 matrices on 64-bit Arm machines with an operating system: NEON, its dot products
//! (`sdot`) and its products of small matrices (`smmla`), whichever the machine has.
//!
//! Matrices are read in the layouts [`Layout::Words16`] and [`Layout::Rows`]. A weight that was stored
//! with 128 added is made signed again where it is loaded, so that every sum is the portable one
//! without a correction.

#![allow(unsafe_code)]

mod isa;
mod tile;

use super::integer::BATCH;
use super::layout::Layout;
use super::matmul::{Form, Rows, Weights, rows_at_once};
use core::sync::atomic::{AtomicU8, Ordering};
use isa::{Dot, Neon};
use tile::{BLOCK, QUAD, Tile};

/// A set of instructions that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every 64-bit Arm has: products of bytes as 16-bit numbers.
    Neon = 1,
    /// Dot products of four bytes.
    Dot = 2,
    /// Products of 2×8 with 8×2 bytes.
    Matrix = 3,
}

impl Level {
    /// All of them, the slowest first.
    pub const ALL: [Self; 3] = [Self::Neon, Self::Dot, Self::Matrix];

    /// Whether this machine has what the level needs.
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected as has;
        match self {
            Self::Neon => true,
            Self::Dot => has!("dotprod"),
            Self::Matrix => has!("dotprod") && has!("i8mm"),
        }
    }

    /// The fastest that this machine has; found out once.
    #[inline]
    pub fn best() -> Self {
        static BEST: AtomicU8 = AtomicU8::new(0);
        let code = BEST.load(Ordering::Relaxed);
        if let Some(level) = Self::ALL.into_iter().find(|level| *level as u8 == code) {
            return level;
        }
        let best = Self::ALL.into_iter().rfind(|level| level.is_available());
        let best = best.unwrap_or(Self::Neon);
        BEST.store(best as u8, Ordering::Relaxed);
        best
    }
}

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
    let stride = weights.stride();
    let count = rows.min(rows_at_once(tokens));
    let fits = x.form == Form::Bytes
        && (1..=BATCH).contains(&tokens)
        && count > 0
        && first.is_multiple_of(rows_at_once(tokens))
        && stride > 0
        && stride.is_multiple_of(16)
        && sums.len() >= count.saturating_mul(tokens)
        && level.is_available();
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
            Level::Neon => neon(&tile),
            Level::Dot => dot(&tile),
            Level::Matrix if tokens == 1 => dot(&tile),
            Level::Matrix => matrix(&tile),
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
