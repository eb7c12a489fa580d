//! The checked view.

use super::bytes::{span, u8_at, u32_at};
use super::check;
use super::{
    EXPERT_RECORD_LEN, ExpertRecord, FeedForwardKind, FormatError, HEADER_LEN, Header,
    LAYER_RECORD_LEN, LayerRecord, MAGIC, NONE16, Section, TENSOR_RECORD_LEN, TensorRecord,
};

/// A `.palm` image whose header and tables have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Palm<'m> {
    bytes: &'m [u8],
    header: Header,
}

impl<'m> Palm<'m> {
    /// Checks the header and every table and yields a view of the image.
    ///
    /// Works in `const` context. The weights' CRCs are not computed: see [`Palm::verify`].
    ///
    /// # Errors
    /// [`FormatError`] names the first field that is not as the specification has it.
    pub const fn parse(bytes: &'m [u8]) -> Result<Self, FormatError> {
        Self::parse_part(bytes, true)
    }

    /// [`Palm::parse`] for a file whose experts are read from storage: `bytes` are those from the
    /// file's start up to the `EXPERTS` section at least ([`Palm::resident_len`]); what the experts
    /// hold is not looked at, and [`Palm::verify`] checks what is there.
    ///
    /// # Errors
    /// As [`Palm::parse`].
    pub const fn parse_resident(bytes: &'m [u8]) -> Result<Self, FormatError> {
        Self::parse_part(bytes, false)
    }

    const fn parse_part(bytes: &'m [u8], whole: bool) -> Result<Self, FormatError> {
        match check::head(bytes, whole) {
            Err(error) => Err(error),
            Ok(header) => {
                let palm = Self { bytes, header };
                match check::tables(&palm) {
                    Err(error) => Err(error),
                    Ok(()) => Ok(palm),
                }
            }
        }
    }

    /// The `total_len` that a header states, before anything else is checked: for a firmware that
    /// finds an image at an address and does not know where it ends.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] if fewer than 256 bytes are given, [`FormatError::Magic`] if they
    /// do not begin a `.palm` file.
    pub const fn total_len(start: &[u8]) -> Result<u32, FormatError> {
        if start.len() < HEADER_LEN {
            return Err(FormatError::Truncated {
                needed: HEADER_LEN as u32,
                got: start.len() as u32,
            });
        }
        let mut i = 0;
        let mut rest: &[u8] = &MAGIC;
        while let Some((wanted, more)) = rest.split_first() {
            if u8_at(start, i) != *wanted {
                return Err(FormatError::Magic);
            }
            rest = more;
            i += 1;
        }
        Ok(u32_at(start, 16))
    }

    /// The bytes that [`Palm::parse_resident`] needs, as a header states it, before anything else
    /// is checked.
    ///
    /// # Errors
    /// As [`Palm::total_len`].
    pub const fn resident_len(start: &[u8]) -> Result<u32, FormatError> {
        match Self::total_len(start) {
            Ok(_) => Ok(super::Header::read(start).experts_section.offset),
            Err(error) => Err(error),
        }
    }

    /// Whether the bytes of the experts are there.
    pub const fn has_experts(&self) -> bool {
        let section = self.header.experts_section;
        section.offset as u64 + section.len as u64 <= self.bytes.len() as u64
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The whole image.
    pub const fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Whether the image lies at a multiple of 16, as typed reads need it.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(super::ALIGN)
    }

    /// A section's bytes, padding included.
    pub const fn section(&self, section: Section) -> &'m [u8] {
        match span(self.bytes, section.offset as usize, section.len as usize) {
            Some(bytes) => bytes,
            None => &[],
        }
    }

    /// Tensor `index`, or `None` for [`NONE16`] and indices past the table.
    pub const fn tensor(&self, index: u16) -> Option<TensorRecord> {
        if index == NONE16 || index as u32 >= self.header.tensors.count {
            return None;
        }
        let at = self.header.tensors.offset as usize + index as usize * TENSOR_RECORD_LEN;
        Some(TensorRecord::read(self.bytes, at))
    }

    /// Layer `index`; the encoder's layers come first, then the decoder's, then the mixture block
    /// if there is one.
    pub const fn layer(&self, index: u32) -> LayerRecord {
        let at = self.header.layers.offset as usize + index as usize * LAYER_RECORD_LEN;
        LayerRecord::read(self.bytes, at)
    }

    /// Entry `index` of the layer table, if it is there and its feed-forward is a mixture.
    pub const fn mixture(&self, index: u32) -> Option<LayerRecord> {
        if index >= self.header.layers.count {
            return None;
        }
        let layer = self.layer(index);
        match layer.ff_kind {
            FeedForwardKind::Mixture => Some(layer),
            FeedForwardKind::Dense => None,
        }
    }

    /// Expert `index` of the expert table.
    pub const fn expert(&self, index: u32) -> ExpertRecord {
        if index >= self.header.experts.count {
            return ExpertRecord::ABSENT;
        }
        let at = self.header.experts.offset as usize + index as usize * EXPERT_RECORD_LEN;
        ExpertRecord::read(self.bytes, at)
    }

    /// An expert's blob in the image.
    pub const fn expert_bytes(&self, expert: &ExpertRecord) -> &'m [u8] {
        expert.bytes(self.bytes)
    }

    /// Checks every CRC of the body: sections and experts, as far as they are there (see
    /// [`Palm::parse_resident`]). Reads all of it once.
    ///
    /// # Errors
    /// [`FormatError::SectionCrc`] or [`FormatError::ExpertCrc`] with the index of the first that
    /// does not match.
    pub fn verify(&self) -> Result<(), FormatError> {
        self.verify_with(super::crc32)
    }

    /// [`Palm::verify`] with a function that computes [`crc32`](super::crc32) faster than this
    /// library does, as a host has them.
    ///
    /// # Errors
    /// As [`Palm::verify`].
    pub fn verify_with(&self, crc32: impl Fn(&[u8]) -> u32) -> Result<(), FormatError> {
        let h = &self.header;
        let sections = [
            (0, h.resident),
            (1, h.tokenizer),
            (2, h.golden),
            (4, h.names),
        ];
        for (index, section) in sections {
            let end = section.offset as u64 + section.len as u64;
            let there = end <= self.bytes.len() as u64;
            if there && section.len > 0 && crc32(self.section(section)) != section.crc {
                return Err(FormatError::SectionCrc { index });
            }
        }
        if !self.has_experts() {
            return Ok(());
        }
        for index in 0..h.experts.count {
            let expert = self.expert(index);
            if crc32(self.expert_bytes(&expert)) != expert.crc {
                return Err(FormatError::ExpertCrc { index });
            }
        }
        Ok(())
    }
}
