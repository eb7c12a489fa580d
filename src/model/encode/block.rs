//! The mixture block between encoder and decoder: one decision an input, S = g(H), then
//! H̃ = H + Σ wᵢ·Eᵢ(H) over the chosen experts, in the order of their index.

use super::{Encoding, Regions, Stage};
use crate::format::{ExpertRecord, LayerRecord};
use crate::layers::attention::{Attending, Scratch, Span};
use crate::layers::feed_forward::FeedForward;
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::{RouteTrace, RouterView, Stack, TokenAt};
use crate::layers::position::Rotary;
use crate::layers::tile::{Tile, TileKind};
use crate::model::pieces::{
    add, copy, factor, fetch, fill, rows_from, sort_by_expert, states_from, store_keys_values,
};
use crate::model::plan::kv_shape;
use crate::model::{BlockShape, Error, Model, Session};
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::Turn;
use crate::tensor::{Gated, Gates, Op, Output, Region, part};

/// The chosen experts and their weights, in the order of their index.
struct Chosen<'a> {
    experts: &'a mut [u16],
    gates: &'a mut [f32],
}

impl<'a> Chosen<'a> {
    fn carve(low: &mut Carver<'a>, block: &BlockShape) -> Self {
        Self {
            experts: low.take(block.top_k),
            gates: low.take(block.top_k),
        }
    }
}

/// One of the chosen experts, ready to run.
struct Work<'r, 'm> {
    model: &'r Model<'m>,
    record: ExpertRecord,
    blob: &'r [u8],
    gate: f32,
    /// Sums of experts.
    aside: &'r mut [f32],
    low: Carver<'r>,
    states: &'r mut [f32],
}

impl<'m, S: WeightSource> Encoding<'_, 'm, '_, S> {
    /// The block's entry and sizes.
    fn block(&self) -> (LayerRecord, BlockShape) {
        let model = &self.session.model;
        let index = model.palm().header().layer_count();
        let shape = model.shape();
        let none = BlockShape {
            experts: 0,
            top_k: 0,
            expert_ff: 0,
            attention: false,
            integer_experts: false,
            float_experts: false,
        };
        (model.palm().layer(index), shape.block.unwrap_or(none))
    }

    /// z = mean of the normed states, p = softmax(W·z), the k greatest.
    #[inline(never)]
    pub(super) fn block_route(&mut self, trace: &mut impl RouteTrace) -> Stage {
        let (record, block) = self.block();
        let len = self.len;
        let norm = self.session.norm(record.ff_norm);
        let (model, regions) = self.session.with_model(true);
        let Regions {
            aside,
            mut low,
            states,
            ..
        } = regions;
        let d_model = model.shape().d_model;
        let Chosen { experts, gates } = Chosen::carve(&mut low, &block);
        let mean: &mut [f32] = low.take(d_model);
        let row: &mut [f32] = low.take(d_model);
        let probabilities: &mut [f32] = low.take(block.experts);
        aside.fill(0.0);
        mean.fill(0.0);
        for token in 0..len {
            copy(row, part(states, token.saturating_mul(d_model), d_model));
            if let Some((kind, weights)) = &norm {
                kind.apply(weights, row);
            }
            add(mean, row);
        }
        let tokens = len as f32;
        for value in mean.iter_mut() {
            *value /= tokens;
        }
        let at = TokenAt {
            stack: Stack::Block,
            layer: 0,
            token: 0,
            id: 0,
        };
        let router = RouterView::resident(model.palm(), &record);
        router.choose(mean, at, probabilities, (experts, gates), trace);
        at.show_placed(probabilities, (experts, gates), trace);
        sort_by_expert(experts, gates);
        self.block_expert(0)
    }

    /// What the chosen expert `rank` begins with.
    fn block_expert(&self, rank: usize) -> Stage {
        let (_, block) = self.block();
        if rank >= block.top_k {
            Stage::EndOfBlock
        } else if block.attention {
            Stage::BlockKeysValues { rank, token: 0 }
        } else {
            Stage::BlockFeedForward { rank, token: 0 }
        }
    }

    /// Fetches the chosen expert `rank` and cuts the arena beside it.
    fn block_work(&mut self, rank: usize, turn: &mut Turn) -> Result<Work<'_, 'm>, Error> {
        let (record, block) = self.block();
        let Regions { mut low, .. } = self.session.encode_regions(true);
        let chosen = Chosen::carve(&mut low, &block);
        let expert = chosen.experts.get(rank).copied().unwrap_or(0);
        let gate = chosen.gates.get(rank).copied().unwrap_or(0.0);
        let index = record.first_expert.saturating_add(expert.into());
        let expert = self.session.model.palm().expert(index);
        let sums = self.session.sums();
        let Session {
            model,
            source,
            arena,
            plan,
            ..
        } = &mut *self.session;
        let blob = fetch(source, index, &expert, turn)?;
        let Regions {
            aside,
            mut low,
            states,
            ..
        } = Regions::of(arena, plan, sums);
        let _ = Chosen::carve(&mut low, &block);
        Ok(Work {
            model,
            record: expert,
            blob,
            gate,
            aside,
            low,
            states,
        })
    }

