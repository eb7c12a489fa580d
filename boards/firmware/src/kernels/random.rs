//! Random numbers (xorshift), and shapes and values that have broken kernels before.

/// A generator.
pub struct Random(u32);

impl Random {
    /// With a seed.
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9) | 1)
    }

    /// 32 bits.
    pub fn bits(&mut self) -> u32 {
        let mut x = self.0;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.0 = x;
        x.wrapping_mul(0x2C1B_3C6D)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u64::from(self.bits()) * limit as u64) >> 32) as usize
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }

    /// Signed bytes within ±127: of the kind 0 any, 1 extremes, 2 all 127, 3 all −127, 4 mostly 0.
    pub fn bytes(&mut self, kind: usize, out: &mut [i8]) {
        for out in out {
            let bits = self.bits();
            *out = match kind {
                0 => (bits >> 24).max(1) as u8 as i8 ^ i8::MIN,
                1 if bits >> 31 == 0 => 127,
                1 | 3 => -127,
                2 => 127,
                _ if bits >> 28 == 0 => (bits & 63) as i8,
                _ => 0,
            };
        }
    }

    /// A finite float: of the kind 0 about 1, 1 of any size whose products are finite, 2 so small that
    /// products are subnormal, 3 subnormal, zero or about 1.
    pub fn float(&mut self, kind: usize) -> f32 {
        let bits = self.bits();
        let exponent = match kind {
            0 => 120 + bits % 8,
            1 => 67 + bits % 120,
            2 => 55 + bits % 20,
            _ if bits % 3 == 0 => 127,
            _ if bits % 3 == 1 => 0,
            _ => return f32::from_bits(bits & (1 << 31)),
        };
        let rest = self.bits() & 0x807F_FFFF;
        f32::from_bits(rest | exponent << 23)
    }

    /// A finite half-precision number's bits.
    pub fn half(&mut self, kind: usize) -> u16 {
        let bits = self.bits() as u16;
        match kind {
            // Infinities and NaN have the greatest exponent.
            0 | 1 if bits & 0x7C00 == 0x7C00 => bits & 0xBFFF,
            0 | 1 => bits,
            // Subnormal.
            _ => bits & 0x83FF,
        }
    }
}
