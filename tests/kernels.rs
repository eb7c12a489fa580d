//! The kernels against plain definitions of what they compute.

use palmtop::kernels::{float, integer, softmax};

/// Pseudo-random numbers in ±1 (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn row(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
}

#[test]
fn every_finite_half_widens_exactly() {
    for bits in 0..=u16::MAX {
        let half = half::f16::from_bits(bits);
        if half.is_finite() {
            assert_eq!(
                float::widen(bits).to_bits(),
                half.to_f32_const().to_bits(),
                "{bits:#x}"
            );
        }
    }
}

/// The contract's sum, written out: lane i mod 8, then the tree.
fn contract_sum(values: &[f32]) -> f32 {
    let mut l = [0.0f32; 8];
    for (i, value) in values.iter().enumerate() {
        l[i % 8] += value;
    }
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

#[test]
fn reductions_have_the_contract_s_order() {
    let mut random = Random(7);
    for len in [0, 1, 5, 8, 13, 64, 127] {
        let (a, b) = (random.row(len), random.row(len));
        let products: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        assert_eq!(
            float::dot(&a, &b).to_bits(),
            contract_sum(&products).to_bits()
        );
        assert_eq!(float::sum(&a).to_bits(), contract_sum(&a).to_bits());
        let halves: Vec<u16> = b
            .iter()
            .map(|b| half::f16::from_f32_const(*b).to_bits())
            .collect();
        let products: Vec<f32> = a
            .iter()
            .zip(&halves)
            .map(|(a, b)| a * float::widen(*b))
            .collect();
        assert_eq!(
            float::dot_f16(&a, &halves).to_bits(),
            contract_sum(&products).to_bits()
        );
    }
}

#[test]
fn norms_are_their_formulas() {
    let mut random = Random(11);
    let (x, gain, bias) = (random.row(37), random.row(37), random.row(37));
    let n = x.len() as f64;
    let wide = |x: &f32| f64::from(*x);
    let mut rms = x.clone();
    float::rms_norm(&mut rms, &gain, 1e-6);
    let root = (x.iter().map(|x| wide(x).powi(2)).sum::<f64>() / n + 1e-6).sqrt();
    for ((y, x), g) in rms.iter().zip(&x).zip(&gain) {
        assert!((wide(y) - wide(x) / root * wide(g)).abs() < 1e-6);
    }
    let mut layer = x.clone();
    float::layer_norm(&mut layer, &gain, &bias, 1e-5);
    let mean = x.iter().map(wide).sum::<f64>() / n;
    let root = (x.iter().map(|x| (wide(x) - mean).powi(2)).sum::<f64>() / n + 1e-5).sqrt();
    for (((y, x), g), b) in layer.iter().zip(&x).zip(&gain).zip(&bias) {
        assert!((wide(y) - ((wide(x) - mean) / root * wide(g) + wide(b))).abs() < 1e-6);
    }
}

#[test]
fn rows_are_quantized_over_their_own_range() {
    let mut random = Random(3);
    let one_sided: Vec<f32> = random.row(50).iter().map(|x| x.max(0.0)).collect();
    for x in [
        random.row(50),
        one_sided,
        vec![-3.0, -1.0],
        vec![2.5; 4],
        vec![1e30, -1e30],
    ] {
        let mut q = vec![0x55; x.len().next_multiple_of(16)];
        let affine = integer::quantize(&x, &mut q);
        for (q, x) in q.iter().zip(&x) {
            let back = affine.scale * (i32::from(*q) - affine.zero) as f32;
            assert!(
                (back - x).abs() <= affine.scale * 1.001,
                "{back} {x} {affine:?}"
            );
            assert!(*q != i8::MIN);
        }
        assert!(q[x.len()..].iter().all(|q| *q == 0), "padding");
        assert!(affine.zero.abs() <= 127);
    }
}

#[test]
fn a_one_sided_row_has_all_steps() {
    let x: Vec<f32> = (0..255).map(|i| i as f32).collect();
    let mut q = vec![0; 256];
    let affine = integer::quantize(&x, &mut q);
    assert_eq!((affine.scale, affine.zero), (1.0, -127));
    assert_eq!(q[..255], (-127..=127).collect::<Vec<i8>>());
}

#[test]
fn rows_without_a_range_are_zeros() {
    for x in [
        vec![0.0; 3],
        vec![1e-31, -1e-31, 0.0],
        vec![f32::INFINITY, 1.0, 0.0],
    ] {
        let mut q = [0x55; 16];
        assert_eq!(integer::quantize(&x, &mut q), integer::Affine::default());
        assert_eq!(q, [0; 16]);
        let mut q = [0x55; 3];
        assert_eq!(integer::quantize_symmetric(&x, &mut q), 0.0);
        assert_eq!(q, [0; 3]);
    }
}

#[test]
fn ties_are_rounded_to_even() {
    let mut q = [0; 6];
    let scale = integer::quantize_symmetric(&[0.5, 1.5, 2.5, -0.5, -1.5, 127.0], &mut q);
    assert_eq!((scale, q), (1.0, [0, 2, 2, 0, -2, 127]));
}

#[test]
fn integer_dots_are_exact_at_their_widest() {
    let a = vec![-127i8; palmtop::format::MAX_COLS];
    let expected = 127 * 127 * palmtop::format::MAX_COLS as i32;
    assert_eq!(integer::dot(&a, &a), expected);
    // Together with the zero point's share, still within i32.
    assert!(2 * i64::from(expected) < 1 << 31);
}

#[test]
fn weights_carry_their_vectors_scales() {
    let mut random = Random(5);
    let scores: Vec<f32> = random.row(40).iter().map(|x| x * 4.0).collect();
    let scales: Vec<f32> = random.row(40).iter().map(|x| x.abs() + 0.1).collect();
    let mut exact = scores.clone();
    softmax::softmax(&mut exact);
    let mut e = scores.clone();
    let sum = softmax::exponentials(&mut e);
    let mut p = vec![0; 40];
    let factor = softmax::weights(&mut e, scales.iter().copied(), sum, &mut p);
    for ((p, exact), scale) in p.iter().zip(&exact).zip(&scales) {
        assert!((f32::from(*p) * factor - exact * scale).abs() <= factor * 0.51);
    }
    assert_eq!(p.iter().max(), Some(&32767));
}

/// Rows as the contract writes them, operation by operation.
mod literal {
    use palmtop::kernels::integer::TINY;
    use palmtop::kernels::math::round_half_even;

    fn clamp(x: f32, limit: f32) -> f32 {
        if x > limit {
            limit
        } else if x < -limit {
            -limit
        } else {
            x
        }
    }

    /// Bytes, scale and zero point.
    pub fn quantize(x: &[f32]) -> (Vec<i8>, f32, i32) {
        let numbers = || x.iter().copied().filter(|x| !x.is_nan());
        let (low, high) = (numbers().fold(0.0, f32::min), numbers().fold(0.0, f32::max));
        let range = high - low;
        if !(TINY..=f32::MAX).contains(&range) {
            return (vec![0; x.len()], 0.0, 0);
        }
        let inverse = 254.0 / range;
        let zero = round_half_even(-127.0 - low * inverse) as i32;
        let byte = |x: &f32| {
            let steps = round_half_even(clamp(x * inverse, 254.0)) as i32;
            (steps + zero).clamp(-127, 127) as i8
        };
        (x.iter().map(byte).collect(), range / 254.0, zero)
    }

    /// Bytes and scale.
    pub fn quantize_symmetric(x: &[f32]) -> (Vec<i8>, f32) {
        let numbers = x.iter().map(|x| x.abs()).filter(|x| !x.is_nan());
        let greatest = numbers.fold(0.0, f32::max);
        if !(TINY..=f32::MAX).contains(&greatest) {
            return (vec![0; x.len()], 0.0);
        }
        let inverse = 127.0 / greatest;
        let byte = |x: &f32| round_half_even(clamp(x * inverse, 127.0)) as i32 as i8;
        (x.iter().map(byte).collect(), greatest / 127.0)
    }
}

#[test]
fn rows_of_any_length_are_quantized_as_the_contract_says() {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    for turn in 0..200_000u32 {
        let length = next() as usize % 40;
        let exponent = next() % 250;
        let x: Vec<f32> = (0..length)
            .map(|_| {
                let bits = next();
                match next() % 64 {
                    0 => 0.0,
                    1 => f32::from_bits(bits),
                    2 if turn % 8 == 0 => f32::NAN,
                    3 if turn % 8 == 1 => f32::INFINITY,
                    // Halves of steps: small integers over a power of two.
                    4..32 if turn % 4 == 2 => (bits % 509) as f32 * 0.5 - 127.0,
                    _ if turn % 4 == 3 => f32::from_bits(bits & 0x007f_ffff | exponent << 23),
                    _ => f32::from_bits(bits & 0x807f_ffff | (exponent + bits % 4) << 23),
                }
            })
            .collect();
        let padded = length.next_multiple_of(16);
        let mut q = vec![99i8; padded];
        let affine = integer::quantize(&x, &mut q);
        let (mut bytes, scale, zero) = literal::quantize(&x);
        bytes.resize(padded, 0);
        assert_eq!(
            (&q, affine.scale, affine.zero),
            (&bytes, scale, zero),
            "{x:?}"
        );
        let mut q = vec![99i8; length];
        let scale = integer::quantize_symmetric(&x, &mut q);
        assert_eq!((q, scale), literal::quantize_symmetric(&x), "{x:?}");
    }
}

#[test]
fn values_are_weighed_exactly() {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for turn in 0..2_000 {
        let (keys, width) = (next() as usize % 20, 1 + next() as usize % 20);
        let pitch = width * (1 + turn % 3);
        let weights: Vec<i16> = (0..keys).map(|_| (next() % 32768) as i16).collect();
        // The last vector ends the memory.
        let length = (keys.max(1) - 1) * pitch + width;
        let values: Vec<i8> = (0..length).map(|_| (next() % 255) as i8).collect();
        let mut sums = vec![99; width];
        integer::weighted_sums(&weights, &values, pitch, &mut sums);
        let expected: Vec<i32> = (0..width)
            .map(|column| {
                let of_key = |(key, p): (usize, &i16)| {
                    i32::from(*p) * i32::from(values[key * pitch + column])
                };
                weights.iter().enumerate().map(of_key).sum()
            })
            .collect();
        assert_eq!(sums, expected);
    }
}
