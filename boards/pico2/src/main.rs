//! palmtop on a Raspberry Pi Pico 2, with embassy: a console on UART0 that pronounces words, while
//! the LED blinks and the watchdog is fed.
//!
//! The model lies in a flash partition of its own and is checked when the firmware starts. Inference
//! is one task among others: it yields after every bounded unit of work, so that the LED and the UART
//! keep their deadlines, and ctrl-C cancels it by dropping its future.
#![no_std]
#![no_main]

use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use embassy_rp::bind_interrupts;
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::UART0;
use embassy_rp::uart::{
    BufferedInterruptHandler, BufferedUart, BufferedUartRx, BufferedUartTx, Config,
    Error as UartError,
};
use embassy_rp::watchdog::Watchdog;
use embassy_time::{Duration, Instant, Ticker, with_timeout};
use embedded_io_async::{Read, Write};
use palmtop::generate::argmax;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Progress, Session};
use palmtop_board::{Line, arena, partition};
use panic_probe as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Irqs {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Multiply-accumulates of a unit of work, and what else takes as long: fewer than 50,000 instructions
/// (`cargo xtask yields` counts them).
const UNIT: u32 = 33_000;

/// Room for any model whose plan needs no more; a session says what it needs if this is too little.
const ARENA_BYTES: usize = 64 << 10;

/// The watchdog resets the board when no unit of work ends in this time.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Ends a generation.
const CTRL_C: u8 = 0x03;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_rp::init(Default::default());
    spawner.spawn(unwrap!(blink(Output::new(p.PIN_25, Level::Low))));

    static TX: ConstStaticCell<[u8; 128]> = ConstStaticCell::new([0; 128]);
    static RX: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    let (tx, rx) = (TX.take(), RX.take());
    let uart = BufferedUart::new(p.UART0, p.PIN_0, p.PIN_1, Irqs, tx, rx, Config::default());
    let (mut tx, mut rx) = uart.split();

    let model = match partition::model() {
        Ok(model) => model.with_unit(UNIT),
        Err(error) => {
            error!("no model that can be used at 0x10100000: {}", error);
            let _ = tx.write_all(b"no usable model in flash\r\n").await;
            return;
        }
    };
    let tokenizer = unwrap!(Tokenizer::of(model.palm()), "the model takes ids, not text");
    let mut session = match Session::new(model, LIMITS, arena!(ARENA_BYTES)) {
        Ok(session) => session,
        Err(error) => return error!("{}", error),
    };
    info!(
        "model of {} bytes, arena of {} bytes used",
        model.palm().bytes().len(),
        model.arena_bytes(LIMITS)
    );

    let mut watchdog = Watchdog::new(p.WATCHDOG);
    watchdog.start(PATIENCE);
    let mut line = Line::<64>::new();
    let _ = tx.write_all(b"a word, please; ctrl-C cancels\r\n").await;
    loop {
        let Some(byte) = read(&mut rx, &mut watchdog).await else {
            continue;
        };
        if let Some(word) = line.push(byte) {
            let pronouncing = pronounce(&mut session, &tokenizer, word, &mut tx, &mut watchdog);
            // Both get their turn whenever one yields. The one that is not ready first is dropped.
            match select(pronouncing, cancelled(&mut rx)).await {
                Either::First(Ok(())) => {}
                Either::First(Err(error)) => warn!("{}: {}", word, error),
                Either::Second(()) => info!("cancelled"),
            }
            let _ = tx.write_all(b"\r\n").await;
        }
    }
}

/// Writes the phonemes of a word as they come.
async fn pronounce(
    session: &mut Session<'_, '_>,
    tokenizer: &Tokenizer<'_>,
    word: &str,
    tx: &mut BufferedUartTx,
    watchdog: &mut Watchdog,
) -> Result<(), Failure> {
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(word, &mut ids)?;
    let header = *session.model().palm().header();
    let mut turns = Turns::new(watchdog);

    let mut encoding = session.start(&ids[..count])?;
    while turns.take(|| encoding.poll()).await? == Progress::Pending {}
    let mut decoder = encoding.finish()?.decoder();
    let mut id = header.decoder_start;
    for _ in 0..LIMITS.target {
        decoder.begin(id)?;
        while turns.take(|| decoder.poll()).await? == Progress::Pending {}
        id = argmax(decoder.logits());
        if id == header.eos {
            break;
        }
        tx.write_all(tokenizer.piece(id)).await?;
        tx.write_all(b" ").await?;
    }
    info!(
        "{}: nothing else ran for {} us at most",
        word, turns.longest
    );
    Ok(())
}

/// Does work in turns with the other tasks, and feeds the watchdog between them.
struct Turns<'w> {
    watchdog: &'w mut Watchdog,
    /// Microseconds of the longest turn so far.
    longest: u64,
}

impl<'w> Turns<'w> {
    fn new(watchdog: &'w mut Watchdog) -> Self {
        let longest = 0;
        Self { watchdog, longest }
    }

    /// Takes a turn, then lets the others have theirs.
    async fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.longest = self.longest.max(start.elapsed().as_micros());
        self.watchdog.feed(PATIENCE);
        yield_now().await;
        done
    }
}

/// Why a word has no pronunciation.
#[derive(defmt::Format)]
enum Failure {
    Text(TextError),
    Model(palmtop::Error),
    Uart(UartError),
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

impl From<UartError> for Failure {
    fn from(error: UartError) -> Self {
        Self::Uart(error)
    }
}

/// The next byte, or `None` when it is time to come back after feeding the watchdog.
async fn read(rx: &mut BufferedUartRx, watchdog: &mut Watchdog) -> Option<u8> {
    watchdog.feed(PATIENCE);
    let mut byte = [0];
    match with_timeout(PATIENCE / 2, rx.read(&mut byte)).await {
        Ok(Ok(1)) => Some(byte[0]),
        _ => None,
    }
}

/// Waits for ctrl-C; what else is typed meanwhile is lost.
async fn cancelled(rx: &mut BufferedUartRx) {
    let mut byte = [0];
    loop {
        if let Ok(1) = rx.read(&mut byte).await
            && byte[0] == CTRL_C
        {
            return;
        }
    }
}

/// Toggles the LED four times a second; says so when a turn came late.
#[embassy_executor::task]
async fn blink(mut led: Output<'static>) {
    const PERIOD: Duration = Duration::from_millis(250);
    let mut ticker = Ticker::every(PERIOD);
    let mut due = Instant::now() + PERIOD;
    loop {
        ticker.next().await;
        led.toggle();
        if due.elapsed() > Duration::from_millis(20) {
            warn!("LED {} us late", due.elapsed().as_micros());
        }
        due += PERIOD;
    }
}
