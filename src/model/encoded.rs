//! Between encoding and decoding.

use super::{Decoder, Session};
use crate::storage::WeightSource;

/// An encoded source: its states, and the way to a decoder.
#[derive(Debug)]
pub struct Encoded<'s, 'm, 'a, S> {
    session: &'s mut Session<'m, 'a, S>,
    len: usize,
}

impl<'s, 'm, 'a, S: WeightSource> Encoded<'s, 'm, 'a, S> {
    pub(super) fn new(session: &'s mut Session<'m, 'a, S>, len: usize) -> Self {
        Self { session, len }
    }

    /// The encoder states `[source, D]`, after the final norm.
    pub fn hidden(&mut self) -> &[f32] {
        let count = self.len.saturating_mul(self.session.model.shape().d_model);
        let (.., states) = self.session.split_states();
        states.get(..count).unwrap_or_default()
    }

    /// A decoder at position 0. The encoder states give up their memory to it.
    pub fn decoder(self) -> Decoder<'s, 'm, 'a, S> {
        Decoder::new(self.session, self.len)
    }
}
