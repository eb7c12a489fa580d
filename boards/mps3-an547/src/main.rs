//! palmtop on a Cortex-M55 on QEMU's mps3-an547.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

#[cortex_m_rt::entry]
fn main() -> ! {
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
