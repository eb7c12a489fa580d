//! Accuracy, edges and golden bits of the elementary functions and activations.
//!
//! The hashes are part of the numeric contract: a change that alters one changes the results of
//! every model on every target. Builds for thumbv6m (soft float), thumbv7em with an FPU and riscv32imc
//! gave the same hashes under QEMU.

use palmtop::kernels::activation::Activation;
use palmtop::kernels::math;

const ALL: [Activation; 4] = [
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
];

/// The spacing of `f32` numbers in the binade of `t`.
fn ulp(t: f64) -> f64 {
    let exponent = ((t.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    2f64.powi(exponent.max(-126) - 23)
}

/// Every 1021st bit pattern, and runs of consecutive ones around each of `points`.
fn arguments(points: &[f32]) -> impl Iterator<Item = f32> {
    let stride = (0..=u32::MAX).step_by(1021);
    let dense = points.iter().flat_map(|p| {
        let centre = p.to_bits();
        let run = centre.saturating_sub(30_000)..centre.saturating_add(30_000);
        run.flat_map(|bits| [bits, bits ^ 0x8000_0000])
    });
    stride.chain(dense).map(f32::from_bits)
}

/// The largest error, in ulp, where the true value is a normal number.
fn worst(f: fn(f32) -> f32, truth: fn(f64) -> f64, points: &[f32]) -> f64 {
    let mut worst = 0.0;
    for x in arguments(points) {
        let (got, want) = (f(x), truth(f64::from(x)));
        if x.is_nan() {
            assert!(got.is_nan());
            continue;
        }
        if want.abs() < f64::from(f32::MIN_POSITIVE) || want.abs() > f64::from(f32::MAX) {
            continue;
        }
        let error = (f64::from(got) - want).abs() / ulp(want);
        assert!(error <= 2.0, "{x:e}: got {got:e}, want {want:e}");
        worst = f64::max(worst, error);
    }
    worst
}

#[test]
fn exp_is_within_one_ulp() {
    let points = [
        0.0,
        1e-3,
        0.346_573_6,
        1.0,
        5.853_371,
        20.0,
        59.289_196,
        87.336_54,
        88.722_83,
    ];
    assert!(worst(math::exp, f64::exp, &points) <= 0.989);
}

#[test]
fn tanh_is_within_its_stated_error() {
    let points = [
        0.0,
        2.441_406_2e-4,
        0.703_125,
        0.762_640_2,
        1.0,
        3.0,
        9.010_914,
    ];
    assert!(worst(math::tanh, libm::tanh, &points) <= 1.067);
}

#[test]
fn erf_is_within_its_stated_error() {
    let points = [
        0.0,
        1.175_494_4e-38,
        7.888_609e-31,
        0.906_25,
        0.910_464_7,
        1.0,
        2.0,
        3.919_206,
    ];
    assert!(worst(math::erf, libm::erf, &points) <= 1.120);
}

#[test]
fn erf_of_subnormal_numbers_is_accurate() {
    for bits in (0..0x0080_0000).step_by(97) {
        let x = f32::from_bits(bits);
        let want = f64::from(x) * core::f64::consts::FRAC_2_SQRT_PI;
        assert!((f64::from(math::erf(x)) - want).abs() <= 0.501 * ulp(want));
        assert_eq!(
            math::erf(-x).to_bits(),
            math::erf(x).to_bits() ^ 0x8000_0000
        );
    }
}

#[test]
fn sqrt_is_correctly_rounded() {
    for x in arguments(&[0.0, 1.175_494_4e-38, 1.0, 2.0, 4.0, f32::MAX]) {
        let (got, want) = (math::sqrt(x), x.sqrt());
        if want.is_nan() {
            assert!(got.is_nan(), "{x:e}");
        } else {
            assert_eq!(got.to_bits(), want.to_bits(), "{x:e}");
        }
    }
}

#[test]
fn round_half_even_is_exact_in_its_range() {
    let limit = 4_194_304.0_f32;
    let points = [0.0, 0.5, 1.5, 2.5, 3.5, 1e3, 4_194_303.5];
    for x in arguments(&points).filter(|x| x.abs() <= limit) {
        // Adding zero turns -0 into +0.
        let want = x.round_ties_even() + 0.0;
        assert_eq!(math::round_half_even(x).to_bits(), want.to_bits(), "{x:e}");
    }
    assert!(math::round_half_even(f32::NAN).is_nan());
    assert_eq!(math::round_half_even(f32::INFINITY), f32::INFINITY);
}

#[test]
fn edges_are_as_stated() {
    let tiny = f32::from_bits(1);
    let above = |x: f32| f32::from_bits(x.to_bits() + 1);

    // exp: no subnormal result; overflow and underflow at the last bit.
    for one in [0.0, -0.0, tiny, -tiny, f32::MIN_POSITIVE] {
        assert_eq!(math::exp(one), 1.0);
    }
    let lowest = f32::from_bits(0xc2ae_ac4f);
    assert!(math::exp(lowest).is_normal());
    assert_eq!(math::exp(above(lowest)).to_bits(), 0);
    assert_eq!(math::exp(f32::NEG_INFINITY).to_bits(), 0);
    let highest = f32::from_bits(0x42b1_7217);
    assert!(math::exp(highest).is_finite());
    assert_eq!(math::exp(above(highest)), f32::INFINITY);
    assert_eq!(math::exp(f32::INFINITY), f32::INFINITY);

    // tanh and erf: odd, saturating, sign of zero kept.
    for (f, saturated) in [
        (math::tanh as fn(f32) -> f32, f32::from_bits(0x4110_2cb4)),
        (math::erf, f32::from_bits(0x407a_d445)),
    ] {
        assert_eq!(f(0.0).to_bits(), 0);
        assert_eq!(f(-0.0).to_bits(), 0x8000_0000);
        assert_eq!(f(tiny), tiny);
        for one in [saturated, 100.0, f32::MAX, f32::INFINITY] {
            assert_eq!(f(one), 1.0);
            assert_eq!(f(-one), -1.0);
        }
        assert!(f(0.98 * saturated) < 1.0);
        for x in arguments(&[]).filter(|x| !x.is_nan()).step_by(16) {
            assert_eq!(f(-x).to_bits(), f(x).to_bits() ^ 0x8000_0000);
            assert!(f(x).abs() <= 1.0);
        }
    }

    assert_eq!(math::sqrt(-0.0).to_bits(), 0x8000_0000);
    assert!(math::sqrt(-tiny).is_nan());
    for f in [math::exp, math::tanh, math::erf, math::sqrt] {
        assert!(f(f32::NAN).is_nan());
        assert!(f(-f32::NAN).is_nan());
        assert!(f(f32::from_bits(0x7f80_0001)).is_nan());
    }
}

#[test]
fn activations_are_near_their_formulas() {
    use core::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
    fn truth(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
            Activation::GeluTanh => {
                let inner = SQRT_2 * FRAC_2_SQRT_PI * 0.5 * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            _ => x / (1.0 + (-x).exp()),
        }
    }
    for activation in ALL {
        for i in -40_000..=40_000 {
            let x = i as f32 / 4096.0;
            let got = f64::from(activation.apply(x));
            let want = truth(activation, f64::from(x));
            // The sum 1 + erf has an absolute error near 2^-24 for negative x, by the formula.
            let bound = 4e-7 * want.abs() + 1.5e-7 * f64::from(x.abs());
            assert!(
                (got - want).abs() <= bound,
                "{activation:?} {x}: {got:e}, want {want:e}"
            );
        }
    }
}

#[test]
fn activation_edges_are_as_stated() {
    for activation in ALL {
        assert!(activation.apply(f32::NAN).is_nan());
        assert_eq!(activation.apply(f32::INFINITY), f32::INFINITY);
        assert_eq!(activation.apply(f32::MAX), f32::MAX);
        assert_eq!(activation.apply(0.0).to_bits(), 0);
        assert_eq!(activation.apply(-0.0).to_bits(), 0x8000_0000);
        assert_eq!(activation.apply(f32::MIN), 0.0);
        let at_minus_infinity = activation.apply(f32::NEG_INFINITY);
        if activation == Activation::Relu {
            assert_eq!(at_minus_infinity.to_bits(), 0);
        } else {
            assert!(at_minus_infinity.is_nan());
        }
    }
}

#[test]
fn codes_round_trip() {
    for (code, activation) in (0..).zip(ALL) {
        assert_eq!(activation.code(), code);
        assert_eq!(Activation::from_code(code), Some(activation));
    }
    assert!((4..=u8::MAX).all(|code| Activation::from_code(code).is_none()));
}

#[test]
fn a_slice_gets_the_results_of_its_elements() {
    for activation in ALL {
        let arguments: Vec<f32> = golden_arguments().step_by(7).collect();
        let mut values = arguments.clone();
        activation.apply_slice(&mut values);
        for (x, got) in arguments.into_iter().zip(values) {
            let want = activation.apply(x);
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()));
        }
        activation.apply_slice(&mut []);
    }
}

