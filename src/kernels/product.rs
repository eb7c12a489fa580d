//! A linear layer over a batch of rows as kernels see it: the operands, and what becomes of outputs.

use super::matmul::{Rows, Weights};

/// An int8 matrix with what its rows have.
#[derive(Clone, Copy)]
pub(crate) struct Int8<'m> {
    pub weights: Weights<'m>,
    pub scales: &'m [f32],
    pub sums: &'m [i32],
    /// A value a row, or none.
    pub bias: &'m [f32],
}

/// Quantized rows, with a scale and a zero point each.
#[derive(Clone, Copy)]
pub(crate) struct Quantized<'a> {
    pub rows: Rows<'a>,
    pub scales: &'a [f32],
    pub zeros: &'a [i32],
}

/// What becomes of an output value y of token t, row r.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// out = y
    Store,
    /// out = out · y
    Multiply,
    /// out = out + y
    Add,
}

/// What becomes of the output y of an expert before it is added: (y · factor) · gate.
#[derive(Clone, Copy)]
pub(crate) struct Gated<'a> {
    /// Factor of all outputs; `None` is 1.
    pub factor: Option<f32>,
    pub gates: Gates<'a>,
}

/// The gates of a batch of tokens.
#[derive(Clone, Copy)]
pub(crate) enum Gates<'a> {
    /// One for all; token t of the batch goes to row t.
    All(f32),
    /// The row that each token of the batch goes to, and its gate.
    Each(&'a [u32], &'a [f32]),
}

/// Where a linear layer's outputs go.
pub(crate) struct Output<'a> {
    pub rows: &'a mut [f32],
    pub stride: usize,
    pub op: Op,
    /// For experts.
    pub gated: Option<Gated<'a>>,
}

impl Gated<'_> {
    /// The row that a token's outputs go to, and its gate.
    #[inline]
    pub fn of(&self, token: usize) -> (usize, f32) {
        match self.gates {
            Gates::All(gate) => (token, gate),
            Gates::Each(rows, gates) => (
                rows.get(token).map_or(usize::MAX, |row| *row as usize),
                gates.get(token).copied().unwrap_or(0.0),
            ),
        }
    }
}

impl Output<'_> {
    /// Puts y of a token's row where it belongs.
    #[inline]
    pub fn put(&mut self, token: usize, row: usize, mut y: f32) {
        let mut target = token;
        if let Some(gated) = &self.gated {
            if let Some(factor) = gated.factor {
                y *= factor;
            }
            let gate;
            (target, gate) = gated.of(token);
            y *= gate;
        }
        let index = target.saturating_mul(self.stride).saturating_add(row);
        if let Some(out) = self.rows.get_mut(index) {
            *out = match self.op {
                Op::Store => y,
                Op::Multiply => *out * y,
                Op::Add => *out + y,
            };
        }
    }
}
