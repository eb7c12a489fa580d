//! Text to ids and back.

use core::ffi::c_char;

use palmtop::text::Tokenizer;

use crate::memory::{Outcome, put, slice, slice_mut};
use crate::model::{opened, palmtop_model};
use crate::palmtop_status;

use palmtop_status as S;

/// Bytes of text that lie elsewhere (in flash), without a zero at their end: print them with "%.*s".
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct palmtop_text {
    /// The first byte; never NULL.
    pub start: *const c_char,
    /// How many there are.
    pub length: usize,
}

impl palmtop_text {
    pub(crate) const EMPTY: Self = Self {
        start: c"".as_ptr(),
        length: 0,
    };

    pub(crate) fn of(bytes: &'static [u8]) -> Self {
        Self {
            start: bytes.as_ptr().cast(),
            length: bytes.len(),
        }
    }
}

/// # Safety
/// As [`opened`].
unsafe fn tokenizer(model: *const palmtop_model) -> Outcome<Tokenizer<'static>> {
    // SAFETY: as the caller promises.
    let model = unsafe { opened(model) }?;
    Tokenizer::of(model.palm()).ok_or(S::PALMTOP_NO_TOKENIZER)
}

/// Writes the ids of UTF-8 text of `length` bytes, with what the model wants before and after, and
/// how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_text_to_ids(
    model: *const palmtop_model,
    text: *const c_char,
    length: usize,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> palmtop_status {
    let work = || -> Outcome<()> {
        // SAFETY: as the caller promises.
        let (tokenizer, bytes, ids) = unsafe {
            (
                tokenizer(model)?,
                slice(text.cast::<u8>(), length)?,
                slice_mut(ids, capacity)?,
            )
        };
        let text = str::from_utf8(bytes).map_err(|_| S::PALMTOP_NOT_UTF8)?;
        let written = tokenizer.encode(text, ids)?;
        // SAFETY: as the caller promises.
        unsafe { put(count, written) }
    };
    work().err().unwrap_or(S::PALMTOP_OK)
}

/// What `id` prints; empty for ids that print nothing. With bytes as tokens, one byte: a character
/// may take several.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_piece(model: *const palmtop_model, id: u32) -> palmtop_text {
    // SAFETY: as the caller promises.
    let tokenizer = unsafe { tokenizer(model) };
    tokenizer.map_or(palmtop_text::EMPTY, |tokenizer| {
        palmtop_text::of(tokenizer.piece(id))
    })
}

/// What is printed between two pieces that are not empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_separator(model: *const palmtop_model) -> palmtop_text {
    // SAFETY: as the caller promises.
    let tokenizer = unsafe { tokenizer(model) };
    tokenizer.map_or(palmtop_text::EMPTY, |tokenizer| {
        palmtop_text::of(tokenizer.separator())
    })
}

/// Writes the text of ids with a zero at its end, and its length without that (`length` may be
/// NULL). What does not fit is refused, with an empty text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_ids_to_text(
    model: *const palmtop_model,
    ids: *const u32,
    count: usize,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> palmtop_status {
    let work = || -> Outcome<()> {
        // SAFETY: as the caller promises.
        let (tokenizer, ids, text) = unsafe {
            (
                tokenizer(model)?,
                slice(ids, count)?,
                slice_mut(text.cast::<u8>(), capacity)?,
            )
        };
        let mut used = 0usize;
        let mut fits = true;
        tokenizer.decode(ids, |piece| {
            let end = used.saturating_add(piece.len());
            match text.get_mut(used..end) {
                Some(room) if fits => {
                    room.iter_mut()
                        .zip(piece)
                        .for_each(|(to, byte)| *to = *byte);
                    used = end;
                }
                _ => fits = false,
            }
        });
        let end = if fits { used } else { 0 };
        match text.get_mut(end) {
            Some(zero) => *zero = 0,
            None => fits = false,
        }
        if !fits {
            if let Some(first) = text.first_mut() {
                *first = 0;
            }
            return Err(S::PALMTOP_TEXT_TOO_LONG);
        }
        if length.is_null() {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe { put(length, used) }
    };
    work().err().unwrap_or(S::PALMTOP_OK)
}
