//! palmtop on a RV32IMAC on QEMU's riscv32 virt machine.
#![no_std]
#![no_main]

use palmtop_firmware::{Board, arena, run};

#[riscv_rt::entry]
fn main() -> ! {
    let board = Board {
        name: "rv32",
        model: 0x8400_0000,
        window: 64 << 20,
        flash: 0x8400_0000,
        flash_window: 64 << 20,
        mhz: 0,
    };
    run(&board, arena!(12 << 20))
}
