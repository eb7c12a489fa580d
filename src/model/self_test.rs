//! The golden input and output of a file: does this device compute the same bits?

use super::{Error, Session};
use crate::format::CRC;
use crate::format::bytes::u32_at;
use crate::storage::WeightSource;

/// The golden section (specification, section 9).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Golden<'m> {
    bytes: &'m [u8],
}

impl<'m> Golden<'m> {
    fn u32_at(&self, at: usize) -> u32 {
        u32_at(self.bytes, at)
    }

    fn id(&self, index: u32) -> u32 {
        self.u32_at((index as usize).saturating_mul(4).saturating_add(16))
    }
}

/// The CRC of f32 bits, little-endian.
fn update(digest: &mut crc::Digest<'_, u32>, values: &[f32]) {
    for value in values {
        digest.update(&value.to_bits().to_le_bytes());
    }
}

impl<S: WeightSource> Session<'_, '_, S> {
    /// Runs the golden input of the file and compares the bits of the encoder states and of all
    /// logits. `ids` takes the source ids: as many as the golden source has.
    ///
    /// # Errors
    /// [`Error::NoGolden`] if the file has none, [`Error::SourceTooLong`] or
    /// [`Error::TargetFull`] if the session's limits (or `ids`) are too small for it,
    /// [`Error::GoldenMismatch`] if other bits come out.
    pub fn self_test(&mut self, ids: &mut [u32]) -> Result<(), Error> {
        let palm = *self.model.palm();
        let golden = Golden {
            bytes: palm.section(palm.header().golden),
        };
        if golden.bytes.is_empty() {
            return Err(Error::NoGolden);
        }
        let (source, target) = (golden.u32_at(0), golden.u32_at(4));
        let limit = ids.len();
        let Some(ids) = ids.get_mut(..source as usize) else {
            return Err(Error::SourceTooLong {
                limit,
                got: source as usize,
            });
        };
        for (index, id) in (0u32..).zip(ids.iter_mut()) {
            *id = golden.id(index);
        }
        let mut hidden = 0;
        let mut decoder = if self.model.shape().decoder_only {
            self.decoder_only()?
        } else {
            let mut encoded = self.encode(ids)?;
            let mut digest = CRC.digest();
            update(&mut digest, encoded.hidden());
            hidden = digest.finalize();
            encoded.decoder()
        };
        let mut digest = CRC.digest();
        for index in 0..target {
            update(
                &mut digest,
                decoder.step(golden.id(source.saturating_add(index)))?,
            );
        }
        if hidden == golden.u32_at(8) && digest.finalize() == golden.u32_at(12) {
            Ok(())
        } else {
            Err(Error::GoldenMismatch)
        }
    }
}
