//! Self-attention of the encoder's layers: all keys and values first, then tile after tile.

use super::{Encoding, Regions, Stage};
use crate::layers::attention::{Attending, Scratch, Span};
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::Stack;
use crate::layers::position::Rotary;
use crate::layers::tile::Tile;
use crate::model::pieces::{fill, relative_bias, rows_from, states_from, store_keys_values};
use crate::model::plan::kv_shape;
use crate::storage::WeightSource;
use crate::tensor::turn::Turn;
use crate::tensor::{Op, Output, Region};

impl<S: WeightSource> Encoding<'_, '_, '_, S> {
    #[inline(never)]
    pub(super) fn keys_values(&mut self, layer: u32, token: usize, turn: &mut Turn) -> Stage {
        let rows = self.attention_rows();
        let (count, next) = self.tile_with(rows, token);
        let record = self.session.model.palm().layer(layer);
        let norm = self.pre_norm(record.self_norm);
        let limit = self.session.limits.source;
        let parallel = self.session.model.shape().parallel;
        let (model, regions) = self.session.with_model(parallel);
        let Regions {
            mut low, states, ..
        } = regions;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let mut cache = KvCache::carve(&mut low, kv_shape(shape, &shape.encoder, limit));
        let mut tile = Tile::carve(&mut low, shape.tile_kind(), rows, d_model, inner);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let rows = states_from(states, token, d_model);
        fill(&mut tile, wide, rows, count, norm, turn);
        let matrices = (Region::resident(palm), [record.k, record.v]);
        let rotary = Rotary::of(palm, palm.header().roles.encoder_positions);
        let cache = (&mut cache, token);
        store_keys_values(matrices, rotary, (&tile, count), wide, cache, turn);
        match next {
            Some(token) => Stage::KeysValues { layer, token },
            None => Stage::Attention { layer, token: 0 },
        }
    }

    #[inline(never)]
    pub(super) fn attention(&mut self, layer: u32, token: usize, turn: &mut Turn) -> Stage {
        let (rows, len) = (self.attention_rows(), self.len);
        let (count, next) = self.tile_with(rows, token);
        let limit = self.session.limits.source;
        let record = self.session.model.palm().layer(layer);
        let norm = self.pre_norm(record.self_norm);
        let parallel = self.session.model.shape().parallel;
        let (model, regions) = self.session.with_model(parallel);
        let Regions {
            mut low, states, ..
        } = regions;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let attending = Attending {
            region: Region::resident(palm),
            q: record.q,
            o: record.o,
            inner,
            rotary: Rotary::of(palm, palm.header().roles.encoder_positions),
            bias: relative_bias(model, &record, Stack::Encoder),
            scale: palm.header().encoder_score_scale,
        };
        let cache = KvCache::carve(&mut low, kv_shape(shape, &shape.encoder, limit));
        let mut tile = Tile::carve(&mut low, shape.tile_kind(), rows, d_model, inner);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let mut scratch = Scratch::carve(&mut low, shape.int8, limit as usize, shape.encoder.d_kv);
        // With one tile, its rows are still those that keys and values were made of.
        if token > 0 || next.is_some() {
            let rows = states_from(states, token, d_model);
            fill(&mut tile, wide, rows, count, norm, turn);
        } else {
            tile.keep(d_model);
        }
        let mut output = Output {
            rows: rows_from(states, token, d_model),
            stride: d_model,
            op: Op::Add,
            gated: None,
        };
        let span = Span {
            first: token,
            count,
            keys: len,
        };
        let scratch = &mut scratch;
        attending.apply(&mut tile, wide, &cache, scratch, span, &mut output, turn);
        self.normalize_rows(record.self_norm, token, count, turn);
        match next {
            Some(token) => Stage::Attention { layer, token },
            None => self.after_attention(layer),
        }
    }
}
