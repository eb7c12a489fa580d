//! What a kernel in assembly is called with: slices that have been measured before their addresses
//! are handed out, so that no damaged file makes it read elsewhere.

use super::integer::BATCH;
use super::matmul::{Form, Rows, Weights};

/// The operands of a product, in whole blocks of rows.
pub(super) struct Call<'a> {
    /// The blocks' weights: `rows` times `stride` bytes.
    pub weights: &'a [i8],
    /// Bytes of a row: a multiple of 16, not 0.
    pub stride: usize,
    /// Rows, a multiple of the block's, not 0.
    pub rows: usize,
    /// Rows of activations: `tokens − 1` times `pitch` bytes and a whole row.
    pub x: &'a [i8],
    /// Bytes from row to row.
    pub pitch: usize,
    /// 1 to 16.
    pub tokens: usize,
    /// `rows` times `tokens`.
    pub sums: &'a mut [i32],
}

impl<'a> Call<'a> {
    /// The operands for rows `first` to `first + rows`, rounded up to a multiple of `unit`, which
    /// divides the layout's block: `weights` begin and end with whole blocks. `None` if a slice is too
    /// short, begins or steps off a multiple of 4, or activations are of another form.
    #[inline]
    pub fn new(
        weights: &Weights<'a>,
        (first, rows): (usize, usize),
        unit: usize,
        (x, form): (Rows<'a>, Form),
        tokens: usize,
        sums: &'a mut [i32],
    ) -> Option<Self> {
        let stride = weights.stride();
        let rows = rows.checked_next_multiple_of(unit)?;
        let block = weights.layout().block();
        let start = (first / block).checked_mul(block)?;
        let end = first.checked_add(rows)?.checked_next_multiple_of(block)?;
        let weights = weights
            .values()
            .get(start.checked_mul(stride)?..end.checked_mul(stride)?)?;
        let row = stride.checked_mul(form.bytes(1))?;
        let x_len = x.pitch.checked_mul(tokens.checked_sub(1)?)?;
        let bytes = x.bytes.get(..x_len.checked_add(row)?)?;
        let sums = sums.get_mut(..rows.checked_mul(tokens)?)?;
        let aligned = |slice: &[i8]| slice.as_ptr().addr() % 4 == 0;
        let sound = x.form == form
            && tokens <= BATCH
            && rows > 0
            && stride > 0
            && stride % 16 == 0
            && x.pitch % 4 == 0
            && first % unit == 0
            && aligned(bytes)
            && aligned(weights);
        sound.then_some(Self {
            weights,
            stride,
            rows,
            x: bytes,
            pitch: x.pitch,
            tokens,
            sums,
        })
    }
}
