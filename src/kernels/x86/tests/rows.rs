//! Rows of floats.

use super::super::super::activation::Activation;
use super::super::super::host::Level;
use super::super::super::integer::{self, Affine};
use super::super::super::product::Source;
use super::super::super::{float, math};
use super::super::batch::{self, Target};
use super::super::rows::Norm;
use super::{Random, levels};
use std::vec::Vec;
use std::{format, vec};

/// Rows of many lengths, with values of many sizes.
fn some(random: &mut Random, round: usize) -> Vec<f32> {
    let count = 1 + random.below(if round.is_multiple_of(10) { 900 } else { 70 });
    let size = match round % 6 {
        0 => 1e-30,
        1 => 1e30,
        2 => 10.0,
        3 => 0.0,
        _ => 1.0,
    };
    let side = |x: f32| match round % 5 {
        0 => x.abs(),
        1 => -x.abs(),
        _ => x,
    };
    let mut row: Vec<f32> = random.floats(count);
    row.iter_mut().for_each(|x| *x = side(*x) * size);
    if round % 40 == 7 {
        row[0] = f32::NAN;
    }
    if round % 40 == 8 {
        row[0] = f32::INFINITY;
    }
    row
}

/// Bytes, scales and zero points that `quantize` makes of some rows.
fn quantized(
    level: Level,
    source: Source<'_>,
    norm: Option<Norm<'_>>,
    count: usize,
) -> (Vec<i8>, Vec<Affine>) {
    let len = source.width.next_multiple_of(16);
    let pitch = len + 16;
    let mut bytes = vec![7i8; count * pitch];
    let (mut scales, mut zeros) = (vec![9.0f32; count], vec![9i32; count]);
    let mut target = Target {
        bytes: &mut bytes,
        pitch,
        len,
        scales: &mut scales,
        zeros: &mut zeros,
    };
    assert!(batch::quantize(level, source, norm, count, &mut target));
    for row in bytes.chunks(pitch) {
        assert!(row[len..].iter().all(|byte| *byte == 7), "beyond a row");
    }
    let rows = bytes.chunks(pitch).flat_map(|row| row[..len].to_vec());
    let affine = scales.iter().zip(&zeros);
    let affine = affine.map(|(scale, zero)| Affine {
        scale: *scale,
        zero: *zero,
    });
    (rows.collect(), affine.collect())
}

/// Some rows of the same length, with the portable quantization of each.
fn portable(rows: &[f32], width: usize) -> (Vec<i8>, Vec<Affine>) {
    let (mut bytes, mut affine) = (Vec::new(), Vec::new());
    for row in rows.chunks(width) {
        let mut q = vec![9i8; width.next_multiple_of(16)];
        affine.push(integer::quantize(row, &mut q));
        bytes.extend(q);
    }
    (bytes, affine)
}

#[test]
fn quantized_rows_are_the_portable_ones() {
    let mut random = Random(3);
    for round in 0..3000 {
        let x = some(&mut random, round);
        let width = x.len();
        let wanted = portable(&x, width);
        for level in levels() {
            let source = Source {
                values: &x,
                width,
                picks: None,
            };
            let got = quantized(level, source, None, 1);
            assert_eq!(got, wanted, "{level:?} {x:?}");
        }
        let (mut wanted, q) = (vec![0i8; x.len()], vec![7i8; x.len()]);
        let scale = integer::quantize_symmetric(&x, &mut wanted);
        for level in levels() {
            let mut got = [9.0f32; 2];
            let row = [x.clone(), x.clone()].concat();
            let mut q = [q.clone(), q.clone()].concat();
            batch::symmetric(level, &row, width, &mut q, &mut got);
            for (got, q) in got.iter().zip(q.chunks(width)) {
                assert_eq!(
                    (got.to_bits(), q),
                    (scale.to_bits(), &wanted[..]),
                    "{level:?}"
                );
            }
        }
    }
}

