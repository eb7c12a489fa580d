//! Where a run's experts come from: the image in memory, or the file through a cache of slots.

use std::fs::File;
use std::io;

use palmtop::Model;
use palmtop::format::{ExpertRecord, Palm};
use palmtop::storage::{Mapped, Paged, Storage, StorageError, WeightSource};
use serde::Serialize;

use crate::room;
use crate::units::{bytes, count};

/// A `.palm` file that is read at offsets.
#[derive(Debug)]
pub struct PalmFile(pub File);

impl Storage for PalmFile {
    type Error = io::Error;

    #[cfg(unix)]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.0.read_exact_at(bytes, offset.into())
    }

    #[cfg(not(unix))]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        self.0.seek(SeekFrom::Start(offset.into()))?;
        self.0.read_exact(bytes)
    }
}

/// A source that reads from the file; its cache lies in memory that is never given back.
type FromFile = Paged<'static, PalmFile>;

/// The experts of a model.
#[derive(Debug)]
pub enum Experts<'m> {
    /// All of them are in memory.
    Mapped(Box<Mapped<'m>>),
    /// They are read when they are needed.
    Paged(Box<Pager>),
}

/// Reads experts for every session of an engine: the cache outlives them.
#[derive(Debug)]
pub struct Pager {
    source: FromFile,
    slot_bytes: usize,
}

impl<'m> Experts<'m> {
    /// The experts of an image that holds the whole file.
    pub fn mapped(palm: &Palm<'m>) -> Self {
        Self::Mapped(Box::new(Mapped::new(*palm)))
    }

    /// The experts of a file, read through `slots` slots.
    pub fn paged(model: &Model<'m>, file: File, slots: usize) -> io::Result<Self> {
        let memory = room::forever(model.cache_bytes(slots))?;
        Ok(Self::Paged(Box::new(Pager {
            source: Paged::new(model.palm(), PalmFile(file), slots, memory),
            slot_bytes: model.slot_bytes(),
        })))
    }

    /// What the file said when it could not be read; once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        match self {
            Self::Mapped(_) => None,
            Self::Paged(pager) => pager.source.take_error(),
        }
    }

    /// What was read so far, if experts are read from the file.
    pub fn paging(&self) -> Option<Paging> {
        match self {
            Self::Mapped(_) => None,
            Self::Paged(pager) => {
                let source = &pager.source;
                let counts = source.statistics();
                Some(Paging {
                    slots: source.slots(),
                    slots_bytes: source.slots() * pager.slot_bytes,
                    hits: counts.hits,
                    loads: counts.loads,
                    bytes_read: counts.bytes_read,
                })
            }
        }
    }
}

/// The experts, lent to a session: they outlive it, and with them what the cache holds.
#[derive(Debug)]
pub struct Lent<'e, 'm>(pub &'e mut Experts<'m>);

impl WeightSource for Lent<'_, '_> {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        match &mut *self.0 {
            Experts::Mapped(mapped) => mapped.expert(index, expert),
            Experts::Paged(pager) => pager.source.expert(index, expert),
        }
    }

    fn is_paged(&self) -> bool {
        matches!(self.0, Experts::Paged(_))
    }
}

/// What reading experts from the file came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paging {
    /// Experts that fit in memory at a time.
    pub slots: usize,
    /// Bytes of memory that the slots take.
    pub slots_bytes: usize,
    /// Times that an expert was in a slot already.
    pub hits: u64,
    /// Times that an expert was read from the file.
    pub loads: u64,
    /// Bytes that were read from the file.
    pub bytes_read: u64,
}

impl Paging {
    /// Since an earlier count.
    pub fn since(self, earlier: Option<Self>) -> Self {
        let earlier = |field: fn(&Self) -> u64| earlier.as_ref().map_or(0, field);
        Self {
            hits: self.hits - earlier(|p| p.hits),
            loads: self.loads - earlier(|p| p.loads),
            bytes_read: self.bytes_read - earlier(|p| p.bytes_read),
            ..self
        }
    }

    /// With the rates; `tokens` were run, in and out.
    pub fn over(self, tokens: usize) -> PagingReport {
        PagingReport {
            hit_rate: self.hits as f64 / (self.hits + self.loads).max(1) as f64,
            bytes_per_token: self.bytes_read / tokens.max(1) as u64,
            tokens,
            counts: self,
        }
    }
}

/// What reading experts came to, for each token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PagingReport {
    #[serde(flatten)]
    counts: Paging,
    /// Tokens that were run, in and out.
    tokens: usize,
    /// Bytes that were read from the file for each of them.
    bytes_per_token: u64,
    /// Hits of all times that an expert was asked for.
    hit_rate: f64,
}

impl PagingReport {
    /// A line for people.
    pub fn text(&self) -> String {
        let Paging {
            slots,
            slots_bytes,
            hits,
            loads,
            bytes_read,
        } = self.counts;
        format!(
            "paged: {} read for {} tokens, {} a token; hit rate {:.1} % of {} requests, \
             {slots} slots ({})",
            bytes(bytes_read),
            count(self.tokens as u64),
            bytes(self.bytes_per_token),
            self.hit_rate * 100.0,
            count(hits + loads),
            bytes(slots_bytes as u64),
        )
    }
}
