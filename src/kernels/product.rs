//! A linear layer over a batch of rows as kernels see it: the operands, and what becomes of outputs.

use super::matmul::{Rows, Weights};
use super::single::Single;

/// An int8 matrix with what its rows have.
#[derive(Debug, Clone, Copy)]
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

/// Rows of floats to read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub values: &'a [f32],
    /// Values of a row.
    pub width: usize,
    /// Which rows, in which order; all from the first on if this is left out.
    pub picks: Option<&'a [u32]>,
}

impl<'a> Source<'a> {
    /// Row `index` of them, if it is there.
    pub fn row(&self, index: usize) -> Option<&'a [f32]> {
        let index = match self.picks {
            Some(picks) => *picks.get(index)? as usize,
            None => index,
        };
        let start = index.checked_mul(self.width)?;
        self.values.get(start..start.checked_add(self.width)?)
    }

    /// Those without the first `count`.
    pub fn after(self, count: usize) -> Self {
        let rest = |values: &'a [f32]| values.get(count.saturating_mul(self.width)..);
        match self.picks {
            Some(picks) => Self {
                picks: Some(picks.get(count..).unwrap_or_default()),
                ..self
            },
            None => Self {
                values: rest(self.values).unwrap_or_default(),
                ..self
            },
        }
    }
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
    /// The row that a token's outputs go to, and their gate if there are any.
    #[inline]
    pub fn target(&self, token: usize) -> (usize, Option<f32>) {
        match &self.gated {
            None => (token, None),
            Some(gated) => {
                let (target, gate) = gated.of(token);
                (target, Some(gate))
            }
        }
    }

    /// The values of a row from column `first` on.
    #[inline]
    pub fn row(&mut self, target: usize, first: usize, len: usize) -> &mut [f32] {
        let start = target.saturating_mul(self.stride).saturating_add(first);
        let end = start.saturating_add(len);
        self.rows.get_mut(start..end).unwrap_or_default()
    }

    /// Puts y of a token's row where it belongs.
    pub fn put(&mut self, token: usize, row: usize, y: f32) {
        let (target, gate) = self.target(token);
        let (op, factor) = (self.op, self.gated.and_then(|gated| gated.factor));
        if let [out] = self.row(target, row, 1) {
            *out = joined(op, Single(*out), gated(Single(y), factor, gate)).0;
        }
    }
}

/// (y · factor) · gate, as far as there are any.
#[inline]
pub(crate) fn gated(y: Single, factor: Option<f32>, gate: Option<f32>) -> Single {
    let y = factor.map_or(y, |factor| y * Single(factor));
    gate.map_or(y, |gate| y * Single(gate))
}

/// What y makes of an output.
#[inline]
pub(crate) fn joined(op: Op, out: Single, y: Single) -> Single {
    match op {
        Op::Store => y,
        Op::Multiply => out * y,
        Op::Add => out + y,
    }
}
