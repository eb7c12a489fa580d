//! The decoder stack, one token at a time, in units of bounded work.

use super::embedding::Embedding;
use super::pieces::{choose, nth, project, relative_bias, set_row, store_keys_values};
use super::plan::kv_shape;
use super::{Error, Progress, Session};
use crate::format::FeedForwardKind;
use crate::layers::attention::{Query, Scratch, attend};
use crate::layers::feed_forward::FeedForward;
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::{NoTrace, Route, RouteTrace, Router, Stack};
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::{Matrix, Op, Output, linear, part};

/// Rows of the head that one unit computes.
const HEAD_ROWS: usize = 1024;

/// What the next unit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    SelfAttention {
        layer: u32,
    },
    CrossAttention {
        layer: u32,
    },
    FeedForward {
        layer: u32,
    },
    /// The final norm, and the rows of the head from `row` on.
    Head {
        row: usize,
    },
    Done,
}

/// Gives the logits of P(y_t | y_<t, H) step by step.
///
/// [`Decoder::step`] feeds a token and runs it through; a caller with a real-time loop uses
/// [`Decoder::begin`] and [`Decoder::poll`] instead. Dropping the decoder, or beginning anew with
/// [`Decoder::restart`], is safe at any point.
#[derive(Debug)]
pub struct Decoder<'s, 'm, 'a, S> {
    session: &'s mut Session<'m, 'a, S>,
    /// Source tokens.
    source: usize,
    /// Position of the next token.
    position: usize,
    stage: Stage,
}

/// The regions of the decode phase.
struct Regions<'r> {
    cross: &'r mut [u8],
    own: &'r mut [u8],
    state: &'r mut [f32],
    scratch: Carver<'r>,
}

impl<'s, 'm, 'a, S: WeightSource> Decoder<'s, 'm, 'a, S> {
    pub(super) fn new(session: &'s mut Session<'m, 'a, S>, source: usize) -> Self {
        Self {
            session,
            source,
            position: 0,
            stage: Stage::Done,
        }
    }

    /// The session.
    pub fn session(&self) -> &Session<'m, 'a, S> {
        self.session
    }

    /// Tokens fed so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets the target; the source stays encoded.
    pub fn restart(&mut self) {
        self.position = 0;
        self.stage = Stage::Done;
    }

    /// Feeds token `id` at the next position and gives the logits `[V]` of the token after it.
    ///
    /// # Errors
    /// [`Error::TokenOutOfVocabulary`], [`Error::TargetFull`], or [`Error::Storage`]; after the
    /// last, `poll` may be called again.
    pub fn step(&mut self, id: u32) -> Result<&[f32], Error> {
        self.step_traced(id, &mut NoTrace)
    }

    /// [`Decoder::step`], with routing decisions shown to `trace`.
    ///
    /// # Errors
    /// As [`Decoder::step`].
    pub fn step_traced(&mut self, id: u32, trace: &mut impl RouteTrace) -> Result<&[f32], Error> {
        self.begin(id)?;
        while self.poll_traced(trace)? == Progress::Pending {}
        Ok(self.logits())
    }

    /// Feeds token `id`; [`Decoder::poll`] does the work. A step that was under way is given up,
    /// its position used anew.
    ///
    /// # Errors
    /// [`Error::TokenOutOfVocabulary`], [`Error::TargetFull`].
    pub fn begin(&mut self, id: u32) -> Result<(), Error> {
        let vocab = self.session.model.palm().header().vocab;
        if id >= vocab {
            return Err(Error::TokenOutOfVocabulary { id, vocab });
        }
        let limit = self.session.limits.target as usize;
        if self.position >= limit {
            return Err(Error::TargetFull { limit });
        }
        let kind = self.session.norm_kind();
        let embedding = Embedding::new(&self.session.model, Stack::Decoder, kind);
        let position = self.position;
        embedding.row(id, position, self.regions().state);
        self.stage = Stage::SelfAttention { layer: 0 };
        Ok(())
    }

    /// Does one unit of work: one sublayer, or up to 1024 rows of the head.
    ///
    /// # Errors
    /// [`Error::Storage`] if an expert could not be read; the call may be repeated.
    pub fn poll(&mut self) -> Result<Progress, Error> {
        self.poll_traced(&mut NoTrace)
    }

