//! The `.palm` file: a checked, zero-copy view over a flash image.
//!
//! [`Palm::parse`] checks the header and every table once, in `const` context if wanted; after that
//! the accessors are infallible. The body (weights) is covered by CRCs that [`Palm::verify`] checks.
//!
//! This module knows bytes and tables; it computes nothing. What it may use: `core`, `crc`.
#![doc = include_str!("SPEC.md")]

pub(crate) mod bytes;
mod check;
mod check_model;
mod error;
mod features;
mod header;
mod palm;
mod records;

pub use error::FormatError;
pub use header::{Header, NONE16, NONE32, Roles, Section, Table};
pub use palm::Palm;
pub use records::{
    ExpertRecord, FeedForwardKind, GROUP, LayerRecord, Policy, TensorFormat, TensorRecord,
};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 256;
/// The first eight bytes of every file.
pub const MAGIC: [u8; 8] = *b"\x89PALM\r\n\x1a";
/// Major version that this library reads and writes.
pub const MAJOR: u16 = 1;
/// Greatest minor version that this library reads. A file that needs nothing of it states 0.
pub const MINOR: u16 = 2;
/// Bytes of an entry of the tensor table.
pub const TENSOR_RECORD_LEN: usize = 32;
/// Bytes of an entry of the layer table.
pub const LAYER_RECORD_LEN: usize = 64;
/// Bytes of an entry of the expert table.
pub const EXPERT_RECORD_LEN: usize = 32;
/// Alignment of the image in memory, of sections, of matrices and of matrix rows.
pub const ALIGN: usize = 16;
/// Alignment of the expert region inside the file.
pub const PAGE: usize = 4096;
/// Most columns of a matrix: `2 * 127 * 127 * MAX_COLS < 2^31`, so i32 accumulation cannot overflow.
pub const MAX_COLS: usize = 65_536;
/// Most rows of a matrix.
pub const MAX_ROWS: usize = 1 << 20;

/// CRC-32/ISO-HDLC of `bytes`, as every check in the file has it.
pub const fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

pub(crate) static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
