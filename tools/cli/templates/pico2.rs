//! The board: a Raspberry Pi Pico 2. The console is UART0 on pins 1 and 2, 115,200 baud.

pub use cortex_m_rt::entry;

use embassy_rp::uart::{Blocking, Config, Uart};

/// A console.
pub struct Console(Uart<'static, Blocking>);

impl Console {
    /// Sets the clocks, and switches the UART on.
    pub fn new() -> Self {
        let p = embassy_rp::init(Default::default());
        Self(Uart::new_blocking(
            p.UART0,
            p.PIN_0,
            p.PIN_1,
            Config::default(),
        ))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        let mut byte = [0];
        while self.0.blocking_read(&mut byte).is_err() {}
        byte[0]
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.blocking_write(bytes);
    }
}
