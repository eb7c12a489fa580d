//! The encoder stack, in units of bounded work.

use super::embedding::Embedding;
use super::encoded::Encoded;
use super::pieces::{
    choose, copy, fill, normalize, nth, project, relative_bias, rows_from, set_row,
    store_keys_values,
};
use super::plan::kv_shape;
use super::{Error, Progress, Session};
use crate::format::FeedForwardKind;
use crate::layers::attention::{Query, Scratch, attend};
use crate::layers::feed_forward::FeedForward;
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::{Dispatch, NoTrace, Route, RouteTrace, Router, Stack};
use crate::layers::norm::NormKind;
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::{Matrix, NormWeights, Op, Output, linear, part};

/// What the next unit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// K and V of a tile of tokens of an encoder layer.
    KeysValues {
        layer: u32,
        token: usize,
    },
    /// Attention of a tile.
    Attention {
        layer: u32,
        token: usize,
    },
    /// Dense feed-forward of a tile.
    Dense {
        layer: u32,
        token: usize,
    },
    /// Routes of a tile.
    Routes {
        layer: u32,
        token: usize,
    },
    /// A tile of the tokens of one expert, from `token` on.
    Expert {
        layer: u32,
        expert: u16,
        token: usize,
    },
    /// The norm of layers that normalize after their residual sum.
    PostNorm {
        layer: u32,
    },
    /// The encoder's final norm.
    FinalNorm,
    /// Cross-attention K and V of a tile for a decoder layer.
    Cross {
        layer: u32,
        token: usize,
    },
    Done,
}

/// An encoding under way: call [`Encoding::poll`] until it is ready, then [`Encoding::finish`].
/// Dropping it cancels it.
#[derive(Debug)]
pub struct Encoding<'s, 'm, 'a, S> {
    session: &'s mut Session<'m, 'a, S>,
    len: usize,
    stage: Stage,
}

impl<'s, 'm, 'a, S: WeightSource> Encoding<'s, 'm, 'a, S> {
    /// Checks the source and embeds it.
    pub(super) fn start(
        session: &'s mut Session<'m, 'a, S>,
        source: &[u32],
    ) -> Result<Self, Error> {
        let limit = session.limits.source as usize;
        if source.is_empty() {
            return Err(Error::EmptySource);
        }
        if source.len() > limit {
            return Err(Error::SourceTooLong {
                limit,
                got: source.len(),
            });
        }
        let vocab = session.model.palm().header().vocab;
        if let Some(id) = source.iter().copied().find(|id| *id >= vocab) {
            return Err(Error::TokenOutOfVocabulary { id, vocab });
        }
        let embedding = Embedding::new(&session.model, Stack::Encoder, session.norm_kind());
        let d_model = session.model.shape().d_model.max(1);
        let (_, states) = session.split_states();
        for (position, (row, id)) in states.chunks_exact_mut(d_model).zip(source).enumerate() {
            embedding.row(*id, position, row);
        }
        Ok(Self {
            session,
            len: source.len(),
            stage: Stage::KeysValues { layer: 0, token: 0 },
        })
    }

    /// Does one unit of work: at most one tile of tokens through one sublayer.
    ///
    /// # Errors
    /// [`Error::Storage`] if an expert could not be read; the call may be repeated.
    pub fn poll(&mut self) -> Result<Progress, Error> {
        self.poll_traced(&mut NoTrace)
    }

    /// [`Encoding::poll`], with routing decisions shown to `trace`.
    ///
    /// # Errors
    /// As [`Encoding::poll`].
    pub fn poll_traced(&mut self, trace: &mut impl RouteTrace) -> Result<Progress, Error> {
        self.stage = match self.stage {
            Stage::KeysValues { layer, token } => self.keys_values(layer, token),
            Stage::Attention { layer, token } => self.attention(layer, token),
            Stage::Dense { layer, token } => self.dense(layer, token),
            Stage::Routes { layer, token } => self.routes(layer, token, trace),
            Stage::Expert {
                layer,
                expert,
                token,
            } => self.expert(layer, expert, token)?,
            Stage::PostNorm { layer } => self.post_norm(layer),
            Stage::FinalNorm => self.final_norm(),
            Stage::Cross { layer, token } => self.cross(layer, token),
            Stage::Done => Stage::Done,
        };
        Ok(if self.stage == Stage::Done {
            Progress::Ready
        } else {
            Progress::Pending
        })
    }

