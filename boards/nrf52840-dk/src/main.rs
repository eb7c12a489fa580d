//! palmtop on an nRF52840-DK, with embassy: the experts are paged from the kit's QSPI flash.
//!
//! Only the resident part of the model is in the firmware: attention, routers, embedding, tokenizer.
//! An expert is read when a layer has chosen it, by DMA and awaited, into one of a few slots of the
//! arena, and its CRC is checked at every load. The LED blinks at a higher priority, so that it
//! interrupts inference; the UART is served by interrupts too.
#![no_std]
#![no_main]

use defmt::{error, info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::{InterruptExecutor, Spawner};
use embassy_futures::select::{Either, select};
use embassy_nrf::buffered_uarte::{self, BufferedUarte, BufferedUarteRx, BufferedUarteTx};
use embassy_nrf::config::HfclkSource;
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::interrupt;
use embassy_nrf::interrupt::{InterruptExt, Priority};
use embassy_nrf::qspi::{self, Frequency, Qspi};
use embassy_nrf::wdt::{self, HaltConfig, Watchdog, WatchdogHandle};
use embassy_nrf::{bind_interrupts, peripherals, uarte};
use embassy_time::{Duration, Instant, Ticker, with_timeout};
use embedded_io_async::Write;
use palmtop::generate::argmax;
use palmtop::storage::{AsyncStorage, Awaited};
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Limits, Model, Session, include_resident_model};
use palmtop_board::{Line, arena};
use panic_probe as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Irqs {
    QSPI => qspi::InterruptHandler<peripherals::QSPI>;
    UARTE0 => buffered_uarte::InterruptHandler<peripherals::UARTE0>;
});

/// The model's resident part, checked when the firmware is compiled. The external flash holds the
/// whole file from its first byte on.
const G2P: Model = include_resident_model!("../g2p.palm").with_unit(UNIT);

/// Multiply-accumulates of a unit of work, after which other tasks have their turn: fewer than 50,000
/// instructions (`cargo xtask yields` counts them). Experts are read in pieces of an eighth as many bytes.
const UNIT: u32 = 33_000;

/// Letters of a word and phonemes of its pronunciation.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Experts that the arena has room for at a time; more of them are read less often.
const SLOTS: usize = 4;

/// Exactly what the session needs.
const ARENA_BYTES: usize = G2P.paged_arena_bytes(LIMITS, SLOTS);

/// Ticks of 32,768 Hz after which the watchdog resets the board.
const PATIENCE: u32 = 2 * 32_768;

/// Ends a generation.
const CTRL_C: u8 = 0x03;

/// Runs what must not wait for inference.
static URGENT: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn EGU1_SWI1() {
    // SAFETY: this is the interrupt that `URGENT` was started with.
    unsafe { URGENT.on_interrupt() }
}

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let mut config = embassy_nrf::config::Config::default();
    config.hfclk_source = HfclkSource::ExternalXtal; // The UART's baud rate wants the crystal.
    let p = embassy_nrf::init(config);
    interrupt::EGU1_SWI1.set_priority(Priority::P6);
    let urgent = URGENT.start(interrupt::EGU1_SWI1);
    let led = Output::new(p.P0_13, Level::High, OutputDrive::Standard);
    urgent.spawn(unwrap!(blink(led)));

    // The UART that the kit's debugger shows as a serial port.
    static TX: ConstStaticCell<[u8; 128]> = ConstStaticCell::new([0; 128]);
    static RX: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    let uart = BufferedUarte::new(
        p.UARTE0,
        p.TIMER0,
        p.PPI_CH0,
        p.PPI_CH1,
        p.PPI_GROUP0,
        p.P0_08,
        p.P0_06,
        Irqs,
        uarte::Config::default(),
        RX.take(),
        TX.take(),
    );
    let (mut rx, mut tx) = uart.split();

    let mut config = qspi::Config::default();
    config.capacity = 8 << 20;
    config.frequency = Frequency::M32;
    let mut flash = Qspi::new(
        p.QSPI, Irqs, p.P0_19, p.P0_17, p.P0_20, p.P0_21, p.P0_22, p.P0_23, config,
    );
    // Reads by four wires need the quad bit of the MX25R6435F's status register.
    unwrap!(flash.custom_instruction(0x01, &[0x40], &mut []).await);

    let tokenizer = unwrap!(Tokenizer::of(G2P.palm()), "the model takes ids, not text");
    let arena = arena!(ARENA_BYTES);
    let mut session = match Session::awaited(G2P, LIMITS, arena, External(flash), SLOTS) {
        Ok(session) => session,
        Err(error) => return error!("{}", error),
    };
    info!("arena of {} bytes, {} slots", ARENA_BYTES, SLOTS);

    let mut config = wdt::Config::default();
    config.timeout_ticks = PATIENCE;
    config.action_during_debug_halt = HaltConfig::Pause;
    let Ok((_, [mut watchdog])) = Watchdog::try_new(p.WDT, config) else {
        return error!("the watchdog runs with another configuration: power the board off and on");
    };
    let mut line = Line::<64>::new();
    let _ = tx.write_all(b"a word, please; ctrl-C cancels\r\n").await;
    loop {
        let Some(byte) = read(&mut rx, &mut watchdog).await else {
            continue;
        };
        if let Some(word) = line.push(byte) {
            let pronouncing = pronounce(&mut session, &tokenizer, word, &mut tx, &mut watchdog);
            // The one that is not ready first is dropped: that is all there is to cancelling.
            match select(pronouncing, cancelled(&mut rx)).await {
                Either::First(Ok(())) => {}
                Either::First(Err(error)) => warn!("{}: {}", word, error),
                Either::Second(()) => info!("cancelled"),
            }
            if let Some(error) = session.source_mut().take_error() {
                warn!("external flash: {}", error);
            }
            let _ = tx.write_all(b"\r\n").await;
        }
    }
}

