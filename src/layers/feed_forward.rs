//! The feed-forward block, plain or gated (Shazeer 2020, "GLU variants improve Transformer").

use super::tile::{Tile, TileKind};
use crate::format::{ExpertRecord, LayerRecord, NONE16, Palm};
use crate::kernels::{Activation, Layout, fast};
use crate::tensor::turn::{QUANTIZE, Turn};
use crate::tensor::{Op, Output, Region};

/// What an activation function costs, in multiply-accumulates.
const ACTIVATE: usize = 45;

/// The matrices of a feed-forward block: wo · act(wi·x), or wo · (act(wi·x) ∘ wi_linear·x).
pub(crate) struct FeedForward<'p, 'm> {
    region: Region<'p, 'm>,
    wi: u16,
    wi_linear: u16,
    wo: u16,
    activation: u8,
}

impl<'p, 'm> FeedForward<'p, 'm> {
    /// Hidden width.
    pub fn width(&self) -> usize {
        let wi = self.region.record(self.wi);
        wi.map_or(0, |wi| wi.rows as usize)
    }

    /// What rows its tile holds, in a file with this layout.
    pub fn tile_kind(&self, layout: Layout) -> TileKind {
        TileKind::for_tensor(&self.region, self.wi, layout)
    }

    /// The dense block of a layer.
    pub fn dense(palm: &'p Palm<'m>, layer: &LayerRecord) -> Self {
        Self {
            region: Region::resident(palm),
            wi: layer.wi,
            wi_linear: layer.wi_linear,
            wo: layer.wo,
            activation: layer.activation,
        }
    }

    /// An expert whose blob is given.
    pub fn expert(palm: &'p Palm<'p>, blob: &'m [u8], expert: &ExpertRecord) -> Self {
        Self {
            region: Region::expert(palm, blob),
            wi: expert.wi,
            wi_linear: expert.wi_linear,
            wo: expert.wo,
            activation: expert.activation,
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
        let d_ff = self.width();
        let activation = Activation::from_code(self.activation).unwrap_or(Activation::Relu);
        let mut products = hidden(wide, d_ff, Op::Store);
        let rectified = if activation == Activation::Relu {
            self.region
                .apply_rectified(self.wi, tile.input(), tokens, &mut products, turn)
        } else {
            self.region
                .apply(self.wi, tile.input(), tokens, &mut products, turn);
            false
        };
        let some = turn.take(tokens, d_ff.saturating_mul(ACTIVATE), 1);
        let some = some.start.saturating_mul(d_ff)..some.end.saturating_mul(d_ff);
        if !rectified && let Some(values) = wide.get_mut(some) {
            fast::activate(activation, values);
        }
        if self.wi_linear != NONE16 {
            let mut factors = hidden(wide, d_ff, Op::Multiply);
            self.region
                .apply(self.wi_linear, tile.input(), tokens, &mut factors, turn);
        }
        let some = turn.take(tokens, d_ff.saturating_mul(QUANTIZE), 1);
        let input = tile.requantize(wide, d_ff, some);
        self.region.apply(self.wo, input, tokens, output, turn);
    }
}

/// The rows between the two products.
fn hidden(rows: &mut [f32], d_ff: usize, op: Op) -> Output<'_> {
    Output {
        rows,
        stride: d_ff,
        op,
        gated: None,
    }
}
