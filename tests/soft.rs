//! Float arithmetic by integer instructions gives the bits of the operators.

use palmtop::kernels::soft::{self, Factor};

/// Numbers that scatter.
struct Scatter(u64);

impl Scatter {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Floats of all sorts: any bits, exponents near one another, few significant bits, extremes.
    fn float(&mut self) -> f32 {
        let bits = self.next();
        f32::from_bits(match self.next() % 8 {
            0 => bits,
            1 | 2 => bits & 0x81ff_ffff | 0x3e00_0000,
            3 => bits & 0x807f_ffff | (112 + self.next() % 32) << 23,
            // Ties need trailing zeros.
            4 => bits & (0xffff_ffff << (self.next() % 24)) & 0x8fff_ffff | 0x3800_0000,
            5 => bits & 0x8000_00ff | 0x3f7f_ff00,
            6 => {
                const EDGES: [u32; 14] = [
                    0,
                    1,
                    0x007f_ffff,
                    0x0080_0000,
                    0x0080_0001,
                    0x00ff_ffff,
                    0x3f80_0000,
                    0x3f80_0001,
                    0x3f7f_ffff,
                    0x7f7f_ffff,
                    0x7f80_0000,
                    0x7fc0_0000,
                    0x7f00_0000,
                    0x4b80_0000,
                ];
                EDGES[self.next() as usize % EDGES.len()] | bits & 0x8000_0000
            }
            _ => bits & 0x83ff_ffff | 0x3c00_0000,
        })
    }
}

fn assert_same(what: &str, got: f32, expected: f32, operands: [f32; 2]) {
    let bits = operands.map(f32::to_bits);
    if expected.is_nan() {
        assert!(got.is_nan(), "{what} {bits:x?}: {got}");
    } else {
        let (got, expected) = (got.to_bits(), expected.to_bits());
        assert_eq!(got, expected, "{what} {bits:x?}: {got:x} {expected:x}");
    }
}

#[test]
fn operations_give_the_bits_of_the_operators() {
    let mut numbers = Scatter(1);
    for _ in 0..20_000_000u32 {
        let (a, b) = (numbers.float(), numbers.float());
        let operands = [a, b];
        assert_same("+", soft::add(a, b), a + b, operands);
        assert_same("-", soft::sub(a, b), a - b, operands);
        assert_same("*", soft::mul(a, b), a * b, operands);
        assert_same("/", soft::div(a, b), a / b, operands);
        assert_eq!(soft::less(a, b), a < b, "{a} < {b}");
    }
}

/// Integers of any number of bits.
fn integer(numbers: &mut Scatter) -> i32 {
    let bits = numbers.next() as i32 >> (numbers.next() % 32);
    match numbers.next() % 16 {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => 0,
        // Ties of the conversion.
        3 => (bits | 1) << (numbers.next() % 8),
        _ => bits,
    }
}

#[test]
fn integers_are_converted_and_scaled() {
    let mut numbers = Scatter(2);
    for _ in 0..10_000_000u32 {
        let (number, factor) = (integer(&mut numbers), numbers.float());
        let converted = number as f32;
        assert_same("i32", soft::from_i32(number), converted, [0.0; 2]);
        let got = soft::scaled(number, Factor::new(factor));
        assert_same("scaled", got, converted * factor, [converted, factor]);
    }
}

fn rne(x: f32) -> i32 {
    x.round_ties_even() as i32
}

#[test]
fn products_are_rounded_to_integers() {
    let mut numbers = Scatter(3);
    let mut ties = 0;
    for turn in 0..10_000_000u32 {
        let limit = if turn & 1 == 0 { 254.0 } else { 32767.0f32 };
        let greatest = f32::from_bits(numbers.next() % 0x7e00_0000).max(1e-30);
        let inverse = limit / greatest;
        // A share of the greatest: any, or one near a tie.
        let share = match numbers.next() % 4 {
            0 => (numbers.next() % 1000) as f32 / 999.0,
            1 => ((numbers.next() % limit as u32) as f32 + 0.5) / limit,
            2 => (numbers.next() % 1024) as f32 / 1024.0 * 1e-3,
            _ => (numbers.next() % 0xff_ffff) as f32 / 16_777_215.0,
        };
        let moved = (greatest * share)
            .to_bits()
            .wrapping_add(numbers.next() % 5);
        let x = f32::from_bits(moved.saturating_sub(2)).min(greatest);
        let x = if numbers.next() & 1 == 0 { x } else { -x };
        let factor = Factor::new(inverse);
        let got = if turn & 1 == 0 {
            soft::round_scaled::<23>(x, factor)
        } else {
            soft::round_scaled::<16>(x, factor)
        };
        if turn & 1 == 0 {
            let halves = soft::round_scaled_by::<23, true>(x, factor);
            assert_eq!(halves, got, "{x} · {inverse}");
        }
        ties += u32::from((x * inverse).fract().abs() == 0.5);
        assert_eq!(got, rne(x * inverse), "{x} · {inverse}");
    }
    assert!(ties > 10_000, "{ties} ties");
}

#[test]
fn narrow_cores_get_the_same() {
    let mut numbers = Scatter(4);
    for _ in 0..10_000_000u32 {
        let [a, b] = [(); 2].map(|()| numbers.next() << 8 | 1 << 31);
        let product = u64::from(a) * u64::from(b);
        let expected = ((product >> 32) as u32, product as u32 == 0);
        assert_eq!(soft::product_by_parts(a, b), expected);

        let number = numbers.next() >> (numbers.next() % 32) | 1;
        let zeros = number.leading_zeros();
        let expected = (number << zeros, zeros);
        assert_eq!(soft::normalize_by_steps(number), expected);

        let (mut a, b) = (a >> 8, b >> 8);
        if a < b {
            a <<= 1;
        }
        let dividend = u64::from(a) << 24;
        let expected = (dividend / u64::from(b), dividend % u64::from(b) == 0);
        let (quotient, exact) = soft::quotient_by_bits(a, b);
        assert_eq!((u64::from(quotient), exact), expected);
    }
}
