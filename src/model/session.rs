//! A session: a model, an arena and limits.

use super::{Decoder, Encoded, Encoding, Error, Limits, MemoryPlan, Model};
use crate::layers::mixture::{NoTrace, RouteTrace};
use crate::layers::norm::NormKind;
use crate::storage::{Mapped, WeightSource};
use crate::tensor::NormWeights;
use crate::tensor::arena::Carver;

/// Runs one model in one arena; borrows both.
///
/// The order of use is a type: a session encodes, which gives an [`Encoded`], which gives a
/// [`Decoder`](super::Decoder). Dropping either at any point cancels the work; the session can
/// start over.
#[derive(Debug)]
pub struct Session<'m, 'a, S = Mapped<'m>> {
    pub(crate) model: Model<'m>,
    pub(crate) limits: Limits,
    pub(crate) plan: MemoryPlan,
    pub(crate) arena: &'a mut [u8],
    pub(crate) source: S,
}

impl<'m, 'a> Session<'m, 'a> {
    /// A session over a model in mapped memory.
    ///
    /// # Errors
    /// [`Error`] if a limit is not allowed, or the arena is too small or misaligned; the number
    /// that would do is in the error.
    pub fn new(model: Model<'m>, limits: Limits, arena: &'a mut [u8]) -> Result<Self, Error> {
        Self::with_source(model, limits, arena, Mapped::new(*model.palm()))
    }
}

impl<'m, 'a, S: WeightSource> Session<'m, 'a, S> {
    /// A session whose experts come from `source`.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_source(
        model: Model<'m>,
        limits: Limits,
        arena: &'a mut [u8],
        source: S,
    ) -> Result<Self, Error> {
        let header = model.palm().header();
        let max = |max: u32| if max == 0 { u32::MAX } else { max };
        let source_allowed = 1..=max(header.max_source);
        if !header.decoder_only && !source_allowed.contains(&limits.source) {
            return Err(Error::SourceLimit {
                max: max(header.max_source),
            });
        }
        if limits.target == 0 || limits.target > max(header.max_target) {
            return Err(Error::TargetLimit {
                max: max(header.max_target),
            });
        }
        if limits.beams != 1 {
            return Err(Error::Beams);
        }
        if !source.is_paged() && !model.palm().has_experts() {
            return Err(Error::ExpertsAbsent);
        }
        if !model.palm().is_aligned() {
            return Err(Error::ModelMisaligned);
        }
        if !arena.as_ptr().addr().is_multiple_of(crate::format::ALIGN) {
            return Err(Error::ArenaMisaligned);
        }
        let plan = model.memory_plan(limits);
        let (needed, got) = (plan.total(), arena.len());
        match arena.get_mut(..needed) {
            Some(arena) => Ok(Self {
                model,
                limits,
                plan,
                arena,
                source,
            }),
            None => Err(Error::ArenaTooSmall { needed, got }),
        }
    }

    /// The model.
    pub const fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// The limits.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// The source of the experts' weights.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The decoder of a decoder-only model, at position 0: such a model's own way in.
    ///
    /// # Errors
    /// [`Error::HasEncoder`] if the model has an encoder: then [`Session::encode`] leads to it.
    pub fn decoder_only(&mut self) -> Result<Decoder<'_, 'm, 'a, S>, Error> {
        if self.model.shape().decoder_only {
            Ok(Decoder::new(self, 0))
        } else {
            Err(Error::HasEncoder)
        }
    }

    /// Encodes a source and computes the cross-attention K/V.
    ///
    /// # Errors
    /// [`Error::EmptySource`], [`Error::SourceTooLong`], [`Error::TokenOutOfVocabulary`],
    /// [`Error::Storage`]; [`Error::NoEncoder`] in a decoder-only model.
    pub fn encode(&mut self, source: &[u32]) -> Result<Encoded<'_, 'm, 'a, S>, Error> {
        self.encode_traced(source, &mut NoTrace)
    }

    /// [`Session::encode`], with routing decisions shown to `trace`.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub fn encode_traced(
        &mut self,
        source: &[u32],
        trace: &mut impl RouteTrace,
    ) -> Result<Encoded<'_, 'm, 'a, S>, Error> {
        self.start(source)?.finish_traced(trace)
    }

    /// Begins to encode in bounded steps: see [`Encoding::poll`].
    ///
    /// # Errors
    /// As [`Session::encode`], except [`Error::Storage`].
    pub fn start(&mut self, source: &[u32]) -> Result<Encoding<'_, 'm, 'a, S>, Error> {
        Encoding::start(self, source)
    }

    pub(crate) fn norm_kind(&self) -> NormKind {
        let header = self.model.palm().header();
        NormKind {
            layer_norm: header.norm == 1,
            eps: header.norm_eps,
        }
    }

    /// Norm tensor `index` with its kind, or `None` where the model has none.
    pub(crate) fn norm(&self, index: u16) -> Option<(NormKind, NormWeights<'m>)> {
        let weights = NormWeights::resident(self.model.palm(), index)?;
        Some((self.norm_kind(), weights))
    }

    pub(crate) fn is_post_norm(&self) -> bool {
        self.model.palm().header().norm_position == 1
    }

    /// The model, what lies before the encoder states, and these: `source · D` values at the arena's
    /// end.
    pub(crate) fn split_states(&mut self) -> (&Model<'m>, Carver<'_>, &mut [f32]) {
        let states = self.plan.encoder_states as usize;
        let at = self.arena.len().saturating_sub(states);
        let (low, high) = self.arena.split_at_mut_checked(at).unwrap_or_default();
        (
            &self.model,
            Carver::new(low),
            bytemuck::try_cast_slice_mut(high).unwrap_or_default(),
        )
    }
}
