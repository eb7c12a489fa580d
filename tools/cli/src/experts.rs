//! Where a run's experts come from: the image in memory, or the file through a cache of slots.

use palmtop::format::{ExpertRecord, Palm};
use palmtop::storage::{Mapped, StorageError, WeightSource};
use serde::Serialize;

use crate::units::{bytes, count};

/// The experts of a model.
#[derive(Debug)]
pub enum Experts<'m> {
    /// All of them are in memory.
    Mapped(Mapped<'m>),
}

impl<'m> Experts<'m> {
    /// The experts of an image that holds the whole file.
    pub fn mapped(palm: &Palm<'m>) -> Self {
        Self::Mapped(Mapped::new(*palm))
    }

    /// What was read so far, if experts are read from the file.
    pub fn paging(&self) -> Option<Paging> {
        match self {
            Self::Mapped(_) => None,
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
        }
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

    /// A line for people; `tokens` were run, in and out.
    pub fn text(&self, tokens: usize) -> String {
        format!(
            "paged: {} read for {} tokens, {} a token; {} loads, {:.1} % of {} requests were in the {} slots ({})",
            bytes(self.bytes_read),
            count(tokens as u64),
            bytes(self.bytes_read / tokens.max(1) as u64),
            count(self.loads),
            self.hit_rate() * 100.0,
            count(self.hits + self.loads),
            self.slots,
            bytes(self.slots_bytes as u64),
        )
    }

    /// Hits of all times that an expert was asked for.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.loads).max(1) as f64
    }
}
