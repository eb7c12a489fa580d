//! Kernels over a batch of rows give each row the bits that it gets by itself, at any width, and
//! int4 is the contract's formula.

use palmtop::kernels::matmul::{Form, Rows, Weights};
use palmtop::kernels::{Layout, float, int4, lanes, matmul};

/// Pseudo-random bits (xorshift).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    fn byte(&mut self) -> i8 {
        match self.below(8) {
            0 => 127,
            1 => -127,
            2 => 0,
            _ => (self.below(255) as i32 - 127) as i8,
        }
    }

    fn float(&mut self) -> f32 {
        match self.below(16) {
            0 => 0.0,
            1 => f32::MIN_POSITIVE / 8.0,
            _ => self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0,
        }
    }
}

/// The weights in the order of a layout, as its documentation says it.
fn packed(plain: &[i8], stride: usize, layout: Layout) -> Vec<i8> {
    let rows = plain.len() / stride;
    let mut out = vec![0; rows.next_multiple_of(layout.block()) * stride];
    let at = |row: usize, col: usize| plain.get(row * stride + col).copied().unwrap_or(0);
    let mut next = out.iter_mut();
    let mut put = |byte: i8| *next.next().unwrap() = byte;
    let blocks = rows.div_ceil(layout.block());
    match layout {
        Layout::Rows => plain.iter().for_each(|byte| put(*byte)),
        Layout::Words16 => (0..blocks * stride / 4).for_each(|word| {
            let (block, word) = (word / (stride / 4), word % (stride / 4));
            for lane in 0..64 {
                put(at(block * 16 + lane / 4, word * 4 + lane % 4) ^ i8::MIN);
            }
        }),
        Layout::Lanes4 => (0..blocks * stride / 4).for_each(|word| {
            let (block, word) = (word / (stride / 4), word % (stride / 4));
            for lane in 0..8 {
                let (row, col) = (block * 4 + lane / 2, word * 4 + lane % 2 * 2);
                let lane = i16::from(at(row, col)) + 256 * i16::from(at(row, col + 1));
                lane.to_le_bytes().iter().for_each(|byte| put(*byte as i8));
            }
        }),
        Layout::Bytes8 | Layout::Bytes4 => (0..blocks * stride).for_each(|col| {
            let (block, col) = (col / stride, col % stride);
            for lane in 0..layout.block() {
                let byte = at(block * layout.block() + lane, col);
                put(if layout == Layout::Bytes4 {
                    byte ^ i8::MIN
                } else {
                    byte
                });
            }
        }),
    }
    out
}

#[test]
fn every_layout_gives_the_exact_sums() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..300 {
        let tokens = 1 + round % 16;
        let at_once = matmul::rows_at_once(tokens);
        let (rows, cols) = (1 + random.below(2 * at_once), 1 + random.below(400));
        let stride = cols.next_multiple_of(16);
        let mut x: Vec<i8> = (0..tokens * stride).map(|_| random.byte()).collect();
        let mut weights: Vec<i8> = (0..rows * stride).map(|_| random.byte()).collect();
        if round % 7 == 0 {
            x.fill(127);
            weights.fill(-127);
        }
        for row in x.chunks_mut(stride).chain(weights.chunks_mut(stride)) {
            row[cols..].fill(0);
        }
        let plain = |row: usize, token: usize| -> i32 {
            let (w, x) = (
                &weights[row * stride..][..stride],
                &x[token * stride..][..stride],
            );
            w.iter()
                .zip(x)
                .map(|(w, x)| i32::from(*w) * i32::from(*x))
                .sum()
        };
        for layout in Layout::ALL {
            let bytes = packed(&weights, stride, layout);
            let matrix = Weights::new(&bytes, stride, layout);
            // Rows as the target's kernels want them.
            let room = layout.activation_bytes();
            let (pitch, form) = (stride * room, matrix.form());
            let mut rows_of_x = vec![0i8; tokens * pitch];
            for (to, from) in rows_of_x.chunks_mut(pitch).zip(x.chunks(stride)) {
                // The values are in the last bytes of what the form takes.
                let to = &mut to[..form.bytes(stride)];
                let first = to.len() - stride;
                to[first..].copy_from_slice(from);
                form.prepare(to);
            }
            let input = Rows {
                bytes: &rows_of_x,
                pitch,
                form,
            };
            for first in (0..rows).step_by(at_once) {
                let count = at_once.min(rows - first);
                let mut sums = vec![99; count * tokens];
                matmul::dots(&matrix, first, count, input, tokens, &mut sums);
                for (index, sum) in sums.iter().enumerate() {
                    let wanted = plain(first + index / tokens, index % tokens);
                    assert_eq!(*sum, wanted, "{layout:?} {rows} x {cols}, {tokens} tokens");
                }
            }
        }
    }
}

