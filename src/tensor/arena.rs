//! The arena: one block of memory, and how it is cut into typed slices.

use bytemuck::Pod;

/// `N` bytes of memory at a multiple of 16, for a [`Session`](crate::Session).
///
/// ```
/// let mut arena = palmtop::Arena::<1024>::new();
/// assert_eq!(arena.as_mut_slice().len(), 1024);
/// ```
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Arena<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    /// An arena of zeros.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// The bytes, as a session takes them.
    pub const fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The next multiple of 4.
pub(crate) const fn round4(bytes: u64) -> u64 {
    bytes.next_multiple_of(4)
}

/// Cuts typed slices off the front of a piece of the arena; each takes a multiple of 4 bytes.
pub(crate) struct Carver<'a> {
    rest: &'a mut [u8],
}

impl<'a> Carver<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// `count` values, or an empty slice where the plan did not foresee them (it does).
    pub fn take<T: Pod>(&mut self, count: usize) -> &'a mut [T] {
        let bytes = count.saturating_mul(size_of::<T>());
        let rest = core::mem::take(&mut self.rest);
        match rest.split_at_mut_checked(bytes.next_multiple_of(4)) {
            Some((front, rest)) => {
                self.rest = rest;
                let values = front.get_mut(..bytes).unwrap_or_default();
                bytemuck::try_cast_slice_mut(values).unwrap_or_default()
            }
            None => {
                self.rest = &mut [];
                &mut []
            }
        }
    }
}
