//! N slots for experts in a piece of memory: which expert lies where, and which slot is next.
//!
//! ```text
//! [ slot 0 | slot 1 | … ][ mark 0 | mark 1 | … ]     a slot: the greatest blob; a mark: 8 bytes
//! ```

use super::StorageError;
use crate::format::{ALIGN, CRC, ExpertRecord, Palm};
use core::fmt;

/// What a slot holds: an expert's index, or [`NOTHING`], and when it was used last.
type Mark = [u32; 2];

/// No expert has this index: a table has fewer.
const NOTHING: u32 = u32::MAX;

/// Bytes of a slot: the greatest blob of the file, a multiple of 16.
pub(crate) const fn slot_bytes(palm: &Palm<'_>) -> usize {
    let mut greatest = 0;
    let mut index = 0;
    while index < palm.header().experts.count {
        let len = palm.expert(index).len;
        if len > greatest {
            greatest = len;
        }
        index += 1;
    }
    (greatest as usize).next_multiple_of(ALIGN)
}

/// Slots that are of use: no more than there are experts.
const fn useful(palm: &Palm<'_>, slots: usize) -> usize {
    let experts = palm.header().experts.count as usize;
    if slots < experts { slots } else { experts }
}

/// Bytes of a cache of `slots` slots. Saturates where a `usize` cannot hold the number.
pub(crate) const fn cache_bytes(palm: &Palm<'_>, slots: usize) -> usize {
    slot_bytes(palm)
        .saturating_add(size_of::<Mark>())
        .saturating_mul(useful(palm, slots))
}

/// What a cache has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Statistics {
    /// Times that an expert was there already.
    pub hits: u64,
    /// Experts that were loaded and whole.
    pub loads: u64,
    /// Loads that failed: errors of the storage and damaged experts.
    pub failures: u64,
    /// Bytes of all experts that the storage gave, damaged ones included.
    pub bytes_read: u64,
}

impl Statistics {
    /// Nothing was done.
    pub(super) const ZERO: Self = Self {
        hits: 0,
        loads: 0,
        failures: 0,
        bytes_read: 0,
    };

    /// Hits as a share of all experts that were asked for and given; 0 if there were none.
    pub fn hit_rate(&self) -> f32 {
        let all = self.hits.saturating_add(self.loads);
        if all == 0 {
            0.0
        } else {
            self.hits as f32 / all as f32
        }
    }
}

/// An expert on its way into a slot.
pub(super) struct Loading {
    pub index: u32,
    pub slot: usize,
    /// Bytes that are there and in the CRC.
    at: usize,
    crc: crc::Digest<'static, u32>,
}

impl Loading {
    /// Where the next piece lies in the file.
    pub const fn offset(&self, expert: &ExpertRecord) -> u32 {
        expert.offset.saturating_add(self.at as u32)
    }
}

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Loading");
        fields.field("index", &self.index).field("at", &self.at);
        fields.finish_non_exhaustive()
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache<'c> {
    slots: &'c mut [u8],
    marks: &'c mut [Mark],
    slot_bytes: usize,
    /// Counts uses: the time of the marks.
    clock: u32,
    pub statistics: Statistics,
}

impl<'c> Cache<'c> {
    /// A cache of `slots` slots for the experts of `palm`, all empty, in `memory`: at a multiple of
    /// 16, of [`cache_bytes`] at least. If it is not, the cache has no slots.
    pub fn new(palm: &Palm<'_>, slots: usize, memory: &'c mut [u8]) -> Self {
        let (slots, marks) = Self::split(palm, slots, memory).unwrap_or_default();
        marks.fill([NOTHING, 0]);
        Self {
            slots,
            marks,
            slot_bytes: slot_bytes(palm),
            clock: 0,
            statistics: Statistics::default(),
        }
    }

