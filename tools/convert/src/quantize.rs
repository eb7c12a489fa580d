//! f32 matrices in the formats of the file: f32, f16, int8 with a scale per row, or int4 (`int4`).

mod int4;
mod pack;

use palmtop::format::{ALIGN, TensorFormat};
use palmtop::kernels::Layout;

use crate::error::ConvertError;
use crate::graph::{Matrix, Norm};

/// Greatest magnitude of an int8 weight; −128 is never written.
const MOST: f64 = 127.0;

/// A tensor as its bytes will stand in the file.
pub(crate) struct Encoded {
    pub rows: usize,
    pub cols: usize,
    pub format: TensorFormat,
    pub layout: Layout,
    /// Rows padded with zeros to the stride, then in the order of the layout.
    pub data: Vec<u8>,
    /// int8: an f32 per row; int4: an f16 per group; else empty.
    pub scales: Vec<u8>,
    /// int8: the sum of each row's values; else empty.
    pub sums: Vec<i32>,
    pub bias: Option<Vec<f32>>,
}

impl Encoded {
    pub fn empty(matrix: &Matrix, format: TensorFormat) -> Self {
        Self {
            rows: matrix.rows,
            cols: matrix.cols,
            format,
            layout: Layout::Rows,
            data: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            bias: matrix.bias.clone(),
        }
    }

    /// Fills the rest of a row with zeros.
    fn pad_row(&mut self) {
        self.data.resize(self.data.len().next_multiple_of(ALIGN), 0);
    }
}

/// A matrix in the format asked for; int8 in this layout.
///
/// # Errors
/// [`ConvertError::F16Range`] if f16 cannot hold a value, [`ConvertError::Int4Range`] if an int4
/// group's scale cannot.
pub(crate) fn matrix(
    matrix: &Matrix,
    format: TensorFormat,
    layout: Layout,
) -> Result<Encoded, ConvertError> {
    match format {
        TensorFormat::F16 => f16(matrix),
        TensorFormat::I8 => Ok(pack::packed(int8(matrix), layout)),
        TensorFormat::I4 => int4::matrix(matrix),
        TensorFormat::F32 | TensorFormat::U8 => Ok(f32(matrix)),
    }
}

/// A norm's gain and bias: one row of f32.
pub(crate) fn norm(norm: &Norm) -> Encoded {
    let row = Matrix {
        name: String::new(),
        rows: 1,
        cols: norm.gain.len(),
        values: norm.gain.clone(),
        bias: norm.bias.clone(),
    };
    f32(&row)
}

/// A distance table, or a table of experts by token: one row of bytes.
pub(crate) fn bytes(values: &[u8]) -> Encoded {
    let mut encoded = Encoded {
        rows: 1,
        cols: values.len(),
        format: TensorFormat::U8,
        layout: Layout::Rows,
        data: values.to_vec(),
        scales: Vec::new(),
        sums: Vec::new(),
        bias: None,
    };
    encoded.pad_row();
    encoded
}

/// f32 as it is.
pub(crate) fn f32(matrix: &Matrix) -> Encoded {
    let mut encoded = Encoded::empty(matrix, TensorFormat::F32);
    for row in matrix.iter_rows() {
        encoded
            .data
            .extend(row.iter().flat_map(|value| value.to_le_bytes()));
        encoded.pad_row();
    }
    encoded
}

fn f16(matrix: &Matrix) -> Result<Encoded, ConvertError> {
    let mut encoded = Encoded::empty(matrix, TensorFormat::F16);
    for row in matrix.iter_rows() {
        for &value in row {
            let narrow = half::f16::from_f32(value);
            if !narrow.is_finite() {
                // The caller names the file.
                let (file, tensor) = (String::new(), matrix.name.clone());
                return Err(ConvertError::F16Range {
                    file,
                    tensor,
                    value,
                });
            }
            encoded.data.extend(narrow.to_le_bytes());
        }
        encoded.pad_row();
    }
    Ok(encoded)
}

fn int8(matrix: &Matrix) -> Encoded {
    let mut encoded = Encoded::empty(matrix, TensorFormat::I8);
    for row in matrix.iter_rows() {
        let scale = row_scale(row);
        let mut sum = 0;
        for &value in row {
            let quantized = quantize(value, scale);
            sum += i32::from(quantized);
            encoded.data.extend(quantized.to_le_bytes());
        }
        encoded.pad_row();
        encoded.scales.extend(scale.to_le_bytes());
        encoded.sums.push(sum);
    }
    encoded
}

/// The scale with which the row's greatest magnitude becomes 127; 0 for a row of zeros.
fn row_scale(row: &[f32]) -> f32 {
    let greatest = row
        .iter()
        .fold(0.0, |most: f32, value| most.max(value.abs()));
    (f64::from(greatest) / MOST) as f32
}

fn quantize(value: f32, scale: f32) -> i8 {
    // Adding and subtracting rounds half to even: f64 has no digits after the point at 1.5 · 2⁵².
    const ROUND: f64 = 6_755_399_441_055_744.0;
    if scale == 0.0 {
        return 0;
    }
    let steps = (f64::from(value) / f64::from(scale)).clamp(-MOST, MOST);
    (steps + ROUND - ROUND) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix_of(rows: usize, values: &[f32]) -> Matrix {
        let cols = values.len() / rows;
        Matrix {
            name: "w".into(),
            rows,
            cols,
            values: values.to_vec(),
            bias: None,
        }
    }

    #[test]
    fn int8_rounds_half_to_even_within_127() {
        let encoded = int8(&matrix_of(1, &[127.0, -127.0, 0.5, 1.5, -2.5, 2.51]));
        assert_eq!(encoded.scales, 1.0f32.to_le_bytes());
        let values: Vec<i8> = encoded.data.iter().map(|byte| *byte as i8).collect();
        assert_eq!(values[..6], [127, -127, 0, 2, -2, 3]);
        assert!(values[6..].iter().all(|value| *value == 0));
        assert_eq!(values.len(), 16);
        assert_eq!(encoded.sums, [3]);
    }

    #[test]
    fn a_row_of_zeros_has_scale_zero() {
        let encoded = int8(&matrix_of(2, &[0.0, 0.0, 1.0, -1.0]));
        assert_eq!(encoded.scales[..4], [0; 4]);
        assert_eq!(encoded.sums, [0, 0]);
        assert!(encoded.data[..16].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn values_too_small_for_a_scale_become_zero() {
        let encoded = int8(&matrix_of(1, &[f32::from_bits(1), 0.0]));
        assert_eq!((&encoded.scales[..], encoded.sums[0]), (&[0; 4][..], 0));
    }

    #[test]
    fn f16_refuses_what_it_cannot_hold() {
        let f16 = |values: &[f32]| matrix(&matrix_of(1, values), TensorFormat::F16, Layout::Rows);
        let error = f16(&[1.0, 70_000.0]).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("`w`") && text.contains("--weights f32"),
            "{text}"
        );
        assert!(f16(&[65_504.0]).is_ok());
    }

    #[test]
    fn rows_are_padded_to_16_bytes() {
        let encoded = f32(&matrix_of(2, &[1.0; 10]));
        assert_eq!(encoded.data.len(), 64);
        assert_eq!(encoded.data[20..32], [0; 12]);
    }
}
