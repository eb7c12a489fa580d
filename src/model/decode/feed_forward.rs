//! The feed-forward sublayer of one token: dense, or its routes and one expert after another.

use super::{Decoder, Regions};
use crate::format::LayerRecord;
use crate::layers::feed_forward::FeedForward;
use crate::layers::mixture::{RouteTrace, RouterView, Stack, TokenAt, normalize_pair, waits};
use crate::layers::norm::NormKind;
use crate::layers::tile::Tile;
use crate::model::pieces::{copy, factor, fetch, set_row, sort_by_expert};
use crate::model::{Error, Session, Shape};
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{NORM, QUANTIZE, Turn};
use crate::tensor::{Gated, Gates, NormWeights, Op, Output};

impl<'m, S: WeightSource> Decoder<'_, 'm, '_, S> {
    /// The norm before a feed-forward sublayer, if this model normalizes there.
    fn before_feed_forward(&self, record: &LayerRecord) -> Option<(NormKind, NormWeights<'m>)> {
        let norm = self.session.norm(record.ff_norm);
        norm.filter(|_| !self.session.is_post_norm())
    }

    #[inline(never)]
    pub(super) fn dense(&mut self, layer: u32, turn: &mut Turn) {
        let record = self.record(layer);
        let norm = self.before_feed_forward(&record);
        let (model, regions) = self.with_model();
        let Regions {
            state,
            aside,
            mut scratch,
            ..
        } = regions;
        let shape = model.shape();
        let (d_model, d_ff) = (shape.d_model, shape.decoder.dense_ff);
        let mut tile = Tile::carve(&mut scratch, shape.tile_kind(), 1, d_model, d_ff);
        let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
        if !turn
            .take(1, d_model.saturating_mul(NORM + QUANTIZE), 1)
            .is_empty()
        {
            set_row(&mut tile, 0, wide, state, norm.as_ref());
        }
        let (rows, op) = if shape.parallel {
            (aside, Op::Store)
        } else {
            (state, Op::Add)
        };
        let mut output = Output {
            rows,
            stride: d_model,
            op,
            gated: None,
        };
        let block = FeedForward::dense(model.palm(), &record);
        block.apply(&mut tile, wide, 1, &mut output, turn);
    }

    /// Chooses the token's experts; they and their gates stay at the start of the scratch.
    #[inline(never)]
    pub(super) fn routes(&mut self, layer: u32, trace: &mut impl RouteTrace) {
        let record = self.record(layer);
        let norm = self.before_feed_forward(&record);
        let at = TokenAt {
            stack: Stack::Decoder,
            layer: layer as usize,
            token: self.position,
            id: self.token,
        };
        let (model, regions) = self.with_model();
        let Regions {
            state,
            aside,
            mut scratch,
            ..
        } = regions;
        let shape = model.shape();
        let (chosen, gates) = carve_choices(&mut scratch, shape, &record);
        let row: &mut [f32] = scratch.take(shape.d_model);
        let probabilities: &mut [f32] = scratch.take(shape.decoder.experts);
        let probabilities = probabilities
            .get_mut(..record.experts.into())
            .unwrap_or_default();
        copy(row, state);
        if let Some((kind, weights)) = norm {
            kind.apply(&weights, row);
        }
        let router = RouterView::resident(model.palm(), &record);
        router.choose(row, at, probabilities, (chosen, gates), trace);
        if waits(&record) {
            // A token by itself always finds room.
            normalize_pair(gates);
        }
        at.show_placed(probabilities, (chosen, gates), trace);
        sort_by_expert(chosen, gates);
        aside.fill(0.0);
    }

    #[inline(never)]
    pub(super) fn expert(&mut self, layer: u32, rank: usize, turn: &mut Turn) -> Result<(), Error> {
        let record = self.record(layer);
        let norm = self.before_feed_forward(&record);
        let (model, Regions { mut scratch, .. }) = self.with_model();
        let shape = model.shape();
        let (chosen, gates) = carve_choices(&mut scratch, shape, &record);
        let expert = chosen.get(rank).copied().unwrap_or(0);
        let gate = gates.get(rank).copied().unwrap_or(0.0);

        // The blob is borrowed from the source, the buffers from the arena: two fields.
        let index = record.first_expert.saturating_add(expert.into());
        let Session {
            model,
            source,
            arena,
            plan,
            ..
        } = &mut *self.session;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, d_ff) = (shape.d_model, shape.decoder.expert_ff);
        let expert_record = palm.expert(index);
        let blob = fetch(source, index, &expert_record, turn)?;
        let Regions {
            state,
            aside,
            mut scratch,
            ..
        } = Regions::of(arena, plan, shape);
        let _ = carve_choices(&mut scratch, shape, &record);
        let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
        let block = FeedForward::expert(palm, blob, &expert_record);
        let mut tile = Tile::carve(
            &mut scratch,
            block.tile_kind(shape.layout),
            1,
            d_model,
            d_ff,
        );
        if !turn
            .take(1, d_model.saturating_mul(NORM + QUANTIZE), 1)
            .is_empty()
        {
            set_row(&mut tile, 0, wide, state, norm.as_ref());
        }
        let mut output = Output {
            rows: if shape.is_aside(&record) {
                aside
            } else {
                state
            },
            stride: d_model,
            op: Op::Add,
            gated: Some(Gated {
                factor: factor(&record),
                gates: Gates::All(gate),
            }),
        };
        block.apply(&mut tile, wide, 1, &mut output, turn);
        Ok(())
    }
}

/// Carves the choices of a token and their gates.
fn carve_choices<'r>(
    scratch: &mut Carver<'r>,
    shape: &Shape,
    record: &LayerRecord,
) -> (&'r mut [u16], &'r mut [f32]) {
    let (chosen, gates) = (
        scratch.take(shape.decoder.top_k),
        scratch.take(shape.decoder.top_k),
    );
    let top_k = usize::from(record.top_k);
    (
        chosen.get_mut(..top_k).unwrap_or_default(),
        gates.get_mut(..top_k).unwrap_or_default(),
    )
}
