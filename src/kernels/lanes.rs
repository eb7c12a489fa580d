//! Activations for the lanes of [`Layout::Lanes4`](super::Layout::Lanes4).
//!
//! A 16-bit lane of weights is w₀ + 256·w₁, signed, with which cores that multiply two 16-bit lanes
//! at once need not part the bytes: with b = x₁ and c = 256·x₀ − x₁,
//! (w₀ + 256·w₁)·b + w₀·c = 256·(w₀·x₀ + w₁·x₁).

/// Makes the lanes of a row in place: values in the last half of `row`, four of them become the
/// 16-bit numbers x₁, x₃, 256·x₀ − x₁, 256·x₂ − x₃ (little-endian), from the start of `row` on.
///
/// Values are within ±127, and their number is a multiple of 4.
pub fn prepare(row: &mut [i8]) {
    #[cfg(kernels = "dsp")]
    if super::arm::dsp::prepare(row) {
        return;
    }
    portable(row);
}

/// [`prepare`] on any target.
pub fn portable(row: &mut [i8]) {
    let count = row.len() / 2;
    for group in 0..count / 4 {
        let from = count.saturating_add(group.saturating_mul(4));
        let Some(&[x0, x1, x2, x3]) = row.get(from..).and_then(|values| values.first_chunk())
        else {
            return;
        };
        let pair = |even: i8, odd: i8| (i16::from(even) << 8).wrapping_sub(i16::from(odd));
        let lanes = [i16::from(x1), i16::from(x3), pair(x0, x1), pair(x2, x3)];
        let to = row.get_mut(group.saturating_mul(8)..).unwrap_or_default();
        for (to, lane) in to.chunks_exact_mut(2).zip(lanes) {
            for (to, byte) in to.iter_mut().zip(lane.to_le_bytes()) {
                *to = byte as i8;
            }
        }
    }
}
