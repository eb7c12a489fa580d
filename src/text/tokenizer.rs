//! Character and byte tokenizers (specification, section 8).

use crate::format::bytes::u32_at;
use crate::format::{NONE32, Palm};
use core::fmt;

/// Why a text has no ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TextError {
    /// The text is empty.
    Empty,
    /// There is no room for all ids.
    TooLong {
        /// Ids that there is room for.
        limit: usize,
    },
    /// The vocabulary does not have this character, and no id for unknown ones.
    UnknownCharacter {
        /// The character.
        character: char,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "text is empty"),
            Self::TooLong { limit } => write!(f, "text has more than {limit} tokens, the limit"),
            Self::UnknownCharacter { character } => {
                write!(
                    f,
                    "the vocabulary does not have the character '{character}'"
                )
            }
        }
    }
}

impl core::error::Error for TextError {}

/// The tokenizer of a file.
#[derive(Debug, Clone, Copy)]
pub struct Tokenizer<'m> {
    bytes: &'m [u8],
    kind: Kind,
    unknown: u32,
    bos: u32,
    eos: u32,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Characters { inputs: usize, outputs: usize },
    Bytes { offset: u32 },
}

/// Bytes of a u32.
const WORD: usize = 4;
/// Where the input table begins.
const INPUTS: usize = 40;

impl<'m> Tokenizer<'m> {
    /// The tokenizer of this file, if it has one.
    pub fn of(palm: &Palm<'m>) -> Option<Self> {
        let bytes = palm.section(palm.header().tokenizer);
        if bytes.is_empty() {
            return None;
        }
        let kind = if u32_at(bytes, 0) == 1 {
            Kind::Characters {
                inputs: u32_at(bytes, 28) as usize,
                outputs: u32_at(bytes, 32) as usize,
            }
        } else {
            Kind::Bytes {
                offset: u32_at(bytes, 16),
            }
        };
        let (unknown, bos, eos) = (u32_at(bytes, 4), u32_at(bytes, 8), u32_at(bytes, 12));
        Some(Self {
            bytes,
            kind,
            unknown,
            bos,
            eos,
        })
    }

    /// Writes the ids of `text` into `ids`, with what the model wants before and after, and gives
    /// how many there are.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn encode(&self, text: &str, ids: &mut [u32]) -> Result<usize, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        let limit = ids.len();
        let mut count = 0;
        let mut push = |id: u32| match ids.get_mut(count) {
            Some(slot) => {
                *slot = id;
                count += 1;
                Ok(())
            }
            None => Err(TextError::TooLong { limit }),
        };
        if self.bos != NONE32 {
            push(self.bos)?;
        }
        match self.kind {
            Kind::Characters { inputs, .. } => {
                for character in text.chars() {
                    match self.find(character, inputs) {
                        Some(id) => push(id)?,
                        None if self.unknown != NONE32 => push(self.unknown)?,
                        None => return Err(TextError::UnknownCharacter { character }),
                    }
                }
            }
            Kind::Bytes { offset } => {
                for byte in text.bytes() {
                    push(offset.saturating_add(byte.into()))?;
                }
            }
        }
        if self.eos != NONE32 {
            push(self.eos)?;
        }
        Ok(count)
    }

    /// The bytes that `id` prints; empty for ids that print nothing. With bytes as tokens, one
    /// byte: a character may take several.
    pub fn piece(&self, id: u32) -> &'m [u8] {
        match self.kind {
            Kind::Characters { inputs, outputs } => {
                let id = id as usize;
                if id >= outputs {
                    return &[];
                }
                let offsets = INPUTS.saturating_add(inputs.saturating_mul(2 * WORD));
                let at = offsets.saturating_add(id.saturating_mul(WORD));
                let start = u32_at(self.bytes, at) as usize;
                let end = u32_at(self.bytes, at.saturating_add(WORD)) as usize;
                let text = offsets.saturating_add(outputs.saturating_add(1).saturating_mul(WORD));
                let span = text.saturating_add(start)..text.saturating_add(end);
                self.bytes.get(span).unwrap_or_default()
            }
            Kind::Bytes { offset } => match id.checked_sub(offset) {
                Some(byte) if byte < 256 => {
                    let byte = byte as usize;
                    BYTES.get(byte..byte.saturating_add(1)).unwrap_or_default()
                }
                _ => &[],
            },
        }
    }

    /// The bytes printed between two pieces that are not empty.
    pub fn separator(&self) -> &'m [u8] {
        let len = u32_at(self.bytes, 20) as usize;
        self.bytes
            .get(24..len.saturating_add(24))
            .unwrap_or_default()
    }

    /// Writes the text of `ids`, without what ids that print nothing would add; `write` gets it
    /// piece by piece.
    pub fn decode(&self, ids: &[u32], mut write: impl FnMut(&[u8])) {
        let mut first = true;
        for id in ids {
            let piece = self.piece(*id);
            if piece.is_empty() {
                continue;
            }
            if !first {
                write(self.separator());
            }
            first = false;
            write(piece);
        }
    }

    /// The id of a character, by binary search.
    fn find(&self, character: char, inputs: usize) -> Option<u32> {
        let wanted = u32::from(character);
        let (mut low, mut high) = (0, inputs);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = INPUTS.saturating_add(middle.saturating_mul(2 * WORD));
            let point = u32_at(self.bytes, at);
            if point == wanted {
                return Some(u32_at(self.bytes, at.saturating_add(WORD)));
            }
            if point < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        None
    }
}

/// Every byte, to be lent out as a piece.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut i = 0;
    while i < 256 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};
