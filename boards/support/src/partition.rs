//! A model in a flash partition of its own: the firmware finds it when it starts, so that either is
//! updated without the other.
//!
//! `memory.x` says where the partition lies:
//!
//! ```text
//! MEMORY { MODEL : ORIGIN = 0x10100000, LENGTH = 3M }
//! __model_start = ORIGIN(MODEL);
//! __model_end = ORIGIN(MODEL) + LENGTH(MODEL);
//! ```
//!
//! What lies there may be anything: erased flash, half an update, a file of a later version. Every
//! byte is checked before a model comes out.

use core::slice;

use palmtop::Model;
use palmtop::format::{FormatError, Palm};

unsafe extern "C" {
    static __model_start: u8;
    static __model_end: u8;
}

/// The partition's bytes.
pub fn bytes() -> &'static [u8] {
    let (start, end) = (&raw const __model_start, &raw const __model_end);
    let length = end.addr().saturating_sub(start.addr());
    // SAFETY: `memory.x` promises flash of this length there, which nothing writes while the
    // firmware runs.
    unsafe { slice::from_raw_parts(start, length) }
}

/// The model in the partition, its version and every CRC checked.
///
/// # Errors
/// [`FormatError`]: `Magic` for erased flash, `Version` for a file of another format, `HeadCrc`,
/// `SectionCrc` or `ExpertCrc` for a damaged one, `Truncated` for one that the partition cannot hold.
pub fn model() -> Result<Model<'static>, FormatError> {
    let image = prefix(Palm::total_len(bytes())?)?;
    let model = Model::parse(image)?;
    model.palm().verify()?;
    Ok(model)
}

/// The resident part of a model whose experts are read from elsewhere, checked likewise; the
/// experts' CRCs are checked whenever one is loaded.
///
/// # Errors
/// As [`model`].
pub fn resident() -> Result<Model<'static>, FormatError> {
    let image = prefix(Palm::resident_len(bytes())?)?;
    let model = Model::parse_resident(image)?;
    model.palm().verify()?;
    Ok(model)
}

/// So many bytes from the partition's start.
fn prefix(needed: u32) -> Result<&'static [u8], FormatError> {
    let all = bytes();
    let got = all.len() as u32;
    let truncated = FormatError::Truncated { needed, got };
    all.get(..needed as usize).ok_or(truncated)
}
