//! palmtop on an STM32F4 Discovery: the arena in core-coupled memory, the model in flash sectors of
//! its own, a heap for what the application keeps, and a cycle count that checks the forecast.
//!
//! palmtop itself uses no heap. The application does: it remembers what was asked, and tells it when
//! the line is `?`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use cortex_m::peripheral::DWT;
use cortex_m_rt::entry;
use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use embedded_alloc::LlffHeap;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Session};
use palmtop_board::{Ended, Line, arena, generate, partition};
use panic_probe as _;
use stm32f4xx_hal::hal_02::blocking::serial::Write as _;
use stm32f4xx_hal::pac::{self, USART2};
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc;
use stm32f4xx_hal::serial::{Rx, Tx};
use stm32f4xx_hal::watchdog::IndependentWatchdog;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Room for any model whose plan needs no more; a session says what it needs if this is too little.
const ARENA_BYTES: usize = 56 << 10;

/// Instructions for a phoneme, as `cargo xtask boards stm32f4-discovery --forecast` has counted them on the
/// emulated core. What is measured here are cycles, which flash that keeps the core waiting adds to.
const FORECAST: u32 = include!("forecast.in");

/// Ends a generation.
const CTRL_C: u8 = 0x03;

#[entry]
fn main() -> ! {
    // SAFETY: once, and before anything is allocated.
    unsafe {
        embedded_alloc::init!(HEAP, 16 << 10);
    }
    let p = unwrap!(pac::Peripherals::take());
    let mut core = unwrap!(cortex_m::Peripherals::take());
    core.DCB.enable_trace();
    core.DWT.enable_cycle_counter();

    let clocks = rcc::Config::hse(8.MHz()).sysclk(168.MHz());
    let mut rcc = p.RCC.freeze(clocks);
    let pins = p.GPIOA.split(&mut rcc);
    let uart = p
        .USART2
        .serial((pins.pa2, pins.pa3), 115_200.bps(), &mut rcc);
    let (mut tx, rx) = unwrap!(uart.ok()).split();
    let mut led = p.GPIOD.split(&mut rcc).pd12.into_push_pull_output();

    let model = match partition::model() {
        Ok(model) => model,
        Err(error) => {
            error!("no model that can be used at 0x08020000: {}", error);
            say(&mut tx, b"no usable model in flash\r\n");
            stop()
        }
    };
    let tokenizer = unwrap!(Tokenizer::of(model.palm()), "the model takes ids, not text");
    let mut session = match Session::new(model, LIMITS, arena!(ARENA_BYTES, in ".ccmram")) {
        Ok(session) => session,
        Err(error) => {
            error!("{}", error);
            stop()
        }
    };
    info!(
        "model of {} bytes, arena of {} bytes used",
        model.palm().bytes().len(),
        model.arena_bytes(LIMITS)
    );

    let mut watchdog = IndependentWatchdog::new(p.IWDG);
    watchdog.start(1000.millis());
    let mut console = Console { tx, rx };
    let mut line = Line::<64>::new();
    let mut heard: Vec<(String, String)> = Vec::new();
    say(
        &mut console.tx,
        b"a word, please; ? lists them, ctrl-C cancels\r\n",
    );
    loop {
        watchdog.feed();
        let Ok(byte) = console.rx.read() else {
            continue;
        };
        match line.push(byte) {
            None => {}
            Some("?") => {
                for (word, sound) in &heard {
                    say(&mut console.tx, word.as_bytes());
                    say(&mut console.tx, b": ");
                    say(&mut console.tx, sound.as_bytes());
                    say(&mut console.tx, b"\r\n");
                }
            }
            Some(word) => {
                let between = || {
                    watchdog.feed();
                    led.toggle();
                };
                match pronounce(&mut session, &tokenizer, word, &mut console, between) {
                    Ok(Some(sound)) => {
                        if heard.len() == 16 {
                            heard.remove(0);
                        }
                        heard.push((word.into(), sound));
                    }
                    Ok(None) => info!("cancelled"),
                    Err(error) => warn!("{}: {}", word, error),
                }
                say(&mut console.tx, b"\r\n");
            }
        }
    }
}

/// The serial port on PA2 (out) and PA3 (in).
struct Console {
    tx: Tx<USART2>,
    rx: Rx<USART2>,
}

/// Writes the phonemes of a word as they come, and gives them; `None` if ctrl-C has ended it.
fn pronounce(
    session: &mut Session<'_, '_>,
    tokenizer: &Tokenizer<'_>,
    word: &str,
    console: &mut Console,
    mut between: impl FnMut(),
) -> Result<Option<String>, Failure> {
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(word, &mut ids)?;
    let mut sound = String::new();
    let mut then = DWT::cycle_count();
    let (mut cycles, mut tokens) = (0_u32, 0);
    let Console { tx, rx } = console;
    let ended = generate(
        session,
        &ids[..count],
        || {
            between();
            match rx.read() {
                Ok(CTRL_C) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        },
        |id| {
            // The first one comes with the encoder's work, which is not a token's.
            let now = DWT::cycle_count();
            if !sound.is_empty() {
                cycles += now.wrapping_sub(then) / 1000;
                tokens += 1;
                sound.push(' ');
            }
            sound.push_str(str::from_utf8(tokenizer.piece(id)).unwrap_or("?"));
            say(tx, tokenizer.piece(id));
            say(tx, b" ");
            then = DWT::cycle_count();
        },
    )?;
    if let Some(each) = cycles.checked_div(tokens) {
        check(each);
    }
    Ok(match ended {
        Ended::Done => Some(sound),
        Ended::Cancelled => None,
    })
}

/// Compares thousands of cycles per token with the forecast.
fn check(thousands: u32) {
    let percent = thousands.saturating_mul(100) / (FORECAST / 1000);
    info!(
        "{} thousand cycles a token: {} % of the forecast's instructions",
        thousands, percent
    );
    // Fewer cycles than instructions cannot be, and a core that waits for most of them has a reason.
    if !(100..=300).contains(&percent) {
        warn!("not what was forecast: another model, another clock, or slow flash?");
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

/// Writes bytes to the console and waits until the last one is on its way.
fn say(tx: &mut Tx<USART2>, bytes: &[u8]) {
    let _ = tx.bwrite_all(bytes);
}

/// Ends the firmware where it cannot go on.
fn stop() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
