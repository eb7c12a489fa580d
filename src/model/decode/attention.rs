//! Attention of one token: to its target's tokens so far, or to the source.

use super::{Decoder, Regions};
use crate::layers::attention::{Attending, Scratch, Span};
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::Stack;
use crate::layers::position::Rotary;
use crate::layers::tile::Tile;
use crate::model::pieces::{normalize, nth, relative_bias, set_row, store_keys_values};
use crate::model::plan::kv_shape;
use crate::storage::WeightSource;
use crate::tensor::turn::{NORM, QUANTIZE, Turn};
use crate::tensor::{Op, Output, Region};

impl<S: WeightSource> Decoder<'_, '_, '_, S> {
    /// Self-attention (its K/V are appended first) or cross-attention.
    #[inline(never)]
    pub(super) fn attention(&mut self, layer: u32, cross: bool, turn: &mut Turn) {
        let record = self.record(layer);
        let (position, source) = (self.position, self.source);
        // Borrowed, since a copy of a model takes some hundred bytes of stack.
        let session = &mut *self.session;
        let model = &session.model;
        let (palm, shape) = (model.palm(), model.shape());
        let (d_model, inner) = (shape.d_model, shape.decoder.inner());
        let limits = session.limits;
        let post_norm = session.is_post_norm();
        let (norm_index, q, o) = if cross {
            (record.cross_norm, record.cross_q, record.cross_o)
        } else {
            (record.self_norm, record.q, record.o)
        };
        let norm = session.norm(norm_index);
        let rotary = match cross {
            true => None,
            false => Rotary::of(palm, palm.header().roles.decoder_positions),
        };

        let source_limit = if shape.decoder_only { 0 } else { limits.source };
        let Regions {
            cross: cross_kv,
            own,
            state,
            mut scratch,
            ..
        } = Regions::of(session.arena, &session.plan, shape);
        let cross_shape = kv_shape(shape, &shape.decoder, source_limit);
        let mut cache = if cross {
            KvCache::carve(&mut nth(cross_kv, cross_shape, layer), cross_shape)
        } else {
            let own_shape = kv_shape(shape, &shape.decoder, limits.target);
            KvCache::carve(&mut nth(own, own_shape, layer), own_shape)
        };
        let mut tile = Tile::carve(&mut scratch, shape.tile_kind(), 1, d_model, inner);
        let wide: &mut [f32] = scratch.take(inner.max(d_model));
        let keys = source_limit.max(limits.target) as usize;
        let mut buffers = Scratch::carve(&mut scratch, shape.int8, keys, shape.decoder.d_kv);

        let before = if post_norm { None } else { norm.as_ref() };
        if !turn
            .take(1, d_model.saturating_mul(NORM + QUANTIZE), 1)
            .is_empty()
        {
            set_row(&mut tile, 0, wide, state, before);
        }
        if !cross {
            let matrices = (Region::resident(palm), [record.k, record.v]);
            let cache = (&mut cache, position);
            store_keys_values(matrices, rotary, (&tile, 1), wide, cache, turn);
        }
        let attending = Attending {
            region: Region::resident(palm),
            q,
            o,
            inner,
            rotary,
            bias: match cross {
                true => None,
                false => relative_bias(model, &record, Stack::Decoder),
            },
            scale: palm.header().decoder_score_scale,
        };
        let span = Span {
            first: position,
            count: 1,
            keys: match cross {
                true => source,
                false => position.saturating_add(1),
            },
        };
        let mut output = Output {
            rows: state,
            stride: d_model,
            op: Op::Add,
            gated: None,
        };
        let buffers = &mut buffers;
        attending.apply(&mut tile, wide, &cache, buffers, span, &mut output, turn);
        normalize(state, d_model, 1, norm.filter(|_| post_norm), turn);
    }
}
