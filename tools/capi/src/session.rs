//! The session: a model at work in memory of the caller.
//!
//! In Rust the order of use is a type: a session lends itself to an encoding, which becomes a
//! decoder. C holds all of it in one place, so that place has the session and beside it what
//! borrows it; while something does, the session is reached through that alone.

use core::mem::{align_of, replace, size_of};
use core::ptr;

use palmtop::generate::{argmax, greedy};
use palmtop::storage::Mapped;
use palmtop::{Decoder, Encoded, Encoding, NoTrace, Progress, Session};

use crate::memory::{Outcome, put, slice, slice_mut};
use crate::model::{opened, palmtop_limits, palmtop_model};
use crate::status::Fault;
use crate::{PALMTOP_NO_TOKEN, palmtop_detail, palmtop_status};

use palmtop_status as S;

/// A model at work. The memory is the caller's, the content the library's; start with zeros, and
/// neither move nor copy it once it is open.
#[repr(C)]
#[derive(Debug)]
pub struct palmtop_session {
    /// Not for use.
    opaque: [u64; 96],
}

impl palmtop_session {
    /// Zeros, as C's statics are.
    pub const ZERO: Self = Self { opaque: [0; 96] };
}

type Own = Mapped<'static>;

/// What borrows the session.
enum Stage {
    /// Nothing.
    Ready,
    Encoding(Encoding<'static, 'static, 'static, Own>),
    Encoded(Encoded<'static, 'static, 'static, Own>),
    Decoding {
        decoder: Decoder<'static, 'static, 'static, Own>,
        /// Whether the last step was finished, so that its logits are there.
        logits: bool,
    },
}

/// What lies in the memory of a [`palmtop_session`]. An opened one begins with the mark.
#[repr(C)]
struct Running {
    mark: u32,
    stage: Stage,
    session: Session<'static, 'static>,
}

const MARK: u32 = 0x7373_6d70;

const _: () = {
    assert!(size_of::<Running>() <= size_of::<palmtop_session>());
    assert!(align_of::<Running>() <= align_of::<palmtop_session>());
};

/// # Safety
/// `session` is null or points to zeros or to an opened session.
unsafe fn running(session: *mut palmtop_session) -> Outcome<*mut Running> {
    if session.is_null() {
        return Err(S::PALMTOP_NULL);
    }
    let running: *mut Running = session.cast();
    if !running.is_aligned() {
        return Err(S::PALMTOP_MISALIGNED);
    }
    // SAFETY: there is memory enough and it is aligned; only the mark is read.
    match unsafe { (*running).mark } {
        MARK => Ok(running),
        _ => Err(S::PALMTOP_NOT_OPEN),
    }
}

/// What borrows the session, by itself.
///
/// # Safety
/// As [`running()`]; one such reference at a time.
unsafe fn stage<'c>(session: *mut palmtop_session) -> Outcome<&'c mut Stage> {
    // SAFETY: an opened session, of which only this field is borrowed: the other may be borrowed by
    // what lies in this one.
    unsafe { running(session).map(|running| &mut (*running).stage) }
}

/// Ends what borrows the session, and gives both.
///
/// # Safety
/// As [`stage()`].
unsafe fn idle<'c>(
    session: *mut palmtop_session,
) -> Outcome<(&'c mut Stage, &'static mut Session<'static, 'static>)> {
    // SAFETY: as the caller promises. What borrowed the session is dropped before it is borrowed
    // anew, and the two fields do not overlap.
    unsafe {
        let running = running(session)?;
        (*running).stage = Stage::Ready;
        Ok((&mut (*running).stage, &mut (*running).session))
    }
}

fn code(outcome: Outcome<palmtop_status>) -> palmtop_status {
    outcome.unwrap_or_else(|status| status)
}

/// Opens a session over an arena of at least `palmtop_arena_bytes` bytes at a multiple of 16.
/// `detail` may be NULL. The model's view may go afterwards; image and arena stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_session_open(
    session: *mut palmtop_session,
    model: *const palmtop_model,
    limits: palmtop_limits,
    arena: *mut u8,
    arena_bytes: usize,
    detail: *mut palmtop_detail,
) -> palmtop_status {
    // SAFETY: as the caller promises.
    match unsafe { open(session, model, limits, arena, arena_bytes) } {
        Ok(()) => S::PALMTOP_OK,
        // SAFETY: as the caller promises.
        Err(fault) => unsafe { fault.report(detail) },
    }
}

