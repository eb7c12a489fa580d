//! Kernels in assembly for RISC-V microcontrollers. Each has a portable twin that defines its result;
//! the firmware's own tests run both on the emulated core.

pub(super) mod rv32;
