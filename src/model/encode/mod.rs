//! The encoder stack, in units of bounded work.

mod attention;
mod block;
mod cross;
mod feed_forward;

use super::embedding::Embedding;
use super::encoded::Encoded;
use super::pieces::{add, normalize, rows_from};
use super::{Error, Model, Progress, Session};
use crate::format::FeedForwardKind;
#[cfg(feature = "threads")]
use crate::kernels::pool;
use crate::layers::mixture::{NoTrace, RouteTrace, Stack};
use crate::layers::norm::NormKind;
use crate::storage::WeightSource;
use crate::tensor::NormWeights;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{Place, Turn};

/// What an addition costs, in multiply-accumulates.
const ADD: usize = 8;

/// What a value of an embedding costs, which lies among those of other rows.
const EMBED: usize = 70;

/// What the next unit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The source's tokens become states.
    Embedding,
    /// A layer begins.
    Layer {
        layer: u32,
    },
    /// K and V of a tile of tokens of a layer.
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
    /// What a layer leaves to its end: sums beside the stream, the norm after a mixture.
    EndOfLayer {
        layer: u32,
    },
    /// The mixture block's one decision.
    BlockRoute,
    /// K and V of a tile for one of the block's experts.
    BlockKeysValues {
        rank: usize,
        token: usize,
    },
    /// Attention of a tile by one of the block's experts.
    BlockAttention {
        rank: usize,
        token: usize,
    },
    /// Feed-forward of a tile by one of the block's experts.
    BlockFeedForward {
        rank: usize,
        token: usize,
    },
    /// The sum of the block's experts joins the stream.
    EndOfBlock,
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
    pub(super) session: &'s mut Session<'m, 'a, S>,
    len: usize,
    stage: Stage,
    /// How far the present unit has come, where it takes several turns.
    place: Place,
}

impl<'s, 'm, 'a, S: WeightSource> Encoding<'s, 'm, 'a, S> {
    /// Checks the source and keeps it.
    pub(super) fn start(
        session: &'s mut Session<'m, 'a, S>,
        source: &[u32],
    ) -> Result<Self, Error> {
        if session.model.shape().decoder_only {
            return Err(Error::NoEncoder);
        }
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
        session.place(source);
        Ok(Self {
            session,
            len: source.len(),
            stage: Stage::Embedding,
            place: Place::default(),
        })
    }

