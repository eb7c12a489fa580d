//! The function stays; outliers leave no trace; what is compared keeps its norms.

use super::channels::Pair;
use super::*;
use crate::graph::{Family, Ids, NormKind};

/// Values that scatter over (-1, 1), the same on every run.
pub(super) fn scatter(seed: usize, len: usize) -> Vec<f32> {
    let value = |i: usize| {
        let bits = (i + 1 + seed * 7919).wrapping_mul(0x9E37_79B9) as u32;
        (f64::from(bits ^ (bits >> 15)) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..len).map(value).collect()
}

pub(super) fn matrix(seed: usize, rows: usize, cols: usize, bias: bool) -> Matrix {
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

pub(super) fn apply(matrix: &Matrix, x: &[f64]) -> Vec<f64> {
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

pub(super) fn run(block: &Block, x: &[f64]) -> Vec<f64> {
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

pub(super) fn through_norm(norm: &Norm, x: &[f64]) -> Vec<f64> {
    let bias = norm.bias.clone().unwrap_or(vec![0.0; norm.gain.len()]);
    let one = |((x, gain), bias): ((&f64, &f32), f32)| x * f64::from(*gain) + f64::from(bias);
    x.iter().zip(&norm.gain).zip(bias).map(one).collect()
}

#[track_caller]
pub(super) fn assert_close(a: &[f64], b: &[f64]) {
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

/// The projections of an attention over a residual stream of width 4.
pub(super) fn projections(seed: usize, heads: Heads, bias: bool) -> Projections {
    let (inner, kv_inner) = (heads.heads * heads.d_kv, heads.kv_heads * heads.d_kv);
    Projections {
        q: matrix(seed, inner, 4, bias),
        k: matrix(seed + 1, kv_inner, 4, bias),
        v: matrix(seed + 2, kv_inner, 4, bias),
        o: matrix(seed + 3, 4, inner, bias),
    }
}

/// Rotates each head's pairs by an angle for every pair.
pub(super) fn rotate(values: &[f64], d_kv: usize, position: f64) -> Vec<f64> {
    let half = d_kv / 2;
    let rotated = |index: usize| {
        let (head, channel) = (index / d_kv * d_kv, index % d_kv);
        let (sin, cos) = (position * 0.7 / (1 + channel % half) as f64).sin_cos();
        let other = values[head + (channel + half) % d_kv];
        let sign = if channel < half { -1.0 } else { 1.0 };
        values[index] * cos + sign * other * sin
    };
    (0..values.len()).map(rotated).collect()
}

/// Attention of one query to two keys, at positions 3, 0 and 1: its scores and its output.
fn attend(p: &Projections, heads: Heads) -> Vec<f64> {
    let keys = [X.to_vec(), vec![-0.4, 0.9, 1.1, 0.2]];
    let turn = |values: Vec<f64>, position: usize| match heads.rotary {
        true => rotate(&values, heads.d_kv, position as f64),
        false => values,
    };
    let query = turn(apply(&p.q, &X), 3);
    let (mut mixed, mut all) = (Vec::new(), Vec::new());
    for head in 0..heads.heads {
        let key_head = head / (heads.heads / heads.kv_heads) * heads.d_kv;
        let of = |values: &[f64]| values[key_head..key_head + heads.d_kv].to_vec();
        let own = &query[head * heads.d_kv..(head + 1) * heads.d_kv];
        let scores = [0, 1].map(|t| {
            let key = of(&turn(apply(&p.k, &keys[t]), t));
            own.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>()
        });
        let gates = scores.map(|score| score.exp() / scores.map(f64::exp).iter().sum::<f64>());
        let values = [0, 1].map(|t| of(&apply(&p.v, &keys[t])));
        let sum = |channel: usize| gates[0] * values[0][channel] + gates[1] * values[1][channel];
        mixed.extend((0..heads.d_kv).map(sum));
        all.extend(scores);
    }
    all.extend(apply(&p.o, &mixed));
    all
}

#[test]
fn attention_keeps_scores_and_outputs() {
    for (heads, kv_heads, rotary) in [
        (1, 1, false),
        (4, 4, false),
        (4, 1, false),
        (4, 2, true),
        (2, 2, true),
        (6, 1, true),
    ] {
        for bias in [false, true] {
            let heads = Heads {
                heads,
                kv_heads,
                d_kv: 4,
                rotary,
            };
            let plain = projections(11, heads, bias);
            let mut even = plain.clone();
            attention(&mut even, &[1.0, 0.3, 2.0, 1.0], &[1.0; 4], heads);
            assert_close(&attend(&plain, heads), &attend(&even, heads));
            for (plain, even) in [
                (&plain.q, &even.q),
                (&plain.v, &even.v),
                (&plain.o, &even.o),
            ] {
                assert_ne!(plain.values, even.values);
            }
            // Channels of one rotated pair have one factor.
            let factor = |row: usize| even.k.values[row * 4] / plain.k.values[row * 4];
            assert_eq!(rotary, (factor(0) - factor(2)).abs() < 1e-6);
        }
    }
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
    let heads = Heads {
        heads: 1,
        kv_heads: 1,
        d_kv: 4,
        rotary: false,
    };
    let attention = |seed: usize| Attention {
        norm: norm(seed),
        projections: projections(seed + 1, heads, false),
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
        kv_heads: 1,
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
        rotary: false,
        parallel: false,
        decoder_only: false,
        ids: none,
        default_source: 1,
        default_target: 1,
        embedding: matrix(70, 6, 4, false),
        head,
        encoder: stack(200, false),
        mixture_block: None,
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