#[test]
fn norms_are_the_portable_ones() {
    let mut random = Random(4);
    for round in 0..2000 {
        let width = 1 + random.below(if round % 10 == 0 { 700 } else { 70 });
        let count = 1 + random.below(9);
        let size = [1e-30, 1e-3, 1.0, 1e15][random.below(4)];
        let x: Vec<f32> = random.floats(width * count);
        let x: Vec<f32> = x.iter().map(|x| x * size).collect();
        let (gain, bias) = (random.floats(width), random.floats(width));
        let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
        let (mut rms, mut layer) = (x.clone(), x.clone());
        for row in rms.chunks_mut(width) {
            float::rms_norm(row, &gain, 1e-6);
        }
        for row in layer.chunks_mut(width) {
            float::layer_norm(row, &gain, &bias, 1e-5);
        }
        let picks: Vec<u32> = (0..count).map(|_| random.below(count) as u32).collect();
        for (bias, eps, wanted) in [(None, 1e-6, &rms), (Some(&bias[..]), 1e-5, &layer)] {
            let gain = &gain;
            let norm = Norm { gain, bias, eps };
            let picked: Vec<f32> = picks
                .iter()
                .flat_map(|row| wanted[*row as usize * width..][..width].to_vec())
                .collect();
            for level in levels() {
                let mut normed = x.clone();
                assert!(batch::normalize(level, &mut normed, width, norm));
                assert_eq!(bits(&normed), bits(wanted), "{level:?}");
                for (picks, wanted) in [(None, wanted), (Some(&picks[..]), &picked)] {
                    let source = Source {
                        values: &x,
                        width,
                        picks,
                    };
                    let got = quantized(level, source, Some(norm), count);
                    assert_eq!(got, portable(wanted, width), "{level:?}");
                }
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let level = levels()[0];
    let x = [1.0f32; 64];
    let refused = |width: usize, picks: Option<&[u32]>, gain: usize, count: usize, bytes: usize| {
        let source = Source {
            values: &x,
            width,
            picks,
        };
        let norm = Norm {
            gain: &x[..gain],
            bias: None,
            eps: 0.0,
        };
        let mut bytes = vec![0i8; bytes];
        let mut target = Target {
            bytes: &mut bytes,
            pitch: 16,
            len: 16,
            scales: &mut [0.0; 4],
            zeros: &mut [0; 4],
        };
        !batch::quantize(level, source, Some(norm), count, &mut target)
    };
    assert!(!refused(16, None, 16, 4, 64));
    assert!(refused(17, None, 17, 3, 64));
    assert!(refused(16, None, 15, 4, 64));
    assert!(refused(16, None, 16, 4, 63));
    assert!(refused(16, None, 16, 5, 80));
    assert!(refused(16, Some(&[0, 4]), 16, 2, 64));
    assert!(refused(16, Some(&[0]), 16, 2, 64));
}

/// Whether two results are the same: NaN is NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn activations_are_the_portable_ones() {
    // Every exponent, some significands, both signs, and the neighbourhood of every bound.
    let mut x: Vec<f32> = (0..=u32::MAX / 0x3_0801)
        .map(|step| f32::from_bits(step * 0x3_0801))
        .collect();
    for bound in [
        math::EXP_LOWEST,
        math::EXP_HIGHEST,
        math::TANH_TINY,
        math::TANH_SPLIT,
        math::TANH_SATURATED,
        math::ERF_TINY,
        math::ERF_SPLIT,
        math::ERF_SATURATED,
        0.0,
        f32::INFINITY,
        f32::MIN_POSITIVE,
    ] {
        for by in [1.0, 0.5f32.sqrt().recip(), 1.253_314] {
            for step in -40i32..40 {
                let near = f32::from_bits((bound * by).to_bits().wrapping_add_signed(step));
                x.extend([near, -near]);
            }
        }
    }
    for activation in [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
    ] {
        let mut wanted = x.clone();
        activation.apply_slice(&mut wanted);
        for level in levels() {
            let mut got = x.clone();
            batch::activate(level, activation, &mut got);
            for ((x, wanted), got) in x.iter().zip(&wanted).zip(&got) {
                let what = || format!("{level:?} {activation:?} {x:e}: {wanted:e} {got:e}");
                assert!(same(*wanted, *got), "{}", what());
            }
        }
    }
}