    /// Does one unit of work: at most one tile of tokens through one sublayer, and less if
    /// [`Model::with_unit`](super::Model::with_unit) says so.
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
        let mut turn = Turn::new(self.place, self.session.model.shape().unit);
        let turn = &mut turn;
        let next = match self.stage {
            Stage::Embedding => self.embed(turn),
            Stage::Layer { layer } => self.first_of(layer),
            Stage::KeysValues { layer, token } => self.keys_values(layer, token, turn),
            Stage::Attention { layer, token } => self.attention(layer, token, turn),
            // A file that needs what is left out is refused when it is parsed.
            Stage::Dense { .. } if !cfg!(feature = "dense") => Stage::Done,
            Stage::Dense { layer, token } => self.dense(layer, token, turn),
            Stage::Routes { layer, token } => self.routes(layer, token, trace, turn),
            Stage::Expert {
                layer,
                expert,
                token,
            } => self.expert(layer, expert, token, turn)?,
            Stage::EndOfLayer { layer } => self.end_of_layer(layer, trace, turn),
            Stage::BlockRoute
            | Stage::BlockKeysValues { .. }
            | Stage::BlockAttention { .. }
            | Stage::BlockFeedForward { .. }
            | Stage::EndOfBlock
                if !cfg!(feature = "mixture-block") =>
            {
                Stage::Done
            }
            Stage::BlockRoute => self.block_route(trace),
            Stage::BlockKeysValues { rank, token } => self.block_keys_values(rank, token, turn)?,
            Stage::BlockAttention { rank, token } => self.block_attention(rank, token, turn)?,
            Stage::BlockFeedForward { rank, token } => {
                self.block_feed_forward(rank, token, turn)?
            }
            Stage::EndOfBlock => self.end_of_block(trace, turn),
            Stage::FinalNorm => self.final_norm(turn),
            Stage::Cross { layer, token } => self.cross(layer, token, turn),
            Stage::Done => Stage::Done,
        };
        self.place = turn.place();
        if turn.is_stopped() {
            return Ok(Progress::Pending);
        }
        self.stage = next;
        Ok(if self.stage == Stage::Done {
            Progress::Ready
        } else {
            Progress::Pending
        })
    }

    /// Whether the encoder's states are final, so that only the decoder's cross-attention K/V are
    /// left to compute.
    #[must_use]
    pub fn is_encoded(&self) -> bool {
        matches!(self.stage, Stage::Cross { .. } | Stage::Done)
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
        self.tile_with(self.tile_rows(), token)
    }

    /// The same with tiles of so many rows.
    fn tile_with(&self, rows: usize, token: usize) -> (usize, Option<usize>) {
        let count = rows.min(self.len.saturating_sub(token));
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

    /// The same of attention's.
    fn attention_rows(&self) -> usize {
        let rows = self.session.model.shape().attention_tile();
        rows.min(self.session.limits.source as usize)
    }

    #[inline(never)]
    fn embed(&mut self, turn: &mut Turn) -> Stage {
        let (len, d_model) = (self.len, self.session.model.shape().d_model.max(1));
        let kind = self.session.norm_kind();
        let embedding = Embedding::new(&self.session.model, Stack::Encoder, kind);
        let Regions { states, .. } = self.session.encode_regions(false);
        let some = turn.take(len, d_model.saturating_mul(EMBED), 1);
        let rows =
            states.get_mut(some.start.saturating_mul(d_model)..some.end.saturating_mul(d_model));
        let rows = rows.unwrap_or_default();
        let set = |row: usize, state: &mut [f32]| {
            let id = state.first().map_or(0, |first| first.to_bits());
            embedding.row(id, some.start.saturating_add(row), state);
        };
        #[cfg(feature = "threads")]
        {
            /// What a value costs, in multiplications: bytes of a row lie far apart.
            const VALUE: usize = 512;
            pool::each_row(rows, d_model, d_model.saturating_mul(VALUE), &set);
        }
        #[cfg(not(feature = "threads"))]
        for (row, state) in rows.chunks_exact_mut(d_model).enumerate() {
            set(row, state);
        }
        Stage::Layer { layer: 0 }
    }

    /// What a layer begins with. In parallel layers the feed-forward comes first: it starts from
    /// the same x as attention, which then changes it.
    fn first_of(&self, layer: u32) -> Stage {
        if self.session.model.shape().parallel {
            self.feed_forward_of(layer)
        } else {
            Stage::KeysValues { layer, token: 0 }
        }
    }

    fn feed_forward_of(&self, layer: u32) -> Stage {
        match self.session.model.palm().layer(layer).ff_kind {
            FeedForwardKind::Dense => Stage::Dense { layer, token: 0 },
            FeedForwardKind::Mixture => Stage::Routes { layer, token: 0 },
        }
    }

    fn after_attention(&self, layer: u32) -> Stage {
        if self.session.model.shape().parallel {
            Stage::EndOfLayer { layer }
        } else {
            self.feed_forward_of(layer)
        }
    }

    fn after_feed_forward(&self, layer: u32) -> Stage {
        if self.session.model.shape().parallel {
            Stage::KeysValues { layer, token: 0 }
        } else {
            Stage::EndOfLayer { layer }
        }
    }

    fn end_of_layer(&mut self, layer: u32, trace: &mut impl RouteTrace, turn: &mut Turn) -> Stage {
        let record = self.session.model.palm().layer(layer);
        if self.session.model.shape().is_aside(&record) {
            self.add_aside(turn);
        }
        // A mixture's rows are complete only now; a dense block's were normalized by tile.
        if record.ff_kind == FeedForwardKind::Mixture {
            let post = self.after(record.ff_norm);
            self.normalize(post, turn);
        }
        if turn.is_stopped() {
            return Stage::EndOfLayer { layer };
        }
        trace.layer(Stack::Encoder, layer as usize, self.states());
        let shape = self.session.model.shape();
        let next = layer.saturating_add(1);
        if (next as usize) < shape.encoder.layers {
            Stage::Layer { layer: next }
        } else if shape.block.is_some() {
            Stage::BlockRoute
        } else {
            Stage::FinalNorm
        }
    }

    /// Adds the sums of experts to the stream.
    fn add_aside(&mut self, turn: &mut Turn) {
        let (len, d_model) = (self.len, self.session.model.shape().d_model);
        let some = turn.take(len, d_model.saturating_mul(ADD), 1);
        let some = some.start.saturating_mul(d_model)..some.end.saturating_mul(d_model);
        let Regions { aside, states, .. } = self.session.encode_regions(true);
        if let (Some(states), Some(aside)) = (states.get_mut(some.clone()), aside.get(some)) {
            add(states, aside);
        }
    }

    fn final_norm(&mut self, turn: &mut Turn) -> Stage {
        let index = self.session.model.palm().header().roles.encoder_final_norm;
        self.normalize(self.session.norm(index), turn);
        Stage::Cross { layer: 0, token: 0 }
    }

    fn normalize(&mut self, norm: Option<(NormKind, NormWeights<'m>)>, turn: &mut Turn) {
        let (len, d_model) = (self.len, self.session.model.shape().d_model);
        let Regions { states, .. } = self.session.encode_regions(false);
        normalize(states, d_model, len, norm, turn);
    }

    /// Normalizes the states of some tokens after a sublayer's residual sum, if this model does so.
    #[inline(never)]
    fn normalize_rows(&mut self, index: u16, token: usize, count: usize, turn: &mut Turn) {
        let post = self.after(index);
        let d_model = self.session.model.shape().d_model;
        let Regions { states, .. } = self.session.encode_regions(false);
        normalize(
            rows_from(states, token, d_model),
            d_model,
            count,
            post,
            turn,
        );
    }

    /// Values of the states of the tokens that there are.
    fn len_of_states(&self) -> usize {
        let d_model = self.session.model.shape().d_model;
        self.len.saturating_mul(d_model)
    }

    fn states(&mut self) -> &[f32] {
        let len = self.len_of_states();
        let Regions { states, .. } = self.session.encode_regions(false);
        states.get(..len).unwrap_or_default()
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

/// The arena while the encoder's layers run.
pub(super) struct Regions<'r> {
    /// Sums of experts `[source, D]`, where the unit has them.
    pub aside: &'r mut [f32],
    pub low: Carver<'r>,
    pub ids: &'r mut [u32],
    pub states: &'r mut [f32],
}

impl<'r> Regions<'r> {
    /// Cuts the arena: sums of `aside` values first, states and ids last.
    pub fn of(arena: &'r mut [u8], plan: &super::MemoryPlan, aside: usize) -> Self {
        let at = arena.len().saturating_sub(plan.encoder_states as usize);
        let (low, states) = arena.split_at_mut_checked(at).unwrap_or_default();
        let at = low.len().saturating_sub(plan.source_ids as usize);
        let (low, ids) = low.split_at_mut_checked(at).unwrap_or_default();
        let mut low = Carver::new(low);
        Self {
            aside: low.take(aside),
            low,
            ids: bytemuck::try_cast_slice_mut(ids).unwrap_or_default(),
            states: bytemuck::try_cast_slice_mut(states).unwrap_or_default(),
        }
    }
}

impl<'m, S: WeightSource> Session<'m, '_, S> {
    /// Puts the ids of a source where the stages look for them. By itself, so that what follows does
    /// not pay for its stack.
    #[inline(never)]
    fn place(&mut self, source: &[u32]) {
        let d_model = self.model.shape().d_model.max(1);
        let Regions { ids, states, .. } = self.encode_regions(false);
        for (to, id) in ids.iter_mut().zip(source) {
            *to = *id;
        }
        // Where it is not kept for routes, each id is where its state will be.
        let states: &mut [u32] = bytemuck::cast_slice_mut(states);
        for (row, id) in states.chunks_exact_mut(d_model).zip(source) {
            if let Some(first) = row.first_mut() {
                *first = *id;
            }
        }
    }

    /// The arena while the encoder's layers run, with room for sums of experts if asked.
    fn encode_regions(&mut self, aside: bool) -> Regions<'_> {
        self.with_model(aside).1
    }

    /// The model beside [`Session::encode_regions`]: borrowed, since a copy of it takes some hundred
    /// bytes of stack.
    fn with_model(&mut self, aside: bool) -> (&Model<'m>, Regions<'_>) {
        let aside = if aside { self.sums() } else { 0 };
        let regions = Regions::of(self.arena, &self.plan, aside);
        (&self.model, regions)
    }

    /// Values of the sums of experts.
    fn sums(&self) -> usize {
        let tokens = self.limits.source as usize;
        tokens.saturating_mul(self.model.shape().d_model)
    }
}
