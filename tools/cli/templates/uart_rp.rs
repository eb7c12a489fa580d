use hal::clocks::{Clock, init_clocks_and_plls};
use hal::fugit::RateExtU32;
use hal::gpio::bank0::{Gpio0, Gpio1};
use hal::gpio::{FunctionUart, Pin, Pins, PullDown};
use hal::uart::{DataBits, Enabled, StopBits, UartConfig, UartPeripheral};
use hal::{Sio, Watchdog, pac};

/// Hertz of the crystal on the board.
const CRYSTAL: u32 = 12_000_000;

type Uart0Pins = (
    Pin<Gpio0, FunctionUart, PullDown>,
    Pin<Gpio1, FunctionUart, PullDown>,
);

/// A console.
pub struct Console(UartPeripheral<Enabled, pac::UART0, Uart0Pins>);

impl Console {
    /// Sets the clocks, and switches the UART on.
    pub fn new() -> Self {
        let mut p = pac::Peripherals::take().expect("taken once");
        let mut watchdog = Watchdog::new(p.WATCHDOG);
        let clocks = init_clocks_and_plls(
            CRYSTAL,
            p.XOSC,
            p.CLOCKS,
            p.PLL_SYS,
            p.PLL_USB,
            &mut p.RESETS,
            &mut watchdog,
        );
        let clocks = clocks.ok().expect("the crystal starts");
        let sio = Sio::new(p.SIO);
        let pins = Pins::new(p.IO_BANK0, p.PADS_BANK0, sio.gpio_bank0, &mut p.RESETS);
        let pins = (pins.gpio0.into_function(), pins.gpio1.into_function());
        let config = UartConfig::new(115_200.Hz(), DataBits::Eight, None, StopBits::One);
        let uart = UartPeripheral::new(p.UART0, pins, &mut p.RESETS);
        let uart = uart.enable(config, clocks.peripheral_clock.freq());
        Self(uart.ok().expect("a baud rate that it has"))
    }

    /// Waits for a byte. What the line garbles is left out.
    pub fn read(&mut self) -> u8 {
        let mut byte = [0];
        while self.0.read_full_blocking(&mut byte).is_err() {}
        byte[0]
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_full_blocking(bytes);
    }
}
