//! The model: checked, and what follows from it.

use core::mem::{align_of, size_of};

use palmtop::format::Palm;
use palmtop::{Limits, Model};

use crate::memory::{Outcome, put, slice};
use crate::status::Fault;
use crate::{palmtop_detail, palmtop_status};

use palmtop_status as S;

/// A checked view of a .palm image. The memory is the caller's, the content the library's; start
/// with zeros (a static, or `= {0}`). May be copied.
#[repr(C)]
#[derive(Debug)]
pub struct palmtop_model {
    /// Not for use.
    opaque: [u64; 68],
}

impl palmtop_model {
    /// Zeros, as C's statics are.
    pub const ZERO: Self = Self { opaque: [0; 68] };
}

/// How long sources and targets may become; the arena is planned for it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct palmtop_limits {
    /// Tokens of a source.
    pub source: u32,
    /// Tokens of a target.
    pub target: u32,
}

impl palmtop_limits {
    pub(crate) fn get(self) -> Limits {
        Limits {
            source: self.source,
            target: self.target,
            beams: 1,
        }
    }
}

/// Check the header, the tables and their CRC: quick, whatever the model's size.
pub const PALMTOP_CHECK_HEAD: u32 = 0;
/// Check every CRC of the image too: reads all of it once.
pub const PALMTOP_CHECK_ALL: u32 = 1;
/// No token.
pub const PALMTOP_NO_TOKEN: u32 = u32::MAX;

/// What lies in the memory of a [`palmtop_model`]. An opened one begins with the mark.
#[repr(C)]
struct Opened {
    mark: u32,
    model: Model<'static>,
}

const MARK: u32 = 0x6d6c_6170;

const _: () = {
    assert!(size_of::<Opened>() <= size_of::<palmtop_model>());
    assert!(align_of::<Opened>() <= align_of::<palmtop_model>());
};

/// The model in the caller's memory.
///
/// # Safety
/// `model` is null or points to zeros or to an opened model.
pub(crate) unsafe fn opened<'c>(model: *const palmtop_model) -> Outcome<&'c Model<'static>> {
    if model.is_null() {
        return Err(S::PALMTOP_NULL);
    }
    let opened: *const Opened = model.cast();
    if !opened.is_aligned() {
        return Err(S::PALMTOP_MISALIGNED);
    }
    // SAFETY: there is memory enough and it is aligned; with the mark, `palmtop_model_open` wrote it.
    unsafe {
        match (*opened).mark {
            MARK => Ok(&(*opened).model),
            _ => Err(S::PALMTOP_NOT_OPEN),
        }
    }
}

/// Opens an image: checks it, as `check` says (PALMTOP_CHECK_HEAD or PALMTOP_CHECK_ALL), and writes
/// the view of it to `model`. The image stays where it is, at a multiple of 16, and is not copied.
/// `detail` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_model_open(
    model: *mut palmtop_model,
    image: *const u8,
    length: usize,
    check: u32,
    detail: *mut palmtop_detail,
) -> palmtop_status {
    // SAFETY: as the caller promises.
    match unsafe { open(model, image, length, check) } {
        Ok(()) => S::PALMTOP_OK,
        // SAFETY: as the caller promises.
        Err(fault) => unsafe { fault.report(detail) },
    }
}

unsafe fn open(
    model: *mut palmtop_model,
    image: *const u8,
    length: usize,
    check: u32,
) -> Result<(), Fault> {
    // A model that cannot be opened is none, whatever was there before.
    // SAFETY: as the caller promises; `put` refuses null and what is not aligned.
    unsafe { put(model.cast(), 0u32)? };
    let into: *mut Opened = model.cast();
    if !into.is_aligned() {
        return Err(S::PALMTOP_MISALIGNED.into());
    }
    if image.is_null() {
        return Err(S::PALMTOP_NULL.into());
    }
    // SAFETY: as the caller promises, for as long as the model is used.
    let image: &'static [u8] = unsafe { slice(image, length)? };
    let opened = Model::parse(image)?;
    if !opened.palm().is_aligned() {
        return Err(S::PALMTOP_MODEL_MISALIGNED.into());
    }
    match check {
        PALMTOP_CHECK_HEAD => {}
        PALMTOP_CHECK_ALL => opened.palm().verify()?,
        _ => return Err(S::PALMTOP_ARGUMENT.into()),
    }
    let (mark, model) = (MARK, opened);
    // SAFETY: `into` is aligned and has room, see the assertions above.
    unsafe { into.write(Opened { mark, model }) };
    Ok(())
}

/// Checks every CRC of an opened image: for who opened it with PALMTOP_CHECK_HEAD and has time
/// now. `detail` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_model_verify(
    model: *const palmtop_model,
    detail: *mut palmtop_detail,
) -> palmtop_status {
    // SAFETY: as the caller promises.
    let verified = unsafe { opened(model) }
        .map_err(Fault::from)
        .and_then(|model| model.palm().verify().map_err(Fault::from));
    match verified {
        Ok(()) => S::PALMTOP_OK,
        // SAFETY: as the caller promises.
        Err(fault) => unsafe { fault.report(detail) },
    }
}

/// How long the image is that begins at `start`, where at least 256 bytes can be read: for a
/// partition whose content is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_image_length(
    start: *const u8,
    readable: usize,
    length: *mut usize,
) -> palmtop_status {
    // SAFETY: as the caller promises.
    let stated = unsafe { slice(start, readable) }
        .and_then(|start| Palm::total_len(start).map_err(|error| Fault::from(error).status));
    // SAFETY: as the caller promises.
    match stated.and_then(|stated| unsafe { put(length, stated as usize) }) {
        Ok(()) => S::PALMTOP_OK,
        Err(status) => status,
    }
}

/// The limits that the file proposes; zeros for what is no opened model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_default_limits(model: *const palmtop_model) -> palmtop_limits {
    // SAFETY: as the caller promises.
    let limits = unsafe { opened(model) }.map(|model| model.default_limits());
    limits.map_or(
        palmtop_limits {
            source: 0,
            target: 0,
        },
        |limits| palmtop_limits {
            source: limits.source,
            target: limits.target,
        },
    )
}

/// Bytes of the arena that a session with these limits needs: exactly so many are enough. 0 for
/// what is no opened model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_arena_bytes(
    model: *const palmtop_model,
    limits: palmtop_limits,
) -> usize {
    // SAFETY: as the caller promises.
    let model = unsafe { opened(model) };
    model.map_or(0, |model| model.arena_bytes(limits.get()))
}

/// The token that a target begins with; PALMTOP_NO_TOKEN for what is no opened model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_start_token(model: *const palmtop_model) -> u32 {
    // SAFETY: as the caller promises.
    let model = unsafe { opened(model) };
    model.map_or(PALMTOP_NO_TOKEN, |model| {
        model.palm().header().decoder_start
    })
}

/// The token that ends a target; PALMTOP_NO_TOKEN if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_end_token(model: *const palmtop_model) -> u32 {
    // SAFETY: as the caller promises.
    let model = unsafe { opened(model) };
    model.map_or(PALMTOP_NO_TOKEN, |model| model.palm().header().eos)
}

/// Size of the vocabulary, which is the number of logits; 0 for what is no opened model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_vocabulary(model: *const palmtop_model) -> u32 {
    // SAFETY: as the caller promises.
    let model = unsafe { opened(model) };
    model.map_or(0, |model| model.palm().header().vocab)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_not_wasted() {
        let (there, used) = (size_of::<palmtop_model>(), size_of::<Opened>());
        assert!(there * 3 < used * 4, "{used} of {there} bytes are used");
    }
}
