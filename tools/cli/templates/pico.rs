//! The board: a Raspberry Pi Pico. The console is UART0 on pins 1 and 2, 115,200 baud.

pub use rp2040_hal::entry;

use rp2040_hal as hal;

/// The second-stage boot loader, for the W25Q flash on the board.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

