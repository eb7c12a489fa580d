//! Every level that this machine has gives the bits of the portable kernels.

mod attention;
mod rows;

use super::super::Layout;
use super::super::host::Level;
use super::super::matmul::{self, Form, Rows, Weights};
use super::super::product::{Gated, Gates, Int8, Op, Output, Quantized};
use super::product::Product;
use std::vec;
use std::vec::Vec;

/// Pseudo-random bits (xorshift).
pub(super) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    pub fn byte(&mut self) -> i8 {
        match self.below(8) {
            0 => 127,
            1 => -127,
            2 => 0,
            _ => (self.below(255) as i32 - 127) as i8,
        }
    }

    pub fn float(&mut self) -> f32 {
        match self.below(16) {
            0 => 0.0,
            1 => f32::MIN_POSITIVE / 8.0,
            _ => self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0,
        }
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// The levels that this machine has, but for the portable one.
pub(super) fn levels() -> Vec<Level> {
    Level::ALL
        .into_iter()
        .filter(|level| *level != Level::Portable && level.is_available())
        .collect()
}

/// The weights in blocks of 16 rows, as the specification says it.
fn packed(plain: &[i8], stride: usize) -> Vec<i8> {
    let rows = (plain.len() / stride).next_multiple_of(16);
    let mut out = vec![0; rows * stride];
    for (index, out) in out.iter_mut().enumerate() {
        let (block, inside) = (index / (16 * stride), index % (16 * stride));
        let (group, inside) = (inside / 64, inside % 64);
        let (row, col) = (block * 16 + inside / 4, group * 4 + inside % 4);
        *out = plain.get(row * stride + col).copied().unwrap_or(0) ^ i8::MIN;
    }
    out
}

/// A random product.
struct Case {
    rows: usize,
    stride: usize,
    tokens: usize,
    weights: Vec<i8>,
    x: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    bias: Vec<f32>,
    x_scales: Vec<f32>,
    zeros: Vec<i32>,
    op: Op,
    factor: Option<f32>,
    gates: u32,
}

impl Case {
    fn new(random: &mut Random, round: usize) -> Self {
        let tokens = match round % 5 {
            0 => 1,
            1 => 1 + random.below(16),
            2 => 1 + random.below(70),
            3 => 1 + random.below(5),
            _ => 1 + random.below(if round % 50 == 4 { 600 } else { 30 }),
        };
        let rows = 1 + random.below(150);
        let cols = 1 + random.below(if round.is_multiple_of(20) { 3000 } else { 300 });
        let stride = cols.next_multiple_of(16);
        let mut weights: Vec<i8> = (0..rows * stride).map(|_| random.byte()).collect();
        let mut x: Vec<i8> = (0..tokens * stride).map(|_| random.byte()).collect();
        match round % 9 {
            0 => {
                x.fill(127);
                weights.fill(-127);
            }
            1 => {
                x.fill(-127);
                weights.fill(127);
            }
            2 => weights.fill(0),
            _ => {}
        }
        for row in x.chunks_mut(stride).chain(weights.chunks_mut(stride)) {
            row[cols..].fill(0);
        }
        let total = |row: &[i8]| row.iter().map(|w| i32::from(*w)).sum();
        Self {
            rows,
            stride,
            tokens,
            sums: match round % 13 {
                // More than any weights give, as a damaged file may have it.
                7 => (0..rows).map(|_| random.bits() as i32).collect(),
                _ => weights.chunks(stride).map(total).collect(),
            },
            weights,
            x,
            scales: random.floats(rows),
            bias: match round % 3 {
                0 => random.floats(rows),
                _ => Vec::new(),
            },
            x_scales: random.floats(tokens),
            zeros: (0..tokens).map(|_| random.byte().into()).collect(),
            op: [Op::Store, Op::Multiply, Op::Add][random.below(3)],
            factor: round.is_multiple_of(4).then(|| random.float()),
            gates: (round % 7) as u32,
        }
    }

    /// Runs `f` on the product in this layout; gives what it left in the outputs.
    fn run(
        &self,
        layout: Layout,
        seed: u64,
        f: impl Fn(&Int8, &Quantized, &mut Output),
    ) -> Vec<u32> {
        let bytes = match layout {
            Layout::Words16 => packed(&self.weights, self.stride),
            _ => self.weights.clone(),
        };
        let matrix = Int8 {
            weights: Weights::new(&bytes, self.stride, layout),
            scales: &self.scales,
            sums: &self.sums,
            bias: &self.bias,
        };
        let x = Quantized {
            rows: Rows {
                bytes: &self.x,
                pitch: self.stride,
                form: Form::Bytes,
            },
            scales: &self.x_scales,
            zeros: &self.zeros,
        };
        let mut random = Random(seed);
        let pitch = self.rows + 3;
        let mut out = random.floats((self.tokens + 2) * pitch);
        // Each token has a row of its own, in another order.
        let targets: Vec<u32> = (0..self.tokens as u32)
            .map(|t| self.tokens as u32 - t)
            .collect();
        let gates = random.floats(self.tokens);
        let mut output = Output {
            rows: &mut out,
            stride: pitch,
            op: self.op,
            gated: match self.gates {
                0 => Some(Gates::All(0.7)),
                1 => Some(Gates::Each(&targets, &gates)),
                _ => None,
            }
            .map(|gates| Gated {
                factor: self.factor,
                gates,
            }),
        };
        f(&matrix, &x, &mut output);
        out.iter().map(|y| y.to_bits()).collect()
    }
}

/// The contract, value by value.
fn portable(
    matrix: &Int8,
    rows: core::ops::Range<usize>,
    x: &Quantized,
    tokens: usize,
    output: &mut Output,
) {
    for row in rows {
        for token in 0..tokens {
            let mut sum = [0];
            // One row and one token at a time, of rows in order.
            matmul::portable(&matrix.weights, row, 1, x.rows.skip(token), 1, &mut sum);
            let exact = sum[0].wrapping_sub(x.zeros[token].wrapping_mul(matrix.sums[row]));
            let y = exact as f32 * (x.scales[token] * matrix.scales[row]);
            output.put(token, row, matrix.bias.get(row).map_or(y, |b| y + b));
        }
    }
}

#[test]
fn products_are_those_of_the_contract() {
    let levels = levels();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..400 {
        let case = Case::new(&mut random, round);
        let (rows, tokens) = (case.rows, case.tokens);
        let start = random.below(rows).next_multiple_of(16);
        let start = if start < rows { start } else { 0 };
        let seed = random.bits() | 1;
        let wanted = case.run(Layout::Rows, seed, |matrix, x, output| {
            portable(matrix, start..rows, x, tokens, output);
        });
        for layout in [Layout::Rows, Layout::Words16] {
            for level in &levels {
                let got = case.run(layout, seed, |matrix, x, output| {
                    let product = Product::new(matrix, start..rows, x, tokens, output);
                    product.unwrap().run_all(*level);
                });
                assert!(
                    got == wanted,
                    "{level:?} {layout:?} {start}..{rows} x {}, {tokens} tokens",
                    case.stride
                );
                // In parts, as threads take them.
                let got = case.run(layout, seed, |matrix, x, output| {
                    let product = Product::new(matrix, start..rows, x, tokens, output).unwrap();
                    for rows in [0..start + 16, start + 16..rows] {
                        for tokens in [tokens / 2..tokens, 0..tokens / 2] {
                            // SAFETY: one after another.
                            unsafe { product.run(*level, rows.clone(), tokens) };
                        }
                    }
                });
                assert!(got == wanted, "{level:?} {layout:?} in parts");
            }
        }
    }
}

#[test]
fn operands_of_the_wrong_size_are_refused() {
    let mut random = Random(7);
    let case = Case::new(&mut random, 3);
    let (rows, tokens) = (case.rows, case.tokens);
    for layout in [Layout::Rows, Layout::Words16] {
        case.run(layout, 1, |matrix, x, output| {
            assert!(Product::new(matrix, 0..rows, x, tokens, output).is_some());
            assert!(Product::new(matrix, 0..0, x, tokens, output).is_none());
            assert!(Product::new(matrix, 1..rows, x, tokens, output).is_none());
            assert!(Product::new(matrix, 0..rows, x, 0, output).is_none());
            assert!(Product::new(matrix, 0..rows + 16, x, tokens, output).is_none());
            assert!(Product::new(matrix, 0..rows, x, tokens + 3, output).is_none());
            let values = matrix.weights.values();
            let short = Int8 {
                weights: Weights::new(&values[..values.len() - 1], case.stride, layout),
                ..*matrix
            };
            assert!(Product::new(&short, 0..rows, x, tokens, output).is_none());
            let long = Output {
                rows: &mut output.rows[..(tokens - 1) * (rows + 3) + rows - 1],
                stride: rows + 3,
                op: Op::Add,
                gated: None,
            };
            let mut long = long;
            assert!(Product::new(matrix, 0..rows, x, tokens, &mut long).is_none());
        });
    }
}
