//! Sizes of channels, and factors that make both sides of one equally large.

use crate::graph::{Matrix, Norm};

/// Sizes of the channels of an activation, up to a common factor.
pub(super) type Sizes = Vec<f64>;

/// What the two sides of a channel are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub before: f64,
    pub after: f64,
}

/// Factors that make both sides of each channel equally large. A channel that is zero on one side
/// has no effect: it becomes zero on the other.
pub(super) fn balance(before: &[f64], after: &[f64]) -> Vec<Pair> {
    let pair = |(before, after): (&f64, &f64)| {
        let factor = (before / after).sqrt();
        if *before == 0.0 {
            Pair {
                before: 1.0,
                after: 0.0,
            }
        } else if *after == 0.0 {
            Pair {
                before: 0.0,
                after: 1.0,
            }
        } else if factor.is_normal() && factor.recip().is_normal() {
            Pair {
                before: factor.recip(),
                after: factor,
            }
        } else {
            Pair {
                before: 1.0,
                after: 1.0,
            }
        }
    };
    before.iter().zip(after).map(pair).collect()
}

/// Sizes of a linear layer's outputs for inputs of these sizes.
pub(super) fn row_sizes(matrix: &Matrix, input: &[f64]) -> Sizes {
    let mut sizes: Sizes = matrix.iter_rows().map(|row| norm2(row, input)).collect();
    if let Some(bias) = &matrix.bias {
        let with = |(size, bias): (&mut f64, &f32)| *size = size.hypot(f64::from(*bias));
        sizes.iter_mut().zip(bias).for_each(with);
    }
    sizes
}

/// How much each column counts in its rows: the root mean square, over all rows, of the value
/// divided by the row's size (rows have scales of their own).
pub(super) fn column_weights(matrices: &[&mut Matrix], input: &[f64]) -> Sizes {
    let mut sums = vec![0.0; input.len()];
    let mut rows = 0.0;
    for row in matrices.iter().flat_map(|matrix| matrix.iter_rows()) {
        let size = norm2(row, input);
        if size == 0.0 || !size.is_finite() {
            continue;
        }
        rows += 1.0;
        let add = |(sum, value): (&mut f64, &f32)| *sum += (f64::from(*value) / size).powi(2);
        sums.iter_mut().zip(row).for_each(add);
    }
    sums.iter()
        .map(|sum: &f64| if rows > 0.0 { (sum / rows).sqrt() } else { 0.0 })
        .collect()
}

fn norm2(row: &[f32], input: &[f64]) -> f64 {
    row.iter()
        .zip(input)
        .map(|(w, x)| (f64::from(*w) * x).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Root mean squares of a table's columns.
pub(super) fn column_sizes(table: &Matrix, factor: f64) -> Sizes {
    let mut sums = vec![0.0; table.cols];
    for row in table.iter_rows() {
        let add = |(sum, value): (&mut f64, &f32)| *sum += (f64::from(*value) * factor).powi(2);
        sums.iter_mut().zip(row).for_each(add);
    }
    sums.iter()
        .map(|sum| (sum / table.rows.max(1) as f64).sqrt())
        .collect()
}

/// Sizes after a norm, without its gain, of a residual given by its squares.
pub(super) fn normalized(residual: &[f64]) -> Sizes {
    let mean = residual.iter().sum::<f64>() / residual.len().max(1) as f64;
    let unit = if mean > 0.0 && mean.is_finite() {
        mean.sqrt()
    } else {
        1.0
    };
    residual.iter().map(|square| square.sqrt() / unit).collect()
}

/// Sizes of a norm's output.
pub(super) fn normed(norm: &Norm, x: &[f64]) -> Sizes {
    let mut sizes: Sizes = norm
        .gain
        .iter()
        .zip(x)
        .map(|(gain, x)| f64::from(*gain).abs() * x)
        .collect();
    if let Some(bias) = &norm.bias {
        let with = |(size, bias): (&mut f64, &f32)| *size = size.hypot(f64::from(*bias));
        sizes.iter_mut().zip(bias).for_each(with);
    }
    sizes
}

pub(super) fn squares(sizes: &[f64]) -> Sizes {
    sizes.iter().map(|size| size * size).collect()
}

pub(super) fn roots(squares: &[f64]) -> Sizes {
    squares.iter().map(|square| square.sqrt()).collect()
}

pub(super) fn scale(values: &mut [f32], factors: impl Iterator<Item = f64>) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value = (f64::from(*value) * factor) as f32;
    }
}

/// Rows with their biases.
pub(super) fn scale_rows(matrix: &mut Matrix, factors: impl Iterator<Item = f64> + Clone) {
    if let Some(bias) = &mut matrix.bias {
        scale(bias, factors.clone());
    }
    for (row, factor) in matrix
        .values
        .chunks_exact_mut(matrix.cols.max(1))
        .zip(factors)
    {
        scale(row, std::iter::repeat(factor));
    }
}

pub(super) fn scale_columns(matrix: &mut Matrix, pairs: &[Pair]) {
    for row in matrix.values.chunks_exact_mut(matrix.cols.max(1)) {
        scale(row, pairs.iter().map(|pair| pair.after));
    }
}
