//! Experts read on demand.

use super::cache::Cache;
use super::{Statistics, Storage, StorageError, WeightSource};
use crate::format::{ExpertRecord, Palm};

/// Reads an expert from `S` when a layer has chosen it, into a slot of a cache that lies in the
/// arena.
///
/// [`Session::paged`](crate::Session::paged) makes one. One that outlives a session, and whose
/// cache stays warm from one to the next, is made by [`Paged::new`] and lent to
/// [`Session::with_source`](crate::Session::with_source). The results are, bit for bit, those of
/// [`Mapped`](super::Mapped): a blob is used only after its CRC has been found right, whatever the
/// storage does.
#[derive(Debug)]
pub struct Paged<'c, S: Storage> {
    storage: S,
    cache: Cache<'c>,
    error: Option<S::Error>,
}

impl<'c, S: Storage> Paged<'c, S> {
    /// A source with an empty cache in `memory`, at an address that is a multiple of 16;
    /// [`Model::cache_bytes`](crate::Model::cache_bytes) of it are enough. Without slots, so that
    /// every expert is [`StorageError::Absent`], if it is too small or misaligned.
    pub fn new(palm: &Palm<'_>, storage: S, slots: usize, memory: &'c mut [u8]) -> Self {
        Self {
            storage,
            cache: Cache::new(palm, slots, memory),
            error: None,
        }
    }

    /// Experts that fit in the cache at a time.
    pub const fn slots(&self) -> usize {
        self.cache.len()
    }

    /// What was read, and what was there already, since the start or the last reset.
    pub const fn statistics(&self) -> Statistics {
        self.cache.statistics
    }

    /// Counts from zero again; the cache keeps what it has.
    pub const fn reset_statistics(&mut self) {
        self.cache.statistics = Statistics::ZERO;
    }

    /// The storage.
    pub const fn storage(&mut self) -> &mut S {
        &mut self.storage
    }

    /// What the storage said when it failed last; once.
    pub const fn take_error(&mut self) -> Option<S::Error> {
        self.error.take()
    }
}

impl<S: Storage> WeightSource for Paged<'_, S> {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        let slot = match self.cache.find(index, false) {
            Some(slot) => slot,
            None => {
                let slot = self.cache.claim();
                let room = self.cache.room(slot, expert).ok_or(StorageError::Absent)?;
                let read = match self.storage.read(expert.offset, room) {
                    Ok(()) => true,
                    Err(error) => {
                        self.error = Some(error);
                        false
                    }
                };
                self.cache.keep(slot, index, expert, read)?;
                slot
            }
        };
        match self.cache.room(slot, expert) {
            Some(blob) => Ok(blob),
            None => Err(StorageError::Absent),
        }
    }

    fn is_paged(&self) -> bool {
        true
    }
}
