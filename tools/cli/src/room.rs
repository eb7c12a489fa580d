//! Memory for arenas and caches: from the system, at a page's start, and taken up only where it is
//! written to.

use std::io;

use memmap2::MmapMut;

/// Memory that grows to what was asked for, and forgets what it held when it grows.
#[derive(Debug, Default)]
pub struct Room {
    map: Option<MmapMut>,
}

impl Room {
    /// `bytes` bytes, at an address that is a multiple of 16.
    pub fn of(&mut self, bytes: usize) -> io::Result<&mut [u8]> {
        if self.map.as_ref().is_none_or(|map| map.len() < bytes) {
            // What was there goes first: the two need not fit together.
            self.map = None;
            self.map = Some(MmapMut::map_anon(bytes.max(1))?);
        }
        let map: &mut [u8] = self.map.as_deref_mut().unwrap_or_default();
        map.get_mut(..bytes)
            .ok_or(io::ErrorKind::OutOfMemory.into())
    }
}

/// `bytes` bytes that are never given back.
pub fn forever(bytes: usize) -> io::Result<&'static mut [u8]> {
    let map = Box::leak(Box::new(MmapMut::map_anon(bytes.max(1))?));
    map.get_mut(..bytes)
        .ok_or(io::ErrorKind::OutOfMemory.into())
}
