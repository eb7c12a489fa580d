//! Keys and values of cross-attention, for every layer of the decoder.

use super::{Encoding, Stage};
use crate::layers::kv_cache::KvCache;
use crate::layers::tile::Tile;
use crate::model::pieces::{fill, nth, states_from, store_keys_values};
use crate::model::plan::kv_shape;
use crate::storage::WeightSource;
use crate::tensor::Region;
use crate::tensor::turn::Turn;

impl<S: WeightSource> Encoding<'_, '_, '_, S> {
    #[inline(never)]
    pub(super) fn cross(&mut self, layer: u32, token: usize, turn: &mut Turn) -> Stage {
        let rows = self.attention_rows();
        let (count, next) = self.tile_with(rows, token);
        let source = self.session.limits.source;
        let cross_kv = self.session.plan.cross_kv as usize;
        let (model, mut low, states) = self.session.split_states();
        let (palm, shape) = (model.palm(), model.shape());
        let record = palm.layer((shape.encoder.layers as u32).saturating_add(layer));
        let (d_model, inner) = (shape.d_model, shape.decoder.kv_inner());
        let kv_shape = kv_shape(shape, &shape.decoder, source);
        let caches: &mut [u8] = low.take(cross_kv);
        let mut tile = Tile::carve(&mut low, shape.tile_kind(), rows, d_model, 0);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let mut cache = KvCache::carve(&mut nth(caches, kv_shape, layer), kv_shape);
        // With one tile, its rows are those of the layer before.
        if layer == 0 || token > 0 || next.is_some() {
            let rows = states_from(states, token, d_model);
            fill(&mut tile, wide, rows, count, None, turn);
        } else {
            tile.keep(d_model);
        }
        let matrices = [record.cross_k, record.cross_v];
        let matrices = (Region::resident(palm), matrices);
        let cache = (&mut cache, token);
        store_keys_values(matrices, None, (&tile, count), wide, cache, turn);
        let layers = shape.decoder.layers as u32;
        match next {
            Some(token) => Stage::Cross { layer, token },
            None if layer.saturating_add(1) < layers => Stage::Cross {
                layer: layer.saturating_add(1),
                token: 0,
            },
            None => Stage::Done,
        }
    }
}
