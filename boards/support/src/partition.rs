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

/// The model in the partition.
///
/// # Errors
/// As [`model_in`].
pub fn model() -> Result<Model<'static>, FormatError> {
    model_in(bytes())
}

/// The resident part of a model whose experts are read from elsewhere, checked likewise; the
/// experts' CRCs are checked whenever one is loaded.
///
/// # Errors
/// As [`model_in`].
pub fn resident() -> Result<Model<'static>, FormatError> {
    resident_in(bytes())
}

/// The model at the start of `bytes`, whatever follows it; its version and every CRC are checked.
///
/// # Errors
/// [`FormatError`]: `Magic` for erased flash, `Version` for a file of another format, `HeadCrc`,
/// `SectionCrc` or `ExpertCrc` for a damaged one, `Truncated` for one that the bytes cannot hold.
pub fn model_in(bytes: &[u8]) -> Result<Model<'_>, FormatError> {
    let model = Model::parse(prefix(bytes, Palm::total_len(bytes)?))?;
    model.palm().verify()?;
    Ok(model)
}

/// [`resident`] for the resident part at the start of `bytes`.
///
/// # Errors
/// As [`model_in`].
pub fn resident_in(bytes: &[u8]) -> Result<Model<'_>, FormatError> {
    let model = Model::parse_resident(prefix(bytes, Palm::resident_len(bytes)?))?;
    model.palm().verify()?;
    Ok(model)
}

/// So many bytes from the start; all of them if there are not so many, which the parser then says.
fn prefix(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that a test of the library uses, in a partition of 64 KB whose rest is erased.
    fn partition() -> std::vec::Vec<u8> {
        let mut bytes = include_bytes!("../../../tests/fixtures/tiny/switch.palm").to_vec();
        bytes.resize(64 << 10, 0xFF);
        bytes
    }

    #[test]
    fn a_model_is_found_whatever_follows_it() {
        let bytes = partition();
        let model = model_in(&bytes).unwrap();
        let length = Palm::total_len(&bytes).unwrap() as usize;
        assert_eq!(model.palm().bytes().len(), length);
        let resident = resident_in(&bytes).unwrap();
        assert!(!resident.palm().has_experts());
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let refused = |change: fn(&mut [u8])| {
            let mut bytes = partition();
            change(&mut bytes);
            model_in(&bytes).unwrap_err()
        };
        assert_eq!(refused(|bytes| bytes.fill(0xFF)), FormatError::Magic);
        assert_eq!(refused(|bytes| bytes.fill(0)), FormatError::Magic);
        let version = refused(|bytes| bytes[8] = 2);
        assert!(matches!(version, FormatError::Version { major: 2, .. }));
        assert_eq!(refused(|bytes| bytes[300] ^= 1), FormatError::HeadCrc);
        // An update that ended early leaves the rest erased.
        let half = refused(|bytes| {
            let length = Palm::total_len(bytes).unwrap() as usize;
            bytes[length / 2..].fill(0xFF);
        });
        assert!(matches!(
            half,
            FormatError::SectionCrc { .. } | FormatError::ExpertCrc { .. }
        ));
        let long = refused(|bytes| bytes[16..20].fill(0x7F));
        assert!(matches!(long, FormatError::Truncated { .. }));
    }
}
