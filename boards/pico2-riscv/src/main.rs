//! palmtop on the RISC-V cores of a Raspberry Pi Pico 2: a console on UART0 (pins 1 and 2) that
//! pronounces words, and a count of cycles that checks the forecast.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::ops::ControlFlow;
use core::panic::PanicInfo;

use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use embedded_hal::digital::StatefulOutputPin;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Model, Session, include_model};
use palmtop_board::{Ended, Line, arena, generate};
use riscv::register::{mcountinhibit, mcycle};
use rp235x_hal::block::ImageDef;
use rp235x_hal::clocks::{Clock, init_clocks_and_plls};
use rp235x_hal::fugit::{ExtU32, RateExtU32};
use rp235x_hal::gpio::{FunctionUart, Pins};
use rp235x_hal::uart::{DataBits, StopBits, UartConfig, UartPeripheral};
use rp235x_hal::{Sio, Watchdog, pac};

/// What the boot ROM wants to know of the image.
#[unsafe(link_section = ".start_block")]
#[used]
static IMAGE: ImageDef = ImageDef::secure_exe();

// The image's first instruction: see `memory.x`.
global_asm!(".section .boot.jump, \"ax\"", "j _start", ".text");

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

/// Instructions for a phoneme, as `cargo xtask boards pico2-riscv --forecast` has counted them on the
/// emulated core. What is measured here are cycles, which flash that keeps the core waiting adds to.
const FORECAST: u64 = include!("forecast.in");

/// Ends a generation.
const CTRL_C: u8 = 0x03;

/// Sets the board up and serves the console.
#[rp235x_hal::entry]
fn main() -> ! {
    // SAFETY: only lets the cycle counter run; Hazard3 starts with it stopped.
    unsafe { mcountinhibit::clear_cy() };
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
        let between = || {
            watchdog.feed();
            let _ = led.toggle();
            let mut byte = [0];
            let cancelled = matches!(rx.read_raw(&mut byte), Ok(1)) && byte[0] == CTRL_C;
            match cancelled {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let mut cycles = Cycles::default();
        let emit = |id| {
            cycles.token();
            tx.write_full_blocking(tokenizer.piece(id));
            tx.write_full_blocking(b" ");
            cycles.resume();
        };
        match pronounce(&mut session, &tokenizer, word, between, emit) {
            Ok(Ended::Done) => cycles.check(),
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

/// Cycles of the tokens, without those of the console.
#[derive(Default)]
struct Cycles {
    sum: u64,
    tokens: u64,
    /// When the last token was written; `None` before the first, which has the encoder in it.
    since: Option<u64>,
}

impl Cycles {
    /// A token has come.
    fn token(&mut self) {
        if let Some(since) = self.since {
            self.sum += mcycle::read64().wrapping_sub(since);
            self.tokens += 1;
        }
    }

    /// The console has been served.
    fn resume(&mut self) {
        self.since = Some(mcycle::read64());
    }

    /// Compares cycles per token with the forecast.
    fn check(&self) {
        let Some(each) = self.sum.checked_div(self.tokens) else {
            return;
        };
        let percent = each * 100 / FORECAST;
        info!(
            "{} cycles a token: {} % of the forecast's instructions",
            each, percent
        );
        // Fewer cycles than instructions cannot be; a core that waits for most of them has a reason.
        if !(100..=300).contains(&percent) {
            warn!("not what was forecast: another model, another clock, or slow flash?");
        }
    }
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

/// `panic-probe` is for Cortex-M only. Once the watchdog runs, it resets the board.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    error!("{}", defmt::Display2Format(info));
    loop {
        riscv::asm::wfi();
    }
}
