//! The decoder stack, one token at a time, in units of bounded work.

use super::embedding::Embedding;
use super::pieces::{
    add, copy, factor, fetch, normalize, nth, relative_bias, set_row, sort_by_expert,
    store_keys_values,
};
use super::plan::kv_shape;
use super::{Error, MemoryPlan, Model, Progress, Session, Shape};
use crate::format::{FeedForwardKind, LayerRecord};
use crate::kernels::Single;
use crate::layers::attention::{Attending, Scratch, Span};
use crate::layers::feed_forward::FeedForward;
use crate::layers::kv_cache::KvCache;
use crate::layers::mixture::{
    NoTrace, RouteTrace, RouterView, Stack, TokenAt, normalize_pair, waits,
};
use crate::layers::norm::NormKind;
use crate::layers::position::Rotary;
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{NORM, Place, QUANTIZE, Turn};
use crate::tensor::{Gated, Gates, NormWeights, Op, Output, Region};

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
    /// The expert `rank` of those chosen, in the order of their index.
    Expert {
        layer: u32,
        rank: usize,
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
    pub(super) session: &'s mut Session<'m, 'a, S>,
    /// Source tokens.
    source: usize,
    /// Position of the next token.
    position: usize,
    /// The token that is on its way.
    token: u32,
    stage: Stage,
    /// How far the present unit has come, where it takes several turns.
    place: Place,
}

/// The regions of the decode phase.
struct Regions<'r> {
    cross: &'r mut [u8],
    own: &'r mut [u8],
    state: &'r mut [f32],
    /// The sum of the token's experts, where the model has it.
    aside: &'r mut [f32],
    scratch: Carver<'r>,
}

impl<'r> Regions<'r> {
    fn of(arena: &'r mut [u8], plan: &MemoryPlan, shape: &Shape) -> Self {
        let mut carver = Carver::new(arena);
        Self {
            cross: carver.take(plan.cross_kv as usize),
            own: carver.take(plan.self_kv as usize),
            state: carver.take(shape.d_model),
            aside: carver.take(if shape.decoder.aside {
                shape.d_model
            } else {
                0
            }),
            scratch: carver,
        }
    }
}

