//! Greedy generation in bounded steps, for firmware without an executor.

use core::ops::ControlFlow;

use palmtop::generate::argmax;
use palmtop::storage::WeightSource;
use palmtop::{Error, Progress, Session};

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ended {
    /// With the model's end token, or at the session's target limit.
    Done,
    /// Because `between` asked for it. The session can start over at once.
    Cancelled,
}

/// Encodes `ids` and emits the target's ids, without the end token.
///
/// `between` is called after every unit of work, the longest stretch that nothing else gets the
/// core: feed the watchdog there, serve the console, and give [`ControlFlow::Break`] to cancel.
///
/// # Errors
/// As [`Session::encode`] and [`palmtop::Decoder::step`].
pub fn generate<S: WeightSource>(
    session: &mut Session<'_, '_, S>,
    ids: &[u32],
    mut between: impl FnMut() -> ControlFlow<()>,
    mut emit: impl FnMut(u32),
) -> Result<Ended, Error> {
    let header = *session.model().palm().header();
    let limit = session.limits().target;
    let mut encoding = session.start(ids)?;
    while encoding.poll()? == Progress::Pending {
        if between().is_break() {
            return Ok(Ended::Cancelled);
        }
    }
    let mut decoder = encoding.finish()?.decoder();
    let mut id = header.decoder_start;
    for _ in 0..limit {
        decoder.begin(id)?;
        while decoder.poll()? == Progress::Pending {
            if between().is_break() {
                return Ok(Ended::Cancelled);
            }
        }
        id = argmax(decoder.logits());
        if id == header.eos {
            break;
        }
        emit(id);
    }
    Ok(Ended::Done)
}