unsafe fn open(
    session: *mut palmtop_session,
    model: *const palmtop_model,
    limits: palmtop_limits,
    arena: *mut u8,
    arena_bytes: usize,
) -> Result<(), Fault> {
    // SAFETY: as the caller promises; `put` refuses null and what is not aligned.
    unsafe { put(session.cast(), 0u32)? };
    let into: *mut Running = session.cast();
    if !into.is_aligned() {
        return Err(S::PALMTOP_MISALIGNED.into());
    }
    if arena.is_null() {
        return Err(S::PALMTOP_NULL.into());
    }
    // SAFETY: as the caller promises, for as long as the session is used.
    let (model, arena) = unsafe { (*opened(model)?, slice_mut(arena, arena_bytes)?) };
    let session = Session::new(model, limits.get(), arena)?;
    // SAFETY: `into` is aligned and has room, see the assertions above.
    unsafe {
        into.write(Running {
            mark: MARK,
            stage: Stage::Ready,
            session,
        });
    }
    Ok(())
}

/// Begins to encode a source; `palmtop_encode_poll` does the work in bounded pieces. What was under
/// way is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_encode_begin(
    session: *mut palmtop_session,
    ids: *const u32,
    count: usize,
) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let (source, (stage, session)) = unsafe { (slice(ids, count)?, idle(session)?) };
        *stage = Stage::Encoding(session.start(source)?);
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Does one unit of work of an encoding: PALMTOP_PENDING while there is more, then PALMTOP_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_encode_poll(session: *mut palmtop_session) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let stage = unsafe { stage(session)? };
        let Stage::Encoding(encoding) = stage else {
            return Err(S::PALMTOP_ORDER);
        };
        if encoding.poll()? == Progress::Pending {
            return Ok(S::PALMTOP_PENDING);
        }
        if let Stage::Encoding(encoding) = replace(stage, Stage::Ready) {
            *stage = Stage::Encoded(encoding.finish()?);
        }
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Encodes a source: `palmtop_encode_begin`, and `palmtop_encode_poll` to its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_encode(
    session: *mut palmtop_session,
    ids: *const u32,
    count: usize,
) -> palmtop_status {
    // SAFETY: as the caller promises.
    let mut status = unsafe { palmtop_encode_begin(session, ids, count) };
    if status == S::PALMTOP_OK {
        status = S::PALMTOP_PENDING;
    }
    while status == S::PALMTOP_PENDING {
        // SAFETY: as the caller promises.
        status = unsafe { palmtop_encode_poll(session) };
    }
    status
}

/// The encoder states, `count` values, from the end of an encoding up to the first step; NULL at
/// any other time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_hidden(
    session: *mut palmtop_session,
    count: *mut usize,
) -> *const f32 {
    // SAFETY: as the caller promises.
    match unsafe { stage(session) } {
        Ok(Stage::Encoded(encoded)) => {
            let hidden = encoded.hidden();
            // SAFETY: as the caller promises.
            match unsafe { put(count, hidden.len()) } {
                Ok(()) => hidden.as_ptr(),
                Err(_) => ptr::null(),
            }
        }
        _ => ptr::null(),
    }
}

/// A decoder under way, or one at the start of an encoded source or of a decoder-only model.
///
/// # Safety
/// As [`stage()`].
unsafe fn decoding<'c>(
    session: *mut palmtop_session,
) -> Outcome<(
    &'c mut Decoder<'static, 'static, 'static, Own>,
    &'c mut bool,
)> {
    // SAFETY: as the caller promises; one reference at a time.
    unsafe {
        match stage(session)? {
            Stage::Decoding { .. } => {}
            Stage::Encoding(_) => return Err(S::PALMTOP_ORDER),
            encoded @ Stage::Encoded(_) => {
                if let Stage::Encoded(encoded) = replace(encoded, Stage::Ready) {
                    *stage(session)? = Stage::Decoding {
                        decoder: encoded.decoder(),
                        logits: false,
                    };
                }
            }
            Stage::Ready => {
                let (stage, session) = idle(session)?;
                let decoder = session.decoder_only().map_err(|_| S::PALMTOP_ORDER)?;
                *stage = Stage::Decoding {
                    decoder,
                    logits: false,
                };
            }
        }
        match stage(session)? {
            Stage::Decoding { decoder, logits } => Ok((decoder, logits)),
            _ => Err(S::PALMTOP_ORDER),
        }
    }
}

