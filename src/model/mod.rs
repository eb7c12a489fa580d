//! The model and the session that runs it: encoder stack, decoder stack, and the exact plan of the
//! memory that they need.

mod decode;
mod embedding;
mod encode;
mod encoded;
mod error;
mod paged;
mod pieces;
mod plan;
mod self_test;
mod session;
mod shape;

pub use crate::tensor::arena::Arena;
pub use decode::Decoder;
pub use encode::Encoding;
pub use encoded::Encoded;
pub use error::Error;
pub use plan::{Limits, MemoryPlan};
pub use session::Session;
pub use shape::{BlockShape, Shape, StackShape};

use crate::format::{FormatError, Palm};

/// A checked model: the image and the sizes that follow from it.
///
/// ```
/// # fn run(image: &[u8]) -> Result<(), palmtop::format::FormatError> {
/// use palmtop::{Limits, Model};
/// let model = Model::parse(image)?;
/// let bytes = model.arena_bytes(Limits { source: 32, target: 48, beams: 1 });
/// # let _ = bytes; Ok(()) }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Model<'m> {
    palm: Palm<'m>,
    shape: Shape,
}

/// Whether a step is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: call `poll` again.
    Pending,
    /// Done.
    Ready,
}

impl<'m> Model<'m> {
    /// Checks an image's header and tables; works in `const` context.
    ///
    /// # Errors
    /// [`FormatError`] names the first field that is wrong.
    pub const fn parse(image: &'m [u8]) -> Result<Self, FormatError> {
        match Palm::parse(image) {
            Ok(palm) => Ok(Self {
                palm,
                shape: Shape::of(&palm),
            }),
            Err(error) => Err(error),
        }
    }

    /// [`Model::parse`] for an image whose experts are read from storage: see
    /// [`Palm::parse_resident`].
    ///
    /// # Errors
    /// As [`Model::parse`].
    pub const fn parse_resident(image: &'m [u8]) -> Result<Self, FormatError> {
        match Palm::parse_resident(image) {
            Ok(palm) => Ok(Self {
                palm,
                shape: Shape::of(&palm),
            }),
            Err(error) => Err(error),
        }
    }

    /// The file.
    pub const fn palm(&self) -> &Palm<'m> {
        &self.palm
    }

    /// Sizes of the model.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The same model with batches of so many token rows (at least 1) in the encoder, instead of the
    /// file's. More rows need more RAM and read weights less often; results stay the same. With more than
    /// a file may ask for (16), as on hosts, attention has four times as many: its rows are narrower, and
    /// whatever is done once for a batch is done less often.
    #[must_use]
    pub const fn with_tile(mut self, rows: usize) -> Self {
        self.shape.tile = if rows == 0 { 1 } else { rows };
        self
    }

    /// The same model with units of work ([`Encoding::poll`], [`Decoder::poll`]) of at most so many
    /// multiply-accumulates, and what else takes as long, in place of whole sublayers. A paged expert
    /// is read, and its CRC computed, in pieces of an eighth as many bytes. Results and RAM stay the
    /// same.
    ///
    /// A unit has at least 16 rows of a matrix with all rows of a batch, or one token's norm or
    /// attention: where that is more, it is the limit. Not cut is the decision of a mixture
    /// block.
    #[cfg(feature = "units")]
    #[must_use]
    pub const fn with_unit(mut self, multiply_accumulates: u32) -> Self {
        self.shape.unit = multiply_accumulates as usize;
        self
    }

    /// Bytes of the arena that a [`Session`] with these limits needs: exactly so many are enough.
    /// Saturates where a `usize` cannot hold the number.
    pub const fn arena_bytes(&self, limits: Limits) -> usize {
        self.memory_plan(limits).total()
    }

    /// The plan of the arena.
    pub const fn memory_plan(&self, limits: Limits) -> MemoryPlan {
        MemoryPlan::new(&self.shape, limits)
    }

    /// The limits that the file proposes.
    pub const fn default_limits(&self) -> Limits {
        let header = self.palm.header();
        Limits {
            source: header.default_source,
            target: header.default_target,
            beams: 1,
        }
    }
}
