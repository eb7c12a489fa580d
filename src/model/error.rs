//! What can go wrong when a model runs.

use crate::storage::StorageError;
use core::fmt;

/// Why a session or a step is refused. Every variant carries the number that would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The arena is too small for the limits.
    ArenaTooSmall {
        /// Bytes that are enough.
        needed: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// The arena does not lie at a multiple of 16.
    ArenaMisaligned,
    /// The model's image does not lie at a multiple of 16.
    ModelMisaligned,
    /// `Limits::source` is 0 or more than the model can take.
    SourceLimit {
        /// The most that the model takes; `u32::MAX` if it sets no limit.
        max: u32,
    },
    /// `Limits::target` is 0 or more than the model can take.
    TargetLimit {
        /// The most that the model takes; `u32::MAX` if it sets no limit.
        max: u32,
    },
    /// `Limits::beams` is not 1: beam search is not supported yet.
    Beams,
    /// The source has no tokens.
    EmptySource,
    /// The source has more tokens than the session's limit.
    SourceTooLong {
        /// The session's limit.
        limit: usize,
        /// Tokens given.
        got: usize,
    },
    /// All positions of the session's target limit are used.
    TargetFull {
        /// The session's limit.
        limit: usize,
    },
    /// A token id is not in the vocabulary.
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: u32,
    },
    /// An expert's weights could not be read; the same call may be tried again.
    Storage {
        /// Index in the expert table.
        expert: u32,
        /// What went wrong.
        reason: StorageError,
    },
    /// The image does not hold the experts: they need a source that reads them from storage.
    ExpertsAbsent,
    /// Experts from storage were given no slot to be read into.
    NoSlots,
    /// A decoder-only model has nothing to encode: its decoder takes the ids.
    NoEncoder,
    /// The model has an encoder: encoding a source leads to its decoder.
    HasEncoder,
    /// The file has no golden section to test against.
    NoGolden,
    /// The self-test computed other bits than the golden section has.
    GoldenMismatch,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = |f: &mut fmt::Formatter<'_>, what, max: u32| {
            write!(f, "limit of the {what} must be from 1 to {max}")
        };
        match *self {
            Self::ArenaTooSmall { needed, got } => {
                write!(f, "arena too small: {needed} bytes needed, {got} given")
            }
            Self::ArenaMisaligned => write!(f, "arena must lie at a multiple of 16"),
            Self::ModelMisaligned => write!(f, "model must lie at a multiple of 16"),
            Self::SourceLimit { max: m } => max(f, "source", m),
            Self::TargetLimit { max: m } => max(f, "target", m),
            Self::Beams => write!(
                f,
                "beam search is not supported yet: limit of beams must be 1"
            ),
            Self::EmptySource => write!(f, "source is empty: at least one token is needed"),
            Self::SourceTooLong { limit, got } => {
                write!(f, "source has {got} tokens, the limit is {limit}")
            }
            Self::TargetFull { limit } => write!(f, "target is full: the limit is {limit} tokens"),
            Self::TokenOutOfVocabulary { id, vocab } => {
                write!(f, "token id {id} is out of the vocabulary of {vocab}")
            }
            Self::Storage {
                expert,
                reason: StorageError::Read,
            } => write!(f, "weights of expert {expert} could not be read"),
            Self::Storage {
                expert,
                reason: StorageError::Crc,
            } => write!(f, "weights of expert {expert} are damaged (CRC)"),
            Self::Storage {
                expert,
                reason: StorageError::Absent,
            } => write!(f, "weights of expert {expert} are not there yet"),
            Self::NoSlots => write!(f, "experts from storage need at least one slot"),
            Self::ExpertsAbsent => write!(
                f,
                "the image does not hold the experts: they must be read from storage"
            ),
            Self::NoEncoder => write!(
                f,
                "a decoder-only model has nothing to encode: its decoder takes the ids"
            ),
            Self::HasEncoder => write!(
                f,
                "the model has an encoder: encode a source to get to its decoder"
            ),
            Self::NoGolden => write!(f, "the model has no golden section to test against"),
            Self::GoldenMismatch => write!(f, "self-test failed: other bits than the golden ones"),
        }
    }
}

impl core::error::Error for Error {}
