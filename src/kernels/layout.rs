//! The order in which the bytes of an int8 matrix lie in the file.
//!
//! A layout changes where a weight stands, never a result. Every target reads all of them; each has
//! one that it reads fast, which `palmtop convert --target` chooses.

/// Order of an int8 matrix's bytes (specification, section 3a). Packed layouts have whole blocks of
/// rows: rows that are missing, like columns up to the stride, hold zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Layout {
    /// Row after row.
    #[default]
    Rows = 0,
    /// Blocks of 16 rows; four columns of each of them in turn; each byte plus 128. For vector units
    /// that multiply four bytes per lane (VNNI, NEON's dot products).
    Words16 = 1,
    /// Blocks of 4 rows; four columns of each of them in turn, as two 16-bit lanes
    /// w₀ + 256·w₁ and w₂ + 256·w₃. For Arm cores with the DSP extension.
    Lanes4 = 2,
    /// Blocks of 8 rows, column after column. For cores that load single signed bytes (Cortex-M3,
    /// RISC-V).
    Bytes8 = 3,
    /// Blocks of 4 rows, column after column; each byte plus 128. For Armv6-M, whose signed loads have
    /// no offset.
    Bytes4 = 4,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Rows,
        Self::Words16,
        Self::Lanes4,
        Self::Bytes8,
        Self::Bytes4,
    ];

    /// The layout with this code, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Rows),
            1 => Some(Self::Words16),
            2 => Some(Self::Lanes4),
            3 => Some(Self::Bytes8),
            4 => Some(Self::Bytes4),
            _ => None,
        }
    }

    /// Its name, as the command prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Words16 => "words16",
            Self::Lanes4 => "lanes4",
            Self::Bytes8 => "bytes8",
            Self::Bytes4 => "bytes4",
        }
    }

    /// Rows of a block.
    pub const fn block(self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Words16 => 16,
            Self::Lanes4 | Self::Bytes4 => 4,
            Self::Bytes8 => 8,
        }
    }

    /// Consecutive columns of a row that lie side by side.
    pub const fn run(self) -> usize {
        match self {
            Self::Rows => usize::MAX,
            Self::Words16 | Self::Lanes4 => 4,
            Self::Bytes8 | Self::Bytes4 => 1,
        }
    }

    /// Bytes that a quantized activation has room for: with [`Layout::Lanes4`] the DSP cores keep
    /// a row as two 16-bit numbers for each pair of values.
    pub const fn activation_bytes(self) -> usize {
        match self {
            Self::Lanes4 => 2,
            _ => 1,
        }
    }

    /// Where the byte of a weight lies, with `stride` bytes a row.
    #[inline]
    pub const fn index(self, row: usize, col: usize, stride: usize) -> usize {
        let block = self.block();
        let start = (row / block).saturating_mul(block).saturating_mul(stride);
        let (lane, run) = (row % block, self.run());
        let group = (col / run).saturating_mul(block).saturating_add(lane);
        let inside = match self {
            Self::Rows => col,
            _ => group.saturating_mul(run).saturating_add(col % run),
        };
        start.saturating_add(inside)
    }
}