/// Feeds a token at the next position; `palmtop_step_poll` does the work in bounded pieces. A step
/// that was under way is given up, its position used anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_step_begin(
    session: *mut palmtop_session,
    id: u32,
) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let (decoder, logits) = unsafe { decoding(session)? };
        decoder.begin(id)?;
        *logits = false;
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Does one unit of work of a step: PALMTOP_PENDING while there is more, then PALMTOP_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_step_poll(session: *mut palmtop_session) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let Stage::Decoding { decoder, logits } = (unsafe { stage(session)? }) else {
            return Err(S::PALMTOP_ORDER);
        };
        if decoder.poll()? == Progress::Pending {
            return Ok(S::PALMTOP_PENDING);
        }
        *logits = decoder.position() > 0;
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Feeds a token and runs it through: `palmtop_step_begin`, and `palmtop_step_poll` to its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_step(session: *mut palmtop_session, id: u32) -> palmtop_status {
    // SAFETY: as the caller promises.
    let mut status = unsafe { palmtop_step_begin(session, id) };
    if status == S::PALMTOP_OK {
        status = S::PALMTOP_PENDING;
    }
    while status == S::PALMTOP_PENDING {
        // SAFETY: as the caller promises.
        status = unsafe { palmtop_step_poll(session) };
    }
    status
}

/// The logits of the last finished step, `count` values, up to the next step; NULL while there are
/// none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_logits(
    session: *mut palmtop_session,
    count: *mut usize,
) -> *const f32 {
    // SAFETY: as the caller promises.
    match unsafe { stage(session) } {
        Ok(Stage::Decoding {
            decoder,
            logits: true,
        }) => {
            let logits = decoder.logits();
            // SAFETY: as the caller promises.
            match unsafe { put(count, logits.len()) } {
                Ok(()) => logits.as_ptr(),
                Err(_) => ptr::null(),
            }
        }
        _ => ptr::null(),
    }
}

/// The token that greedy search takes after the last finished step: that of the greatest logit, or
/// the one that the model forces at the first and at the last of `max_tokens` places.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_choose(
    session: *mut palmtop_session,
    max_tokens: usize,
    id: *mut u32,
) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let Stage::Decoding {
            decoder,
            logits: true,
        } = (unsafe { stage(session)? })
        else {
            return Err(S::PALMTOP_ORDER);
        };
        let mut chosen = argmax(decoder.logits());
        let session = decoder.session();
        let header = session.model().palm().header();
        let last = max_tokens.min(session.limits().target as usize);
        if decoder.position() == 1 && header.forced_bos != PALMTOP_NO_TOKEN {
            chosen = header.forced_bos;
        }
        if decoder.position() == last && header.forced_eos != PALMTOP_NO_TOKEN {
            chosen = header.forced_eos;
        }
        // SAFETY: as the caller promises.
        unsafe { put(id, chosen)? };
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Forgets the target, so that the next step is the first; the source stays encoded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_restart(session: *mut palmtop_session) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let (decoder, logits) = unsafe { decoding(session)? };
        decoder.restart();
        *logits = false;
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Generates a whole target by greedy search: at most `max_tokens` ids, and no more than `capacity`,
/// the end token included. Takes as long as all its steps; `palmtop_step_poll` is for who may not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_generate(
    session: *mut palmtop_session,
    max_tokens: usize,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let ((decoder, logits), ids) = unsafe { (decoding(session)?, slice_mut(ids, capacity)?) };
        *logits = false;
        let mut room = ids.iter_mut();
        let generated = greedy(decoder, max_tokens.min(capacity), &mut NoTrace, |id| {
            if let Some(slot) = room.next() {
                *slot = id;
            }
        })?;
        *logits = generated > 0;
        // SAFETY: as the caller promises.
        unsafe { put(count, generated)? };
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

/// Gives up what is under way; the session is as it was after it was opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_cancel(session: *mut palmtop_session) -> palmtop_status {
    // SAFETY: as the caller promises.
    code(unsafe { idle(session) }.map(|_| S::PALMTOP_OK))
}

/// Runs the input that the file carries and compares the bits of all results with those that it
/// should give. `ids` is room for the source of that input. What was under way is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_self_test(
    session: *mut palmtop_session,
    ids: *mut u32,
    capacity: usize,
) -> palmtop_status {
    let work = || {
        // SAFETY: as the caller promises.
        let (ids, (_, session)) = unsafe { (slice_mut(ids, capacity)?, idle(session)?) };
        session.self_test(ids)?;
        Ok(S::PALMTOP_OK)
    };
    code(work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_not_wasted() {
        let (there, used) = (size_of::<palmtop_session>(), size_of::<Running>());
        assert!(there * 3 < used * 4, "{used} of {there} bytes are used");
    }
}
