//! Arithmetic on rows of numbers. The portable kernels define the bits; any other kernel, for any
//! instruction set, returns the same ones.
//!
//! Kernels know no layers and no models: they take slices. What they may use: `core`, `libm::sqrtf`
//! (exact on every target), the format's constants, and each other.
#![doc = include_str!("CONTRACT.md")]

#[cfg(all(feature = "std", target_arch = "aarch64"))]
pub mod aarch64;
pub mod activation;
#[cfg(any(
    fpu,
    kernels = "v6m",
    kernels = "v7m",
    kernels = "dsp",
    kernels = "mve"
))]
mod arm;
#[cfg(any(kernels = "v6m", kernels = "v7m", kernels = "rv32"))]
mod blocks;
#[cfg(any(
    kernels = "v6m",
    kernels = "v7m",
    kernels = "dsp",
    kernels = "mve",
    kernels = "rv32"
))]
mod call;
pub(crate) mod fast;
pub mod float;
#[cfg(feature = "std")]
pub mod host;
pub mod int4;
pub mod integer;
pub mod lanes;
pub mod layout;
pub mod math;
pub mod matmul;
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod measure;
#[cfg(outputs)]
pub(crate) mod outputs;
#[cfg(feature = "threads")]
pub mod pool;
pub(crate) mod product;
#[cfg(kernels = "rv32")]
mod riscv;
pub mod single;
pub mod soft;
pub mod softmax;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) mod x86;

pub use activation::Activation;
#[cfg(kernels = "mve")]
pub(crate) use arm::mve_product as mve;
#[cfg(fpu)]
pub(crate) use arm::{fpu, quantize};
pub use layout::Layout;
pub use single::Single;
