//! A firmware's use of one model, from text to text, without a board: what it takes of the library
//! in flash. `cargo xtask size` links it with and without the library's features; it is never run.
//! PALMTOP_MODEL is the model's path.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use palmtop::generate::greedy;
use palmtop::text::Tokenizer;
use palmtop::{Arena, Limits, Model, NoTrace, Session, include_model};

const MODEL: Model = include_model!(env!("PALMTOP_MODEL"));

const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

static mut ARENA: Arena<{ MODEL.arena_bytes(LIMITS) }> = Arena::new();

/// Answers a text: `put` gets the answer piece by piece. Whether all went well.
///
/// # Safety
/// `text` must be valid for `length` bytes, and one call must end before another begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_answer(
    text: *const u8,
    length: usize,
    put: extern "C" fn(*const u8, usize),
) -> bool {
    // SAFETY: as the caller promises.
    let (text, arena) = unsafe {
        (
            core::slice::from_raw_parts(text, length),
            &mut *(&raw mut ARENA),
        )
    };
    answer(text, arena.as_mut_slice(), put).is_some()
}

fn answer(text: &[u8], arena: &mut [u8], put: extern "C" fn(*const u8, usize)) -> Option<()> {
    let tokenizer = Tokenizer::of(MODEL.palm())?;
    let mut session = Session::new(MODEL, LIMITS, arena).ok()?;
    let mut ids = [0; LIMITS.source as usize];
    let text = core::str::from_utf8(text).ok()?;
    let count = tokenizer.encode(text, &mut ids).ok()?;
    let mut decoder = session.encode(ids.get(..count)?).ok()?.decoder();
    let emit = |id| {
        let piece = tokenizer.piece(id);
        put(piece.as_ptr(), piece.len());
    };
    greedy(&mut decoder, LIMITS.target as usize, &mut NoTrace, emit).ok()?;
    Some(())
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
