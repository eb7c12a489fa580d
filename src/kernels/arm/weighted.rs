//! Sums of weighted rows of bytes, some columns at a time: attention's values.
#![allow(unsafe_code)]

// In the core's file of products.
unsafe extern "C" {
    fn palmtop_weighted_sums(
        weights: *const i16,
        values: *const i8,
        times: usize,
        pitch: usize,
        sums: *mut i32,
    );
}

/// Columns that are summed at once.
pub const COLUMNS: usize = if cfg!(kernels = "mve") { 16 } else { 4 };

/// Rows that are taken at once.
const ROWS: usize = if cfg!(kernels = "mve") { 1 } else { 2 };

/// The sums of the first columns of `values`, whose rows are `pitch` apart: of how many rows that
/// was done, 0 if `sums` stay as they are.
pub fn block(weights: &[i16], values: &[i8], pitch: usize, sums: &mut [i32; COLUMNS]) -> usize {
    let rows = weights.len() / ROWS * ROWS;
    let last = rows.checked_sub(1).and_then(|rows| rows.checked_mul(pitch));
    let needed = last.and_then(|last| last.checked_add(COLUMNS));
    if needed.is_none_or(|needed| needed > values.len()) {
        return 0;
    }
    let (weights, sums) = (weights.as_ptr(), sums.as_mut_ptr());
    // SAFETY: reads `rows` weights, not 0 of them, and the columns of as many rows of values, the last
    // of which `values` have; writes as many sums. Words may begin anywhere on these cores.
    unsafe { palmtop_weighted_sums(weights, values.as_ptr(), rows / ROWS, pitch, sums) };
    rows
}
