//! The feed-forward block, plain or gated (Shazeer 2020, "GLU variants improve Transformer").

use super::tile::{Tile, TileKind};
use super::turn::{GATED, QUANTIZE, Turn};
use crate::format::{ExpertRecord, LayerRecord, Palm};
use crate::kernels::{Activation, Layout, fast};
use crate::tensor::{Matrix, Op, Output, linear};

/// What an activation function costs, in multiply-accumulates.
const ACTIVATE: usize = 45;

/// The matrices of a feed-forward block: wo · act(wi·x), or wo · (act(wi·x) ∘ wi_linear·x).
pub(crate) struct FeedForward<'m> {
    wi: Matrix<'m>,
    wi_linear: Option<Matrix<'m>>,
    wo: Matrix<'m>,
    activation: Activation,
}

impl<'m> FeedForward<'m> {
    /// Hidden width.
    pub fn width(&self) -> usize {
        self.wi.rows
    }

    /// What rows its tile holds, in a file with this layout.
    pub fn tile_kind(&self, layout: Layout) -> TileKind {
        TileKind::for_matrix(&self.wi, layout)
    }

    /// The dense block of a layer.
    pub fn dense(palm: &Palm<'m>, layer: &LayerRecord) -> Self {
        Self {
            wi: Matrix::resident(palm, layer.wi),
            wi_linear: palm
                .tensor(layer.wi_linear)
                .map(|_| Matrix::resident(palm, layer.wi_linear)),
            wo: Matrix::resident(palm, layer.wo),
            activation: Activation::from_code(layer.activation).unwrap_or(Activation::Relu),
        }
    }

    /// An expert whose blob is given.
    pub fn expert(palm: &Palm<'_>, blob: &'m [u8], expert: &ExpertRecord) -> Self {
        Self {
            wi: Matrix::of_expert(palm, blob, expert.wi),
            wi_linear: palm
                .tensor(expert.wi_linear)
                .map(|_| Matrix::of_expert(palm, blob, expert.wi_linear)),
            wo: Matrix::of_expert(palm, blob, expert.wo),
            activation: Activation::from_code(expert.activation).unwrap_or(Activation::Relu),
        }
    }

    /// Computes `tokens` rows of `tile` into `output`, with `wide` (`tokens · d_ff`) as scratch; what
    /// of it `turn` has.
    pub fn apply(
        &self,
        tile: &mut Tile<'_>,
        wide: &mut [f32],
        tokens: usize,
        output: &mut Output<'_>,
        turn: &mut Turn,
    ) {
        let d_ff = self.wi.rows;
        let hidden = |matrix: &Matrix<'_>, op: Op, wide: &mut [f32], turn: &mut Turn| {
            let mut output = Output {
                rows: wide,
                stride: d_ff,
                op,
                gated: None,
            };
            let rows = turn.rows(d_ff, matrix.cols, tokens, 0);
            linear(matrix, rows, tile.input(), tokens, &mut output);
        };
        hidden(&self.wi, Op::Store, wide, turn);
        let some = turn.take(tokens, d_ff.saturating_mul(ACTIVATE), 1);
        let some = some.start.saturating_mul(d_ff)..some.end.saturating_mul(d_ff);
        if let Some(values) = wide.get_mut(some) {
            fast::activate(self.activation, values);
        }
        if let Some(matrix) = &self.wi_linear {
            hidden(matrix, Op::Multiply, wide, turn);
        }
        let some = turn.take(tokens, d_ff.saturating_mul(QUANTIZE), 1);
        let input = tile.requantize(wide, d_ff, some);
        let gated = if output.gated.is_some() { GATED } else { 0 };
        let rows = turn.rows(self.wo.rows, d_ff, tokens, gated);
        linear(&self.wo, rows, input, tokens, output);
    }
}
