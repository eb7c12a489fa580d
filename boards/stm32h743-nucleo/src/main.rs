//! palmtop on a NUCLEO-H743ZI2: two models that share one arena. It lies in DTCM, as the stack does, and
//! the kernels in ITCM: `memory.x` says so.
//!
//! Every word is pronounced twice: by g2p, in whose layers two of four experts work on a token, and
//! by its predecessor g2p-switch, in which it is one. They need the arena one after the other, so it
//! is as large as the greater one asks.
#![no_std]
#![no_main]

use core::ops::ControlFlow;
use core::ptr;

use cortex_m::peripheral::DWT;
use cortex_m_rt::entry;
use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use nb::block;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Model, Session, include_model};
use palmtop_board::{Ended, Line, arena, generate};
use panic_probe as _;
use stm32h7xx_hal::independent_watchdog::IndependentWatchdog;
use stm32h7xx_hal::pac::{self, USART3};
use stm32h7xx_hal::prelude::*;
use stm32h7xx_hal::serial::{Rx, Tx};

/// The models, checked when the firmware is compiled.
const MODELS: [(&str, Model); 2] = [
    ("g2p", include_model!("../g2p.palm")),
    ("g2p-switch", include_model!("../g2p-switch.palm")),
];

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// What the greater of the two needs.
const ARENA_BYTES: usize = {
    let [(_, first), (_, second)] = MODELS;
    let (first, second) = (first.arena_bytes(LIMITS), second.arena_bytes(LIMITS));
    if first > second { first } else { second }
};

/// Megahertz of the core.
const CLOCK: u32 = 400;

/// Ends a generation.
const CTRL_C: u8 = 0x03;

#[entry]
fn main() -> ! {
    // SAFETY: nothing has been called yet that lies in ITCM.
    unsafe { fill_itcm() };
    let p = unwrap!(pac::Peripherals::take());
    let mut core = unwrap!(cortex_m::Peripherals::take());
    core.SCB.enable_icache();
    core.SCB.enable_dcache(&mut core.CPUID);
    core.DCB.enable_trace();
    DWT::unlock();
    core.DWT.enable_cycle_counter();

    let power = p.PWR.constrain().freeze();
    let rcc = p.RCC.constrain();
    let ccdr = rcc.sys_ck(CLOCK.MHz()).freeze(power, &p.SYSCFG);
    // The UART that the board's debugger shows as a serial port.
    let pins = p.GPIOD.split(ccdr.peripheral.GPIOD);
    let pins = (pins.pd8.into_alternate(), pins.pd9.into_alternate());
    let uart = p
        .USART3
        .serial(pins, 115_200.bps(), ccdr.peripheral.USART3, &ccdr.clocks);
    let (mut tx, mut rx) = unwrap!(uart.ok()).split();
    let mut led = p
        .GPIOB
        .split(ccdr.peripheral.GPIOB)
        .pb0
        .into_push_pull_output();

    for (name, model) in MODELS {
        // Integrity is checked when a model is converted; here once more, against bad flash.
        if let Err(error) = model.palm().verify() {
            error!("{}: {}", name, error);
        }
    }
    let arena = arena!(ARENA_BYTES);
    info!("arena of {} bytes for two models", ARENA_BYTES);

    let mut watchdog = IndependentWatchdog::new(p.IWDG);
    watchdog.start(1_000.millis());
    let mut line = Line::<64>::new();
    say(&mut tx, b"a word, please; ctrl-C cancels\r\n");
    loop {
        watchdog.feed();
        let Ok(byte) = rx.read() else {
            continue;
        };
        let Some(word) = line.push(byte) else {
            continue;
        };
        for (name, model) in MODELS {
            let between = || {
                watchdog.feed();
                led.toggle();
            };
            match pronounce(model, &mut *arena, word, &mut tx, &mut rx, between) {
                Ok(Ended::Done) => {}
                Ok(Ended::Cancelled) => {
                    info!("{}: cancelled", name);
                    break;
                }
                Err(error) => warn!("{}, {}: {}", name, word, error),
            }
            say(&mut tx, b"\r\n");
        }
    }
}

/// Writes the phonemes of a word as they come. The session is this call's: the next one may give the
/// arena to another model.
fn pronounce(
    model: Model<'_>,
    arena: &mut [u8],
    word: &str,
    tx: &mut Tx<USART3>,
    rx: &mut Rx<USART3>,
    mut between: impl FnMut(),
) -> Result<Ended, Failure> {
    let mut session = Session::new(model, LIMITS, arena)?;
    let tokenizer = Tokenizer::of(model.palm()).ok_or(Failure::NoTokenizer)?;
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(word, &mut ids)?;
    let (start, mut tokens) = (DWT::cycle_count(), 0);
    let ended = generate(
        &mut session,
        &ids[..count],
        || {
            between();
            match rx.read() {
                Ok(CTRL_C) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        },
        |id| {
            tokens += 1;
            say(tx, tokenizer.piece(id));
            say(tx, b" ");
        },
    )?;
    let micros = DWT::cycle_count().wrapping_sub(start) / CLOCK;
    info!(
        "{}: {} tokens in {} us, UART included",
        word, tokens, micros
    );
    Ok(ended)
}

/// Why a word has no pronunciation.
#[derive(defmt::Format)]
enum Failure {
    NoTokenizer,
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

/// Copies the kernels from flash to where they run.
///
/// # Safety
/// Nothing that lies in ITCM may have been called, or may run meanwhile.
unsafe fn fill_itcm() {
    unsafe extern "C" {
        static mut __itcm_start: u32;
        static __itcm_end: u32;
        static __itcm_load: u32;
    }
    let (start, end) = (&raw mut __itcm_start, &raw const __itcm_end);
    let words = (end.addr() - start.addr()) / size_of::<u32>();
    // SAFETY: `memory.x` keeps both places apart, aligned and of this size, and ITCM is enabled from
    // reset on.
    unsafe { ptr::copy_nonoverlapping(&raw const __itcm_load, start, words) };
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// Writes bytes to the console and waits until the last one is on its way.
fn say(tx: &mut Tx<USART3>, bytes: &[u8]) {
    for byte in bytes {
        let _ = block!(tx.write(*byte));
    }
}