/// 65,536 bit patterns from the whole range and 65,536 numbers of [-16, 16).
fn golden_arguments() -> impl Iterator<Item = f32> {
    let whole = (0..65_536_u32).map(|i| f32::from_bits(i.wrapping_mul(65_537)));
    let middle = (-32_768_i32..32_768).map(|i| i as f32 / 2048.0);
    whole.chain(middle)
}

/// FNV-1a, 32 bits, over the little-endian result bits, with one NaN for all.
fn golden(f: impl Fn(f32) -> f32) -> u32 {
    golden_arguments()
        .flat_map(|x| {
            let y = f(x);
            let bits = if y.is_nan() { 0x7fc0_0000 } else { y.to_bits() };
            bits.to_le_bytes()
        })
        .fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}

#[test]
fn result_bits_never_change() {
    let hashes = [
        ("exp", golden(math::exp), 0x8aa0_cba5),
        ("tanh", golden(math::tanh), 0xb918_0ac5),
        ("erf", golden(math::erf), 0x08bc_1b94),
        ("sqrt", golden(math::sqrt), 0x9576_d8ac),
        (
            "round_half_even",
            golden(math::round_half_even),
            0x0425_93fd,
        ),
        ("relu", golden(|x| Activation::Relu.apply(x)), 0xcd35_8027),
        ("gelu", golden(|x| Activation::Gelu.apply(x)), 0x0dc0_7f80),
        (
            "gelu_tanh",
            golden(|x| Activation::GeluTanh.apply(x)),
            0xcf2d_459e,
        ),
        ("silu", golden(|x| Activation::Silu.apply(x)), 0x6546_11de),
    ];
    for (name, got, want) in hashes {
        assert_eq!(got, want, "{name}: {got:#010x}");
    }
}

