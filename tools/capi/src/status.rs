//! Errors as codes with names.

use core::ffi::c_char;

use palmtop::Error;
use palmtop::format::FormatError;
use palmtop::storage::StorageError;
use palmtop::text::TextError;

use crate::memory::put;
use crate::palmtop_text;

/// What a function has to say: 0 is well done, 1 means that there is more to do, less than 0 an
/// error.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum palmtop_status {
    /// Done.
    PALMTOP_OK = 0,
    /// There is more to do: poll again.
    PALMTOP_PENDING = 1,
    /// A pointer is NULL that must not be.
    PALMTOP_NULL = -1,
    /// A pointer is not aligned for what it points to, or a length is impossible.
    PALMTOP_MISALIGNED = -2,
    /// The model or session has not been opened.
    PALMTOP_NOT_OPEN = -3,
    /// Not in this order: a step before an encoding, a poll with nothing under way.
    PALMTOP_ORDER = -4,
    /// An argument is none of the values that are allowed.
    PALMTOP_ARGUMENT = -5,
    /// Refused for a reason that this version of the header has no code for.
    PALMTOP_REFUSED = -6,

    /// The image is shorter than it says: `needed`, `got`.
    PALMTOP_TRUNCATED = -20,
    /// The image is longer than the `needed` bytes that it states.
    PALMTOP_TRAILING_BYTES = -21,
    /// The image must lie at a multiple of 16.
    PALMTOP_MODEL_MISALIGNED = -22,
    /// Not a .palm file.
    PALMTOP_MAGIC = -23,
    /// A version that this library does not read: major in `index`, minor in `got`.
    PALMTOP_VERSION = -24,
    /// Header or tables are damaged.
    PALMTOP_HEAD_CRC = -25,
    /// Section `index` lies where it must not.
    PALMTOP_SECTION = -26,
    /// Section `index` is damaged.
    PALMTOP_SECTION_CRC = -27,
    /// Table `field` lies outside the head.
    PALMTOP_TABLE = -28,
    /// Header field `field` has a value that is not allowed.
    PALMTOP_HEADER = -29,
    /// Field `field` of tensor `index` is not allowed.
    PALMTOP_TENSOR = -30,
    /// Field `field` of layer `index` is not allowed.
    PALMTOP_LAYER = -31,
    /// Field `field` of expert `index` is not allowed.
    PALMTOP_EXPERT = -32,
    /// Expert `index` is damaged.
    PALMTOP_EXPERT_CRC = -33,
    /// Field `field` of the tokenizer is not allowed.
    PALMTOP_TOKENIZER = -34,
    /// The golden section is not consistent.
    PALMTOP_GOLDEN = -35,

    /// The arena is too small: `needed`, `got`.
    PALMTOP_ARENA_TOO_SMALL = -50,
    /// The arena must lie at a multiple of 16.
    PALMTOP_ARENA_MISALIGNED = -51,
    /// The limit of source tokens must be from 1 to `needed`.
    PALMTOP_SOURCE_LIMIT = -52,
    /// The limit of target tokens must be from 1 to `needed`.
    PALMTOP_TARGET_LIMIT = -53,
    /// The source has no tokens.
    PALMTOP_EMPTY_SOURCE = -54,
    /// The source has more tokens than the session's limit.
    PALMTOP_SOURCE_TOO_LONG = -55,
    /// All positions of the session's target limit are used.
    PALMTOP_TARGET_FULL = -56,
    /// A token id is not in the vocabulary.
    PALMTOP_TOKEN = -57,
    /// An expert could not be read; the call may be repeated.
    PALMTOP_STORAGE_READ = -58,
    /// An expert that was read is damaged; the call may be repeated.
    PALMTOP_STORAGE_CRC = -59,
    /// The image does not hold the experts.
    PALMTOP_EXPERTS_ABSENT = -60,
    /// A decoder-only model has nothing to encode.
    PALMTOP_NO_ENCODER = -61,
    /// The model has an encoder: encode first.
    PALMTOP_HAS_ENCODER = -62,
    /// The model has no golden section to test against.
    PALMTOP_NO_GOLDEN = -63,
    /// The self-test computed other bits than the golden section has.
    PALMTOP_GOLDEN_MISMATCH = -64,

    /// The model has no tokenizer.
    PALMTOP_NO_TOKENIZER = -80,
    /// The text is empty.
    PALMTOP_TEXT_EMPTY = -81,
    /// There is no room for the ids, or for the text.
    PALMTOP_TEXT_TOO_LONG = -82,
    /// The vocabulary does not have a character.
    PALMTOP_UNKNOWN_CHARACTER = -83,
    /// The text is not UTF-8.
    PALMTOP_NOT_UTF8 = -84,
}

