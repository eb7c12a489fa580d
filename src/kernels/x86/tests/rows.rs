//! Rows of floats.

use super::super::super::activation::Activation;
use super::super::super::integer::{self, Affine};
use super::super::super::{float, math};
use super::super::rows;
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

#[test]
fn quantized_rows_are_the_portable_ones() {
    let mut random = Random(3);
    for round in 0..3000 {
        let x = some(&mut random, round);
        let room = x.len().next_multiple_of(16);
        let (mut wanted, mut q) = (vec![9i8; room], vec![7i8; room]);
        let affine = integer::quantize(&x, &mut wanted);
        for level in levels() {
            let mut got = Affine::default();
            // SAFETY: the machine has the level.
            unsafe { rows::quantize(level, &x, &mut q, &mut got) };
            let bits = |affine: Affine| (affine.scale.to_bits(), affine.zero);
            assert_eq!((bits(got), &q), (bits(affine), &wanted), "{level:?} {x:?}");
        }
        let (mut wanted, q) = (vec![0i8; x.len()], vec![7i8; x.len()]);
        let scale = integer::quantize_symmetric(&x, &mut wanted);
        for level in levels() {
            let mut got = [9.0f32; 2];
            let (row, width) = ([x.clone(), x.clone()].concat(), x.len());
            let mut q = [q.clone(), q.clone()].concat();
            // SAFETY: the machine has the level.
            unsafe { rows::symmetric(level, &row, width, &mut q, &mut got) };
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
        let x: Vec<f32> = some(&mut random, round)
            .into_iter()
            .filter(|x| x.is_finite())
            .collect();
        let (gain, bias) = (random.floats(x.len()), random.floats(x.len()));
        let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
        let (mut rms, mut layer) = (x.clone(), x.clone());
        float::rms_norm(&mut rms, &gain, 1e-6);
        float::layer_norm(&mut layer, &gain, &bias, 1e-5);
        if rms.iter().chain(&layer).any(|x| x.is_nan()) {
            continue;
        }
        for level in levels() {
            let (mut a, mut b) = (x.clone(), x.clone());
            // SAFETY: the machine has the level.
            unsafe {
                rows::rms_norm(level, &mut a, &gain, 1e-6);
                rows::layer_norm(level, &mut b, &gain, &bias, 1e-5);
            }
            assert_eq!(bits(&a), bits(&rms), "{level:?}");
            assert_eq!(bits(&b), bits(&layer), "{level:?}");
            for (bias, eps, wanted) in [(None, 1e-6, &rms), (Some(&bias[..]), 1e-5, &layer)] {
                let room = x.len().next_multiple_of(16);
                let (mut near, mut q) = (vec![9.0; x.len()], vec![9i8; room]);
                let (mut affine, mut of_wanted) = (Affine::default(), vec![0i8; room]);
                let gain = &gain;
                let norm = rows::Norm { gain, bias, eps };
                // SAFETY: the machine has the level.
                unsafe { rows::norm_quantize(level, &x, norm, &mut near, &mut q, &mut affine) };
                assert_eq!(bits(&near), bits(wanted), "{level:?}");
                assert_eq!(
                    affine,
                    integer::quantize(wanted, &mut of_wanted),
                    "{level:?}"
                );
                assert_eq!(q, of_wanted, "{level:?}");
            }
        }
    }
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
            // SAFETY: the machine has the level.
            unsafe { rows::activate(level, activation, &mut got) };
            for ((x, wanted), got) in x.iter().zip(&wanted).zip(&got) {
                let what = || format!("{level:?} {activation:?} {x:e}: {wanted:e} {got:e}");
                assert!(same(*wanted, *got), "{}", what());
            }
        }
    }
}
