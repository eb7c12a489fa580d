//! palmtop as a static library for C. The functions are those of `tools/capi`; here is what a library
//! needs besides when it is not part of a Rust program.
#![no_std]

pub use palmtop_capi::*;

/// Traps. No function of the library reaches it: `cargo xtask test` links all of them into a program
/// that would not link if one did.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: an instruction that no core executes: the fault handler, or the debugger, gets it.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("udf #0", options(noreturn, nomem, nostack));
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!("unimp", options(noreturn, nomem, nostack));
    }
}

#[cfg(not(target_os = "none"))]
extern crate std;
