//! temporary
#![allow(missing_docs)]
use super::math::*;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu,
    Gelu,
    GeluTanh,
    Silu,
}
impl Activation {
    pub const fn from_code(c: u8) -> Option<Self> {
        match c {
            0 => Some(Self::Relu),
            1 => Some(Self::Gelu),
            2 => Some(Self::GeluTanh),
            3 => Some(Self::Silu),
            _ => None,
        }
    }
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu => {
                if x > 0.0 {
                    x
                } else {
                    0.0
                }
            }
            Self::Gelu => 0.5 * x * (1.0 + erf(x * 0.70710677)),
            Self::GeluTanh => 0.5 * x * (1.0 + tanh(0.7978846 * (x + 0.044715 * x * x * x))),
            Self::Silu => x / (1.0 + exp(-x)),
        }
    }
    pub fn apply_slice(self, x: &mut [f32]) {
        for x in x {
            *x = self.apply(*x)
        }
    }
}
