//! Experts read on demand by an `async` driver.

use super::cache::Cache;
use super::{Statistics, StorageError, WeightSource};
use crate::format::{ExpertRecord, Palm};

/// [`Storage`](super::Storage) whose reads are awaited: a driver with DMA and interrupts.
#[allow(async_fn_in_trait)] // Firmware awaits on one thread; a bound of `Send` would exclude it.
pub trait AsyncStorage {
    /// What the device says when it cannot read.
    type Error;

    /// As [`Storage::read`](super::Storage::read).
    ///
    /// # Errors
    /// If not every byte could be read. `bytes` may then hold anything, and the same call may come
    /// again.
    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

impl<S: AsyncStorage + ?Sized> AsyncStorage for &mut S {
    type Error = S::Error;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(offset, bytes).await
    }
}

/// [`Paged`](super::Paged) for `async` storage.
///
/// Nothing awaits inside a unit of work. An expert that is in no slot is [`StorageError::Absent`];
/// [`Awaited::load`] reads it, and the unit of work is repeated. `encode_async` and `step_async` of
/// a session do that. They have the one panic that the language puts into every `async` function,
/// for who polls it after its end; firmware that wants none at all polls the session and loads by
/// other means.
#[derive(Debug)]
pub struct Awaited<'c, S: AsyncStorage> {
    storage: S,
    cache: Cache<'c>,
    error: Option<S::Error>,
    /// The expert that was asked for last and was not there.
    missing: Option<(u32, ExpertRecord)>,
    /// The expert that was loaded for a call that is yet to be repeated.
    loaded: Option<u32>,
    /// Whether uses were counted when the expert was prepared.
    prepared: bool,
    /// Bytes that are read and checked at a time.
    piece: usize,
}

impl<'c, S: AsyncStorage> Awaited<'c, S> {
    /// A source with an empty cache in `memory`; without slots if that is too small or misaligned.
    pub(crate) fn new(
        palm: &Palm<'_>,
        storage: S,
        (slots, piece): (usize, usize),
        memory: &'c mut [u8],
    ) -> Self {
        Self {
            storage,
            cache: Cache::new(palm, slots, memory),
            error: None,
            missing: None,
            loaded: None,
            prepared: false,
            piece,
        }
    }

    /// Reads the expert that was asked for last and was not there: in one piece, or in several if the
    /// model has bounded units. Dropped before its end, it leaves a slot empty.
    ///
    /// # Errors
    /// [`StorageError::Read`] or [`StorageError::Crc`]; it may be called again.
    /// [`StorageError::Absent`] if no expert is missing.
    pub async fn load(&mut self) -> Result<(), StorageError> {
        let (index, expert) = self.missing.ok_or(StorageError::Absent)?;
        let mut loading = self.cache.begin(index);
        loop {
            let offset = loading.offset(&expert);
            let piece = self.cache.piece(&loading, &expert, self.piece);
            let piece = piece.ok_or(StorageError::Absent)?;
            let read = match self.storage.read(offset, piece).await {
                Ok(()) => true,
                Err(error) => {
                    self.error = Some(error);
                    false
                }
            };
            if self.cache.took(&mut loading, &expert, self.piece, read)? {
                break;
            }
        }
        (self.missing, self.loaded) = (None, Some(index));
        Ok(())
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

impl<S: AsyncStorage> WeightSource for Awaited<'_, S> {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        let repeated = self.loaded.take() == Some(index);
        let Some(slot) = self.cache.find(index, repeated || self.prepared) else {
            self.missing = Some((index, *expert));
            return Err(StorageError::Absent);
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
        // Counted here, and not by each unit with the same expert.
        self.prepared = false;
        if most != usize::MAX {
            self.expert(index, expert)?;
            self.prepared = true;
        }
        Ok(true)
    }

    fn is_paged(&self) -> bool {
        true
    }
}
