//! The logits: the final norm, and the head's rows some at a time.

use super::{Decoder, Regions};
use crate::kernels::Single;
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::turn::{NORM, Turn};
use crate::tensor::{Op, Output, Region};

/// Rows of the head that one unit computes.
pub(super) const HEAD_ROWS: usize = 1024;

impl<S: WeightSource> Decoder<'_, '_, '_, S> {
    #[inline(never)]
    pub(super) fn head(&mut self, row: usize, turn: &mut Turn) {
        let roles = &self.session.model.palm().header().roles;
        let norm = self.session.norm(roles.decoder_final_norm);
        let (model, regions) = self.with_model();
        let Regions {
            state, mut scratch, ..
        } = regions;
        let (shape, header) = (model.shape(), model.palm().header());
        let mut tile = Tile::carve(&mut scratch, shape.tile_kind(), 1, shape.d_model, 0);
        let last: &mut [f32] = scratch.take(shape.d_model);
        let logits: &mut [f32] = scratch.take(shape.vocab);
        let begins = !turn
            .take(1, shape.d_model.saturating_mul(NORM), 1)
            .is_empty();
        if row == 0 && begins {
            for (last, x) in last.iter_mut().zip(state.iter()) {
                *last = *x;
            }
            if let Some((kind, weights)) = norm {
                kind.apply(&weights, last);
            }
            for x in last.iter_mut() {
                *x = (Single(*x) * Single(header.head_scale)).0;
            }
        }
        if begins {
            tile.set(0, last);
        }
        let region = Region::resident(model.palm());
        let Some(head) = region.record(header.roles.head) else {
            return;
        };
        let mut output = Output {
            rows: logits,
            stride: shape.vocab,
            op: Op::Store,
            gated: None,
        };
        let rows = HEAD_ROWS.min((head.rows as usize).saturating_sub(row));
        let some = turn.rows(rows, head.cols as usize, 1, false);
        let rows = row.saturating_add(some.start)..row.saturating_add(some.end);
        region.apply_rows(&head, rows, tile.input(), 1, &mut output);
    }
}