#[test]
fn lanes_of_weights_and_activations_give_products() {
    let mut random = Random(0x5851_F42D_4C95_7F2D);
    for _ in 0..200 {
        let x: [i8; 16] = core::array::from_fn(|_| random.byte());
        let w: [i8; 16] = core::array::from_fn(|_| random.byte());
        let mut row = [0i8; 32];
        row[16..].copy_from_slice(&x);
        lanes::prepare(&mut row);
        let halves = |bytes: &[i8]| -> Vec<i32> {
            let pairs = bytes.chunks_exact(2);
            pairs
                .map(|pair| i16::from_le_bytes([pair[0] as u8, pair[1] as u8]).into())
                .collect()
        };
        let mut sum = 0;
        for (w, x) in packed(&w, 16, Layout::Lanes4)
            .chunks_exact(16)
            .step_by(1)
            .zip(row.chunks(8))
        {
            // The block's first row.
            let (w, x) = (&w[..4], halves(x));
            let lanes = halves(w);
            sum += lanes[0] * x[0] + lanes[1] * x[1];
            sum += i32::from(w[0]) * x[2] + i32::from(w[2]) * x[3];
        }
        let plain: i32 = w
            .iter()
            .zip(&x)
            .map(|(w, x)| i32::from(*w) * i32::from(*x))
            .sum();
        assert_eq!(sum, 256 * plain);
    }
}

#[test]
fn a_row_of_a_batch_of_floats_has_its_own_bits() {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    for round in 0..600 {
        let (rows, cols) = (1 + round % 16, 1 + random.below(300));
        let stride = cols + random.below(9);
        let x: Vec<f32> = (0..rows * stride).map(|_| random.float()).collect();
        let weights: Vec<f32> = (0..cols).map(|_| random.float()).collect();
        let halves: Vec<u16> = weights
            .iter()
            .map(|w| half::f16::from_f32(*w).to_bits())
            .collect();
        let (mut sums, mut of_halves) = (vec![9.0; rows], vec![9.0; rows]);
        float::dot_rows(&x, stride, &weights, &mut sums);
        float::dot_rows_f16(&x, stride, &halves, &mut of_halves);
        for row in 0..rows {
            let values = &x[row * stride..][..cols];
            let alone = float::dot(values, &weights);
            assert_eq!(sums[row].to_bits(), alone.to_bits(), "{rows} x {cols}");
            let alone = float::dot_f16(values, &halves);
            assert_eq!(of_halves[row].to_bits(), alone.to_bits(), "{rows} x {cols}");
        }
    }
}

#[test]
fn int4_is_the_formula_of_the_contract() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    for round in 0..600 {
        let (rows, cols) = (1 + round % 16, 1 + random.below(300));
        let (stride, groups) = (cols.next_multiple_of(16), cols.div_ceil(32));
        let mut x: Vec<i8> = (0..rows * stride).map(|_| random.byte()).collect();
        for row in x.chunks_mut(stride) {
            row[cols..].fill(0);
        }
        let zeros: Vec<i32> = (0..rows).map(|_| random.byte().into()).collect();
        // Any nibble may occur, −8 too; columns past the end hold 8, which stands for 0.
        let weights: Vec<i32> = (0..groups * 32)
            .map(|i| {
                if i < cols {
                    random.below(16) as i32 - 8
                } else {
                    0
                }
            })
            .collect();
        let packed: Vec<u8> = weights
            .chunks(32)
            .flat_map(|group| (0..16).map(|j| ((group[j] + 8) | (group[j + 16] + 8) << 4) as u8))
            .collect();
        let scales: Vec<u16> = (0..groups)
            .map(|_| half::f16::from_f32(random.float()).to_bits())
            .collect();
        let mut sums = vec![9.0; rows];
        let input = Rows {
            bytes: &x,
            pitch: stride,
            form: Form::Bytes,
        };
        int4::dot_rows(input, &zeros, &packed, &scales, &mut sums);
        for row in 0..rows {
            let mut wanted = 0.0f32;
            for (group, scale) in scales.iter().enumerate() {
                let mut exact = 0i32;
                for column in group * 32..(group * 32 + 32).min(cols) {
                    exact += (i32::from(x[row * stride + column]) - zeros[row]) * weights[column];
                }
                wanted += exact as f32 * half::f16::from_bits(*scale).to_f32_const();
            }
            assert_eq!(sums[row].to_bits(), wanted.to_bits(), "{rows} x {cols}");
        }
    }
}