    /// [`Decoder::poll`], with routing decisions shown to `trace`.
    ///
    /// # Errors
    /// As [`Decoder::poll`].
    pub fn poll_traced(&mut self, trace: &mut impl RouteTrace) -> Result<Progress, Error> {
        self.stage = match self.stage {
            Stage::SelfAttention { layer } => {
                self.attention(layer, false);
                Stage::CrossAttention { layer }
            }
            Stage::CrossAttention { layer } => {
                self.attention(layer, true);
                Stage::FeedForward { layer }
            }
            Stage::FeedForward { layer } => {
                self.feed_forward(layer, trace)?;
                let next = layer.saturating_add(1);
                if (next as usize) < self.session.model.shape().decoder.layers {
                    Stage::SelfAttention { layer: next }
                } else {
                    Stage::Head { row: 0 }
                }
            }
            Stage::Head { row } => {
                self.head(row);
                let next = row.saturating_add(HEAD_ROWS);
                if next < self.session.model.shape().vocab {
                    Stage::Head { row: next }
                } else {
                    self.position = self.position.saturating_add(1);
                    Stage::Done
                }
            }
            Stage::Done => Stage::Done,
        };
        Ok(if self.stage == Stage::Done {
            Progress::Ready
        } else {
            Progress::Pending
        })
    }

    /// The logits of the last step that was finished; what they are in the middle of a step, or
    /// before the first, is not specified.
    pub fn logits(&mut self) -> &[f32] {
        let shape = *self.session.model.shape();
        let mut scratch = self.regions().scratch;
        let _ = Tile::carve(&mut scratch, shape.int8, 1, shape.d_model, 0);
        let _: &mut [f32] = scratch.take(shape.d_model);
        scratch.take(shape.vocab)
    }

