//! Evens out channels so that int8 loses less, without changing the function.
//!
//! Where one factor of a product can be divided and the other multiplied (a norm's gain and the
//! columns behind it, a hidden channel's row and its column in `wo`, a channel of V and its column
//! in O, a channel of Q and of K), a channel that is large on one side and small on the other
//! costs the others their resolution: activations are quantized with one scale per token. Each
//! pair becomes equally large on both sides (Nagel et al. 2019, "Data-Free Quantization Through
//! Weight Equalization and Bias Correction", section 4.1, with activations in place of the first
//! matrix). No data is needed: the size of an activation is estimated from the weights before it.
//!
//! All arithmetic is f64, rounded to f32 once. Factors depend only on products that such a scaling
//! does not change, so two checkpoints of one function give one int8 model, up to rounding.

use crate::graph::{Activation, Attention, Block, FeedForward, Graph, Head, Layer};
use crate::graph::{Matrix, Norm, NormPosition, Stack};

/// Sizes of the channels of an activation, up to a common factor.
type Sizes = Vec<f64>;

/// Equalizes a whole model in place.
pub(crate) fn graph(graph: &mut Graph) {
    let embedding = column_sizes(&graph.embedding, f64::from(graph.embed_scale));
    let pre = graph.norm_position == NormPosition::Pre;
    let states = stack(&mut graph.encoder, pre, &embedding, None);
    let last = stack(&mut graph.decoder, pre, &embedding, Some(&states));
    // The encoder's final norm stays: its output is the encoder's result. The decoder's can be
    // evened out with a head of its own.
    if let (Some(norm), Head::Own(head)) = (&mut graph.decoder.final_norm, &mut graph.head) {
        norm_and_columns(norm, &last, &mut [head]);
    }
}

/// Gives the sizes of the stack's output, before a final norm that is not the encoder's.
fn stack(stack: &mut Stack, pre: bool, embedding: &[f64], states: Option<&Sizes>) -> Sizes {
    // Square of the size of each channel of the residual stream.
    let mut residual: Sizes = embedding.iter().map(|size| size * size).collect();
    if let Some(positions) = &stack.positions {
        let sizes = column_sizes(positions, 1.0);
        residual
            .iter_mut()
            .zip(sizes)
            .for_each(|(sum, size)| *sum += size * size);
    }
    if let Some(norm) = &stack.embedding_norm {
        residual = normed(norm, &normalized(&residual))
            .iter()
            .map(|size| size * size)
            .collect();
    }
    for layer in &mut stack.layers {
        self::layer(layer, pre, &mut residual, states);
    }
    match &stack.final_norm {
        Some(norm) if states.is_none() => normed(norm, &normalized(&residual)),
        _ if pre => normalized(&residual),
        _ => residual.iter().map(|square| square.sqrt()).collect(),
    }
}

fn layer(layer: &mut Layer, pre: bool, residual: &mut Sizes, states: Option<&Sizes>) {
    sublayer(pre, residual, |x| {
        let Attention { norm, q, k, v, o } = &mut layer.attention;
        let input = if pre { normed(norm, x) } else { x.clone() };
        let update = attention(q, k, v, o, &input, &input);
        if pre {
            norm_and_columns(norm, x, &mut [q, k, v]);
        }
        (update, norm.clone())
    });
    if let (Some(cross), Some(states)) = (&mut layer.cross, states) {
        sublayer(pre, residual, |x| {
            let Attention { norm, q, k, v, o } = cross;
            let input = if pre { normed(norm, x) } else { x.clone() };
            let update = attention(q, k, v, o, &input, states);
            if pre {
                norm_and_columns(norm, x, &mut [q]);
            }
            (update, norm.clone())
        });
    }
    sublayer(pre, residual, |x| {
        let norm = &mut layer.ff_norm;
        let input = if pre { normed(norm, x) } else { x.clone() };
        let update = feed_forward(&mut layer.feed_forward, &input);
        if pre {
            norm_and_columns(norm, x, &mut readers(&mut layer.feed_forward));
        }
        (update, norm.clone())
    });
}

/// Runs `work` on what a sublayer reads and adds the squares that it gives to the residual. After
/// it, a post-norm model's residual is that norm's output.
fn sublayer(pre: bool, residual: &mut Sizes, work: impl FnOnce(&Sizes) -> (Sizes, Norm)) {
    let x = if pre {
        normalized(residual)
    } else {
        roots(residual)
    };
    let (update, norm) = work(&x);
    residual
        .iter_mut()
        .zip(update)
        .for_each(|(sum, square)| *sum += square);
    if !pre {
        *residual = normed(&norm, &normalized(residual))
            .iter()
            .map(|size| size * size)
            .collect();
    }
}

/// Q with K and V with O. Gives the squares of the output's sizes.
fn attention(
    q: &mut Matrix,
    k: &mut Matrix,
    v: &mut Matrix,
    o: &mut Matrix,
    queries: &[f64],
    keys: &[f64],
) -> Sizes {
    let pairs = balance(&row_sizes(q, queries), &row_sizes(k, keys));
    scale_rows(q, pairs.iter().map(|pair| pair.before));
    scale_rows(k, pairs.iter().map(|pair| pair.after));
    let values = row_sizes(v, keys);
    let pairs = balance(&values, &column_weights(&[o], &values));
    scale_rows(v, pairs.iter().map(|pair| pair.before));
    scale_columns(o, &pairs);
    squares(&row_sizes(o, &row_sizes(v, keys)))
}

