//! Greedy search, with the forced tokens that a model's header names.

use crate::format::NONE32;
use crate::layers::mixture::RouteTrace;
use crate::model::{Decoder, Error};
use crate::storage::WeightSource;

/// The index of the greatest logit, the lower among equals; 0 for none.
pub fn argmax(logits: &[f32]) -> u32 {
    if cfg!(feature = "std") {
        return argmax_of_many(logits);
    }
    let (mut best, mut greatest) = (0, f32::NEG_INFINITY);
    for (id, logit) in (0u32..).zip(logits) {
        if *logit > greatest {
            (best, greatest) = (id, *logit);
        }
    }
    best
}

/// [`argmax`] for machines that compare many values at a time: first the greatest, then where it is.
fn argmax_of_many(logits: &[f32]) -> u32 {
    const LANES: usize = 32;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            // NaN is never greater.
            *lane = greater(*logit, *lane);
        }
    }
    let greatest = lanes.iter().chain(rest);
    let greatest = greatest.fold(f32::NEG_INFINITY, |most, x| greater(*x, most));
    if greatest == f32::NEG_INFINITY {
        return 0;
    }
    let has = |chunk: &[f32; LANES]| chunk.iter().fold(false, |any, x| any | (*x == greatest));
    let before = chunks.iter().position(has).unwrap_or(chunks.len());
    let first = before.saturating_mul(LANES);
    let rest = logits.get(first..).unwrap_or_default();
    let at = rest.iter().position(|logit| *logit == greatest);
    first.saturating_add(at.unwrap_or(0)) as u32
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_greatest_is_found_in_either_way() {
        let inf = f32::INFINITY;
        let mut state = 1u32;
        for len in [0, 1, 5, 31, 32, 33, 64, 257] {
            for round in 0..40 {
                let mut all = [0.0; 257];
                let logits = &mut all[..len];
                for logit in logits.iter_mut() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *logit = match (round, state >> 24) {
                        (0, _) => -inf,
                        (1, _) => f32::NAN,
                        (2.., 0..9) => f32::NAN,
                        (3..6, 9..12) => inf,
                        (6..9, 9..30) => -inf,
                        (9..12, 9..90) => -0.0,
                        // Few values, so that some are equal.
                        (_, few) => few as f32 - if round < 20 { 300.0 } else { 128.0 },
                    };
                }
                let (mut wanted, mut greatest) = (0, -inf);
                for (id, logit) in logits.iter().enumerate() {
                    if *logit > greatest {
                        (wanted, greatest) = (id, *logit);
                    }
                }
                assert_eq!(argmax_of_many(logits), wanted as u32, "{logits:?}");
                assert_eq!(argmax(logits), wanted as u32, "{logits:?}");
            }
        }
    }
}