#[test]
fn some_results_in_full() {
    let table = [
        (
            "exp",
            math::exp as fn(f32) -> f32,
            [0x3f8d_763e, 0x3fd3_094c, 0x402d_f854, 0x3d4b_ed86],
        ),
        (
            "tanh",
            math::tanh,
            [0x3dcc_1ebc, 0x3eec_9a9f, 0x3f42_f7d6, 0xbf7e_bbe9],
        ),
        (
            "erf",
            math::erf,
            [0x3de6_52f5, 0x3f05_3f7b, 0x3f57_bb3d, 0xbf7f_fe8d],
        ),
        (
            "gelu",
            |x| Activation::Gelu.apply(x),
            [0x3d5d_1d0d, 0x3eb1_03af, 0x3f57_625e, 0xbb84_b340],
        ),
        (
            "gelu_tanh",
            |x| Activation::GeluTanh.apply(x),
            [0x3d5d_1d05, 0x3eb1_016d, 0x3f57_585c, 0xbb6e_6200],
        ),
        (
            "silu",
            |x| Activation::Silu.apply(x),
            [0x3d57_080f, 0x3e9f_597f, 0x3f3b_26a8, 0xbe11_b139],
        ),
    ];
    for (name, f, want) in table {
        assert_eq!(
            [0.1, 0.5, 1.0, -3.0].map(|x| f(x).to_bits()),
            want,
            "{name}"
        );
    }
}
