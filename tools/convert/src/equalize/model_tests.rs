//! Whole models keep their function: a plain f64 reference of the canonical graph (pre-norm, RMS or
//! layer norms) gives the same encoder states and logits before and after.

use super::tests::{apply, assert_close, matrix, projections, rotate, run, scatter, through_norm};
use super::{Heads, graph};
use crate::graph::{
    Activation, Attention, Block, Expert, Family, FeedForward, Graph, Head, Ids, Layer, Matrix,
    Mixture, MixtureBlock, Norm, NormKind, NormPosition, Projections, Router, Rule, Stack,
};
use palmtop::format::Policy;

/// Width of the residual stream.
const D: usize = 4;

/// Rows of values, one for each token.
type Tokens = Vec<Vec<f64>>;

fn norm_of(graph: &Graph, norm: &Norm, x: &[f64]) -> Vec<f64> {
    let mean = match graph.norm {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f64>() / D as f64,
    };
    let squares = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let unit = (squares / D as f64 + f64::from(graph.norm_eps)).sqrt();
    let normed: Vec<f64> = x.iter().map(|x| (x - mean) / unit).collect();
    through_norm(norm, &normed)
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let sum: f64 = scores.iter().map(|score| score.exp()).sum();
    scores.iter().map(|score| score.exp() / sum).collect()
}

fn add(to: &mut [f64], values: &[f64], factor: f64) {
    to.iter_mut()
        .zip(values)
        .for_each(|(to, v)| *to += v * factor);
}

/// Attention of `queries` to `keys`.
fn attend(
    p: &Projections,
    stack: &Stack,
    rotary: bool,
    causal: bool,
    queries: &Tokens,
    keys: &Tokens,
) -> Tokens {
    let (d_kv, sharing) = (stack.d_kv, stack.heads / stack.kv_heads);
    let turn = |values: Vec<f64>, t: usize| match rotary {
        true => rotate(&values, d_kv, t as f64),
        false => values,
    };
    let row = |matrix: &Matrix| {
        let of = |(t, x): (usize, &Vec<f64>)| turn(apply(matrix, x), t);
        keys.iter().enumerate().map(of).collect::<Tokens>()
    };
    let (k, v) = (
        row(&p.k),
        keys.iter().map(|x| apply(&p.v, x)).collect::<Tokens>(),
    );
    let one = |(t, x): (usize, &Vec<f64>)| {
        let q = turn(apply(&p.q, x), t);
        let seen = if causal { t + 1 } else { keys.len() };
        let mut mixed = vec![0.0; stack.heads * d_kv];
        for head in 0..stack.heads {
            let (own, other) = (head * d_kv, head / sharing * d_kv);
            let dot = |k: &Vec<f64>| {
                let pairs = q[own..own + d_kv].iter().zip(&k[other..other + d_kv]);
                pairs.map(|(q, k)| q * k).sum::<f64>() * f64::from(stack.score_scale)
            };
            let scores: Vec<f64> = k[..seen].iter().map(dot).collect();
            for (gate, v) in softmax(&scores).into_iter().zip(&v) {
                add(&mut mixed[own..own + d_kv], &v[other..other + d_kv], gate);
            }
        }
        apply(&p.o, &mixed)
    };
    queries.iter().enumerate().map(one).collect()
}

/// The chosen experts and their gates.
fn choose(mixture: &Mixture, position: usize, x: &[f64]) -> Vec<(usize, f64)> {
    let (k, m) = (usize::from(mixture.rule.top_k), mixture.experts.len());
    let Router::Learned(router) = &mixture.router else {
        return (0..k)
            .map(|j| ((position + j) % m, 1.0 / k as f64))
            .collect();
    };
    let p = softmax(&apply(router, x));
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    order.truncate(k);
    let sum: f64 = order.iter().map(|e| p[*e]).sum();
    order.iter().map(|e| (*e, p[*e] / sum)).collect()
}

fn feed_forward(feed_forward: &FeedForward, x: &Tokens) -> Tokens {
    let one = |(t, x): (usize, &Vec<f64>)| match feed_forward {
        FeedForward::Dense(block) => run(block, x),
        FeedForward::Mixture(mixture) => {
            let mut sum = vec![0.0; D];
            for (expert, gate) in choose(mixture, t, x) {
                add(&mut sum, &run(&mixture.experts[expert].block, x), gate);
            }
            sum
        }
    };
    x.iter().enumerate().map(one).collect()
}