use palmtop_status as S;

/// Numbers and a name that go with an error, as the codes say; 0 and empty where they say nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct palmtop_detail {
    /// Name of a field or table.
    pub field: palmtop_text,
    /// Index of the section, tensor, layer or expert.
    pub index: u32,
    /// The number that would do.
    pub needed: usize,
    /// The number that was given or found.
    pub got: usize,
}

impl palmtop_detail {
    const NOTHING: Self = Self {
        field: palmtop_text::EMPTY,
        index: 0,
        needed: 0,
        got: 0,
    };
}

/// An error with its detail.
pub(crate) struct Fault {
    pub status: palmtop_status,
    pub detail: palmtop_detail,
}

impl Fault {
    fn new(status: palmtop_status, index: u32, needed: usize, got: usize) -> Self {
        Self {
            status,
            detail: palmtop_detail {
                index,
                needed,
                got,
                ..palmtop_detail::NOTHING
            },
        }
    }

    fn field(status: palmtop_status, index: u32, field: &'static str) -> Self {
        let mut fault = Self::new(status, index, 0, 0);
        fault.detail.field = palmtop_text::of(field.as_bytes());
        fault
    }

    /// Gives the code, and the detail to who asked for it.
    ///
    /// # Safety
    /// `to` is null or valid for writing.
    pub(crate) unsafe fn report(self, to: *mut palmtop_detail) -> palmtop_status {
        if !to.is_null() {
            // SAFETY: as the caller promises.
            let _ = unsafe { put(to, self.detail) };
        }
        self.status
    }
}

impl From<palmtop_status> for Fault {
    fn from(status: palmtop_status) -> Self {
        Self::new(status, 0, 0, 0)
    }
}

impl From<FormatError> for Fault {
    fn from(error: FormatError) -> Self {
        use FormatError as E;
        match error {
            E::Truncated { needed, got } => {
                Self::new(S::PALMTOP_TRUNCATED, 0, needed as usize, got as usize)
            }
            E::TrailingBytes { total } => {
                Self::new(S::PALMTOP_TRAILING_BYTES, 0, total as usize, 0)
            }
            E::Misaligned => S::PALMTOP_MODEL_MISALIGNED.into(),
            E::Magic => S::PALMTOP_MAGIC.into(),
            E::Version { major, minor } => {
                Self::new(S::PALMTOP_VERSION, major.into(), 0, minor.into())
            }
            E::HeadCrc => S::PALMTOP_HEAD_CRC.into(),
            E::Section { index } => Self::new(S::PALMTOP_SECTION, index, 0, 0),
            E::SectionCrc { index } => Self::new(S::PALMTOP_SECTION_CRC, index, 0, 0),
            E::Table { name } => Self::field(S::PALMTOP_TABLE, 0, name),
            E::Header { field } => Self::field(S::PALMTOP_HEADER, 0, field),
            E::Tensor { index, field } => Self::field(S::PALMTOP_TENSOR, index, field),
            E::Layer { index, field } => Self::field(S::PALMTOP_LAYER, index, field),
            E::Expert { index, field } => Self::field(S::PALMTOP_EXPERT, index, field),
            E::ExpertCrc { index } => Self::new(S::PALMTOP_EXPERT_CRC, index, 0, 0),
            E::Tokenizer { field } => Self::field(S::PALMTOP_TOKENIZER, 0, field),
            E::Golden => S::PALMTOP_GOLDEN.into(),
            _ => S::PALMTOP_REFUSED.into(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        use Error as E;
        match error {
            E::ArenaTooSmall { needed, got } => {
                Self::new(S::PALMTOP_ARENA_TOO_SMALL, 0, needed, got)
            }
            E::ArenaMisaligned => S::PALMTOP_ARENA_MISALIGNED.into(),
            E::ModelMisaligned => S::PALMTOP_MODEL_MISALIGNED.into(),
            E::SourceLimit { max } => Self::new(S::PALMTOP_SOURCE_LIMIT, 0, max as usize, 0),
            E::TargetLimit { max } => Self::new(S::PALMTOP_TARGET_LIMIT, 0, max as usize, 0),
            E::EmptySource => S::PALMTOP_EMPTY_SOURCE.into(),
            E::SourceTooLong { limit, got } => Self::new(S::PALMTOP_SOURCE_TOO_LONG, 0, limit, got),
            E::TargetFull { limit } => Self::new(S::PALMTOP_TARGET_FULL, 0, limit, 0),
            E::TokenOutOfVocabulary { id, vocab } => {
                Self::new(S::PALMTOP_TOKEN, 0, vocab as usize, id as usize)
            }
            E::Storage {
                expert,
                reason: StorageError::Crc,
            } => Self::new(S::PALMTOP_STORAGE_CRC, expert, 0, 0),
            E::Storage { expert, .. } => Self::new(S::PALMTOP_STORAGE_READ, expert, 0, 0),
            E::ExpertsAbsent => S::PALMTOP_EXPERTS_ABSENT.into(),
            E::NoEncoder => S::PALMTOP_NO_ENCODER.into(),
            E::HasEncoder => S::PALMTOP_HAS_ENCODER.into(),
            E::NoGolden => S::PALMTOP_NO_GOLDEN.into(),
            E::GoldenMismatch => S::PALMTOP_GOLDEN_MISMATCH.into(),
            _ => S::PALMTOP_REFUSED.into(),
        }
    }
}

impl From<Error> for palmtop_status {
    fn from(error: Error) -> Self {
        Fault::from(error).status
    }
}

impl From<TextError> for palmtop_status {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Empty => S::PALMTOP_TEXT_EMPTY,
            TextError::TooLong { .. } => S::PALMTOP_TEXT_TOO_LONG,
            TextError::UnknownCharacter { .. } => S::PALMTOP_UNKNOWN_CHARACTER,
            _ => S::PALMTOP_REFUSED,
        }
    }
}

