//! A linear layer by itself, for benches of the kernels. No part of the interface.

use super::{Input, Matrix, Op, Output, Values, linear};
use crate::kernels::matmul::{Rows, Weights};

/// An int8 layer: weights, and what its rows have.
#[derive(Debug, Clone, Copy)]
pub struct Int8<'m> {
    /// The bytes.
    pub weights: Weights<'m>,
    /// Rows.
    pub rows: usize,
    /// A scale a row.
    pub scales: &'m [f32],
    /// The sum of each row's weights.
    pub sums: &'m [i32],
    /// A bias a row, or none.
    pub bias: &'m [f32],
}

/// Quantized rows: with a scale and a zero point each.
#[derive(Debug, Clone, Copy)]
pub struct Quantized<'a> {
    /// The values.
    pub rows: Rows<'a>,
    /// A scale a row.
    pub scales: &'a [f32],
    /// A zero point a row.
    pub zeros: &'a [i32],
}

/// Applies a layer to `tokens` rows; `out` gets as many values a token as the layer has rows, or
/// with `op` 1 they are added to it, with 2 they multiply it.
pub fn int8_layer(layer: &Int8<'_>, x: Quantized<'_>, tokens: usize, op: usize, out: &mut [f32]) {
    let matrix = Matrix {
        rows: layer.rows,
        cols: layer.weights.stride(),
        stride: layer.weights.stride(),
        values: Values::I8 {
            weights: layer.weights,
            scales: layer.scales,
            sums: layer.sums,
        },
        bias: layer.bias,
    };
    let input = Input::Quantized(super::Quantized {
        rows: x.rows,
        scales: x.scales,
        zeros: x.zeros,
    });
    let mut output = Output {
        rows: out,
        stride: layer.rows,
        op: match op {
            0 => Op::Store,
            1 => Op::Add,
            _ => Op::Multiply,
        },
        gated: None,
    };
    linear(&matrix, 0..layer.rows, input, tokens, &mut output);
}
