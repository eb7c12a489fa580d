//! palmtop on a Raspberry Pi Pico: a console on UART0 (pins 1 and 2) that pronounces words.
//!
//! The plainest of the boards: the model is a constant of the firmware, so is the size of its arena,
//! and a loop without interrupts serves the console. Between two units of work it feeds the watchdog
//! and looks for ctrl-C.
#![no_std]
#![no_main]

use core::ops::ControlFlow;

use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use embedded_hal::digital::StatefulOutputPin;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Model, Session, include_model};
use palmtop_board::{Ended, Line, arena, generate};
use panic_probe as _;
use rp2040_hal::clocks::{Clock, init_clocks_and_plls};
use rp2040_hal::fugit::{ExtU32, RateExtU32};
use rp2040_hal::gpio::{FunctionUart, Pins};
use rp2040_hal::uart::{DataBits, StopBits, UartConfig, UartPeripheral};
use rp2040_hal::{Sio, Timer, Watchdog, pac};

/// The second-stage boot loader, for the W25Q flash on the board.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

/// Hertz of the crystal on the board.
const CRYSTAL: u32 = 12_000_000;

/// The model, checked when the firmware is compiled.
const G2P: Model = include_model!("../g2p.palm");

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Ends a generation.
const CTRL_C: u8 = 0x03;

#[rp2040_hal::entry]
fn main() -> ! {
    let mut p = unwrap!(pac::Peripherals::take());
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
    let clocks = unwrap!(clocks.ok(), "the crystal does not start");
    let timer = Timer::new(p.TIMER, &mut p.RESETS, &clocks);
    let sio = Sio::new(p.SIO);
    let pins = Pins::new(p.IO_BANK0, p.PADS_BANK0, sio.gpio_bank0, &mut p.RESETS);
    let mut led = pins.gpio25.into_push_pull_output();
    let uart_pins = (
        pins.gpio0.into_function::<FunctionUart>(),
        pins.gpio1.into_function::<FunctionUart>(),
    );
    let config = UartConfig::new(115_200.Hz(), DataBits::Eight, None, StopBits::One);
    let uart = UartPeripheral::new(p.UART0, uart_pins, &mut p.RESETS)
        .enable(config, clocks.peripheral_clock.freq());
    let (rx, tx) = unwrap!(uart.ok()).split();

    // Integrity is checked when the model is converted; here once more, against bad flash.
    if let Err(error) = G2P.palm().verify() {
        error!("{}", error);
    }
    let tokenizer = unwrap!(Tokenizer::of(G2P.palm()), "the model takes ids, not text");
    let mut session = unwrap!(Session::new(G2P, LIMITS, arena!(G2P.arena_bytes(LIMITS))));

    watchdog.start(2_000.millis());
    let mut line = Line::<64>::new();
    tx.write_full_blocking(b"a word, please; ctrl-C cancels\r\n");
    loop {
        watchdog.feed();
        let mut byte = [0];
        let Ok(1) = rx.read_raw(&mut byte) else {
            continue;
        };
        let Some(word) = line.push(byte[0]) else {
            continue;
        };
        let (start, mut last, mut longest) = (timer.get_counter(), timer.get_counter(), 0);
        let between = || {
            let now = timer.get_counter();
            longest = longest.max((now - last).to_micros());
            watchdog.feed();
            let _ = led.toggle();
            let mut byte = [0];
            let cancelled = matches!(rx.read_raw(&mut byte), Ok(1)) && byte[0] == CTRL_C;
            last = timer.get_counter();
            match cancelled {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let emit = |id| {
            tx.write_full_blocking(tokenizer.piece(id));
            tx.write_full_blocking(b" ");
        };
        match pronounce(&mut session, &tokenizer, word, between, emit) {
            Ok(Ended::Done) => info!(
                "{}: {} ms, {} us between two feedings of the watchdog at most",
                word,
                (timer.get_counter() - start).to_millis(),
                longest
            ),
            Ok(Ended::Cancelled) => info!("cancelled"),
            Err(error) => warn!("{}: {}", word, error),
        }
        tx.write_full_blocking(b"\r\n");
    }
}

/// Emits the phonemes of a word as they come.
fn pronounce(
    session: &mut Session<'_, '_>,
    tokenizer: &Tokenizer<'_>,
    word: &str,
    between: impl FnMut() -> ControlFlow<()>,
    emit: impl FnMut(u32),
) -> Result<Ended, Failure> {
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(word, &mut ids)?;
    Ok(generate(session, &ids[..count], between, emit)?)
}

/// Why a word has no pronunciation.
#[derive(defmt::Format)]
enum Failure {
    Text(TextError),
    Model(palmtop::Error),
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

impl From<palmtop::Error> for Failure {
    fn from(error: palmtop::Error) -> Self {
        Self::Model(error)
    }
}
