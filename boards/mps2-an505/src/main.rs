//! palmtop on a Cortex-M33 on QEMU's mps2-an505.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Board {
        name: "m33",
        model: 0x8000_0000,
        window: 16 << 20,
        flash: 0x1010_0000,
        flash_window: 3 << 20,
        mhz: 20,
    };
    run(&board, arena!(1536 << 10))
}
