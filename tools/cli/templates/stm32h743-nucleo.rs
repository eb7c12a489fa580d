//! The board: a NUCLEO-H743ZI2. The console is the serial port that the board's debugger shows,
//! 115,200 baud.

pub use cortex_m_rt::entry;

use nb::block;
use stm32h7xx_hal::pac::{self, USART3};
use stm32h7xx_hal::prelude::*;
use stm32h7xx_hal::serial::Serial;

/// A console.
pub struct Console(Serial<USART3>);

impl Console {
    /// Sets clocks and caches, and switches the UART on.
    pub fn new() -> Self {
        let p = pac::Peripherals::take().expect("taken once");
        let mut core = cortex_m::Peripherals::take().expect("taken once");
        core.SCB.enable_icache();
        core.SCB.enable_dcache(&mut core.CPUID);
        let power = p.PWR.constrain().freeze();
        let ccdr = p.RCC.constrain();
        let ccdr = ccdr.sys_ck(400.MHz()).freeze(power, &p.SYSCFG);
        let pins = p.GPIOD.split(ccdr.peripheral.GPIOD);
        let pins = (pins.pd8.into_alternate(), pins.pd9.into_alternate());
        let uart = p.USART3;
        let uart = uart.serial(pins, 115_200.bps(), ccdr.peripheral.USART3, &ccdr.clocks);
        Self(uart.ok().expect("a baud rate that it has"))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        loop {
            if let Ok(byte) = block!(self.0.read()) {
                return byte;
            }
        }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let _ = block!(self.0.write(byte));
        }
    }
}
