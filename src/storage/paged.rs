//! Experts read on demand.

use super::cache::{Cache, Loading};
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
    /// The expert that is read piece by piece.
    loading: Option<Loading>,
    /// The expert that was loaded for a call that is yet to come.
    loaded: Option<u32>,
    /// Whether uses were counted when the expert was prepared.
    prepared: bool,
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
            loading: None,
            loaded: None,
            prepared: false,
        }
    }

    /// Reads a piece of an expert; whether it was the last.
    fn read(
        &mut self,
        loading: &mut Loading,
        expert: &ExpertRecord,
        most: usize,
    ) -> Result<bool, StorageError> {
        let offset = loading.offset(expert);
        let piece = self.cache.piece(loading, expert, most);
        let read = match self
            .storage
            .read(offset, piece.ok_or(StorageError::Absent)?)
        {
            Ok(()) => true,
            Err(error) => {
                self.error = Some(error);
                false
            }
        };
        self.cache.took(loading, expert, most, read)
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
        let slot = match self.cache.find(index, self.prepared) {
            Some(slot) => slot,
            None => {
                // Its slot may be the one that is claimed now.
                self.loading = None;
                let mut loading = self.cache.begin(index);
                self.read(&mut loading, expert, usize::MAX)?;
                loading.slot
            }
        };
        match self.cache.room(slot, expert) {
            Some(blob) => Ok(blob),
            None => Err(StorageError::Absent),
        }
    }

    fn prepare(
        &mut self,
        index: u32,
        expert: &ExpertRecord,
        most: usize,
    ) -> Result<bool, StorageError> {
        self.prepared = most != usize::MAX;
        let loaded = self.loaded.take() == Some(index);
        if !self.prepared || self.cache.find(index, loaded).is_some() {
            return Ok(true);
        }
        let begun = self.loading.take().filter(|begun| begun.index == index);
        let mut loading = match begun {
            Some(loading) => loading,
            None => self.cache.begin(index),
        };
        if self.read(&mut loading, expert, most)? {
            self.loaded = Some(index);
        } else {
            self.loading = Some(loading);
        }
        Ok(false)
    }

    fn is_paged(&self) -> bool {
        true
    }
}