/// Every block's hidden channels. Gives the squares of the output's sizes (experts': their mean).
fn feed_forward(feed_forward: &mut FeedForward, input: &[f64]) -> Sizes {
    let blocks = match feed_forward {
        FeedForward::Dense(block) => std::slice::from_mut(block),
        FeedForward::Mixture { experts, .. } => experts.as_mut_slice(),
    };
    let share = 1.0 / blocks.len().max(1) as f64;
    let mut sum = vec![0.0; input.len()];
    for block in blocks {
        let output = hidden(block, input);
        sum.iter_mut()
            .zip(output)
            .for_each(|(sum, square)| *sum += square * share);
    }
    sum
}

/// A block's hidden channels: rows of the linear branch (or of a ReLU's) with columns of `wo`.
/// GELU and SiLU do not commute with a factor, so their own branch stays as it is.
fn hidden(block: &mut Block, input: &[f64]) -> Sizes {
    let relu = block.activation == Activation::Relu;
    let mut sizes = row_sizes(&block.wi, input);
    if let Some(linear) = &block.wi_linear {
        let gates = row_sizes(linear, input);
        sizes
            .iter_mut()
            .zip(gates)
            .for_each(|(size, gate)| *size *= gate);
    }
    let output = squares(&row_sizes(&block.wo, &sizes));
    let rows = match &mut block.wi_linear {
        Some(linear) => linear,
        None if relu => &mut block.wi,
        None => return output,
    };
    let pairs = balance(&sizes, &column_weights(&[&mut block.wo], &sizes));
    scale_rows(rows, pairs.iter().map(|pair| pair.before));
    scale_columns(&mut block.wo, &pairs);
    output
}

/// The matrices that read a feed-forward's norm.
fn readers(feed_forward: &mut FeedForward) -> Vec<&mut Matrix> {
    fn of_block(block: &mut Block) -> impl Iterator<Item = &mut Matrix> {
        std::iter::once(&mut block.wi).chain(&mut block.wi_linear)
    }
    match feed_forward {
        FeedForward::Dense(block) => of_block(block).collect(),
        FeedForward::Mixture {
            router, experts, ..
        } => std::iter::once(router)
            .chain(experts.iter_mut().flat_map(of_block))
            .collect(),
    }
}

/// A norm's gain (and bias) with the columns of all that reads it; `x` are the sizes before it.
fn norm_and_columns(norm: &mut Norm, x: &[f64], readers: &mut [&mut Matrix]) {
    let before = normed(norm, x);
    let pairs = balance(&before, &column_weights(readers, &before));
    scale(&mut norm.gain, pairs.iter().map(|pair| pair.before));
    if let Some(bias) = &mut norm.bias {
        scale(bias, pairs.iter().map(|pair| pair.before));
    }
    readers
        .iter_mut()
        .for_each(|matrix| scale_columns(matrix, &pairs));
}

/// What the two sides of a channel are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    before: f64,
    after: f64,
}

/// Factors that make both sides of each channel equally large. A channel that is zero on one side
/// has no effect: it becomes zero on the other.
fn balance(before: &[f64], after: &[f64]) -> Vec<Pair> {
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
fn row_sizes(matrix: &Matrix, input: &[f64]) -> Sizes {
    let mut sizes: Sizes = matrix.iter_rows().map(|row| norm2(row, input)).collect();
    if let Some(bias) = &matrix.bias {
        let with = |(size, bias): (&mut f64, &f32)| *size = size.hypot(f64::from(*bias));
        sizes.iter_mut().zip(bias).for_each(with);
    }
    sizes
}

/// How much each column counts in its rows: the root mean square, over all rows, of the value
/// divided by the row's size (rows have scales of their own).
fn column_weights(matrices: &[&mut Matrix], input: &[f64]) -> Sizes {
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
fn column_sizes(table: &Matrix, factor: f64) -> Sizes {
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
fn normalized(residual: &[f64]) -> Sizes {
    let mean = residual.iter().sum::<f64>() / residual.len().max(1) as f64;
    let unit = if mean > 0.0 && mean.is_finite() {
        mean.sqrt()
    } else {
        1.0
    };
    residual.iter().map(|square| square.sqrt() / unit).collect()
}

/// Sizes of a norm's output.
fn normed(norm: &Norm, x: &[f64]) -> Sizes {
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

fn squares(sizes: &[f64]) -> Sizes {
    sizes.iter().map(|size| size * size).collect()
}

fn roots(squares: &[f64]) -> Sizes {
    squares.iter().map(|square| square.sqrt()).collect()
}

fn scale(values: &mut [f32], factors: impl Iterator<Item = f64>) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value = (f64::from(*value) * factor) as f32;
    }
}

/// Rows with their biases.
fn scale_rows(matrix: &mut Matrix, factors: impl Iterator<Item = f64> + Clone) {
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

fn scale_columns(matrix: &mut Matrix, pairs: &[Pair]) {
    for row in matrix.values.chunks_exact_mut(matrix.cols.max(1)) {
        scale(row, pairs.iter().map(|pair| pair.after));
    }
}

#[cfg(test)]
mod tests;
