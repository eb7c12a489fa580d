//! Kernels over a batch of rows give each row the bits that it gets by itself, at any width, and
//! int4 is the contract's formula.

use palmtop::kernels::{float, int4, integer};

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

#[test]
fn a_row_of_a_batch_of_bytes_has_its_own_sum() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..600 {
        let (rows, cols) = (1 + round % 16, 1 + random.below(400));
        let stride = cols.next_multiple_of(16);
        let mut x: Vec<i8> = (0..rows * stride).map(|_| random.byte()).collect();
        let mut weights: Vec<i8> = (0..stride).map(|_| random.byte()).collect();
        weights[cols..].fill(0);
        if round % 7 == 0 {
            x.fill(127);
            weights[..cols].fill(-127);
        }
        let mut sums = vec![99; rows];
        integer::dot_rows(&x, stride, &weights, &mut sums);
        for (row, sum) in sums.iter().enumerate() {
            let row = &x[row * stride..][..stride];
            let plain = row
                .iter()
                .zip(&weights)
                .map(|(q, w)| i32::from(*q) * i32::from(*w));
            assert_eq!(*sum, plain.sum::<i32>(), "{rows} x {cols}");
            assert_eq!(*sum, integer::dot(row, &weights));
        }
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
        int4::dot_rows(&x, stride, &zeros, &packed, &scales, &mut sums);
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
