//! The board: an STM32F4 Discovery. The console is USART2 on PA2 and PA3, 115,200 baud.

pub use cortex_m_rt::entry;

use stm32f4xx_hal::pac::{self, USART2};
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc;
use stm32f4xx_hal::serial::Serial;

/// A console.
pub struct Console(Serial<USART2>);

impl Console {
    /// Sets the clocks, and switches the UART on.
    pub fn new() -> Self {
        let p = pac::Peripherals::take().expect("taken once");
        let clocks = rcc::Config::hse(8.MHz()).sysclk(168.MHz());
        let mut rcc = p.RCC.freeze(clocks);
        let pins = p.GPIOA.split(&mut rcc);
        let pins = (pins.pa2, pins.pa3);
        let uart = p.USART2.serial(pins, 115_200.bps(), &mut rcc);
        Self(uart.ok().expect("a baud rate that it has"))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        loop {
            if let Ok(byte) = nb::block!(stm32f4xx_hal::hal_02::serial::Read::<u8>::read(&mut self.0)) {
                return byte;
            }
        }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        use stm32f4xx_hal::hal_02::blocking::serial::Write;
        let _ = self.0.bwrite_all(bytes);
    }
}
