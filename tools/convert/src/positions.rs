//! Position tables that no checkpoint holds: rotations and sinusoids, as transformers makes them.

/// `base^(-2j / d)` for every pair of channels, as `_compute_default_rope_parameters` gives it:
/// powers in f32, their reciprocals in f32.
fn inverse_frequencies(d_kv: usize, theta: f64) -> Vec<f32> {
    let one = |pair: usize| {
        let exponent = (2 * pair) as f32 / d_kv as f32;
        let power = f64::from(theta as f32).powf(f64::from(exponent)) as f32;
        1.0 / power
    };
    (0..d_kv / 2).map(one).collect()
}

/// Rotations of positions 0 … `rows` − 1: `[rows, d_kv]`, cosines in the first half of a row, sines
/// in the second. The angle is an f32 product, as in transformers.
pub(crate) fn rotary(rows: usize, d_kv: usize, theta: f64) -> Vec<f32> {
    let frequencies = inverse_frequencies(d_kv, theta);
    let mut values = Vec::with_capacity(rows * d_kv);
    for row in 0..rows {
        let angles = frequencies
            .iter()
            .map(|frequency| f64::from(frequency * row as f32));
        values.extend(angles.clone().map(|angle| angle.cos() as f32));
        values.extend(angles.map(|angle| angle.sin() as f32));
    }
    values
}

/// `M2M100SinusoidalPositionalEmbedding`: `[rows, width]` from row `first` of its table on, sines
/// in the first half of a row, cosines in the second, a zero at the end of an odd width. `width`
/// is at least 4: its divisor is half of it, less one.
pub(crate) fn sinusoidal(first: usize, rows: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let step = -(10_000f64.ln() / (half - 1) as f64) as f32;
    let frequency = |index: usize| f64::from(index as f32 * step).exp() as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let mut values = Vec::with_capacity(rows * width);
    for row in first..first + rows {
        let angles = frequencies
            .iter()
            .map(|frequency| f64::from(row as f32 * frequency));
        values.extend(angles.clone().map(|angle| angle.sin() as f32));
        values.extend(angles.map(|angle| angle.cos() as f32));
        values.resize(values.len() + width % 2, 0.0);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_close(found: f32, expected: f64) {
        assert!(
            (f64::from(found) - expected).abs() < 2e-6,
            "{found}, not {expected}"
        );
    }

    #[test]
    fn rotations_turn_slower_from_pair_to_pair() {
        let table = rotary(5, 8, 10_000.0);
        assert_eq!(table.len(), 5 * 8);
        assert_eq!(table[..8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        for (pair, frequency) in [1.0, 0.1, 0.01, 0.001].into_iter().enumerate() {
            assert_close(table[3 * 8 + pair], f64::cos(3.0 * frequency));
            assert_close(table[3 * 8 + 4 + pair], f64::sin(3.0 * frequency));
        }
    }

    #[test]
    fn sinusoids_span_the_whole_range() {
        let (first, width) = (2, 9);
        let table = sinusoidal(first, 3, width);
        assert_eq!(table.len(), 3 * width);
        for row in 0..3 {
            let at = |index: usize| table[row * width + index];
            for index in 0..4 {
                // Frequencies 1 … 1/10000, both ends included.
                let angle = (row + first) as f64 * 10_000f64.powf(-(index as f64) / 3.0);
                assert_close(at(index), angle.sin());
                assert_close(at(4 + index), angle.cos());
            }
            assert_eq!(at(8), 0.0);
        }
    }
}
