//! What can be wrong with a file.

use core::fmt;

/// Why a `.palm` file is refused. Every variant names the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FormatError {
    /// The file is shorter than it says, or than a header.
    Truncated {
        /// Bytes that should be there.
        needed: u32,
        /// Bytes that are there.
        got: u32,
    },
    /// More bytes than `total_len` says.
    TrailingBytes {
        /// Bytes that `total_len` says.
        total: u32,
    },
    /// The image does not lie at a multiple of 16.
    Misaligned,
    /// The first eight bytes are not those of a `.palm` file.
    Magic,
    /// A version that this library does not read.
    Version {
        /// Major version in the file.
        major: u16,
        /// Minor version in the file.
        minor: u16,
    },
    /// The head (header and tables) does not match its CRC.
    HeadCrc,
    /// A section (0 RESIDENT, 1 TOKENIZER, 2 GOLDEN, 3 EXPERTS, 4 NAMES) lies where it must not.
    Section {
        /// Index of the section.
        index: u32,
    },
    /// A section does not match its CRC.
    SectionCrc {
        /// Index of the section.
        index: u32,
    },
    /// A table lies outside the head.
    Table {
        /// Name of the table.
        name: &'static str,
    },
    /// A field of the header has a value that is not allowed.
    Header {
        /// Name of the field.
        field: &'static str,
    },
    /// An entry of the tensor table is not allowed.
    Tensor {
        /// Index of the tensor.
        index: u32,
        /// Name of the field.
        field: &'static str,
    },
    /// An entry of the layer table is not allowed.
    Layer {
        /// Index of the layer; the decoder's come after the encoder's.
        index: u32,
        /// Name of the field.
        field: &'static str,
    },
    /// An entry of the expert table is not allowed.
    Expert {
        /// Index of the expert.
        index: u32,
        /// Name of the field.
        field: &'static str,
    },
    /// An expert's blob does not match its CRC.
    ExpertCrc {
        /// Index of the expert.
        index: u32,
    },
    /// The tokenizer's tables are not consistent.
    Tokenizer {
        /// Name of the field.
        field: &'static str,
    },
    /// The golden section is not consistent.
    Golden,
    /// The file is sound, but this build of the library leaves out what it needs.
    LeftOut {
        /// The cargo feature that brings it back.
        feature: &'static str,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECTIONS: [&str; 5] = ["RESIDENT", "TOKENIZER", "GOLDEN", "EXPERTS", "NAMES"];
        let section = |index: &u32| SECTIONS.get(*index as usize).copied().unwrap_or("?");
        match self {
            Self::Truncated { needed, got } => {
                write!(f, "file is truncated: {needed} bytes needed, {got} there")
            }
            Self::TrailingBytes { total } => {
                write!(
                    f,
                    "field total_len: file is longer than the {total} bytes it states"
                )
            }
            Self::Misaligned => write!(f, "image must lie at an address that is a multiple of 16"),
            Self::Magic => write!(f, "field magic: not a .palm file"),
            Self::Version { major, minor } => write!(
                f,
                "field version: file is version {major}.{minor}, this library reads {}.{} and older minors",
                super::MAJOR,
                super::MINOR
            ),
            Self::HeadCrc => write!(f, "header or tables are damaged (CRC of the head)"),
            Self::Section { index } => {
                write!(
                    f,
                    "section {}: offset or length not allowed",
                    section(index)
                )
            }
            Self::SectionCrc { index } => {
                write!(f, "section {} is damaged (CRC)", section(index))
            }
            Self::Table { name } => write!(f, "table {name} lies outside the head"),
            Self::Header { field } => write!(f, "header field {field}: value not allowed"),
            Self::Tensor { index, field } => {
                write!(f, "tensor {index}, field {field}: value not allowed")
            }
            Self::Layer { index, field } => {
                write!(f, "layer {index}, field {field}: value not allowed")
            }
            Self::Expert { index, field } => {
                write!(f, "expert {index}, field {field}: value not allowed")
            }
            Self::ExpertCrc { index } => write!(f, "expert {index} is damaged (CRC)"),
            Self::Tokenizer { field } => {
                write!(f, "section TOKENIZER, field {field}: value not allowed")
            }
            Self::Golden => write!(f, "section GOLDEN: lengths or ids not allowed"),
            Self::LeftOut { feature } => write!(
                f,
                "this build of the library leaves out what the file needs: cargo feature `{feature}`"
            ),
        }
    }
}

impl core::error::Error for FormatError {}
