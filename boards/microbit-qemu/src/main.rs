//! palmtop on a Cortex-M0 on QEMU's microbit with enlarged memory.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Board {
        name: "m0",
        model: 0x0010_0000,
        window: 3 << 20,
        flash: 0x0010_0000,
        flash_window: 3 << 20,
        mhz: 16,
    };
    run(&board, arena!(192 << 10))
}