    fn regions(&mut self) -> Regions<'_> {
        let plan = self.session.plan;
        let d_model = self.session.model.shape().d_model;
        let mut carver = Carver::new(self.session.arena);
        Regions {
            cross: carver.take(plan.cross_kv as usize),
            own: carver.take(plan.self_kv as usize),
            state: carver.take(d_model),
            scratch: carver,
        }
    }

    /// Self-attention (its K/V are appended first) or cross-attention.
    fn attention(&mut self, layer: u32, cross: bool) {
        let model = self.session.model;
        let shape = *model.shape();
        let record = model
            .palm()
            .layer((shape.encoder.layers as u32).saturating_add(layer));
        let (d_model, inner) = (shape.d_model, shape.decoder.inner());
        let (position, source) = (self.position, self.source);
        let limits = self.session.limits;
        let post_norm = self.session.is_post_norm();
        let (norm_index, q, o) = if cross {
            (record.cross_norm, record.cross_q, record.cross_o)
        } else {
            (record.self_norm, record.q, record.o)
        };
        let norm = self.session.norm(norm_index);

        let Regions {
            cross: cross_kv,
            own,
            state,
            mut scratch,
        } = self.regions();
        let cross_shape = kv_shape(&shape, &shape.decoder, limits.source);
        let mut cache = if cross {
            KvCache::carve(&mut nth(cross_kv, cross_shape, layer), cross_shape)
        } else {
            let own_shape = kv_shape(&shape, &shape.decoder, limits.target);
            KvCache::carve(&mut nth(own, own_shape, layer), own_shape)
        };
        let mut tile = Tile::carve(&mut scratch, shape.int8, 1, d_model, inner);
        let wide: &mut [f32] = scratch.take(inner.max(d_model));
        let keys = limits.source.max(limits.target) as usize;
        let mut buffers = Scratch::carve(&mut scratch, shape.int8, keys, shape.decoder.d_kv);

        let before = if post_norm { None } else { norm.as_ref() };
        set_row(&mut tile, 0, wide, state, before);
        if !cross {
            let matrices = [record.k, record.v];
            let (tile, cache) = ((&tile, 1), (&mut cache, position));
            store_keys_values(model.palm(), matrices, tile, wide, cache);
        }
        project(&Matrix::resident(model.palm(), q), &tile, 1, wide, inner);
        let query = Query {
            keys: if cross {
                source
            } else {
                position.saturating_add(1)
            },
            position,
            scale: model.palm().header().decoder_score_scale,
            bias: if cross {
                None
            } else {
                relative_bias(&model, &record, Stack::Decoder)
            },
        };
        if let Some(vectors) = wide.get_mut(..inner) {
            attend(vectors, &cache, query, &mut buffers);
        }
        let input = tile.requantize(wide, inner, 1);
        let o = Matrix::resident(model.palm(), o);
        let mut output = Output {
            rows: state,
            stride: d_model,
            op: Op::Add,
            scatter: None,
        };
        linear(&o, 0..o.rows, input, 1, &mut output);
        if let (true, Some((kind, weights))) = (post_norm, norm) {
            kind.apply(&weights, state);
        }
    }

    fn feed_forward(&mut self, layer: u32, trace: &mut impl RouteTrace) -> Result<(), Error> {
        let model = self.session.model;
        let shape = *model.shape();
        let record = model
            .palm()
            .layer((shape.encoder.layers as u32).saturating_add(layer));
        let (d_model, token) = (shape.d_model, self.position);
        let post_norm = self.session.is_post_norm();
        let norm = self.session.norm(record.ff_norm);
        let before = if post_norm { None } else { norm.as_ref() };

        match record.ff_kind {
            FeedForwardKind::Dense => {
                let d_ff = shape.decoder.dense_ff;
                let Regions {
                    state, mut scratch, ..
                } = self.regions();
                let mut tile = Tile::carve(&mut scratch, shape.int8, 1, d_model, d_ff);
                let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
                set_row(&mut tile, 0, wide, state, before);
                let mut output = Output {
                    rows: state,
                    stride: d_model,
                    op: Op::Add,
                    scatter: None,
                };
                FeedForward::dense(model.palm(), &record).apply(&mut tile, wide, 1, &mut output);
            }
            FeedForwardKind::Mixture => {
                let (d_ff, experts) = (shape.decoder.expert_ff, shape.decoder.experts);
                let Regions {
                    state, mut scratch, ..
                } = self.regions();
                let probabilities: &mut [f32] = scratch.take(experts);
                let probabilities = probabilities
                    .get_mut(..record.experts.into())
                    .unwrap_or_default();
                let _ = Tile::carve(&mut scratch, shape.int8, 1, d_model, d_ff);
                let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
                let row = wide.get_mut(..d_model).unwrap_or_default();
                for (row, x) in row.iter_mut().zip(state.iter()) {
                    *row = *x;
                }
                if let Some((kind, weights)) = before {
                    kind.apply(weights, row);
                }
                let router = Router {
                    weights: Matrix::resident(model.palm(), record.router),
                };
                let expert = router.probabilities(row, probabilities);
                let (stack, layer) = (Stack::Decoder, layer as usize);
                let route = Route {
                    stack,
                    layer,
                    token,
                    probabilities,
                    expert,
                };
                let (expert, gate) = choose(trace, &route);
                trace.placed(&Route { expert, ..route }, true, gate);

                // The blob is borrowed from the source, the buffers from the arena: two fields.
                let index = record.first_expert.saturating_add(expert as u32);
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
                let mut scratch = Carver::new(arena);
                let _: &mut [u8] = scratch.take((plan.cross_kv + plan.self_kv) as usize);
                let state: &mut [f32] = scratch.take(d_model);
                let _: &mut [f32] = scratch.take(experts);
                let mut tile = Tile::carve(&mut scratch, shape.int8, 1, d_model, d_ff);
                let wide: &mut [f32] = scratch.take(d_ff.max(d_model));
                tile.set(0, part(wide, 0, d_model));
                let scatter = Some((&[0u32][..], core::slice::from_ref(&gate)));
                let mut output = Output {
                    rows: state,
                    stride: d_model,
                    op: Op::Add,
                    scatter,
                };
                FeedForward::expert(model.palm(), blob, &expert_record).apply(
                    &mut tile,
                    wide,
                    1,
                    &mut output,
                );
            }
        }
        if let (true, Some((kind, weights))) = (post_norm, norm) {
            kind.apply(&weights, self.regions().state);
        }
        Ok(())
    }

    fn head(&mut self, row: usize) {
        let model = self.session.model;
        let shape = *model.shape();
        let header = model.palm().header();
        let norm = self.session.norm(header.roles.decoder_final_norm);
        let Regions {
            state, mut scratch, ..
        } = self.regions();
        let mut tile = Tile::carve(&mut scratch, shape.int8, 1, shape.d_model, 0);
        let last: &mut [f32] = scratch.take(shape.d_model);
        let logits: &mut [f32] = scratch.take(shape.vocab);
        if row == 0 {
            for (last, x) in last.iter_mut().zip(state.iter()) {
                *last = *x;
            }
            if let Some((kind, weights)) = norm {
                kind.apply(&weights, last);
            }
            for x in last.iter_mut() {
                *x *= header.head_scale;
            }
        }
        tile.set(0, last);
        let head = Matrix::resident(model.palm(), header.roles.head);
        let mut output = Output {
            rows: logits,
            stride: shape.vocab,
            op: Op::Store,
            scatter: None,
        };
        linear(
            &head,
            row..row.saturating_add(HEAD_ROWS),
            tile.input(),
            1,
            &mut output,
        );
    }
}
