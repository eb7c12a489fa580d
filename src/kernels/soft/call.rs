//! The operations as functions that are called: for code that is longer than it is often run.

/// [`super::add`].
#[inline(never)]
pub fn add(a: f32, b: f32) -> f32 {
    super::add(a, b)
}

/// [`super::sub`].
#[inline(always)]
pub fn sub(a: f32, b: f32) -> f32 {
    add(a, -b)
}

/// [`super::mul`].
#[inline(never)]
pub fn mul(a: f32, b: f32) -> f32 {
    super::mul(a, b)
}

pub use super::div;
