//! Greedy search, with the forced tokens that a model's header names.

use crate::format::NONE32;
use crate::layers::mixture::RouteTrace;
use crate::model::{Decoder, Error};
use crate::storage::WeightSource;

/// The index of the greatest logit, the lower among equals; 0 for none.
pub fn argmax(logits: &[f32]) -> u32 {
    let (mut best, mut greatest) = (0, f32::NEG_INFINITY);
    for (id, logit) in (0u32..).zip(logits) {
        if *logit > greatest {
            (best, greatest) = (id, *logit);
        }
    }
    best
}

/// Generates up to `max_tokens` ids after the start token, the most likely one each time, until
/// the end token (which is emitted too) or the session's target limit. Gives how many there were.
///
/// `forced_bos` replaces the first token and `forced_eos` the last that `max_tokens` (or the
/// session's target limit) allows, as `transformers` does it.
///
/// # Errors
/// As [`Decoder::step`].
pub fn greedy<S: WeightSource>(
    decoder: &mut Decoder<'_, '_, '_, S>,
    max_tokens: usize,
    trace: &mut impl RouteTrace,
    mut emit: impl FnMut(u32),
) -> Result<usize, Error> {
    let session = decoder.session();
    let header = *session.model().palm().header();
    let max_tokens = max_tokens.min(session.limits().target as usize);
    decoder.restart();
    let mut id = header.decoder_start;
    for count in 1..=max_tokens {
        let logits = decoder.step_traced(id, trace)?;
        id = argmax(logits);
        if count == 1 && header.forced_bos != NONE32 {
            id = header.forced_bos;
        }
        if count == max_tokens && header.forced_eos != NONE32 {
            id = header.forced_eos;
        }
        emit(id);
        if id == header.eos {
            return Ok(count);
        }
    }
    Ok(max_tokens)
}
