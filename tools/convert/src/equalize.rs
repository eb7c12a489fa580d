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

mod attention;
mod channels;

use crate::graph::{
    Activation, Attention, Block, FeedForward, Graph, Head, Layer, Matrix, Mixture, Norm,
    NormPosition, Projections, Router, Stack,
};
use attention::{Heads, attention};
use channels::{
    Sizes, balance, column_sizes, column_weights, normalized, normed, roots, row_sizes, scale,
    scale_columns, scale_rows, squares,
};

/// What a whole model has, apart from its weights.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Norms stand before sublayers.
    pre: bool,
    /// The last attention of a layer runs beside its feed-forward.
    parallel: bool,
    rotary: bool,
}

/// Equalizes a whole model in place.
pub(crate) fn graph(graph: &mut Graph) {
    let embedding = column_sizes(&graph.embedding, f64::from(graph.embed_scale));
    let shape = Shape {
        pre: graph.norm_position == NormPosition::Pre,
        parallel: graph.parallel,
        rotary: graph.rotary,
    };
    let states = if graph.decoder_only {
        None
    } else {
        let mut residual = stack(&mut graph.encoder, shape, &embedding, None);
        if let Some(block) = &mut graph.mixture_block {
            let heads = Heads::of(&graph.encoder, shape.rotary);
            mixture_block(&mut block.norm, &mut block.mixture, heads, &mut residual);
        }
        Some(output(&graph.encoder, shape.pre, &residual, true))
    };
    let residual = stack(&mut graph.decoder, shape, &embedding, states.as_ref());
    let last = output(&graph.decoder, shape.pre, &residual, false);
    // The encoder's final norm stays: its output is the encoder's result. The decoder's can be
    // evened out with a head of its own.
    if let (Some(norm), Head::Own(head)) = (&mut graph.decoder.final_norm, &mut graph.head) {
        norm_and_columns(norm, &last, &mut [head]);
    }
}

/// The sizes of a stack's output: the encoder's after its final norm, the decoder's before it.
fn output(stack: &Stack, pre: bool, residual: &Sizes, encoder: bool) -> Sizes {
    match &stack.final_norm {
        Some(norm) if encoder => normed(norm, &normalized(residual)),
        _ if pre => normalized(residual),
        _ => roots(residual),
    }
}

/// Gives the squares of the residual stream's sizes after the last layer.
fn stack(stack: &mut Stack, shape: Shape, embedding: &[f64], states: Option<&Sizes>) -> Sizes {
    let mut residual: Sizes = squares(embedding);
    if let Some(positions) = &stack.positions
        && !shape.rotary
    {
        add(&mut residual, &squares(&column_sizes(positions, 1.0)));
    }
    if let Some(norm) = &stack.embedding_norm {
        residual = squares(&normed(norm, &normalized(&residual)));
    }
    let heads = Heads::of(stack, shape.rotary);
    for layer in &mut stack.layers {
        self::layer(layer, shape, heads, &mut residual, states);
    }
    residual
}

fn layer(
    layer: &mut Layer,
    shape: Shape,
    heads: Heads,
    residual: &mut Sizes,
    states: Option<&Sizes>,
) {
    let pre = shape.pre;
    // What a sublayer reads: where two stand side by side, both read the same.
    let mut from = residual.clone();
    sublayer(pre, &from, residual, |x| {
        let Attention { norm, projections } = &mut layer.attention;
        let input = if pre { normed(norm, x) } else { x.clone() };
        let update = attention(projections, &input, &input, heads);
        if pre {
            let Projections { q, k, v, .. } = projections;
            norm_and_columns(norm, x, &mut [q, k, v]);
        }
        (update, norm.clone())
    });
    if let (Some(cross), Some(states)) = (&mut layer.cross, states) {
        from.clone_from(residual);
        sublayer(pre, &from, residual, |x| {
            let Attention { norm, projections } = cross;
            let input = if pre { normed(norm, x) } else { x.clone() };
            // Cross-attention has no positions.
            let heads = Heads {
                rotary: false,
                ..heads
            };
            let update = attention(projections, &input, states, heads);
            if pre {
                norm_and_columns(norm, x, &mut [&mut projections.q]);
            }
            (update, norm.clone())
        });
    }
    if !shape.parallel {
        from.clone_from(residual);
    }
    sublayer(pre, &from, residual, |x| {
        let norm = &mut layer.ff_norm;
        let input = if pre { normed(norm, x) } else { x.clone() };
        let update = feed_forward(&mut layer.feed_forward, &input, heads);
        if pre {
            norm_and_columns(norm, x, &mut readers(&mut layer.feed_forward));
        }
        (update, norm.clone())
    });
}

/// The mixture between encoder and decoder: its norm feeds the router (by way of a mean over
/// tokens, which factors pass through) and the experts.
fn mixture_block(norm: &mut Norm, mixture: &mut Mixture, heads: Heads, residual: &mut Sizes) {
    let from = residual.clone();
    sublayer(true, &from, residual, |x| {
        let input = normed(norm, x);
        let update = experts(mixture, &input, heads);
        norm_and_columns(norm, x, &mut readers_of_mixture(mixture));
        (update, norm.clone())
    });
}

/// Runs `work` on what a sublayer reads (`from`, squares) and adds the squares that it gives to
/// the residual. After it, a post-norm model's residual is that norm's output.
fn sublayer(
    pre: bool,
    from: &[f64],
    residual: &mut Sizes,
    work: impl FnOnce(&Sizes) -> (Sizes, Norm),
) {
    let x = if pre { normalized(from) } else { roots(from) };
    let (update, norm) = work(&x);
    add(residual, &update);
    if !pre {
        *residual = squares(&normed(&norm, &normalized(residual)));
    }
}

fn add(sums: &mut [f64], values: &[f64]) {
    sums.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += value);
}

/// Every block's hidden channels. Gives the squares of the output's sizes (experts': their mean).
fn feed_forward(feed_forward: &mut FeedForward, input: &[f64], heads: Heads) -> Sizes {
    match feed_forward {
        FeedForward::Dense(block) => hidden(block, input),
        FeedForward::Mixture(mixture) => experts(mixture, input, heads),
    }
}

fn experts(mixture: &mut Mixture, input: &[f64], heads: Heads) -> Sizes {
    let share = 1.0 / mixture.experts.len().max(1) as f64;
    let mut sum = vec![0.0; input.len()];
    let mut add = |output: Sizes| {
        sum.iter_mut()
            .zip(output)
            .for_each(|(sum, square)| *sum += square * share);
    };
    for expert in &mut mixture.experts {
        add(hidden(&mut expert.block, input));
        if let Some(projections) = &mut expert.attention {
            add(attention(projections, input, input, heads));
        }
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
    match feed_forward {
        FeedForward::Dense(block) => readers_of_block(block).collect(),
        FeedForward::Mixture(mixture) => readers_of_mixture(mixture),
    }
}

fn readers_of_block(block: &mut Block) -> impl Iterator<Item = &mut Matrix> {
    std::iter::once(&mut block.wi).chain(&mut block.wi_linear)
}

fn readers_of_mixture(mixture: &mut Mixture) -> Vec<&mut Matrix> {
    let router = match &mut mixture.router {
        Router::Learned(matrix) => Some(matrix),
        Router::Position | Router::Table { .. } => None,
    };
    let mut readers: Vec<_> = router.into_iter().collect();
    for expert in &mut mixture.experts {
        readers.extend(readers_of_block(&mut expert.block));
        if let Some(Projections { q, k, v, .. }) = &mut expert.attention {
            readers.extend([q, k, v]);
        }
    }
    readers
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

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