    /// Slots and marks.
    fn split(
        palm: &Palm<'_>,
        slots: usize,
        memory: &'c mut [u8],
    ) -> Option<(&'c mut [u8], &'c mut [Mark])> {
        let aligned = memory.as_ptr().addr().is_multiple_of(ALIGN);
        let memory = memory.get_mut(..cache_bytes(palm, slots))?;
        let bytes = slot_bytes(palm).checked_mul(useful(palm, slots))?;
        let (slots, marks) = memory.split_at_mut_checked(bytes)?;
        let marks = bytemuck::try_cast_slice_mut(marks).ok()?;
        aligned.then_some((slots, marks))
    }

    /// Number of slots.
    pub const fn len(&self) -> usize {
        self.marks.len()
    }

    /// The slot that holds expert `index`, marked as used now; a hit, unless it was `loaded` for
    /// this very call.
    pub fn find(&mut self, index: u32, loaded: bool) -> Option<usize> {
        let slot = self.marks.iter().position(|[held, _]| *held == index)?;
        if !loaded {
            self.statistics.hits = self.statistics.hits.saturating_add(1);
        }
        self.touch(slot, index);
        Some(slot)
    }

    /// Empties the slot that was not used for longest, and gives it.
    fn claim(&mut self) -> usize {
        let (mut oldest, mut slot) = (u32::MAX, 0);
        for (index, [held, used]) in self.marks.iter().enumerate() {
            let used = if *held == NOTHING { 0 } else { *used };
            if used < oldest {
                (oldest, slot) = (used, index);
            }
        }
        if let Some(mark) = self.marks.get_mut(slot) {
            *mark = [NOTHING, 0];
        }
        slot
    }

    /// The `len` bytes of a slot into which an expert is to be read.
    pub fn room(&mut self, slot: usize, expert: &ExpertRecord) -> Option<&mut [u8]> {
        let start = slot.saturating_mul(self.slot_bytes);
        let end = start.saturating_add(self.slot_bytes);
        self.slots
            .get_mut(start..end)?
            .get_mut(..expert.len as usize)
    }

    /// Begins to load an expert into the slot that was not used for longest, which it empties.
    pub fn begin(&mut self, index: u32) -> Loading {
        Loading {
            index,
            slot: self.claim(),
            at: 0,
            crc: CRC.digest(),
        }
    }

    /// Where the next piece of an expert goes, of at most `most` bytes.
    pub fn piece(
        &mut self,
        loading: &Loading,
        expert: &ExpertRecord,
        most: usize,
    ) -> Option<&mut [u8]> {
        let room = self.room(loading.slot, expert)?.get_mut(loading.at..)?;
        let length = room.len().min(most);
        room.get_mut(..length)
    }

    /// Takes note of the piece that the storage has put there, or could not. Whether the expert is
    /// whole: then it is kept. What is damaged leaves the slot empty.
    pub fn took(
        &mut self,
        loading: &mut Loading,
        expert: &ExpertRecord,
        most: usize,
        read: bool,
    ) -> Result<bool, StorageError> {
        if !read {
            return Err(self.failed(StorageError::Read));
        }
        let piece = self.piece(loading, expert, most).unwrap_or_default();
        loading.crc.update(piece);
        loading.at = loading.at.saturating_add(piece.len());
        if loading.at < expert.len as usize && !piece.is_empty() {
            return Ok(false);
        }
        let counts = &mut self.statistics;
        counts.bytes_read = counts.bytes_read.saturating_add(expert.len.into());
        if loading.crc.clone().finalize() != expert.crc {
            return Err(self.failed(StorageError::Crc));
        }
        counts.loads = counts.loads.saturating_add(1);
        self.touch(loading.slot, loading.index);
        Ok(true)
    }

    fn failed(&mut self, error: StorageError) -> StorageError {
        let counts = &mut self.statistics;
        counts.failures = counts.failures.saturating_add(1);
        error
    }

    fn touch(&mut self, slot: usize, index: u32) {
        // After 2³² uses the order begins anew; that costs a load or two, never a bit.
        self.clock = self.clock.wrapping_add(1);
        if let Some(mark) = self.marks.get_mut(slot) {
            *mark = [index, self.clock];
        }
    }
}
