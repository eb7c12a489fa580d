//! The board: a Raspberry Pi Pico 2 with its RISC-V cores. The console is UART0 on pins 1 and 2,
//! 115,200 baud.

pub use rp235x_hal::entry;

use core::arch::global_asm;

use hal::block::ImageDef;
use rp235x_hal as hal;

/// What the boot ROM wants to know of the image.
#[unsafe(link_section = ".start_block")]
#[used]
static IMAGE: ImageDef = ImageDef::secure_exe();

// The image's first instruction: see `memory.x`.
global_asm!(".section .boot.jump, \"ax\"", "j _start", ".text");