    /// Does what is left.
    ///
    /// # Errors
    /// As [`Encoding::poll`]; what was done until then is lost.
    pub fn finish(self) -> Result<Encoded<'s, 'm, 'a, S>, Error> {
        self.finish_traced(&mut NoTrace)
    }

    /// [`Encoding::finish`], with routing decisions shown to `trace`.
    ///
    /// # Errors
    /// As [`Encoding::finish`].
    pub fn finish_traced(
        mut self,
        trace: &mut impl RouteTrace,
    ) -> Result<Encoded<'s, 'm, 'a, S>, Error> {
        while self.poll_traced(trace)? == Progress::Pending {}
        Ok(Encoded::new(self.session, self.len))
    }

    /// Tokens of the tile that begins at `token`, and where the next one begins.
    fn tile_of(&self, token: usize) -> (usize, Option<usize>) {
        let count = self.tile_rows().min(self.len.saturating_sub(token));
        let next = token.saturating_add(count);
        (count, (next < self.len && count > 0).then_some(next))
    }

    /// Rows of the tile buffers: the plan's.
    fn tile_rows(&self) -> usize {
        self.session
            .model
            .shape()
            .tile
            .min(self.session.limits.source as usize)
    }

    fn keys_values(&mut self, layer: u32, token: usize) -> Stage {
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let model = self.session.model;
        let (shape, record) = (*model.shape(), model.palm().layer(layer));
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let norm = self.pre_norm(record.self_norm);
        let limit = self.session.limits.source;
        let (mut low, states) = self.session.split_states();
        let mut cache = KvCache::carve(&mut low, kv_shape(&shape, &shape.encoder, limit));
        let mut tile = Tile::carve(&mut low, shape.int8, rows, d_model, inner);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        fill(
            &mut tile,
            wide,
            states,
            d_model,
            token..token.saturating_add(count),
            norm,
        );
        let matrices = [record.k, record.v];
        let (tile, cache) = ((&tile, count), (&mut cache, token));
        store_keys_values(model.palm(), matrices, tile, wide, cache);
        match next {
            Some(token) => Stage::KeysValues { layer, token },
            None => Stage::Attention { layer, token: 0 },
        }
    }

    fn attention(&mut self, layer: u32, token: usize) -> Stage {
        let (count, next) = self.tile_of(token);
        let (rows, len) = (self.tile_rows(), self.len);
        let model = self.session.model;
        let (shape, record) = (*model.shape(), model.palm().layer(layer));
        let (d_model, inner) = (shape.d_model, shape.encoder.inner());
        let norm = self.pre_norm(record.self_norm);
        let post = self.after(record.self_norm);
        let limit = self.session.limits.source;
        let (mut low, states) = self.session.split_states();
        let cache = KvCache::carve(&mut low, kv_shape(&shape, &shape.encoder, limit));
        let mut tile = Tile::carve(&mut low, shape.int8, rows, d_model, inner);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let mut scratch = Scratch::carve(&mut low, shape.int8, limit as usize, shape.encoder.d_kv);
        fill(
            &mut tile,
            wide,
            states,
            d_model,
            token..token.saturating_add(count),
            norm,
        );
        project(
            &Matrix::resident(model.palm(), record.q),
            &tile,
            count,
            wide,
            inner,
        );
        let bias = relative_bias(&model, &record, Stack::Encoder);
        let scale = model.palm().header().encoder_score_scale;
        for (row, vector) in wide.chunks_exact_mut(inner.max(1)).take(count).enumerate() {
            let position = token.saturating_add(row);
            attend(
                vector,
                &cache,
                Query {
                    keys: len,
                    position,
                    scale,
                    bias,
                },
                &mut scratch,
            );
        }
        let input = tile.requantize(wide, inner, count);
        let states = rows_from(states, token, d_model);
        let mut output = Output {
            rows: states,
            stride: d_model,
            op: Op::Add,
            scatter: None,
        };
        let o = Matrix::resident(model.palm(), record.o);
        linear(&o, 0..o.rows, input, count, &mut output);
        normalize(states, d_model, count, post);
        match (next, record.ff_kind) {
            (Some(token), _) => Stage::Attention { layer, token },
            (None, FeedForwardKind::Dense) => Stage::Dense { layer, token: 0 },
            (None, FeedForwardKind::Mixture) => Stage::Routes { layer, token: 0 },
        }
    }

    fn dense(&mut self, layer: u32, token: usize) -> Stage {
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let model = self.session.model;
        let (shape, record) = (*model.shape(), model.palm().layer(layer));
        let (d_model, d_ff) = (shape.d_model, shape.encoder.dense_ff);
        let norm = self.pre_norm(record.ff_norm);
        let post = self.after(record.ff_norm);
        let (mut low, states) = self.session.split_states();
        let mut tile = Tile::carve(&mut low, shape.int8, rows, d_model, d_ff);
        let wide: &mut [f32] = low.take(rows.saturating_mul(d_ff).max(d_model));
        fill(
            &mut tile,
            wide,
            states,
            d_model,
            token..token.saturating_add(count),
            norm,
        );
        let states = rows_from(states, token, d_model);
        let mut output = Output {
            rows: states,
            stride: d_model,
            op: Op::Add,
            scatter: None,
        };
        FeedForward::dense(model.palm(), &record).apply(&mut tile, wide, count, &mut output);
        normalize(states, d_model, count, post);
        match next {
            Some(token) => Stage::Dense { layer, token },
            None => self.next_layer(layer),
        }
    }

    fn routes(&mut self, layer: u32, token: usize, trace: &mut impl RouteTrace) -> Stage {
        let (count, next) = self.tile_of(token);
        let model = self.session.model;
        let (shape, record) = (*model.shape(), model.palm().layer(layer));
        let d_model = shape.d_model;
        let norm = self.pre_norm(record.ff_norm);
        let limit = self.session.limits.source as usize;
        let (mut low, states) = self.session.split_states();
        let mut dispatch = carve_dispatch(&mut low, limit, shape.encoder.experts, record.capacity);
        let row: &mut [f32] = low.take(d_model);
        let probabilities: &mut [f32] = low.take(shape.encoder.experts);
        let probabilities = probabilities
            .get_mut(..record.experts.into())
            .unwrap_or_default();
        if token == 0 {
            dispatch.counts.fill(0);
        }
        let router = Router {
            weights: Matrix::resident(model.palm(), record.router),
        };
        for token in token..token.saturating_add(count) {
            copy(row, part(states, token.saturating_mul(d_model), d_model));
            if let Some((kind, weights)) = &norm {
                kind.apply(weights, row);
            }
            let expert = router.probabilities(row, probabilities);
            let (stack, layer) = (Stack::Encoder, layer as usize);
            let route = Route {
                stack,
                layer,
                token,
                probabilities,
                expert,
            };
            let (expert, gate) = choose(trace, &route);
            let kept = dispatch.place(token, expert, gate);
            trace.placed(&Route { expert, ..route }, kept, gate);
        }
        match next {
            Some(token) => Stage::Routes { layer, token },
            None => Stage::Expert {
                layer,
                expert: 0,
                token: 0,
            },
        }
    }

    fn expert(&mut self, layer: u32, expert: u16, token: usize) -> Result<Stage, Error> {
        let (rows, len) = (self.tile_rows(), self.len);
        let model = self.session.model;
        let (shape, record) = (*model.shape(), model.palm().layer(layer));
        let (d_model, d_ff) = (shape.d_model, shape.encoder.expert_ff);
        let norm = self.pre_norm(record.ff_norm);
        let limit = self.session.limits.source as usize;
        let experts = shape.encoder.experts;

        // Take the next tokens of this expert, or of the first expert after it that has any.
        let (mut low, _) = self.session.split_states();
        let dispatch = carve_dispatch(&mut low, limit, experts, record.capacity);
        let tokens: &mut [u32] = low.take(rows);
        let gates: &mut [f32] = low.take(rows);
        let (mut expert, mut token) = (expert, token);
        let mut count = 0;
        while expert < record.experts && count == 0 {
            while token < len && count < rows {
                if dispatch.choices.get(token) == Some(&expert) {
                    if let (Some(slot), Some(gate)) = (tokens.get_mut(count), gates.get_mut(count))
                    {
                        *slot = token as u32;
                        *gate = dispatch.gates.get(token).copied().unwrap_or(0.0);
                    }
                    count += 1;
                }
                token += 1;
            }
            if count == 0 {
                (expert, token) = (expert + 1, 0);
            }
        }
        if count == 0 {
            return Ok(self.next_layer(layer));
        }

        // The blob is borrowed from the source, the buffers from the arena: two fields.
        let index = record.first_expert.saturating_add(expert.into());
        let expert_record = model.palm().expert(index);
        let Session {
            source,
            arena,
            plan,
            ..
        } = &mut *self.session;
        let blob = source
            .expert(index, &expert_record)
            .map_err(|_| Error::Storage { expert: index })?;
        let at = arena.len().saturating_sub(plan.encoder_states as usize);
        let (low, high) = arena.split_at_mut_checked(at).unwrap_or_default();
        let states: &mut [f32] = bytemuck::try_cast_slice_mut(high).unwrap_or_default();
        let mut low = Carver::new(low);
        let _ = carve_dispatch(&mut low, limit, experts, record.capacity);
        let tokens: &mut [u32] = low.take(rows);
        let gates: &mut [f32] = low.take(rows);
        let mut tile = Tile::carve(&mut low, shape.int8, rows, d_model, d_ff);
        let wide: &mut [f32] = low.take(rows.saturating_mul(d_ff).max(d_model));
        for (row, from) in tokens.iter().take(count).enumerate() {
            let state = part(states, (*from as usize).saturating_mul(d_model), d_model);
            set_row(&mut tile, row, wide, state, norm.as_ref());
        }
        let scatter = Some((&*tokens, &*gates));
        let mut output = Output {
            rows: states,
            stride: d_model,
            op: Op::Add,
            scatter,
        };
        FeedForward::expert(model.palm(), blob, &expert_record).apply(
            &mut tile,
            wide,
            count,
            &mut output,
        );
        Ok(Stage::Expert {
            layer,
            expert,
            token,
        })
    }

    /// Post-norm after a mixture: its rows are complete only when every expert has added to them.
    fn post_norm(&mut self, layer: u32) -> Stage {
        let record = self.session.model.palm().layer(layer);
        let post = self.after(record.ff_norm);
        self.normalize(post);
        self.layer_after(layer)
    }

    fn next_layer(&self, layer: u32) -> Stage {
        let mixture = self.session.model.palm().layer(layer).ff_kind == FeedForwardKind::Mixture;
        if mixture && self.session.is_post_norm() {
            Stage::PostNorm { layer }
        } else {
            self.layer_after(layer)
        }
    }

    fn layer_after(&self, layer: u32) -> Stage {
        let next = layer.saturating_add(1);
        if (next as usize) < self.session.model.shape().encoder.layers {
            Stage::KeysValues {
                layer: next,
                token: 0,
            }
        } else {
            Stage::FinalNorm
        }
    }

    fn final_norm(&mut self) -> Stage {
        let index = self.session.model.palm().header().roles.encoder_final_norm;
        self.normalize(self.session.norm(index));
        Stage::Cross { layer: 0, token: 0 }
    }

    fn normalize(&mut self, norm: Option<(NormKind, NormWeights<'m>)>) {
        let (len, d_model) = (self.len, self.session.model.shape().d_model);
        let (_, states) = self.session.split_states();
        normalize(states, d_model, len, norm);
    }

    fn cross(&mut self, layer: u32, token: usize) -> Stage {
        let (count, next) = self.tile_of(token);
        let rows = self.tile_rows();
        let model = self.session.model;
        let shape = *model.shape();
        let record = model
            .palm()
            .layer((shape.encoder.layers as u32).saturating_add(layer));
        let (d_model, inner) = (shape.d_model, shape.decoder.inner());
        let kv_shape = kv_shape(&shape, &shape.decoder, self.session.limits.source);
        let cross_kv = self.session.plan.cross_kv as usize;
        let (mut low, states) = self.session.split_states();
        let caches: &mut [u8] = low.take(cross_kv);
        let mut tile = Tile::carve(&mut low, shape.int8, rows, d_model, 0);
        let wide: &mut [f32] = low.take(rows.saturating_mul(inner).max(d_model));
        let mut cache = KvCache::carve(&mut nth(caches, kv_shape, layer), kv_shape);
        fill(
            &mut tile,
            wide,
            states,
            d_model,
            token..token.saturating_add(count),
            None,
        );
        let matrices = [record.cross_k, record.cross_v];
        let (tile, cache) = ((&tile, count), (&mut cache, token));
        store_keys_values(model.palm(), matrices, tile, wide, cache);
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

    /// The norm before a sublayer, if this model normalizes there.
    fn pre_norm(&self, index: u16) -> Option<(NormKind, NormWeights<'m>)> {
        let norm = self.session.norm(index);
        norm.filter(|_| !self.session.is_post_norm())
    }

    /// The norm after a sublayer's residual sum, if this model normalizes there.
    fn after(&self, index: u16) -> Option<(NormKind, NormWeights<'m>)> {
        let norm = self.session.norm(index);
        norm.filter(|_| self.session.is_post_norm())
    }
}

/// Carves the routes of a sequence.
fn carve_dispatch<'a>(
    low: &mut Carver<'a>,
    tokens: usize,
    experts: usize,
    capacity: u32,
) -> Dispatch<'a> {
    Dispatch {
        choices: low.take(tokens),
        gates: low.take(tokens),
        counts: low.take(experts),
        capacity,
    }
}
