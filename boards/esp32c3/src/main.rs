//! palmtop on an ESP32-C3: a console on UART0, the port of the kit's USB bridge, that pronounces words.
//!
//! The model is a constant of the firmware; the chip maps it from flash through its cache, 64 KB a
//! page, so nothing of it is copied. The logs are text on the same port.
#![no_std]
#![no_main]

use core::fmt::{self, Display};
use core::ops::ControlFlow;

use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::main;
use esp_hal::time::{Duration, Instant};
use esp_hal::timer::timg::{MwdtStage, TimerGroup};
use esp_hal::uart::{Config, Uart};
use esp_println::println;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Model, Session, include_model};
use palmtop_board::{Ended, Line, arena, generate};

esp_bootloader_esp_idf::esp_app_desc!();

/// The model, checked when the firmware is compiled.
const G2P: Model = include_model!("../g2p.palm");

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// The watchdog resets the chip when no unit of work ends in this time.
const PATIENCE: Duration = Duration::from_millis(2_000);

/// Ends a generation.
const CTRL_C: u8 = 0x03;

/// Sets the chip up and serves the console.
#[main]
fn main() -> ! {
    let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let uart = Uart::new(p.UART0, Config::default()).expect("the default configuration is allowed");
    let (mut rx, mut tx) = uart.with_rx(p.GPIO20).with_tx(p.GPIO21).split();

    // Integrity is checked when the model is converted; here once more, against bad flash.
    if let Err(error) = G2P.palm().verify() {
        println!("{error}");
    }
    let tokenizer = Tokenizer::of(G2P.palm()).expect("the model takes text");
    // In the RAM that the second-stage boot loader needs no longer; the rest stays for statics and stack.
    let mut session = Session::new(
        G2P,
        LIMITS,
        arena!(G2P.arena_bytes(LIMITS), in ".dram2_uninit"),
    )
    .expect("the arena is as large as it must be");

    let mut watchdog = TimerGroup::new(p.TIMG0).wdt;
    watchdog.set_timeout(MwdtStage::Stage0, PATIENCE);
    watchdog.enable();
    let mut line = Line::<64>::new();
    println!("a word, please; ctrl-C cancels");
    loop {
        watchdog.feed();
        let mut byte = [0];
        let Ok(1) = rx.read_buffered(&mut byte) else {
            continue;
        };
        let Some(word) = line.push(byte[0]) else {
            continue;
        };
        let between = || {
            watchdog.feed();
            let mut byte = [0];
            let cancelled = matches!(rx.read_buffered(&mut byte), Ok(1)) && byte[0] == CTRL_C;
            match cancelled {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let emit = |id| {
            for piece in [tokenizer.piece(id), b" "] {
                let mut rest = piece;
                while let Ok(written @ 1..) = tx.write(rest) {
                    rest = &rest[written..];
                }
            }
        };
        let start = Instant::now();
        match pronounce(&mut session, &tokenizer, word, between, emit) {
            Ok(Ended::Done) => println!("({} ms)", start.elapsed().as_millis()),
            Ok(Ended::Cancelled) => println!("cancelled"),
            Err(error) => println!("{word}: {error}"),
        }
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
enum Failure {
    Text(TextError),
    Model(palmtop::Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(error) => error.fmt(f),
            Self::Model(error) => error.fmt(f),
        }
    }
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
