//! palmtop on a Cortex-M3 on QEMU's mps2-an385.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Board {
        name: "m3",
        model: 0x2100_0000,
        window: 16 << 20,
        flash: 0x0010_0000,
        flash_window: 3 << 20,
        mhz: 25,
    };
    run(&board, arena!(3 << 20))
}
