//! Float rows against their portable twins, bit for bit: random numbers, tiny ones and zeros among
//! them.

use palmtop::kernels::matmul::{Form, Rows};
use palmtop::kernels::{float, int4, integer};

use super::products::signed;
use super::random::Random;
use super::{Bench, Wrong};

/// Most values of a row.
const MOST: usize = 200;

/// A dot product of f32 or f16 weights.
type One<W> = fn(&[f32], &[W]) -> f32;

/// Dot products of several rows.
type Several<W> = fn(&[f32], usize, &[W], &mut [f32]);

/// f32 and f16 weights, one row and several.
pub fn rows(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    use float::portable;
    let mut random = Random::new(seed);
    let (weights, rest) = floats(bench.memory).split_at_mut(MOST);
    let (rows, halves) = rest.split_at_mut(16 * (MOST + 4));
    let halves: &mut [u16] = as_halves(&mut halves[..MOST]);
    let mut cases = 0;
    for count in 0..MOST {
        let tokens = cases as usize % 16 + 1;
        let pitch = count + 4 * random.below(2);
        let kind = random.below(4);
        for value in weights.iter_mut().chain(rows.iter_mut()) {
            *value = random.float(kind);
        }
        for half in halves.iter_mut() {
            *half = random.half(kind);
        }
        let rows = &rows[..tokens * pitch + MOST];
        let weights = &weights[..count];
        let halves = &halves[..count];
        let shape = [count, tokens, pitch, kind, 0, 0];
        let wrong = |what| Err(Wrong { what, shape });
        let one: [One<f32>; 2] = [float::dot, portable::dot];
        if !same(&one.map(|dot| [dot(&rows[..count], weights)])) {
            return wrong("float::dot of columns, -, -, kind");
        }
        let one: [One<u16>; 2] = [float::dot_f16, portable::dot_f16];
        if !same(&one.map(|dot| [dot(&rows[..count], halves)])) {
            return wrong("float::dot_f16 of columns, -, -, kind");
        }
        let several: [Several<f32>; 2] = [float::dot_rows, portable::dot_rows];
        let sums = several.map(|dots| {
            let mut sums = [1.0; 16];
            dots(rows, pitch, weights, &mut sums[..tokens]);
            sums
        });
        if !same(&sums) {
            return wrong("float::dot_rows of columns, rows, pitch, kind");
        }
        let several: [Several<u16>; 2] = [float::dot_rows_f16, portable::dot_rows_f16];
        let sums = several.map(|dots| {
            let mut sums = [1.0; 16];
            dots(rows, pitch, halves, &mut sums[..tokens]);
            sums
        });
        if !same(&sums) {
            return wrong("float::dot_rows_f16 of columns, rows, pitch, kind");
        }
        cases += 4;
    }
    Ok(cases)
}

/// Dot products of bytes, from any address on.
pub fn bytes(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let mut cases = 0;
    for count in 0..300 {
        let (a, b) = bench.memory.split_at_mut(512);
        let (shift_a, shift_b) = (random.below(4), random.below(4));
        let a = &mut signed(a)[shift_a..][..count];
        let b = &mut signed(b)[shift_b..][..count + count % 3];
        let kind = random.below(5);
        random.bytes(kind, a);
        random.bytes((kind + 1) % 3, b);
        if integer::dot(a, b) != integer::portable_dot(a, b) {
            return Err(Wrong {
                what: "integer::dot of values, from addresses, kind",
                shape: [count, shift_a, shift_b, kind, 0, 0],
            });
        }
        cases += 1;
    }
    Ok(cases)
}

/// Groups of four-bit weights, by the rule itself.
pub fn int4(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let mut cases = 0;
    for pitch in (16..=160_usize).step_by(16) {
        let groups = pitch.div_ceil(32);
        let tokens = cases as usize % 16 + 1;
        let bytes = &mut signed(bench.memory)[..16 * 160];
        let kind = random.below(5);
        random.bytes(kind, bytes);
        let (mut packed, mut scales, mut zeros) = ([0; 16 * 5], [0; 5], [0; 16]);
        for byte in &mut packed {
            *byte = random.bits() as u8;
        }
        for scale in &mut scales {
            *scale = random.half(kind % 3);
        }
        for zero in &mut zeros {
            *zero = random.below(255) as i32 - 127;
        }
        let (packed, scales) = (&packed[..16 * groups], &scales[..groups]);
        let rows = Rows {
            bytes,
            pitch,
            form: Form::Bytes,
        };
        let mut got = [1.0; 16];
        int4::dot_rows(rows, &zeros, packed, scales, &mut got[..tokens]);
        for (row, got) in got[..tokens].iter().enumerate() {
            let mut wanted = 0.0;
            for (index, group) in packed.as_chunks().0.iter().enumerate() {
                let (mut exact, weights) = (0, int4::unpack(group));
                for (at, weight) in weights.iter().enumerate() {
                    let col = 32 * index + at;
                    let q = if col < pitch {
                        bytes[row * pitch + col].into()
                    } else {
                        0
                    };
                    exact += q * i32::from(*weight) - zeros[row] * i32::from(*weight);
                }
                wanted += exact as f32 * float::widen(scales[index]);
            }
            if got.to_bits() != wanted.to_bits() {
                return Err(Wrong {
                    what: "int4::dot_rows of columns, rows, row, kind",
                    shape: [pitch, tokens, row, kind, 0, 0],
                });
            }
        }
        cases += 1;
    }
    Ok(cases)
}

/// Whether both have the same bits.
fn same<const N: usize>(pair: &[[f32; N]; 2]) -> bool {
    let [a, b] = pair;
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Bytes at a multiple of 4 as floats.
pub fn floats(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: any four bytes are a float; what is not aligned is left out.
    unsafe { bytes.align_to_mut().1 }
}

/// Floats as halves, twice as many.
fn as_halves(floats: &mut [f32]) -> &mut [u16] {
    // SAFETY: any two bytes are a u16, at a multiple of 2.
    unsafe { core::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
}