impl<'s, 'm, 'a, S: WeightSource> Decoder<'s, 'm, 'a, S> {
    pub(super) fn new(session: &'s mut Session<'m, 'a, S>, source: usize) -> Self {
        Self {
            session,
            source,
            position: 0,
            token: 0,
            stage: Stage::Done,
            place: Place::default(),
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
        self.place = Place::default();
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
    #[inline(never)]
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
        self.token = id;
        self.stage = self.first_of(0);
        self.place = Place::default();
        Ok(())
    }

    /// Does one unit of work: one sublayer, or up to 1024 rows of the head, and less if
    /// [`Model::with_unit`](super::Model::with_unit) says so.
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
        let mut turn = Turn::new(self.place, self.session.model.shape().unit);
        let turn = &mut turn;
        let stage = self.stage;
        match stage {
            Stage::SelfAttention { layer } => self.attention(layer, false, turn),
            Stage::CrossAttention { layer } => self.attention(layer, true, turn),
            Stage::FeedForward { layer } => match self.record(layer).ff_kind {
                FeedForwardKind::Dense if !cfg!(feature = "dense") => {}
                FeedForwardKind::Dense => self.dense(layer, turn),
                FeedForwardKind::Mixture => self.routes(layer, trace),
            },
            Stage::Expert { layer, rank } => self.expert(layer, rank, turn)?,
            Stage::Head { row } => self.head(row, turn),
            Stage::Done => {}
        }
        self.place = turn.place();
        if turn.is_stopped() {
            return Ok(Progress::Pending);
        }
        self.stage = match stage {
            Stage::SelfAttention { layer } => self.after_self_attention(layer, trace),
            Stage::CrossAttention { layer } => self.after_attention(layer, trace),
            Stage::FeedForward { layer } => match self.record(layer).ff_kind {
                FeedForwardKind::Dense if !cfg!(feature = "dense") => Stage::Done,
                FeedForwardKind::Dense => self.after_feed_forward(layer, trace),
                FeedForwardKind::Mixture => Stage::Expert { layer, rank: 0 },
            },
            Stage::Expert { layer, rank } => {
                let rank = rank.saturating_add(1);
                if rank < self.record(layer).top_k.into() {
                    Stage::Expert { layer, rank }
                } else {
                    self.after_feed_forward(layer, trace)
                }
            }
            Stage::Head { row } => {
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
        let _ = Tile::carve(&mut scratch, shape.tile_kind(), 1, shape.d_model, 0);
        let _: &mut [f32] = scratch.take(shape.d_model);
        scratch.take(shape.vocab)
    }

    /// What a layer begins with. Where its only attention runs in parallel, the feed-forward
    /// comes first: it starts from the same x as attention, which then changes it.
    fn first_of(&self, layer: u32) -> Stage {
        let shape = self.session.model.shape();
        if shape.parallel && shape.decoder_only {
            Stage::FeedForward { layer }
        } else {
            Stage::SelfAttention { layer }
        }
    }

    fn after_self_attention(&mut self, layer: u32, trace: &mut impl RouteTrace) -> Stage {
        let shape = self.session.model.shape();
        match (shape.decoder_only, shape.parallel) {
            (true, _) => self.after_attention(layer, trace),
            (false, true) => Stage::FeedForward { layer },
            (false, false) => Stage::CrossAttention { layer },
        }
    }

    /// After the last attention of a layer.
    fn after_attention(&mut self, layer: u32, trace: &mut impl RouteTrace) -> Stage {
        if self.session.model.shape().parallel {
            self.end_of_layer(layer, trace)
        } else {
            Stage::FeedForward { layer }
        }
    }

    fn after_feed_forward(&mut self, layer: u32, trace: &mut impl RouteTrace) -> Stage {
        let shape = self.session.model.shape();
        match (shape.parallel, shape.decoder_only) {
            (false, _) => self.end_of_layer(layer, trace),
            (true, true) => Stage::SelfAttention { layer },
            (true, false) => Stage::CrossAttention { layer },
        }
    }

    fn end_of_layer(&mut self, layer: u32, trace: &mut impl RouteTrace) -> Stage {
        let record = self.record(layer);
        let post = match self.session.is_post_norm() {
            true => self.session.norm(record.ff_norm),
            false => None,
        };
        let is_aside = self.session.model.shape().is_aside(&record);
        let Regions { state, aside, .. } = self.regions();
        if is_aside {
            add(state, aside);
        }
        if let Some((kind, weights)) = post {
            kind.apply(&weights, state);
        }
        trace.layer(Stack::Decoder, layer as usize, state);
        let next = layer.saturating_add(1);
        if (next as usize) < self.session.model.shape().decoder.layers {
            self.first_of(next)
        } else {
            Stage::Head { row: 0 }
        }
    }

    /// Entry of a layer in the layer table.
    fn record(&self, layer: u32) -> LayerRecord {
        let model = &self.session.model;
        let encoder = model.shape().encoder.layers as u32;
        model.palm().layer(encoder.saturating_add(layer))
    }

    fn regions(&mut self) -> Regions<'_> {
        self.with_model().1
    }

    /// The model beside the regions: borrowed, since a copy of it takes some hundred bytes of stack.
    fn with_model(&mut self) -> (&Model<'m>, Regions<'_>) {
        let Session {
            model, arena, plan, ..
        } = &mut *self.session;
        let regions = Regions::of(arena, plan, model.shape());
        (model, regions)
    }

    /// Self-attention (its K/V are appended first) or cross-attention.
    #[inline(never)]
    fn attention(&mut self, layer: u32, cross: bool, turn: &mut Turn) {
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

    /// The norm before a feed-forward sublayer, if this model normalizes there.
    fn before_feed_forward(&self, record: &LayerRecord) -> Option<(NormKind, NormWeights<'m>)> {
        let norm = self.session.norm(record.ff_norm);
        norm.filter(|_| !self.session.is_post_norm())
    }

    #[inline(never)]
    fn dense(&mut self, layer: u32, turn: &mut Turn) {
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
    fn routes(&mut self, layer: u32, trace: &mut impl RouteTrace) {
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
    fn expert(&mut self, layer: u32, rank: usize, turn: &mut Turn) -> Result<(), Error> {
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

    #[inline(never)]
    fn head(&mut self, row: usize, turn: &mut Turn) {
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
