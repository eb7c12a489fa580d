//! The experts of a layer.

use super::router::Choice;
use crate::format::{LayerRecord, Palm};
use crate::layers::feed_forward::FeedForward;
use crate::layers::tile::Tile;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{Place, Turn};
use crate::tensor::{Gated, Gates, Op, Output};

/// E₁ … E_m: the feed-forward experts of a layer whose image is mapped.
#[derive(Debug, Clone, Copy)]
pub struct ExpertTable<'m, const EXPERTS: usize> {
    palm: Palm<'m>,
    record: LayerRecord,
}

impl<'m, const EXPERTS: usize> ExpertTable<'m, EXPERTS> {
    /// The experts of `layer` (an index of the layer table).
    ///
    /// # Panics
    /// In a `const` it does not compile, elsewhere it panics, where the layer has another number of
    /// experts; [`ExpertTable::try_of`] gives `None`.
    pub const fn of(palm: &Palm<'m>, layer: u32) -> Self {
        match Self::try_of(palm, layer) {
            Some(table) => table,
            None => panic!("the layer has no table of so many experts"),
        }
    }

    /// [`ExpertTable::of`], or `None` where the number is another.
    pub const fn try_of(palm: &Palm<'m>, layer: u32) -> Option<Self> {
        match palm.mixture(layer) {
            Some(record) if record.experts as usize == EXPERTS => Some(Self {
                palm: *palm,
                record,
            }),
            _ => None,
        }
    }

    /// Bytes of scratch that [`ExpertTable::add`] needs.
    pub const fn scratch_bytes(&self) -> usize {
        let d_model = self.palm.header().d_model as usize;
        let mut widest = d_model;
        let mut expert = self.record.first_expert;
        while expert < self.record.first_expert + EXPERTS as u32 {
            if let Some(wi) = self.palm.tensor(self.palm.expert(expert).wi)
                && wi.rows as usize > widest
            {
                widest = wi.rows as usize;
            }
            expert += 1;
        }
        // Hidden values, and the greater of a row of floats and a row of bytes with its scale.
        let floats = d_model * 4;
        let room = self.palm.header().layout.activation_bytes();
        let bytes = widest.next_multiple_of(16) * room + 8;
        widest * 4 + if floats > bytes { floats } else { bytes }
    }

    /// `sum` += (E(h) · factor) · w for one chosen expert: `h` and `sum` have D values, `scratch` at
    /// least [`ExpertTable::scratch_bytes`] at a multiple of 4. Nothing is added for an expert that
    /// is not there.
    pub fn add(&self, choice: Choice, h: &[f32], sum: &mut [f32], scratch: &mut [u8]) {
        if usize::from(choice.expert) >= EXPERTS {
            return;
        }
        let index = self
            .record
            .first_expert
            .saturating_add(choice.expert.into());
        let expert = self.palm.expert(index);
        let blob = self.palm.expert_bytes(&expert);
        let block = FeedForward::expert(&self.palm, blob, &expert);
        let (d_model, d_ff) = (h.len(), block.width());
        let mut scratch = Carver::new(scratch);
        let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
        let mut tile = Tile::carve(
            &mut scratch,
            block.tile_kind(self.palm.header().layout),
            1,
            d_model,
            d_ff,
        );
        tile.set(0, h);
        let factor = self.record.output_factor;
        let mut output = Output {
            rows: sum,
            stride: d_model,
            op: Op::Add,
            gated: Some(Gated {
                factor: (factor != 1.0).then_some(factor),
                gates: Gates::All(choice.weight),
            }),
        };
        let mut whole = Turn::new(Place::default(), usize::MAX);
        block.apply(&mut tile, wide, 1, &mut output, &mut whole);
    }
}
