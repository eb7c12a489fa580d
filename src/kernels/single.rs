//! Single-precision numbers, with instructions or without.

use core::cmp::Ordering;
use core::ops::{Add, Div, Mul, Neg, Sub};

use super::math;
use super::soft;

/// An f32 whose operations are compiled into float instructions where the target has them, and are
/// those of [`soft`] where it has not. The bits are the same, but for the payload of NaN.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single(pub f32);

impl Single {
    /// Zero.
    pub const ZERO: Self = Self(0.0);
    /// One.
    pub const ONE: Self = Self(1.0);

    /// A constant from its bits.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(f32::from_bits(bits))
    }

    /// Its bits.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0.to_bits()
    }

    /// `self + other`, compiled into the loop that needs it often.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        if soft::USED {
            Self(soft::add(self.0, other.0))
        } else {
            Self(self.0 + other.0)
        }
    }

    /// `self · other`, compiled into the loop that needs it often.
    #[inline(always)]
    pub fn times(self, other: Self) -> Self {
        if soft::USED {
            Self(soft::mul(self.0, other.0))
        } else {
            Self(self.0 * other.0)
        }
    }

    /// The nearest float.
    #[inline(always)]
    pub fn from_i32(number: i32) -> Self {
        if soft::USED {
            Self(soft::from_i32(number))
        } else {
            Self(number as f32)
        }
    }

    /// The nearest integer, ties to even, for magnitudes below 2²²; not for NaN.
    #[inline(always)]
    pub fn round(self) -> i32 {
        let shifted = self + Self(math::ROUND_MAGIC);
        (shifted.to_bits() as i32).wrapping_sub(math::ROUND_MAGIC.to_bits() as i32)
    }
}

impl PartialEq for Single {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl PartialOrd for Single {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }

    #[inline(always)]
    fn lt(&self, other: &Self) -> bool {
        if soft::USED {
            soft::less(self.0, other.0)
        } else {
            self.0 < other.0
        }
    }

    #[inline(always)]
    fn gt(&self, other: &Self) -> bool {
        other.lt(self)
    }
}

/// An operator, by `soft` or by the target's instruction.
macro_rules! operator {
    ($operator:ident, $method:ident, $soft:ident, $plain:tt) => {
        impl $operator for Single {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                if soft::USED {
                    Self(soft::call::$soft(self.0, other.0))
                } else {
                    Self(self.0 $plain other.0)
                }
            }
        }
    };
}

operator!(Add, add, add, +);
operator!(Sub, sub, sub, -);
operator!(Mul, mul, mul, *);
operator!(Div, div, div, /);

impl Neg for Single {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0)
    }
}
