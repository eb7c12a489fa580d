//! Marks between the phases of a run, for who watches from outside: a plugin of the emulator, or a
//! debugger with a breakpoint.

use core::arch::asm;

/// Does nothing. It is called before an encoding, after it, and after each decoder step; its symbol
/// tells a watcher where a phase ends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palmtop_mark() {
    // SAFETY: no instruction at all; it only keeps the call in the program.
    unsafe { asm!("", options(nomem, nostack, preserves_flags)) }
}
