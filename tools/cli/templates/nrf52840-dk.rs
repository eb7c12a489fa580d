//! The board: an nRF52840-DK. The console is the serial port that the kit's debugger shows, 115,200
//! baud.

pub use cortex_m_rt::entry;

use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::uarte::{self, Uarte};
use embassy_nrf::{bind_interrupts, peripherals};

bind_interrupts!(struct Interrupts {
    UARTE0 => uarte::InterruptHandler<peripherals::UARTE0>;
});

/// A console.
pub struct Console(Uarte<'static>);

impl Console {
    /// Sets the clocks, and switches the UART on.
    pub fn new() -> Self {
        let mut config = Config::default();
        config.hfclk_source = HfclkSource::ExternalXtal; // The baud rate wants the crystal.
        let p = embassy_nrf::init(config);
        Self(Uarte::new(
            p.UARTE0,
            p.P0_08,
            p.P0_06,
            Interrupts,
            uarte::Config::default(),
        ))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        let mut byte = [0];
        while self.0.blocking_read(&mut byte).is_err() {}
        byte[0]
    }

    /// Writes bytes; a copy in RAM for those that lie in flash, which the UART's DMA cannot read.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut copy = [0; 32];
        for part in bytes.chunks(copy.len()) {
            let copy = &mut copy[..part.len()];
            copy.copy_from_slice(part);
            let _ = self.0.blocking_write(copy);
        }
    }
}
