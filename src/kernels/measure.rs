//! What `cargo bench` needs of the kernels, and the limits of the machine beside which it sets them.
//! Not for other use: it may change with any version.

use super::host::Level;
use super::matmul::{self, Rows, Weights};
#[cfg(target_arch = "x86_64")]
use super::product::{Int8, Op, Output, Quantized};
#[cfg(target_arch = "x86_64")]
use super::x86;

/// A linear layer: an int8 matrix with what its rows have, and quantized rows.
pub struct Linear<'a> {
    /// The matrix.
    pub weights: Weights<'a>,
    /// A scale for each of its rows.
    pub scales: &'a [f32],
    /// The sum of each of its rows.
    pub sums: &'a [i32],
    /// Rows of activations.
    pub x: Rows<'a>,
    /// A scale for each.
    pub x_scales: &'a [f32],
    /// A zero point for each.
    pub zeros: &'a [i32],
}

impl Linear<'_> {
    /// Computes all outputs, `[tokens, rows]`, with the level in use; without vector kernels only their
    /// integer sums. Says which.
    pub fn run(&self, out: &mut [f32]) -> bool {
        let (rows, tokens) = (self.scales.len(), self.x_scales.len());
        #[cfg(target_arch = "x86_64")]
        {
            let matrix = Int8 {
                weights: self.weights,
                scales: self.scales,
                sums: self.sums,
                bias: &[],
            };
            let x = Quantized {
                rows: self.x,
                scales: self.x_scales,
                zeros: self.zeros,
            };
            let mut output = Output {
                rows: &mut *out,
                stride: rows,
                op: Op::Store,
                gated: None,
            };
            if x86::product(&matrix, 0..rows, &x, tokens, false, &mut output) {
                return true;
            }
        }
        let step = matmul::rows_at_once(tokens.min(16));
        let mut sums = [0; matmul::SUMS];
        for token in (0..tokens).step_by(16) {
            let count = (tokens - token).min(16);
            for row in (0..rows).step_by(step) {
                let x = self.x.skip(token);
                let sums = sums.get_mut(..step * count).unwrap_or_default();
                matmul::dots(&self.weights, row, step.min(rows - row), x, count, sums);
                if let (Some(out), Some(sum)) = (out.get_mut(token * rows + row), sums.first()) {
                    *out = *sum as f32;
                }
            }
        }
        false
    }
}

/// Attention of rows of queries, all heads of which have keys and values of their own.
pub struct Heads<'a> {
    /// Heads.
    pub heads: usize,
    /// Width of a head's vectors.
    pub d_kv: usize,
    /// Queries.
    pub count: usize,
    /// `[keys, heads, d_kv]`
    pub k: &'a [i8],
    /// `[keys, heads, d_kv]`
    pub v: &'a [i8],
    /// `[keys, heads]`
    pub scales: &'a [f32],
}

impl Heads<'_> {
    /// Replaces queries by outputs; `false` without vector kernels.
    pub fn run(&self, queries: &mut [f32]) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            x86::attend(&mut x86::Attention {
                queries,
                count: self.count,
                heads: self.heads,
                d_kv: self.d_kv,
                kv_heads: self.heads,
                k: self.k,
                v: self.v,
                k_scales: self.scales,
                v_scales: self.scales,
                keys: self.scales.len() / self.heads.max(1),
                scale: 0.125,
                bias: None,
            })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = queries;
            false
        }
    }
}

/// Multiplies bytes in registers, `rounds` times; gives how many products that were. 0 where the level
/// has no vector kernels here.
pub fn multiply(level: Level, rounds: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if level != Level::Portable && level.is_available() {
        return x86::multiply(level, rounds);
    }
    let _ = (level, rounds);
    0
}

/// Reads all bytes, once, with the widest loads of the level; gives how many that were, or 0 as
/// [`multiply`].
pub fn read(level: Level, bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if level != Level::Portable && level.is_available() {
        return x86::read(level, bytes);
    }
    let _ = (level, bytes);
    0
}
