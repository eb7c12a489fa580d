//! Kernels in assembly for Arm's microcontrollers. Each has a portable twin that defines its result;
//! the firmware's own tests run both on every emulated core.

#[cfg(kernels = "dsp")]
pub(super) mod dsp;