    #[inline(never)]
    pub(super) fn block_keys_values(
        &mut self,
        rank: usize,
        token: usize,
        turn: &mut Turn,
    ) -> Result<Stage, Error> {
        let (record, _) = self.block();
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let norm = self.session.norm(record.ff_norm);
        let limit = self.session.limits.source;
        let Work {
            model,
            record: expert,
            blob,
            mut low,
            states,
            ..
        } = self.block_work(rank, turn)?;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let mut cache = KvCache::carve(&mut low, kv_shape(shape, &shape.encoder, limit));
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let [_, k, v, _] = expert.attention;
        let region = Region::expert(palm, blob);
        let kind = TileKind::for_tensor(&region, k, shape.layout);
        let mut tile = Tile::carve(&mut low, kind, rows, d_model, 0);
        let rows = states_from(states, token, d_model);
        fill(&mut tile, wide, rows, count, norm, turn);
        let rotary = Rotary::of(palm, palm.header().roles.encoder_positions);
        let cache = (&mut cache, token);
        store_keys_values((region, [k, v]), rotary, (&tile, count), wide, cache, turn);
        Ok(match next {
            Some(token) => Stage::BlockKeysValues { rank, token },
            None => Stage::BlockAttention { rank, token: 0 },
        })
    }

    #[inline(never)]
    pub(super) fn block_attention(
        &mut self,
        rank: usize,
        token: usize,
        turn: &mut Turn,
    ) -> Result<Stage, Error> {
        let (record, _) = self.block();
        let (count, next) = self.tile_of(token);
        let (rows, len) = (self.tile_rows(), self.len);
        let norm = self.session.norm(record.ff_norm);
        let limit = self.session.limits.source;
        let Work {
            model,
            record: expert,
            blob,
            gate,
            aside,
            mut low,
            states,
        } = self.block_work(rank, turn)?;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let cache = KvCache::carve(&mut low, kv_shape(shape, &shape.encoder, limit));
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let mut scratch = Scratch::carve(&mut low, shape.int8, limit as usize, shape.encoder.d_kv);
        let [q, _, _, o] = expert.attention;
        let attending = Attending {
            region: Region::expert(palm, blob),
            q,
            o,
            inner,
            rotary: Rotary::of(palm, palm.header().roles.encoder_positions),
            bias: None,
            scale: palm.header().encoder_score_scale,
        };
        let kind = TileKind::for_tensor(&attending.region, q, shape.layout);
        let mut tile = Tile::carve(&mut low, kind, rows, d_model, inner);
        let rows = states_from(states, token, d_model);
        fill(&mut tile, wide, rows, count, norm, turn);
        let mut output = Output {
            rows: rows_from(aside, token, d_model),
            stride: d_model,
            op: Op::Add,
            gated: Some(Gated {
                factor: factor(&record),
                gates: Gates::All(gate),
            }),
        };
        let span = Span {
            first: token,
            count,
            keys: len,
        };
        let scratch = &mut scratch;
        attending.apply(&mut tile, wide, &cache, scratch, span, &mut output, turn);
        Ok(match next {
            Some(token) => Stage::BlockAttention { rank, token },
            None => Stage::BlockFeedForward { rank, token: 0 },
        })
    }

    #[inline(never)]
    pub(super) fn block_feed_forward(
        &mut self,
        rank: usize,
        token: usize,
        turn: &mut Turn,
    ) -> Result<Stage, Error> {
        let (record, block) = self.block();
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let norm = self.session.norm(record.ff_norm);
        let Work {
            model,
            record: expert,
            blob,
            gate,
            aside,
            mut low,
            states,
        } = self.block_work(rank, turn)?;
        let (d_model, d_ff) = (model.shape().d_model, block.expert_ff);
        let wide: &mut [f32] = low.take(rows.saturating_mul(d_ff).max(d_model));
        let block = FeedForward::expert(model.palm(), blob, &expert);
        let layout = model.shape().layout;
        let mut tile = Tile::carve(&mut low, block.tile_kind(layout), rows, d_model, d_ff);
        let rows = states_from(states, token, d_model);
        fill(&mut tile, wide, rows, count, norm, turn);
        let mut output = Output {
            rows: rows_from(aside, token, d_model),
            stride: d_model,
            op: Op::Add,
            gated: Some(Gated {
                factor: factor(&record),
                gates: Gates::All(gate),
            }),
        };
        block.apply(&mut tile, wide, count, &mut output, turn);
        Ok(match next {
            Some(token) => Stage::BlockFeedForward { rank, token },
            None => self.block_expert(rank.saturating_add(1)),
        })
    }

    pub(super) fn end_of_block(&mut self, trace: &mut impl RouteTrace, turn: &mut Turn) -> Stage {
        self.add_aside(turn);
        if !turn.is_stopped() {
            trace.layer(Stack::Block, 0, self.states());
        }
        Stage::FinalNorm
    }
}
