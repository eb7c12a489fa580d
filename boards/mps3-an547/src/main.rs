//! palmtop on a Cortex-M55 on QEMU's mps3-an547.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

// The kernels for Helium are in through a feature; nothing of it is named here.
use palmtop as _;

/// Configuration and control: bit 19 lets the core keep low-overhead loops.
const CCR: *mut u32 = 0xE000_ED14 as *mut u32;

#[cortex_m_rt::entry]
fn main() -> ! {
    // The vector unit is on: the runtime has set CP10 and CP11 in CPACR, as for every core with an FPU.
    // SAFETY: a register of the processor's system control space, which nothing else touches.
    unsafe { CCR.write_volatile(CCR.read_volatile() | 1 << 19) };
    let board = Board {
        name: "m55",
        model: 0x6000_0000,
        window: 256 << 20,
        flash: 0x0004_0000,
        flash_window: 256 << 10,
        mhz: 32,
    };
    run(&board, arena!(3 << 20))
}
