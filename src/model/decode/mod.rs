//! The decoder stack, one token at a time, in units of bounded work.

mod attention;
mod feed_forward;
mod head;

use super::embedding::Embedding;
use super::pieces::add;
use super::{Error, MemoryPlan, Model, Progress, Session, Shape};
use crate::format::{FeedForwardKind, LayerRecord};
use crate::layers::mixture::{NoTrace, RouteTrace, Stack};
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{Place, Turn};
use head::HEAD_ROWS;

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
}