fn stack_of(graph: &Graph, stack: &Stack, ids: &[usize], memory: Option<&Tokens>) -> Tokens {
    let embed = |(t, id): (usize, &usize)| {
        let row = |matrix: &Matrix, at: usize| -> Vec<f64> {
            matrix.values[at * D..(at + 1) * D]
                .iter()
                .map(|v| f64::from(*v))
                .collect()
        };
        let mut x = row(&graph.embedding, *id);
        x.iter_mut()
            .for_each(|x| *x *= f64::from(graph.embed_scale));
        if let (Some(table), false) = (&stack.positions, graph.rotary) {
            add(&mut x, &row(table, t), 1.0);
        }
        x
    };
    let mut x: Tokens = ids.iter().enumerate().map(embed).collect();
    let causal = memory.is_some() || graph.decoder_only;
    let normed =
        |norm: &Norm, x: &Tokens| -> Tokens { x.iter().map(|x| norm_of(graph, norm, x)).collect() };
    let sum = |x: &mut Tokens, update: Tokens| {
        x.iter_mut().zip(update).for_each(|(x, y)| add(x, &y, 1.0));
    };
    for layer in &stack.layers {
        let Attention { norm, projections } = &layer.attention;
        let mut from = x.clone();
        let h = normed(norm, &x);
        sum(
            &mut x,
            attend(projections, stack, graph.rotary, causal, &h, &h),
        );
        if let (Some(cross), Some(memory)) = (&layer.cross, memory) {
            from.clone_from(&x);
            let h = normed(&cross.norm, &x);
            sum(
                &mut x,
                attend(&cross.projections, stack, false, false, &h, memory),
            );
        }
        if !graph.parallel {
            from.clone_from(&x);
        }
        let h = normed(&layer.ff_norm, &from);
        sum(&mut x, feed_forward(&layer.feed_forward, &h));
    }
    if let (Some(block), false) = (&graph.mixture_block, causal) {
        let h = normed(&block.norm, &x);
        let mut mean = vec![0.0; D];
        h.iter()
            .for_each(|h| add(&mut mean, h, 1.0 / h.len() as f64));
        for (expert, gate) in choose(&block.mixture, 0, &mean) {
            let expert = &block.mixture.experts[expert];
            let heads = expert.attention.as_ref();
            let attended = heads.map(|p| attend(p, stack, graph.rotary, false, &h, &h));
            for (t, h) in h.iter().enumerate() {
                add(&mut x[t], &run(&expert.block, h), gate);
                if let Some(attended) = &attended {
                    add(&mut x[t], &attended[t], gate);
                }
            }
        }
    }
    match &stack.final_norm {
        Some(norm) => normed(norm, &x),
        None => x,
    }
}

/// Encoder states, then logits.
fn outcome(graph: &Graph) -> Vec<f64> {
    let states =
        (!graph.decoder_only).then(|| stack_of(graph, &graph.encoder, &[1, 4, 2, 5], None));
    let last = stack_of(graph, &graph.decoder, &[0, 3, 5], states.as_ref());
    let head = match &graph.head {
        Head::Own(head) => head,
        Head::Tied { .. } => &graph.embedding,
    };
    let logits = last.iter().flat_map(|x| apply(head, x));
    states
        .into_iter()
        .flatten()
        .flatten()
        .chain(logits)
        .collect()
}

/// What kind of model is made.
#[derive(Debug, Clone, Copy)]
struct Kind {
    norm: NormKind,
    kv_heads: usize,
    rotary: bool,
    parallel: bool,
    decoder_only: bool,
    learned: bool,
    block: bool,
}

fn norm(kind: Kind, seed: usize) -> Norm {
    let gain = scatter(seed, D).iter().map(|g| 1.0 + 0.8 * g).collect();
    let bias = (kind.norm == NormKind::Layer).then(|| scatter(seed + 1, D));
    Norm {
        name: "n".into(),
        gain,
        bias,
    }
}

fn block(kind: Kind, seed: usize, activation: Activation, gated: bool) -> Block {
    let bias = kind.norm == NormKind::Layer;
    Block {
        activation,
        wi: matrix(seed, 5, D, bias),
        wi_linear: gated.then(|| matrix(seed + 1, 5, D, bias)),
        wo: matrix(seed + 2, D, 5, bias),
    }
}

fn mixture(kind: Kind, seed: usize, whole: Option<Heads>) -> Mixture {
    let expert = |index: usize| Expert {
        attention: whole.map(|heads| projections(seed + 40 + 5 * index, heads, false)),
        block: block(
            kind,
            seed + 10 * index,
            [Activation::Silu, Activation::Relu, Activation::Gelu][index],
            index != 1,
        ),
    };
    Mixture {
        router: match kind.learned {
            true => Router::Learned(matrix(seed + 90, 3, D, false)),
            false => Router::Position,
        },
        rule: Rule::new(
            if kind.learned {
                Policy::TopK
            } else {
                Policy::Position
            },
            2,
        ),
        experts: (0..3).map(expert).collect(),
    }
}

