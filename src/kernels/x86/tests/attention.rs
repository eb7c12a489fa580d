//! Integer attention.

use super::super::super::{integer, softmax};
use super::super::attention::Attention;
use super::{Random, levels};
use std::vec;
use std::vec::Vec;

/// The contract, query by query.
fn portable(a: &mut Attention<'_>) {
    let d_kv = a.d_kv;
    let group = a.heads / a.kv_heads;
    let at = |values: &'_ [i8], key: usize, head: usize| -> Vec<i8> {
        values[(key * a.kv_heads + head) * d_kv..][..d_kv].to_vec()
    };
    for query in 0..a.count {
        for head in 0..a.heads {
            let kv_head = head / group;
            let vector = &mut a.queries[(query * a.heads + head) * d_kv..][..d_kv];
            let mut q = vec![0i8; d_kv];
            let q_scale = integer::quantize_symmetric(vector, &mut q) * a.scale;
            let mut biases = vec![0.0; a.keys + a.count];
            if let Some(bias) = a.bias {
                bias(head, &mut biases);
            }
            let mut scores: Vec<f32> = (0..a.keys)
                .map(|key| {
                    let dot = integer::dot(&q, &at(a.k, key, kv_head));
                    let s = dot as f32 * (q_scale * a.k_scales[key * a.kv_heads + kv_head]);
                    match a.bias {
                        Some(_) => s + biases[a.count - 1 - query + key],
                        None => s,
                    }
                })
                .collect();
            let sum = softmax::exponentials(&mut scores);
            let scales = a.v_scales.iter().skip(kv_head).step_by(a.kv_heads).copied();
            let mut weights = vec![0i16; a.keys];
            let factor = softmax::weights(&mut scores, scales, sum, &mut weights);
            vector.fill(0.0);
            for (chunk, weights) in weights.chunks(512).enumerate() {
                for (col, out) in vector.iter_mut().enumerate() {
                    let mut sum = 0i32;
                    for (key, p) in weights.iter().enumerate() {
                        let v = at(a.v, chunk * 512 + key, kv_head);
                        sum = sum.wrapping_add(i32::from(*p) * i32::from(v[col]));
                    }
                    *out += sum as f32;
                }
            }
            for out in vector.iter_mut() {
                *out *= factor;
            }
        }
    }
}

#[test]
fn attention_is_that_of_the_contract() {
    let mut random = Random(5);
    for round in 0..240 {
        let d_kv = [64, 16, 32, 5, 8, 80, 1, 128, 48, 112][random.below(10)];
        let kv_heads = 1 + random.below(3);
        let heads = kv_heads * (1 + random.below(2));
        let keys = match round % 8 {
            0 => 500 + random.below(600),
            1 => 16 * (1 + random.below(9)),
            _ => 1 + random.below(90),
        };
        let count = 1 + random.below([70, 3, 20, 1, 1][round % 5]);
        let positions = keys + random.below(4);
        let values = positions * kv_heads * d_kv;
        let mut k: Vec<i8> = (0..values).map(|_| random.byte()).collect();
        let mut v: Vec<i8> = (0..values).map(|_| random.byte()).collect();
        let mut scales = || -> Vec<f32> {
            let scales = random.floats(positions * kv_heads);
            scales.iter().map(|scale| scale.abs() * 0.03).collect()
        };
        let (mut k_scales, mut v_scales) = (scales(), scales());
        match round % 10 {
            3 => {
                k.fill(127);
                v.fill(-127);
                k_scales.fill(1.0);
                v_scales.fill(1.0);
            }
            4 => v_scales.fill(0.0),
            5 => k_scales.iter_mut().for_each(|scale| *scale *= 1e4),
            7 => v_scales.iter_mut().step_by(7).for_each(|s| *s = f32::NAN),
            8 => k_scales.iter_mut().step_by(5).for_each(|s| *s = f32::NAN),
            9 => v_scales[0] = f32::INFINITY,
            _ => {}
        }
        let mut queries = random.floats(count * heads * d_kv);
        if round % 10 == 6 {
            queries.fill(0.0);
        }
        let line = random.floats(heads + keys + count);
        let bias = |head: usize, to: &mut [f32]| {
            for (at, to) in to.iter_mut().enumerate() {
                *to = line.get(head + at).copied().unwrap_or(0.5);
            }
        };
        // A macro, because a closure has one lifetime.
        macro_rules! attention {
            ($queries:expr) => {
                Attention {
                    queries: $queries,
                    count,
                    heads,
                    d_kv,
                    kv_heads,
                    k: &k,
                    v: &v,
                    k_scales: &k_scales,
                    v_scales: &v_scales,
                    keys,
                    scale: 0.7,
                    bias: match round % 2 {
                        0 => Some(&bias),
                        _ => None,
                    },
                }
            };
        }
        let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
        let mut wanted = queries.clone();
        portable(&mut attention!(&mut wanted));
        for level in levels() {
            let mut got = queries.clone();
            assert!(attention!(&mut got).run(level));
            assert!(
                bits(&got) == bits(&wanted),
                "{level:?}: {count} queries, {heads} heads of {kv_heads}, {keys} keys, {d_kv} wide"
            );
        }
    }
}

#[test]
fn caches_of_the_wrong_size_are_refused() {
    for level in levels() {
        for wrong in 0..7 {
            let mut queries = vec![0.5; if wrong == 1 { 31 } else { 32 }];
            let (k, v) = (vec![1i8; 96 - usize::from(wrong == 2)], vec![1i8; 96]);
            let scales = vec![0.1; 6];
            let mut attention = Attention {
                queries: &mut queries,
                count: 1,
                heads: 2,
                d_kv: 16,
                kv_heads: if wrong == 3 { 3 } else { 2 },
                k: &k,
                v: &v[usize::from(wrong == 4)..],
                k_scales: &scales[usize::from(wrong == 5)..],
                v_scales: &scales,
                keys: if wrong == 6 { 0 } else { 3 },
                scale: 1.0,
                bias: None,
            };
            assert_eq!(attention.run(level), wrong == 0, "{wrong}");
        }
    }
}