/// The model's file in external flash.
struct External<'d>(Qspi<'d>);

impl AsyncStorage for External<'_> {
    type Error = qspi::Error;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        // Offset, length and address are multiples of 16: what the DMA asks for.
        self.0.read(offset, bytes).await
    }
}

/// Writes the phonemes of a word as they come, and feeds the watchdog after each.
async fn pronounce<'a>(
    session: &mut Session<'static, 'a, Awaited<'a, External<'static>>>,
    tokenizer: &Tokenizer<'_>,
    word: &str,
    tx: &mut BufferedUarteTx<'_>,
    watchdog: &mut WatchdogHandle,
) -> Result<(), Failure> {
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(word, &mut ids)?;
    let header = *G2P.palm().header();
    session.source_mut().reset_statistics();

    let start = Instant::now();
    let mut decoder = session.encode_async(&ids[..count]).await?.decoder();
    let encoded = start.elapsed();
    let mut id = header.decoder_start;
    for _ in 0..LIMITS.target {
        watchdog.pet();
        id = argmax(decoder.step_async(id).await?);
        if id == header.eos {
            break;
        }
        tx.write_all(tokenizer.piece(id)).await?;
        tx.write_all(b" ").await?;
    }
    let reads = decoder.session().source().statistics();
    info!(
        "{}: encoded in {} ms, {} tokens in {} ms; {} loads, {} hits, {} bytes read",
        word,
        encoded.as_millis(),
        decoder.position(),
        (start.elapsed() - encoded).as_millis(),
        reads.loads,
        reads.hits,
        reads.bytes_read
    );
    Ok(())
}

/// Why a word has no pronunciation.
#[derive(defmt::Format)]
enum Failure {
    Text(TextError),
    Model(palmtop::Error),
    Uart(buffered_uarte::Error),
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

impl From<buffered_uarte::Error> for Failure {
    fn from(error: buffered_uarte::Error) -> Self {
        Self::Uart(error)
    }
}

/// The next byte, or `None` when it is time to come back after feeding the watchdog.
async fn read(rx: &mut BufferedUarteRx<'_>, watchdog: &mut WatchdogHandle) -> Option<u8> {
    watchdog.pet();
    let mut byte = [0];
    match with_timeout(Duration::from_millis(500), rx.read(&mut byte)).await {
        Ok(Ok(1)) => Some(byte[0]),
        _ => None,
    }
}

/// Waits for ctrl-C; what else is typed meanwhile is lost.
async fn cancelled(rx: &mut BufferedUarteRx<'_>) {
    let mut byte = [0];
    loop {
        if let Ok(1) = rx.read(&mut byte).await
            && byte[0] == CTRL_C
        {
            return;
        }
    }
}

/// Toggles the LED four times a second.
#[embassy_executor::task]
async fn blink(mut led: Output<'static>) {
    let mut ticker = Ticker::every(Duration::from_millis(250));
    loop {
        led.toggle();
        ticker.next().await;
    }
}
