//! Little-endian reads that cannot panic, in `const` context: past the end they give zero.
//!
//! Callers check lengths first; the zero is never seen, it only spares a panic path.

/// `len` bytes from `at`, or nothing if they are not all there.
pub(crate) const fn span(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    match bytes.split_at_checked(at) {
        Some((_, rest)) => match rest.split_at_checked(len) {
            Some((wanted, _)) => Some(wanted),
            None => None,
        },
        None => None,
    }
}

/// The u8 at `at`.
pub(crate) const fn u8_at(bytes: &[u8], at: usize) -> u8 {
    match span(bytes, at, 1) {
        Some([value]) => *value,
        _ => 0,
    }
}

/// The u16 at `at`.
pub(crate) const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    match span(bytes, at, 2) {
        Some([a, b]) => u16::from_le_bytes([*a, *b]),
        _ => 0,
    }
}

/// The u32 at `at`.
pub(crate) const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    match span(bytes, at, 4) {
        Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// The f32 at `at`.
pub(crate) const fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}