fn stack(kind: Kind, seed: usize, decoder: bool) -> Stack {
    let heads = Heads {
        heads: 4,
        kv_heads: kind.kv_heads,
        d_kv: 2,
        rotary: kind.rotary,
    };
    let bias = kind.norm == NormKind::Layer;
    let attention = |seed: usize| Attention {
        norm: norm(kind, seed),
        projections: projections(seed + 1, heads, bias),
    };
    let layer = |index: usize| {
        let seed = seed + 200 * index;
        Layer {
            attention: attention(seed),
            relative_bias: None,
            cross: (decoder && !kind.decoder_only).then(|| attention(seed + 20)),
            ff_norm: norm(kind, seed + 40),
            feed_forward: match index {
                0 => FeedForward::Dense(block(kind, seed + 50, Activation::Relu, false)),
                _ => FeedForward::Mixture(mixture(kind, seed + 60, None)),
            },
        }
    };
    Stack {
        layers: (0..2).map(layer).collect(),
        heads: 4,
        kv_heads: kind.kv_heads,
        d_kv: 2,
        score_scale: 0.7,
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: (!kind.rotary).then(|| matrix(seed + 500, 6, D, false)),
        embedding_norm: None,
        final_norm: Some(norm(kind, seed + 600)),
    }
}

fn model(kind: Kind) -> Graph {
    let decoder = stack(kind, 3000, true);
    let heads = Heads {
        heads: 4,
        kv_heads: kind.kv_heads,
        d_kv: 2,
        rotary: kind.rotary,
    };
    Graph {
        family: Family::Palm,
        d_model: D,
        vocab: 6,
        norm: kind.norm,
        norm_position: NormPosition::Pre,
        norm_eps: 1e-6,
        embed_scale: 2.0,
        head_scale: 1.0,
        max_source: 6,
        max_target: 6,
        position_offset: 0,
        rotary: kind.rotary,
        parallel: kind.parallel,
        decoder_only: kind.decoder_only,
        ids: Ids {
            decoder_start: 0,
            eos: None,
            pad: None,
            forced_bos: None,
            forced_eos: None,
        },
        default_source: 4,
        default_target: 4,
        embedding: matrix(7, 6, D, false),
        head: match kind.parallel {
            true => Head::Tied { bias: None },
            false => Head::Own(matrix(8, 6, D, false)),
        },
        encoder: match kind.decoder_only {
            true => decoder.absent(),
            false => stack(kind, 1000, false),
        },
        mixture_block: kind.block.then(|| MixtureBlock {
            norm: norm(kind, 5000),
            mixture: mixture(
                Kind {
                    learned: true,
                    ..kind
                },
                5100,
                Some(heads),
            ),
        }),
        decoder,
    }
}

#[test]
fn models_of_every_family_keep_their_function() {
    let m2m100 = Kind {
        norm: NormKind::Layer,
        kv_heads: 4,
        rotary: false,
        parallel: false,
        decoder_only: false,
        learned: true,
        block: false,
    };
    let palm = Kind {
        norm: NormKind::Rms,
        kv_heads: 1,
        rotary: true,
        parallel: true,
        decoder_only: false,
        learned: true,
        block: true,
    };
    let mixtral = Kind {
        kv_heads: 2,
        parallel: false,
        decoder_only: true,
        block: false,
        ..palm
    };
    let by_position = Kind {
        learned: false,
        block: false,
        ..palm
    };
    for kind in [m2m100, palm, mixtral, by_position] {
        let plain = model(kind);
        let mut even = plain.clone();
        graph(&mut even);
        let (before, after) = (outcome(&plain), outcome(&even));
        assert!(before.iter().all(|value| value.is_finite()) && before.len() > 12);
        assert_close(&before, &after);
        // And something was evened out: norms, attention, experts.
        let (a, b) = (&plain.decoder.layers[1], &even.decoder.layers[1]);
        assert_ne!(a.ff_norm.gain, b.ff_norm.gain, "{kind:?}");
        let (a, b) = (&a.attention.projections, &b.attention.projections);
        assert_ne!(
            (&a.q.values, &a.o.values),
            (&b.q.values, &b.o.values),
            "{kind:?}"
        );
    }
}
