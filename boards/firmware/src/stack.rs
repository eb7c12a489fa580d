//! Measures the deepest use of the stack by painting: the words below the stack pointer are filled
//! with a pattern, and the lowest one that no longer holds it tells how far the stack grew.

use core::arch::asm;

/// What unused stack words hold.
const PAINT: u32 = 0xA5C3_5A3C;

/// How far below the stack pointer is painted. A deeper stack is reported as this much.
const DEPTH: usize = 64 * 1024;

/// Left unpainted below the stack pointer of [`Paint::new`] for what that function itself uses.
const MARGIN: usize = 64;

/// A painted stack.
pub struct Paint {
    bottom: *const u32,
    words: usize,
}

impl Paint {
    /// Paints up to 64 KiB below the stack pointer, or down to `floor`, where the stack's room ends.
    #[inline(never)]
    #[must_use]
    pub fn new(floor: usize) -> Self {
        let top = (stack_pointer() - MARGIN) & !3;
        let bottom = top.saturating_sub(DEPTH).max(floor.next_multiple_of(4));
        let words = top.saturating_sub(bottom) / 4;
        let start = bottom as *mut u32;
        for i in 0..words {
            // SAFETY: between the end of the static data and the stack pointer nothing lives; the
            // SysTick handler may overwrite a few words, which only counts as use of the stack.
            unsafe { start.add(i).write_volatile(PAINT) };
        }
        Self {
            bottom: start,
            words,
        }
    }

    /// Bytes from the top of the stack to the deepest word that was written since.
    #[inline(never)]
    #[must_use]
    pub fn peak(&self, top: usize) -> usize {
        let mut i = 0;
        // SAFETY: the words that `new` painted; they are plain memory.
        while i < self.words && unsafe { self.bottom.add(i).read_volatile() } == PAINT {
            i += 1;
        }
        top.saturating_sub(self.bottom as usize + 4 * i)
    }
}

fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "arm")]
        asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "riscv32")]
        asm!("mv {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

unsafe extern "C" {
    static _stack_start: u32;
    #[cfg_attr(target_arch = "arm", link_name = "_stack_end")]
    #[cfg_attr(target_arch = "riscv32", link_name = "__eheap")]
    static stack_floor: u32;
}

/// The stack's first address and the end of the room that it has, from the linker script.
#[must_use]
pub fn bounds() -> (usize, usize) {
    (
        &raw const _stack_start as usize,
        &raw const stack_floor as usize,
    )
}
