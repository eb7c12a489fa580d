//! Feed-forward sublayers of the encoder: dense by tile, mixtures by expert.

use super::{Encoding, Regions, Stage};
use crate::format::LayerRecord;
use crate::kernels::product::Source;
use crate::layers::feed_forward::FeedForward;
use crate::layers::mixture::{
    DispatchView, RouteTrace, RouterView, Stack, TokenAt, capacity_of, waits,
};
use crate::layers::tile::Tile;
use crate::model::pieces::{copy, factor, fetch, fill, normalize, rows_from, states_from};
use crate::model::{Error, Session};
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{NORM, Turn};
use crate::tensor::{Gated, Gates, Op, Output, part};

impl<S: WeightSource> Encoding<'_, '_, '_, S> {
    #[inline(never)]
    pub(super) fn dense(&mut self, layer: u32, token: usize, turn: &mut Turn) -> Stage {
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let record = self.session.model.palm().layer(layer);
        let norm = self.pre_norm(record.ff_norm);
        let post = self.after(record.ff_norm);
        let parallel = self.session.model.shape().parallel;
        let (model, regions) = self.session.with_model(parallel);
        let Regions {
            aside,
            mut low,
            states,
            ..
        } = regions;
        let shape = model.shape();
        let (d_model, d_ff) = (shape.d_model, shape.encoder.dense_ff);
        let mut tile = Tile::carve(&mut low, shape.tile_kind(), rows, d_model, d_ff);
        let wide: &mut [f32] = low.take(rows.saturating_mul(d_ff).max(d_model));
        let rows = states_from(states, token, d_model);
        fill(&mut tile, wide, rows, count, norm, turn);
        let (to, op) = if shape.parallel {
            (aside, Op::Store)
        } else {
            (states, Op::Add)
        };
        let to = rows_from(to, token, d_model);
        let mut output = Output {
            rows: to,
            stride: d_model,
            op,
            gated: None,
        };
        let block = FeedForward::dense(model.palm(), &record);
        block.apply(&mut tile, wide, count, &mut output, turn);
        normalize(to, d_model, count, post, turn);
        match next {
            Some(token) => Stage::Dense { layer, token },
            None => self.after_feed_forward(layer),
        }
    }

    #[inline(never)]
    pub(super) fn routes(
        &mut self,
        layer: u32,
        token: usize,
        trace: &mut impl RouteTrace,
        turn: &mut Turn,
    ) -> Stage {
        let (count, next) = self.tile_of(token);
        let len = self.len;
        let record = self.session.model.palm().layer(layer);
        let norm = self.pre_norm(record.ff_norm);
        let sizes = self.routes_of();
        let is_aside = self.session.model.shape().encoder.aside;
        let (model, regions) = self.session.with_model(is_aside);
        let Regions {
            aside,
            mut low,
            ids,
            states,
        } = regions;
        let shape = model.shape();
        let d_model = shape.d_model;
        let mut dispatch = carve_dispatch(&mut low, sizes);
        dispatch.top_k = record.top_k.into();
        dispatch.capacity = capacity_of(&record, len);
        let row: &mut [f32] = low.take(d_model);
        let probabilities: &mut [f32] = low.take(shape.encoder.experts);
        let probabilities = probabilities
            .get_mut(..record.experts.into())
            .unwrap_or_default();
        let begins = turn.take(1, aside.len(), 1);
        if token == 0 && !begins.is_empty() {
            dispatch.counts.fill(0);
            aside.fill(0.0);
        }
        let router = RouterView::resident(model.palm(), &record);
        let (stack, layer_of_stack) = (Stack::Encoder, layer as usize);
        let cost = NORM.saturating_add(usize::from(record.experts).saturating_mul(5));
        for at in turn.take(count, d_model.saturating_mul(cost), 1) {
            let token = token.saturating_add(at);
            copy(row, part(states, token.saturating_mul(d_model), d_model));
            if let Some((kind, weights)) = &norm {
                kind.apply(weights, row);
            }
            let at = TokenAt {
                stack,
                layer: layer_of_stack,
                token,
                id: ids.get(token).copied().unwrap_or(0),
            };
            router.choose(row, at, probabilities, dispatch.of(token), trace);
            if !waits(&record) {
                dispatch.place_token((stack, layer_of_stack, token), probabilities, trace);
            }
        }
        match next {
            Some(token) => Stage::Routes { layer, token },
            None => {
                if waits(&record) && !turn.is_stopped() {
                    let all = (stack, layer_of_stack, len);
                    dispatch.place_all(all, record.normalize_first, trace);
                }
                Stage::Expert {
                    layer,
                    expert: 0,
                    token: 0,
                }
            }
        }
    }

    /// Takes the next tokens of an expert, or of the first one after it that has any: the expert, the
    /// token to go on with, and how many were taken. Tokens and gates lie behind the routes.
    #[inline(never)]
    fn take_tokens(
        &mut self,
        record: &LayerRecord,
        mut expert: u16,
        mut token: usize,
    ) -> (u16, usize, usize) {
        let (rows, len) = (self.tile_rows(), self.len);
        let shape = self.session.model.shape();
        let (sizes, is_aside) = (self.routes_of(), shape.encoder.aside);
        let Regions { mut low, .. } = self.session.encode_regions(is_aside);
        let mut dispatch = carve_dispatch(&mut low, sizes);
        dispatch.top_k = record.top_k.into();
        let tokens: &mut [u32] = low.take(rows);
        let gates: &mut [f32] = low.take(rows);
        let mut count = 0;
        while count == 0 {
            // Choices are searched only for experts that some token asked for.
            let (from, end) = (usize::from(expert), usize::from(record.experts));
            let asked = dispatch.counts.get(from..end).unwrap_or_default();
            match asked.iter().position(|count| *count > 0) {
                Some(0) => {}
                Some(skipped) => (expert, token) = (expert.saturating_add(skipped as u16), 0),
                None => break,
            }
            while token < len && count < rows {
                let (choices, weights) = dispatch.of(token);
                let place = choices.iter().position(|choice| *choice == expert);
                if let Some(gate) = place.and_then(|rank| weights.get(rank)) {
                    if let (Some(slot), Some(to)) = (tokens.get_mut(count), gates.get_mut(count)) {
                        *slot = token as u32;
                        *to = *gate;
                    }
                    count += 1;
                }
                token += 1;
            }
            if count == 0 {
                (expert, token) = (expert + 1, 0);
            }
        }
        (expert, token, count)
    }

    #[inline(never)]
    pub(super) fn expert(
        &mut self,
        layer: u32,
        expert: u16,
        token: usize,
        turn: &mut Turn,
    ) -> Result<Stage, Error> {
        let record = self.session.model.palm().layer(layer);
        let (expert, token, count) = self.take_tokens(&record, expert, token);
        if count == 0 {
            return Ok(self.after_feed_forward(layer));
        }
        let rows = self.tile_rows();
        let norm = self.pre_norm(record.ff_norm);
        let sizes = self.routes_of();
        let aside = match self.session.model.shape().encoder.aside {
            true => self.session.sums(),
            false => 0,
        };

        // The blob is borrowed from the source, the buffers from the arena: two fields.
        let Session {
            model,
            source,
            arena,
            plan,
            ..
        } = &mut *self.session;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, d_ff) = (shape.d_model, shape.encoder.expert_ff);
        let index = record.first_expert.saturating_add(expert.into());
        let expert_record = palm.expert(index);
        let blob = fetch(source, index, &expert_record, turn)?;
        let Regions {
            aside,
            mut low,
            states,
            ..
        } = Regions::of(arena, plan, aside);
        let _ = carve_dispatch(&mut low, sizes);
        let tokens: &mut [u32] = low.take(rows);
        let gates: &mut [f32] = low.take(rows);
        let wide: &mut [f32] = low.take(rows.saturating_mul(d_ff).max(d_model));
        let block = FeedForward::expert(palm, blob, &expert_record);
        let mut tile = Tile::carve(&mut low, block.tile_kind(shape.layout), rows, d_model, d_ff);
        let rows = Source {
            values: states,
            width: d_model,
            picks: Some(tokens),
        };
        fill(&mut tile, wide, rows, count, norm, turn);
        let mut output = Output {
            rows: if shape.is_aside(&record) {
                aside
            } else {
                states
            },
            stride: d_model,
            op: Op::Add,
            gated: Some(Gated {
                factor: factor(&record),
                gates: Gates::Each(tokens, gates),
            }),
        };
        block.apply(&mut tile, wide, count, &mut output, turn);
        Ok(Stage::Expert {
            layer,
            expert,
            token,
        })
    }

    /// Most tokens of the routes, experts a token, and experts.
    fn routes_of(&self) -> (usize, usize, usize) {
        let encoder = &self.session.model.shape().encoder;
        let limit = self.session.limits.source as usize;
        (limit, encoder.top_k, encoder.experts)
    }
}

/// Carves the routes of a sequence of so many tokens, experts a token, and experts.
fn carve_dispatch<'a>(
    low: &mut Carver<'a>,
    (tokens, top_k, experts): (usize, usize, usize),
) -> DispatchView<'a> {
    let places = tokens.saturating_mul(top_k);
    DispatchView {
        choices: low.take(places),
        gates: low.take(places),
        counts: low.take(experts),
        top_k,
        capacity: 0,
    }
}
