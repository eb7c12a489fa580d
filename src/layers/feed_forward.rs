//! The feed-forward block, plain or gated (Shazeer 2020, "GLU variants improve Transformer").

use super::tile::{Tile, TileKind};
use crate::format::{ExpertRecord, LayerRecord, Palm};
use crate::kernels::{Activation, Layout, fast};
use crate::tensor::{Matrix, Op, Output, linear, linear_rectified};

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

    /// Computes `tokens` rows of `tile` into `output`, with `wide` (`tokens · d_ff`) as scratch.
    pub fn apply(
        &self,
        tile: &mut Tile<'_>,
        wide: &mut [f32],
        tokens: usize,
        output: &mut Output<'_>,
    ) {
        let d_ff = self.wi.rows;
        let hidden = |matrix: &Matrix<'_>, op: Op, wide: &mut [f32]| {
            let mut output = Output {
                rows: wide,
                stride: d_ff,
                op,
                gated: None,
            };
            linear(matrix, 0..d_ff, tile.input(), tokens, &mut output);
        };
        if !self.rectified(tile, wide, tokens) {
            hidden(&self.wi, Op::Store, wide);
            if let Some(values) = wide.get_mut(..tokens.saturating_mul(d_ff)) {
                fast::activate(self.activation, values);
            }
        }
        if let Some(matrix) = &self.wi_linear {
            hidden(matrix, Op::Multiply, wide);
        }
        let input = tile.requantize(wide, d_ff, tokens);
        linear(&self.wo, 0..self.wo.rows, input, tokens, output);
    }

    /// Sets `wide` to relu(wi·x), if that is the activation and this machine does both at once.
    fn rectified(&self, tile: &Tile<'_>, wide: &mut [f32], tokens: usize) -> bool {
        let mut output = Output {
            rows: wide,
            stride: self.wi.rows,
            op: Op::Store,
            gated: None,
        };
        self.activation == Activation::Relu
            && linear_rectified(&self.wi, tile.input(), tokens, &mut output)
    }
}
