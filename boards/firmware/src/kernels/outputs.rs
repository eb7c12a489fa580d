//! What becomes of the products of int8 layers, with numbers of every kind: [`int8_layer`] against the
//! operations one by one.

use palmtop::bench::{Int8, Quantized, int8_layer};
use palmtop::kernels::matmul::{self, Form, Rows, Weights};

use super::floats::floats;
use super::products::signed;
use super::random::Random;
use super::{Bench, Wrong};

/// Rows of a layer.
const ROWS: usize = 64;

/// Columns.
const COLS: usize = 16;

/// Layers.
const CASES: usize = 400;

/// Most tokens.
const TOKENS: usize = 16;

/// Layers whose weights are zeros, so that the numbers that become outputs can be chosen.
pub fn chosen(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let layout = matmul::native();
    let form = Form::of(layout);
    let pitch = form.bytes(COLS);
    let (packed, rest) = bench.memory.split_at_mut(ROWS * COLS);
    let packed = signed(packed);
    packed.fill(if form == Form::Biased { i8::MIN } else { 0 });
    let (x, rest) = rest.split_at_mut(2 * COLS * TOKENS);
    let x = signed(x);
    x.fill(0);
    let (out, rest) = floats(rest).split_at_mut(ROWS * TOKENS);
    let (scales, bias) = rest.split_at_mut(ROWS);
    let mut cases = 0;
    for case in 0..CASES {
        let tokens = if case % 2 == 0 {
            1
        } else {
            case / 2 % TOKENS + 1
        };
        let (mut zeros, mut x_scales, mut sums) = ([0; TOKENS], [0.0; TOKENS], [0; ROWS]);
        for (zero, scale) in zeros.iter_mut().zip(&mut x_scales) {
            *zero = if case % 3 == 0 {
                -1
            } else {
                random.below(255) as i32 - 127
            };
            *scale = factor(&mut random, case);
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = number(&mut random);
            scales[row] = factor(&mut random, case / 2);
            let exact = zeros[row % tokens].wrapping_mul(*sum).wrapping_neg();
            let y = exact as f32 * (x_scales[row % tokens] * scales[row]);
            bias[row] = near(&mut random, y);
        }
        let bias = &bias[..if case % 7 == 0 { 0 } else { ROWS }];
        let wanted = |token: usize, row: usize| {
            let zero: i32 = zeros[token];
            let exact = zero.wrapping_mul(sums[row]).wrapping_neg();
            let y = exact as f32 * (x_scales[token] * scales[row]);
            bias.get(row).map_or(y, |bias| y + bias)
        };
        let op = case / 4 % 3;
        let mut before = [0.0; ROWS];
        for (row, before) in before.iter_mut().enumerate() {
            *before = near(&mut random, wanted(row % tokens, row));
        }
        for out in out.chunks_exact_mut(ROWS) {
            out.copy_from_slice(&before);
        }
        let layer = Int8 {
            weights: Weights::new(packed, COLS, layout),
            rows: ROWS,
            scales,
            sums: &sums,
            bias,
        };
        // All weights are zeros, whatever their sums are said to be.
        for row in x.chunks_exact_mut(pitch).take(tokens) {
            row.fill(0);
            form.prepare(row);
        }
        let quantized = Quantized {
            rows: Rows {
                bytes: &x[..pitch * tokens],
                pitch,
                form,
            },
            scales: &x_scales[..tokens],
            zeros: &zeros[..tokens],
        };
        int8_layer(&layer, quantized, tokens, op, out);
        for token in 0..tokens {
            for row in 0..ROWS {
                let y = wanted(token, row);
                let y = match op {
                    0 => y,
                    1 => before[row] + y,
                    _ => before[row] * y,
                };
                let got = out[token * ROWS + row];
                if got.to_bits() != y.to_bits() && !(got.is_nan() && y.is_nan()) {
                    return Err(Wrong {
                        what: "an output of case, tokens, token, row, bits, bits wanted",
                        shape: [
                            case,
                            tokens,
                            token,
                            row,
                            got.to_bits() as usize,
                            y.to_bits() as usize,
                        ],
                    });
                }
            }
        }
        cases += 1;
    }
    Ok(cases)
}

/// An integer of any size; often a small one, a power of two or its neighbour.
fn number(random: &mut Random) -> i32 {
    let bits = random.bits() as i32 >> random.below(32);
    match random.below(6) {
        0 => (1i32 << random.below(26)).wrapping_add(random.below(3) as i32 - 1),
        1 => bits & !0xff,
        _ => bits,
    }
}

/// A scale: a usual one, one with few bits, one of any size, a subnormal one, zero.
fn factor(random: &mut Random, kind: usize) -> f32 {
    let usual = f32::from_bits((100 + random.below(24) as u32) << 23 | random.bits() >> 9);
    match (kind % 5, random.below(8)) {
        (1, _) => f32::from_bits(usual.to_bits() & 0xffff_0000),
        (2, 0..3) => f32::from_bits(random.bits() & 0x7fff_ffff),
        (3, 0) => f32::from_bits(random.bits() >> 9),
        (3, 1) => 0.0,
        (3, 2) => f32::from_bits((random.below(255) as u32) << 23 | 0x7f_ffff),
        (4, 0) => f32::from_bits((1 + random.below(254) as u32) << 23),
        _ => usual,
    }
}

/// What is added to y: of any kind, and often such that much of the sum cancels or is a tie.
fn near(random: &mut Random, y: f32) -> f32 {
    let bits = y.to_bits();
    let sign = random.bits() & 1 << 31;
    let exponent = bits >> 23 & 0xff;
    let beside = |by: u32| exponent.wrapping_add(by).clamp(1, 254) << 23;
    f32::from_bits(match random.below(12) {
        0 => bits ^ 1 << 31,
        1 => bits.wrapping_add(random.below(9) as u32).wrapping_sub(4) ^ sign,
        2 => sign,
        3 => random.bits(),
        4 => sign | random.bits() >> 9,
        5 => {
            sign | beside(random.below(60) as u32)
                .saturating_sub(30 << 23)
                .max(1 << 23)
        }
        6 => sign | beside(random.below(4) as u32) & !(1 << 23) | random.bits() >> 9,
        7 => sign | beside(1) | random.bits() >> 9 & 0x7f_0000,
        8 => sign | beside(random.below(30) as u32).saturating_sub(15 << 23) | 0x7f_ffff,
        _ => sign | beside(random.below(20) as u32).saturating_sub(10 << 23) | random.bits() >> 9,
    })
}