/// A code's name and its words, in one table for both directions.
macro_rules! names {
    ($($name:ident),* $(,)?) => {
        /// Every status there is.
        pub const PALMTOP_ALL: &[(palmtop_status, &core::ffi::CStr)] = &[
            $((palmtop_status::$name, {
                const TEXT: &[u8] = concat!(stringify!($name), "\0").as_bytes();
                match core::ffi::CStr::from_bytes_with_nul(TEXT) {
                    Ok(name) => name,
                    Err(_) => c"",
                }
            })),*
        ];
    };
}

names!(
    PALMTOP_OK,
    PALMTOP_PENDING,
    PALMTOP_NULL,
    PALMTOP_MISALIGNED,
    PALMTOP_NOT_OPEN,
    PALMTOP_ORDER,
    PALMTOP_ARGUMENT,
    PALMTOP_REFUSED,
    PALMTOP_TRUNCATED,
    PALMTOP_TRAILING_BYTES,
    PALMTOP_MODEL_MISALIGNED,
    PALMTOP_MAGIC,
    PALMTOP_VERSION,
    PALMTOP_HEAD_CRC,
    PALMTOP_SECTION,
    PALMTOP_SECTION_CRC,
    PALMTOP_TABLE,
    PALMTOP_HEADER,
    PALMTOP_TENSOR,
    PALMTOP_LAYER,
    PALMTOP_EXPERT,
    PALMTOP_EXPERT_CRC,
    PALMTOP_TOKENIZER,
    PALMTOP_GOLDEN,
    PALMTOP_ARENA_TOO_SMALL,
    PALMTOP_ARENA_MISALIGNED,
    PALMTOP_SOURCE_LIMIT,
    PALMTOP_TARGET_LIMIT,
    PALMTOP_EMPTY_SOURCE,
    PALMTOP_SOURCE_TOO_LONG,
    PALMTOP_TARGET_FULL,
    PALMTOP_TOKEN,
    PALMTOP_STORAGE_READ,
    PALMTOP_STORAGE_CRC,
    PALMTOP_EXPERTS_ABSENT,
    PALMTOP_NO_ENCODER,
    PALMTOP_HAS_ENCODER,
    PALMTOP_NO_GOLDEN,
    PALMTOP_GOLDEN_MISMATCH,
    PALMTOP_NO_TOKENIZER,
    PALMTOP_TEXT_EMPTY,
    PALMTOP_TEXT_TOO_LONG,
    PALMTOP_UNKNOWN_CHARACTER,
    PALMTOP_NOT_UTF8,
);

/// The name of a code, such as "PALMTOP_ARENA_TOO_SMALL"; "PALMTOP_?" for what is none.
#[unsafe(no_mangle)]
pub extern "C" fn palmtop_status_name(status: i32) -> *const c_char {
    let name = PALMTOP_ALL
        .iter()
        .find(|(known, _)| *known as i32 == status);
    name.map_or(c"PALMTOP_?", |(_, name)| name).as_ptr()
}
