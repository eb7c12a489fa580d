//! Where the experts' weights come from: mapped memory, or storage that is read on demand through
//! a cache in the arena.
//!
//! Everything else is resident: it is read in place from the image. What may be used here: `core`,
//! `bytemuck`, `embedded-storage`, [`format`](crate::format).
//!
//! * [`Mapped`]: the whole image lies in memory.
//! * [`Paged`]: an expert is read when a layer has chosen it, into one of N slots, and stays there
//!   until its slot is the one that was not used for longest. Its CRC is checked at every load.
//! * [`Awaited`]: the same for drivers that are `async`.
//!
//! A [`Storage`] is anything that can be read at an offset; [`Embedded`] and [`NorFlash`] make one
//! of a device with an `embedded-storage` driver.

mod awaited;
mod cache;
mod device;
mod paged;

pub use awaited::{AsyncStorage, Awaited};
pub use cache::Statistics;
pub(crate) use cache::{cache_bytes, slot_bytes};
pub use device::{Embedded, NorFlash, Storage};
pub use paged::Paged;

use core::fmt;

use crate::format::{ExpertRecord, Palm};

/// Why an expert's weights could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StorageError {
    /// The storage could not be read: [`Paged::take_error`] has what it said.
    Read,
    /// What was read does not match the expert's CRC.
    Crc,
    /// The weights are not there: the image does not hold them, or they are yet to be read.
    Absent,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "an expert's weights could not be read",
            Self::Crc => "an expert's weights are damaged (CRC)",
            Self::Absent => "an expert's weights are not there yet",
        })
    }
}

impl core::error::Error for StorageError {}

/// Gives the blob of an expert when a layer has chosen it.
///
/// A call that failed may be tried again: nothing of the session's state depends on it.
pub trait WeightSource {
    /// The `expert.len` bytes of the blob, at an address that is a multiple of 16.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError>;

    /// Does some of what it takes to have the blob: reads at most `most` bytes of it and checks
    /// them. Whether [`WeightSource::expert`] gives it at once now. `most` is a multiple of 16 and not
    /// 0, and `usize::MAX` where `expert` itself may take its time.
    ///
    /// It is called before `expert` whenever a layer has chosen one, until it says yes; units of work
    /// that follow with the same expert call `expert` only.
    ///
    /// # Errors
    /// As [`WeightSource::expert`]; a call after it begins anew.
    fn prepare(
        &mut self,
        _index: u32,
        _expert: &ExpertRecord,
        _most: usize,
    ) -> Result<bool, StorageError> {
        Ok(true)
    }

    /// Whether the blobs come from elsewhere than the image, which then need not hold them.
    fn is_paged(&self) -> bool {
        false
    }
}

/// Weights in mapped memory: flash, or a file read as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Mapped<'m> {
    bytes: &'m [u8],
}

impl<'m> Mapped<'m> {
    /// The experts of this image.
    pub const fn new(palm: Palm<'m>) -> Self {
        Self {
            bytes: palm.bytes(),
        }
    }
}

impl WeightSource for Mapped<'_> {
    fn expert(&mut self, _index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        let blob = expert.bytes(self.bytes);
        match blob.is_empty() {
            true => Err(StorageError::Absent),
            false => Ok(blob),
        }
    }
}
