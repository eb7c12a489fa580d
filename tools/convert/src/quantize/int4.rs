//! int4: groups of 32 columns with an f16 scale each.
//!
//! A value is (nibble − 8) · scale, −8 to 7 steps. Which scale is best depends on the group: the
//! search tries several for the group's greatest magnitude, with either sign (a negative scale puts
//! the greatest value on −8), refines the best by least squares, and keeps the scale whose values,
//! after the scale was rounded to f16, have the least squared error.

use half::f16;
use palmtop::format::{GROUP, TensorFormat};

use super::Encoded;
use crate::error::ConvertError;
use crate::graph::Matrix;

/// Steps on which the greatest magnitude may come to lie, in quarters: 5 to 8.5. What is above the
/// last step is cut.
const QUARTERS: std::ops::RangeInclusive<u8> = 20..=34;
/// Times that the best scale is refined.
const REFINEMENTS: usize = 2;
/// Sums are kept apart in so many lanes, so that they can be added side by side.
const LANES: usize = 8;

/// A group's values; zeros past the last column.
type Group = [f32; GROUP];

/// A matrix as int4.
///
/// # Errors
/// [`ConvertError::Int4Range`] if a group's scale is more than f16 can hold.
pub(super) fn matrix(matrix: &Matrix) -> Result<Encoded, ConvertError> {
    let mut encoded = Encoded::empty(matrix, TensorFormat::I4);
    for values in matrix.iter_rows().flat_map(|row| row.chunks(GROUP)) {
        let mut group = [0.0; GROUP];
        group.iter_mut().zip(values).for_each(|(g, v)| *g = *v);
        let greatest = greatest(&group);
        let Some(scale) = best_scale(&group, greatest.abs()) else {
            // The caller names the file.
            return Err(ConvertError::Int4Range {
                file: String::new(),
                tensor: matrix.name.clone(),
                value: greatest,
            });
        };
        let inverse = scale.to_f32().recip();
        let nibbles = group.map(|value| (steps(value, inverse) + 8.0) as u8);
        let (low, high) = nibbles.split_at(GROUP / 2);
        let bytes = low.iter().zip(high).map(|(low, high)| low | (high << 4));
        encoded.data.extend(bytes);
        encoded.scales.extend(scale.to_le_bytes());
    }
    Ok(encoded)
}

/// The value of the greatest magnitude.
fn greatest(group: &Group) -> f32 {
    let further = |most: f32, value: &f32| {
        if value.abs() > most.abs() {
            *value
        } else {
            most
        }
    };
    group.iter().fold(0.0, further)
}

/// The whole number of steps, −8 to 7, that is nearest to a value. Rounds half to even.
fn steps(value: f32, inverse: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    (value * inverse).clamp(-8.0, 7.0) + ROUND - ROUND
}

/// What a scale makes of a group.
struct Fit {
    /// Sum of the squared errors.
    error: f32,
    /// The factor of the steps that would have had the least error.
    ideal: f32,
}

impl Fit {
    fn of(group: &Group, scale: f32) -> Self {
        let inverse = scale.recip();
        let (mut error, mut product, mut square) = ([0.0f32; LANES], [0.0f32; LANES], [0.0; LANES]);
        for values in group.as_chunks::<LANES>().0 {
            for (lane, value) in values.iter().enumerate() {
                let steps = steps(*value, inverse);
                let off = *value - steps * scale;
                error[lane] += off * off;
                product[lane] += *value * steps;
                square[lane] += steps * steps;
            }
        }
        let sum = |lanes: [f32; LANES]| lanes.iter().sum::<f32>();
        Self {
            error: sum(error),
            ideal: sum(product) / sum(square),
        }
    }
}

