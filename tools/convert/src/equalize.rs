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
mod tests {
    use super::*;
    use crate::graph::{Family, Ids, NormKind};

    /// Values that scatter over (-1, 1), the same on every run.
    fn scatter(seed: usize, len: usize) -> Vec<f32> {
        let value = |i: usize| {
            let bits = (i + 1 + seed * 7919).wrapping_mul(0x9E37_79B9) as u32;
            (f64::from(bits ^ (bits >> 15)) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
        };
        (0..len).map(value).collect()
    }

    fn matrix(seed: usize, rows: usize, cols: usize, bias: bool) -> Matrix {
        let values = scatter(seed, rows * cols);
        let bias = bias.then(|| scatter(seed + 100, rows));
        Matrix {
            name: format!("m{seed}"),
            rows,
            cols,
            values,
            bias,
        }
    }

    fn block(seed: usize, activation: Activation, gated: bool, bias: bool) -> Block {
        Block {
            activation,
            wi: matrix(seed, 5, 4, bias),
            wi_linear: gated.then(|| matrix(seed + 1, 5, 4, bias)),
            wo: matrix(seed + 2, 4, 5, bias),
        }
    }

    fn apply(matrix: &Matrix, x: &[f64]) -> Vec<f64> {
        let bias = matrix.bias.clone().unwrap_or(vec![0.0; matrix.rows]);
        let dot = |(row, bias): (&[f32], f32)| {
            row.iter()
                .zip(x)
                .map(|(w, x)| f64::from(*w) * x)
                .sum::<f64>()
                + f64::from(bias)
        };
        matrix.iter_rows().zip(bias).map(dot).collect()
    }

    fn activate(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu => x.max(0.0),
            // Any function that does not commute with a factor serves the tests.
            _ => x / (1.0 + (-x).exp()),
        }
    }

    fn run(block: &Block, x: &[f64]) -> Vec<f64> {
        let mut hidden: Vec<f64> = apply(&block.wi, x)
            .into_iter()
            .map(|h| activate(block.activation, h))
            .collect();
        if let Some(linear) = &block.wi_linear {
            hidden
                .iter_mut()
                .zip(apply(linear, x))
                .for_each(|(h, gate)| *h *= gate);
        }
        apply(&block.wo, &hidden)
    }

    fn through_norm(norm: &Norm, x: &[f64]) -> Vec<f64> {
        let bias = norm.bias.clone().unwrap_or(vec![0.0; norm.gain.len()]);
        let one = |((x, gain), bias): ((&f64, &f32), f32)| x * f64::from(*gain) + f64::from(bias);
        x.iter().zip(&norm.gain).zip(bias).map(one).collect()
    }

    #[track_caller]
    fn assert_close(a: &[f64], b: &[f64]) {
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-6 * (1.0 + a.abs());
        assert!(
            a.len() == b.len() && !a.iter().zip(b).any(far),
            "{a:?} {b:?}"
        );
    }

    const X: [f64; 4] = [0.3, -1.2, 0.7, 2.0];

    #[test]
    fn hidden_channels_keep_the_function() {
        for (activation, gated) in [
            (Activation::Relu, false),
            (Activation::Relu, true),
            (Activation::GeluTanh, true),
            (Activation::Silu, true),
            (Activation::Gelu, false),
        ] {
            let plain = block(3, activation, gated, true);
            let mut even = plain.clone();
            hidden(&mut even, &[1.0; 4]);
            assert_close(&run(&plain, &X), &run(&even, &X));
            let movable = gated || activation == Activation::Relu;
            assert_eq!(plain.wo.values != even.wo.values, movable);
            assert_eq!(plain.wi.values != even.wi.values, movable && !gated);
        }
    }

