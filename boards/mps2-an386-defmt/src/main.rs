//! palmtop on a Cortex-M4F on QEMU's mps2-an386, logging with defmt over semihosting: `words.txt` of the
//! host's folder, a text a line, goes through the model at 0x21000000. Routes, errors and answers are
//! logged with the library's own `defmt::Format`.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m as _;
use defmt::{error, info, trace, warn};
use defmt_semihosting as _;
use palmtop::format::{FormatError, Palm, crc32};
use palmtop::generate::argmax;
use palmtop::text::{TextError, Tokenizer};
use palmtop::{Arena, Limits, Model, Route, RouteTrace, Session, Stack};
use semihosting::fs::File;
use semihosting::io::Read;
use semihosting::process;

/// Where the emulator places the model, and how many bytes there are.
const MODEL: (usize, usize) = (0x2100_0000, 16 << 20);

/// Longest source and target in tokens.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Bytes of the arena.
const ARENA: usize = 1 << 20;

/// Bytes for all logits of an answer.
const LOGITS: usize = 64 << 10;

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut MEMORY: Arena<ARENA> = Arena::new();
    static mut LOGITS_BYTES: [u8; LOGITS] = [0; LOGITS];
    static mut WORDS: [u8; 2048] = [0; 2048];
    // SAFETY: the machine has memory of this length there; nothing ever writes to it.
    let window = unsafe { core::slice::from_raw_parts(MODEL.0 as *const u8, MODEL.1) };
    let model = match model(window) {
        Ok(model) => model,
        Err(error) => {
            error!("no model: {}", error);
            process::exit(1)
        }
    };
    let arena = MEMORY.as_mut_slice();
    info!(
        "model of {=usize} bytes, arena of {=usize} used",
        model.palm().bytes().len(),
        model.arena_bytes(LIMITS)
    );
    let length = File::open(c"words.txt").and_then(|mut file| file.read(WORDS));
    let words = WORDS.get(..length.unwrap_or(0)).unwrap_or_default();
    for word in words.split(|&byte| byte == b'\n') {
        let Ok(word) = core::str::from_utf8(word) else {
            continue;
        };
        if word.is_empty() {
            continue;
        }
        if let Err(error) = answer(&model, word, arena, LOGITS_BYTES) {
            warn!("{=str}: {}", word, error);
        }
    }
    info!("done");
    process::exit(0)
}

/// The model at the start of the window, checked.
fn model(window: &'static [u8]) -> Result<Model<'static>, FormatError> {
    let length = Palm::total_len(window)? as usize;
    let model = Model::parse(window.get(..length).unwrap_or(window))?;
    model.palm().verify()?;
    Ok(model)
}

/// Answers a text; logs the routes of its decoder, the pieces, and the CRC-32 of all logits.
fn answer(
    model: &Model<'static>,
    text: &str,
    arena: &mut [u8],
    logits: &mut [u8],
) -> Result<(), Failure> {
    let header = model.palm().header();
    let tokenizer = Tokenizer::of(model.palm()).ok_or(Failure::NoTokenizer)?;
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer.encode(text, &mut ids)?;
    let mut session = Session::new(*model, LIMITS, arena)?;
    let mut decoder = session
        .encode_traced(ids.get(..count).unwrap_or_default(), &mut Routes)?
        .decoder();
    let mut places = logits.chunks_exact_mut(4);
    let (mut id, mut steps) = (header.decoder_start, 0);
    while steps == 0 || id != header.eos {
        let values = decoder.step_traced(id, &mut Routes)?;
        // In this order, so that no place is passed over at the end.
        for (value, place) in values.iter().zip(places.by_ref()) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        id = argmax(values);
        steps += 1;
        let piece = core::str::from_utf8(tokenizer.piece(id)).unwrap_or("?");
        info!("token {=u32} {=str}", id, piece);
    }
    let bytes = 4 * steps * header.vocab as usize;
    let checksum = crc32(logits.get(..bytes).unwrap_or_default());
    info!(
        "{=str}: {=usize} steps, logits {=u32:08x}",
        text, steps, checksum
    );
    Ok(())
}

/// Logs where each token goes.
struct Routes;

impl RouteTrace for Routes {
    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        trace!(
            "{}, layer {=usize}, token {=usize}: expert {=usize}, gate {=f32}, kept {=bool}",
            route.stack, route.layer, route.token, route.expert, gate, kept
        );
    }

    fn layer(&mut self, stack: Stack, layer: usize, states: &[f32]) {
        trace!(
            "{}, layer {=usize}: {=usize} values",
            stack,
            layer,
            states.len()
        );
    }
}

/// Why a text has no answer.
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

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    error!("{}", defmt::Display2Format(info));
    process::exit(101)
}
