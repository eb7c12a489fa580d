//! Kernels in assembly for Arm's microcontrollers. Each has a portable twin that defines its result;
//! the firmware's own tests run both on every emulated core.

#[cfg(kernels = "dsp")]
pub(super) mod dsp;
#[cfg(fpu)]
pub(crate) mod fpu;
#[cfg(kernels = "mve")]
pub(super) mod mve;
#[cfg(kernels = "mve")]
pub(crate) mod mve_product;
#[cfg(fpu)]
pub(crate) mod quantize;
#[cfg(kernels = "v6m")]
pub(super) mod v6m;
#[cfg(kernels = "v7m")]
pub(super) mod v7m;
#[cfg(any(kernels = "dsp", kernels = "mve"))]
pub(super) mod weighted;