    #[test]
    fn channels_times_50_give_the_same_model() {
        for gated in [false, true] {
            let mut plain = block(5, Activation::Relu, gated, false);
            let mut scaled = plain.clone();
            let rows = scaled.wi_linear.as_mut().unwrap_or(&mut scaled.wi);
            scale_rows(rows, [1.0, 50.0, 1.0, 0.02, 50.0].into_iter());
            let undo = [1.0, 0.02, 1.0, 50.0, 0.02];
            let pairs = undo.map(|after| Pair { before: 1.0, after });
            scale_columns(&mut scaled.wo, &pairs);
            hidden(&mut plain, &[1.0, 0.5, 2.0, 1.0]);
            hidden(&mut scaled, &[1.0, 0.5, 2.0, 1.0]);
            let rows = |block: &Block| block.wi_linear.clone().unwrap_or(block.wi.clone()).values;
            let close = |a: &[f32], b: &[f32]| {
                a.iter()
                    .zip(b)
                    .all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs())
            };
            assert!(close(&rows(&plain), &rows(&scaled)));
            assert!(close(&plain.wo.values, &scaled.wo.values));
        }
    }

    #[test]
    fn norms_keep_the_function_with_and_without_bias() {
        for bias in [None, Some(scatter(9, 4))] {
            let norm = Norm {
                name: "n".into(),
                gain: vec![1.0, -40.0, 0.1, 2.0],
                bias,
            };
            let (mut even, mut q) = (norm.clone(), matrix(1, 6, 4, true));
            let mut router = matrix(2, 3, 4, false);
            let before = [&q, &router].map(|m| apply(m, &through_norm(&norm, &X)));
            norm_and_columns(&mut even, &[1.0, 0.2, 3.0, 1.0], &mut [&mut q, &mut router]);
            assert_ne!(norm.gain, even.gain);
            let after = [&q, &router].map(|m| apply(m, &through_norm(&even, &X)));
            assert_close(&before.concat(), &after.concat());
        }
    }

    #[test]
    fn attention_keeps_scores_and_outputs() {
        let mut parts = [1, 2, 3, 4].map(|seed| matrix(seed, 4, 4, true));
        // One source token: the output is O(V x), the score is Q x · K x.
        let outcome = |[q, k, v, o]: &[Matrix; 4]| {
            let score: f64 = apply(q, &X)
                .iter()
                .zip(apply(k, &X))
                .map(|(q, k)| q * k)
                .sum();
            let mut out = apply(o, &apply(v, &X));
            out.push(score);
            out
        };
        let plain = parts.clone();
        let [q, k, v, o] = &mut parts;
        attention(q, k, v, o, &[1.0; 4], &[1.0; 4]);
        assert_close(&outcome(&plain), &outcome(&parts));
        assert_ne!(plain[3].values, parts[3].values);
    }

    #[test]
    fn dead_channels_become_zero_on_both_sides() {
        let mut dead = block(7, Activation::Relu, false, false);
        dead.wi.values[4..8].fill(0.0);
        dead.wo.values[3] = 0.0;
        (0..4).for_each(|row| dead.wo.values[row * 5 + 3] = 0.0);
        let plain = dead.clone();
        hidden(&mut dead, &[1.0; 4]);
        assert_close(&run(&plain, &X), &run(&dead, &X));
        assert!((0..4).all(|row| dead.wo.values[row * 5 + 1] == 0.0));
        assert_eq!(dead.wi.values[12..16], [0.0; 4]);
        assert!(
            dead.wi
                .values
                .iter()
                .chain(&dead.wo.values)
                .all(|value| value.is_finite())
        );
    }

    #[test]
    fn results_that_are_compared_keep_their_norms() {
        let norm = |seed| Norm {
            name: "n".into(),
            gain: scatter(seed, 4),
            bias: None,
        };
        let attention = |seed: usize| Attention {
            norm: norm(seed),
            q: matrix(seed + 1, 4, 4, false),
            k: matrix(seed + 2, 4, 4, false),
            v: matrix(seed + 3, 4, 4, false),
            o: matrix(seed + 4, 4, 4, false),
        };
        let stack = |seed: usize, cross: bool| Stack {
            layers: vec![Layer {
                attention: attention(seed),
                relative_bias: None,
                cross: cross.then(|| attention(seed + 20)),
                ff_norm: norm(seed + 40),
                feed_forward: FeedForward::Dense(block(seed, Activation::Relu, false, false)),
            }],
            heads: 1,
            d_kv: 4,
            score_scale: 1.0,
            buckets: 0,
            distances: Vec::new(),
            relative_biases: Vec::new(),
            positions: None,
            embedding_norm: None,
            final_norm: Some(norm(seed + 60)),
        };
        let none = Ids {
            decoder_start: 0,
            eos: None,
            pad: None,
            forced_bos: None,
            forced_eos: None,
        };
        let model = |head| Graph {
            family: Family::T5,
            d_model: 4,
            vocab: 6,
            norm: NormKind::Rms,
            norm_position: NormPosition::Pre,
            norm_eps: 1e-6,
            embed_scale: 1.0,
            head_scale: 1.0,
            max_source: 0,
            max_target: 0,
            position_offset: 0,
            ids: none,
            default_source: 1,
            default_target: 1,
            embedding: matrix(70, 6, 4, false),
            head,
            encoder: stack(200, false),
            decoder: stack(300, true),
        };
        let gain = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.gain.clone());
        for (head, own) in [
            (Head::Tied { bias: None }, false),
            (Head::Own(matrix(71, 6, 4, false)), true),
        ] {
            let plain = model(head);
            let mut even = plain.clone();
            graph(&mut even);
            assert_eq!(even.embedding.values, plain.embedding.values);
            assert_eq!(
                gain(&even.encoder.final_norm),
                gain(&plain.encoder.final_norm)
            );
            let kept = gain(&even.decoder.final_norm) == gain(&plain.decoder.final_norm);
            assert_eq!(kept, !own);
        }
    }
}
