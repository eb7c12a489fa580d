//! {{name}}: {{model}} on {{title}}. Type a line on the console; the model answers.
#![no_std]
#![no_main]
// Shows what the linker says at the end of a build: flash and RAM that are used.
#![warn(linker_messages)]

mod board;

use board::{Console, entry};
use palmtop::generate::greedy;
use palmtop::text::Tokenizer;
use palmtop::{Arena, Limits, Model, NoTrace, Session, include_model};

/// The model, checked when this is compiled. It lies in flash, at a multiple of 16.
const MODEL: Model = include_model!("../model.palm");

/// Most tokens of a source and of a target.
const LIMITS: Limits = Limits {
    source: {{source}},
    target: {{target}},
    beams: 1,
};

/// What the session needs, to the byte.
const ARENA_BYTES: usize = MODEL.arena_bytes(LIMITS);

/// Whether to run the input that the model carries and compare the results' bits, at start-up.
const SELF_TEST: bool = {{self_test}};

static mut ARENA: Arena<ARENA_BYTES> = Arena::new();

#[entry]
fn main() -> ! {
    let mut console = Console::new();
    // SAFETY: `main` runs once, so this is the only reference.
    let arena = unsafe { &mut *(&raw mut ARENA) };
    if MODEL.palm().verify().is_err() {
        stop(&mut console, b"the model in flash is damaged\r\n");
    }
    let Some(tokenizer) = Tokenizer::of(MODEL.palm()) else {
        stop(&mut console, b"the model takes ids, not text\r\n");
    };
    let Ok(mut session) = Session::new(MODEL, LIMITS, arena.as_mut_slice()) else {
        stop(&mut console, b"no session\r\n");
    };
    if SELF_TEST {
        let mut ids = [0; LIMITS.source as usize];
        console.write(match session.self_test(&mut ids) {
            Ok(()) => b"self-test: the bits of the file\r\n",
            Err(_) => b"self-test FAILED\r\n",
        });
    }
    console.write(b"> ");
    let mut line = [0; 4 * LIMITS.source as usize];
    loop {
        let count = read_line(&mut console, &mut line);
        if let Some(text) = line.get(..count).and_then(|line| str::from_utf8(line).ok()) {
            answer(&mut session, &tokenizer, text, &mut console);
        }
        console.write(b"\r\n> ");
    }
}

/// Runs a text through the model and writes the answer as it comes.
///
/// `session.start` with `Encoding::poll`, and `Decoder::begin` with `Decoder::poll`, do the same in
/// bounded pieces, for a loop that has other duties.
fn answer(session: &mut Session, tokenizer: &Tokenizer, text: &str, console: &mut Console) {
    let mut ids = [0; LIMITS.source as usize];
    let Ok(count) = tokenizer.encode(text, &mut ids) else {
        return console.write(b"(not a text that the model can read)");
    };
    let Ok(encoded) = session.encode(&ids[..count]) else {
        return console.write(b"(refused)");
    };
    let mut decoder = encoded.decoder();
    let mut is_first = true;
    let emit = |id| {
        let piece = tokenizer.piece(id);
        if !piece.is_empty() && !is_first {
            console.write(tokenizer.separator());
        }
        is_first &= piece.is_empty();
        console.write(piece);
    };
    if greedy(&mut decoder, LIMITS.target as usize, &mut NoTrace, emit).is_err() {
        console.write(b" (refused)");
    }
}

/// Reads a line, with its echo, and gives how many bytes it has.
fn read_line(console: &mut Console, line: &mut [u8]) -> usize {
    let mut count = 0;
    loop {
        match console.read() {
            b'\r' | b'\n' if count == 0 => {}
            b'\r' | b'\n' => break,
            0x08 | 0x7F if count > 0 => {
                count -= 1;
                console.write(b"\x08 \x08");
            }
            byte @ b' '.. => {
                if let Some(place) = line.get_mut(count) {
                    *place = byte;
                    count += 1;
                    console.write(&[byte]);
                }
            }
            _ => {}
        }
    }
    console.write(b"\r\n");
    count
}

fn stop(console: &mut Console, why: &[u8]) -> ! {
    console.write(why);
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
