//! Activation functions of feed-forward layers.
//!
//! # Contract
//!
//! As in [`math`], the code defines the result bits: `f32` additions,
//! multiplications and divisions in the written order, none fused, on top of
//! [`math::exp`], [`math::tanh`] and [`math::erf`]. Every
//! target returns the same bits. One proviso: magnitudes below 2^-125 are
//! subnormal or are halved into the subnormal range, so that a target set to
//! flush subnormal numbers to zero (none is, out of reset) would differ there.
//!
//! The formulas and their operation order are those of PyTorch 2.8 and
//! transformers 4.56.2 in `f32`; results differ from theirs only by the last
//! bits of the elementary functions.

use super::math;
use super::single::Single;

/// One half.
const HALF: Single = Single(0.5);

/// sqrt(1/2), 0.707_106_77.
pub(super) const SQRT_HALF: f32 = f32::from_bits(0x3f35_04f3);

/// sqrt(2/pi), 0.797_884_6.
pub(super) const SQRT_2_OVER_PI: f32 = f32::from_bits(0x3f4c_422a);

/// The cubic coefficient of the tanh form of GELU, 0.044_715.
pub(super) const GELU_CUBIC: f32 = f32::from_bits(0x3d37_2713);

/// An activation function.
///
/// The discriminants are the codes stored in model files; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Activation {
    /// Rectified linear unit, `torch.nn.functional.relu`: `0` if `x < 0`, else
    /// `x`. NaN and `-0.0` pass through.
    Relu = 0,
    /// GELU with the error function, `torch.nn.functional.gelu` and
    /// transformers `"gelu"`: `(0.5 * x) * (1 + erf(x * sqrt(1/2)))`.
    ///
    /// `+inf` gives `+inf`. `-inf` gives NaN, as the formula has it
    /// (`-inf * 0`). Below about -5.5 the result is `-0.0`.
    Gelu = 1,
    /// GELU with the tanh approximation, transformers `"gelu_new"` and
    /// `"gelu_pytorch_tanh"`, `torch.nn.functional.gelu(approximate="tanh")`:
    /// `(0.5 * x) * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * ((x * x) * x))))`.
    ///
    /// `+inf` gives `+inf`; `-inf` gives NaN, as the formula has it. Far below
    /// zero the result is `-0.0`.
    GeluTanh = 2,
    /// SiLU, also called swish, `torch.nn.functional.silu`:
    /// `x / (1 + exp(-x))`.
    ///
    /// `+inf` gives `+inf`; `-inf` gives NaN, as the formula has it. Below
    /// about -88.7 the result is `-0.0`.
    Silu = 3,
}

impl Activation {
    /// The activation with the given code, or `None` if there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Relu),
            1 => Some(Self::Gelu),
            2 => Some(Self::GeluTanh),
            3 => Some(Self::Silu),
            _ => None,
        }
    }

    /// The code of this activation, as stored in model files.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Applies the activation to one value.
    ///
    /// The formula and edge cases are given at each variant. NaN gives NaN.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu => relu(x),
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_tanh(x),
            Self::Silu => silu(x),
        }
    }

    /// Applies the activation to every element, in place.
    ///
    /// The results are those of [`apply`](Self::apply), to the bit.
    pub fn apply_slice(self, x: &mut [f32]) {
        match self {
            Self::Relu => each(x, relu),
            // Files with these are refused then.
            Self::Gelu | Self::GeluTanh if !cfg!(feature = "gelu") => {}
            Self::Gelu => each(x, gelu),
            Self::GeluTanh => each(x, gelu_tanh),
            Self::Silu => each(x, silu),
        }
    }
}

/// Replaces every element by its image under `f`.
#[inline]
fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in x {
        *value = f(*value);
    }
}

#[inline]
fn relu(x: f32) -> f32 {
    // By its bits, which needs no float instruction; what is negative and no NaN, -0.0 apart.
    let bits = x.to_bits();
    if bits > 1 << 31 && bits <= 0xff80_0000 {
        0.0
    } else {
        x
    }
}

#[inline]
fn gelu(x: f32) -> f32 {
    let x = Single(x);
    let e = Single(math::erf((x * Single(SQRT_HALF)).0));
    ((HALF * x) * (Single::ONE + e)).0
}

#[inline]
fn gelu_tanh(x: f32) -> f32 {
    let x = Single(x);
    let cube = (x * x) * x;
    let inner = Single(SQRT_2_OVER_PI) * (x + Single(GELU_CUBIC) * cube);
    let t = Single(math::tanh(inner.0));
    ((HALF * x) * (Single::ONE + t)).0
}

#[inline]
fn silu(x: f32) -> f32 {
    (Single(x) / (Single::ONE + Single(math::exp(-x)))).0
}