/// The scale of the least squared error; none if f16 cannot hold it. A scale is a normal number,
/// also where all values are zero.
fn best_scale(group: &Group, greatest: f32) -> Option<f16> {
    let rounded = |scale: f32| {
        let least = f16::MIN_POSITIVE.to_f32();
        f16::from_f32(scale.abs().max(least).copysign(scale))
    };
    if !rounded(greatest / 8.0).is_finite() {
        return None;
    }
    let mut best = (f32::INFINITY, rounded(greatest / 7.0), 0.0);
    let attempt = |scale: f32, best: &mut (f32, f16, f32)| {
        let scale = rounded(scale);
        if scale.is_finite() {
            let fit = Fit::of(group, scale.to_f32());
            if fit.error < best.0 {
                *best = (fit.error, scale, fit.ideal);
            }
        }
    };
    for quarters in QUARTERS {
        let scale = greatest / (f32::from(quarters) / 4.0);
        attempt(scale, &mut best);
        attempt(-scale, &mut best);
    }
    for _ in 0..REFINEMENTS {
        let ideal = best.2;
        if ideal.is_finite() {
            attempt(ideal, &mut best);
        }
    }
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix_of(cols: usize, values: &[f32]) -> Matrix {
        Matrix::table("w", values.len() / cols, cols, values.to_vec())
    }

    /// Values as the specification reads them.
    fn decode(encoded: &Encoded) -> Vec<f32> {
        let (scales, _) = encoded.scales.as_chunks::<2>();
        let groups = encoded.cols.div_ceil(GROUP);
        let mut values = Vec::new();
        for (index, scale) in scales.iter().enumerate() {
            let scale = f16::from_le_bytes(*scale).to_f32();
            assert!(scale.is_normal());
            let bytes = &encoded.data[index * 16..index * 16 + 16];
            let nibbles = bytes
                .iter()
                .map(|b| b & 15)
                .chain(bytes.iter().map(|b| b >> 4));
            let left = encoded.cols - index % groups * GROUP;
            for (column, nibble) in nibbles.enumerate() {
                if column < left {
                    values.push((f32::from(nibble) - 8.0) * scale);
                } else {
                    assert_eq!(nibble, 8, "padding stands for 0");
                }
            }
        }
        values
    }

    fn scatter(len: usize) -> Vec<f32> {
        let value = |i: usize| {
            let bits = (i + 1).wrapping_mul(0x9E37_79B9) as u32;
            (f64::from(bits ^ (bits >> 15)) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
        };
        (0..len).map(value).collect()
    }

    #[test]
    fn bytes_of_a_group() -> Result<(), ConvertError> {
        // Whole steps of 1/4: −8 … 7 twice, the second time in the high nibbles.
        let mut values: Vec<f32> = (0..16).map(|i| (i as f32 - 8.0) / 4.0).collect();
        values.extend(values.clone().iter().rev());
        let encoded = matrix(&matrix_of(32, &values))?;
        let scale = f16::from_f32(0.25);
        assert_eq!(encoded.scales, scale.to_le_bytes());
        let expected: Vec<u8> = (0..16u8).map(|j| j | ((15 - j) << 4)).collect();
        assert_eq!(encoded.data, expected);
        assert!(encoded.sums.is_empty());
        assert_eq!(decode(&encoded), values);
        Ok(())
    }

    #[test]
    fn columns_that_do_not_fill_a_group() -> Result<(), ConvertError> {
        for cols in [1, 15, 16, 17, 31, 33, 64, 70] {
            let values = scatter(3 * cols);
            let encoded = matrix(&matrix_of(cols, &values))?;
            assert_eq!(encoded.data.len(), 3 * cols.div_ceil(32) * 16);
            assert_eq!(encoded.data.len(), 3 * TensorFormat::I4.stride(cols));
            assert_eq!(encoded.scales.len(), 3 * cols.div_ceil(32) * 2);
            assert_eq!(decode(&encoded).len(), values.len());
        }
        Ok(())
    }

    #[test]
    fn the_search_beats_the_plain_scale() -> Result<(), ConvertError> {
        let values = scatter(32 * 64);
        let decoded = decode(&matrix(&matrix_of(32, &values))?);
        let square = |errors: f64, (a, b): (&f32, &f32)| errors + f64::from(a - b).powi(2);
        let searched = values.iter().zip(&decoded).fold(0.0, square);
        let mut plain = 0.0;
        for group in values.chunks(32) {
            let scale = group.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 7.0;
            let rounded: Vec<f32> = group.iter().map(|v| (v / scale).round() * scale).collect();
            plain = group.iter().zip(&rounded).fold(plain, square);
            // Each group alone is at least as good, but for the rounding of the scale to f16.
        }
        assert!(searched < 0.85 * plain, "{searched} of {plain}");
        // No value is off by more than a step of the plain scale.
        let worst = values.iter().zip(&decoded).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 1.0 / 7.0);
        Ok(())
    }

    #[test]
    fn the_greatest_value_may_lie_on_minus_eight() -> Result<(), ConvertError> {
        for sign in [1.0, -1.0] {
            let mut values = vec![0.0; 32];
            (values[3], values[7]) = (8.0 * sign, -sign);
            let encoded = matrix(&matrix_of(32, &values))?;
            assert_eq!(decode(&encoded), values);
        }
        Ok(())
    }

    #[test]
    fn zeros_and_values_below_the_least_scale() -> Result<(), ConvertError> {
        for value in [0.0, 1e-30, f32::from_bits(1), 2e-5] {
            let encoded = matrix(&matrix_of(32, &[value; 32]))?;
            assert!(
                decode(&encoded)
                    .iter()
                    .all(|got| (got - value).abs() <= 3.1e-5)
            );
        }
        Ok(())
    }

    #[test]
    fn a_scale_beyond_f16_is_refused() {
        let mut values = [1.0; 32];
        values[5] = -600_000.0;
        let text = match matrix(&matrix_of(32, &values)) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        for part in ["`w`", "-600000", "--expert"] {
            assert!(text.contains(part), "{text}");
        }
        values[5] = -500_000.0;
        assert!(matrix(&matrix_of(32, &values)).is_ok());
    }
}
