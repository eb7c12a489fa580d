//! A linear layer by itself, for benches of the kernels. No part of the interface.

use super::{Gated, Gates, Input, Matrix, Op, Output, Values, linear};
use crate::kernels::matmul::{Rows, Weights};
use crate::kernels::product;

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

/// What becomes of outputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outputs<'a> {
    /// 0: they are stored, 1: added to what is there, 2: they multiply it.
    pub op: usize,
    /// Factor of all of them.
    pub factor: Option<f32>,
    /// The gate of each token, or one for all, or none.
    pub gates: &'a [f32],
    /// The row that each token's outputs go to, if it is another than the token's.
    pub rows: &'a [u32],
}

impl From<usize> for Outputs<'_> {
    fn from(op: usize) -> Self {
        Self {
            op,
            ..Self::default()
        }
    }
}

/// Applies a layer to `tokens` rows; rows of outputs have as many values as the layer has rows.
pub fn int8_layer<'a>(
    layer: &Int8<'_>,
    x: Quantized<'_>,
    tokens: usize,
    outputs: impl Into<Outputs<'a>>,
    out: &mut [f32],
) {
    let outputs = outputs.into();
    let matrix = Matrix {
        rows: layer.rows,
        cols: layer.weights.stride(),
        stride: layer.weights.stride(),
        values: Values::I8(product::Int8 {
            weights: layer.weights,
            scales: layer.scales,
            sums: layer.sums,
            bias: layer.bias,
        }),
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
        op: match outputs.op {
            0 => Op::Store,
            1 => Op::Add,
            _ => Op::Multiply,
        },
        gated: outputs.gates.first().map(|first| Gated {
            factor: outputs.factor,
            gates: match outputs.rows {
                [] => Gates::All(*first),
                rows => Gates::Each(rows, outputs.gates),
            },
        }),
    };
    linear(&matrix, 0..layer.rows, input, tokens, &mut output);
}
