//! The board: an ESP32-C3-DevKitM-1. The console is UART0, the port of the kit's USB bridge, 115,200
//! baud. The chip maps the model from flash through its cache; esp-hal's script has the memory.

pub use esp_hal::main as entry;

use esp_hal::Blocking;
use esp_hal::clock::CpuClock;
use esp_hal::uart::{Config, Uart};

esp_bootloader_esp_idf::esp_app_desc!();

/// A console.
pub struct Console(Uart<'static, Blocking>);

impl Console {
    /// Sets the clocks, and switches the UART on.
    pub fn new() -> Self {
        let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
        let uart = Uart::new(p.UART0, Config::default()).expect("a configuration that it has");
        Self(uart.with_rx(p.GPIO20).with_tx(p.GPIO21))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        let mut byte = [0];
        while !matches!(self.0.read(&mut byte), Ok(1)) {}
        byte[0]
    }

    /// Writes bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while let Ok(written @ 1..) = self.0.write(bytes) {
            bytes = bytes.get(written..).unwrap_or_default();
        }
    }
}
