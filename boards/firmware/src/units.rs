//! Inference as a cooperative task does it: a bounded unit of work, then everyone else's turn.
//! A mark stands where such a task yields, so that who watches from outside counts what lies between.

use core::sync::atomic::{AtomicU32, Ordering};

use palmtop::generate::argmax;
use palmtop::storage::WeightSource;
use palmtop::{Decoder, Encoded, Error, Model, Progress, Session};

use crate::mark::palmtop_mark;

/// Multiply-accumulates of a unit of work.
static UNIT: AtomicU32 = AtomicU32::new(u32::MAX);

/// Sets the size of the units of sessions that are opened from now on.
pub fn set(multiply_accumulates: u32) {
    UNIT.store(multiply_accumulates, Ordering::Relaxed);
}

/// The model with units of that size.
#[must_use]
pub fn bounded<'m>(model: &Model<'m>) -> Model<'m> {
    model.with_unit(UNIT.load(Ordering::Relaxed))
}

/// Encodes a source.
///
/// # Errors
/// As the session's.
pub fn encode<'s, 'm, 'a, S: WeightSource>(
    session: &'s mut Session<'m, 'a, S>,
    source: &[u32],
) -> Result<Encoded<'s, 'm, 'a, S>, Error> {
    palmtop_mark();
    let mut encoding = session.start(source)?;
    while encoding.poll()? == Progress::Pending {
        palmtop_mark();
    }
    palmtop_mark();
    encoding.finish()
}

/// Feeds an id and gives the greatest logit's.
///
/// # Errors
/// As the decoder's.
pub fn step<S: WeightSource>(decoder: &mut Decoder<'_, '_, '_, S>, id: u32) -> Result<u32, Error> {
    decoder.begin(id)?;
    while decoder.poll()? == Progress::Pending {
        palmtop_mark();
    }
    palmtop_mark();
    Ok(argmax(decoder.logits()))
}
