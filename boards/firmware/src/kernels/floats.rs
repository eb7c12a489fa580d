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

/// Quantization by the rule itself, of rows whose ends lie half a step outside too, and weighted sums
/// of rows against their twin.
pub fn quantized(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let mut cases = 0;
    for count in 0..MOST {
        let (kind, sides) = (random.below(4), random.below(3));
        let (x, rest) = floats(bench.memory).split_at_mut(MOST);
        let x = &mut x[..count];
        for value in x.iter_mut() {
            *value = random.float(kind);
            match sides {
                0 => {}
                1 => *value = value.abs(),
                _ => *value = -value.abs(),
            }
        }
        if count % 7 == 3 {
            x[count / 2] = f32::NAN;
        }
        let shape = [count, kind, sides, 0, 0, 0];
        let mut q = [5; MOST + 16];
        let affine = integer::quantize(x, &mut q[..count.next_multiple_of(16)]);
        let numbers = || x.iter().filter(|x| !x.is_nan());
        let low = numbers().fold(0.0_f32, |low, x| low.min(*x));
        let high = numbers().fold(0.0_f32, |high, x| high.max(*x));
        let range = high - low;
        let (mut scale, mut zero, mut inverse) = (0.0, 0, 0.0);
        if range >= integer::TINY && range.is_finite() {
            inverse = 254.0 / range;
            (scale, zero) = (range / 254.0, rne(-127.0 - low * inverse));
        }
        let byte = |x: f32| match scale {
            0.0 => 0,
            _ if x.is_nan() => zero.clamp(-127, 127) as i8,
            _ => (rne(x * inverse) + zero).clamp(-127, 127) as i8,
        };
        let same = x.iter().zip(&q).all(|(x, q)| byte(*x) == *q);
        if !same || affine.scale.to_bits() != scale.to_bits() || affine.zero != zero {
            return Err(Wrong {
                what: "integer::quantize of values, kind, sides",
                shape,
            });
        }
        let scale = integer::quantize_symmetric(x, &mut q[..count]);
        let greatest = numbers().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
        let is_tiny = greatest < integer::TINY || !greatest.is_finite();
        let byte = |x: f32| match x * (127.0 / greatest) {
            _ if is_tiny || x.is_nan() => 0,
            steps => rne(steps) as i8,
        };
        let wanted = if is_tiny { 0.0 } else { greatest / 127.0 };
        let same = x.iter().zip(&q).all(|(x, q)| byte(*x) == *q);
        if !same || scale.to_bits() != wanted.to_bits() {
            return Err(Wrong {
                what: "integer::quantize_symmetric of values, kind, sides",
                shape,
            });
        }
        // `count` rows of some columns, the last of which may end early.
        let (columns, more) = (random.below(40), random.below(3));
        let (bytes, rest) = rest.split_at_mut((MOST + 1) * 11);
        let bytes = signed(as_bytes(bytes));
        random.bytes(kind, bytes);
        let pitch = columns + more;
        let values = &bytes[..(count * pitch).saturating_sub(random.below(5))];
        let weights = &mut as_halves(rest)[..count];
        for weight in weights.iter_mut() {
            *weight = random.below(32768) as u16;
        }
        let weights: &[i16] = as_signed(weights);
        let sums: [fn(&[i16], &[i8], usize, &mut [i32]); 2] =
            [integer::weighted_sums, integer::portable_weighted_sums];
        let [got, wanted] = sums.map(|sums| {
            let mut out = [3; 40];
            sums(weights, values, pitch, &mut out[..columns]);
            out
        });
        if got != wanted {
            return Err(Wrong {
                what: "integer::weighted_sums of rows, columns, pitch",
                shape: [count, columns, pitch, 0, 0, 0],
            });
        }
        cases += 3;
    }
    Ok(cases)
}

/// Half to even.
fn rne(x: f32) -> i32 {
    ((x + 12_582_912.0) - 12_582_912.0) as i32
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

/// Floats as bytes.
fn as_bytes(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: any float is four bytes.
    unsafe { core::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 4 * floats.len()) }
}

/// Halves as signed numbers.
fn as_signed(halves: &[u16]) -> &[i16] {
    // SAFETY: both are plain.
    unsafe { core::slice::from_raw_parts(halves.as_ptr().cast(), halves.len()) }
}

/// Floats as halves, twice as many.
fn as_halves(floats: &mut [f32]) -> &mut [u16] {
    // SAFETY: any two bytes are a u16, at a multiple of 2.
    unsafe { core::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
}
