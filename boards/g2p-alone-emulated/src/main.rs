//! The firmware for g2p alone in an emulator: `words.txt` of the host's folder, a word a line, is
//! pronounced; a line with the answer and one with the CRC-32 of all logits come of each.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use g2p_alone::{ARENA_BYTES, LIMITS, MODEL, answer};
use palmtop::format::crc32;
use palmtop::generate::argmax;
use palmtop::text::Tokenizer;
use palmtop::{Arena, Session};
use semihosting::fs::File;
use semihosting::io::Read;
use semihosting::{print, println};

/// Bytes of all logits of an answer.
const ROOM: usize = 4 * LIMITS.target as usize * MODEL.palm().header().vocab as usize;

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut ARENA: Arena<ARENA_BYTES> = Arena::new();
    static mut LOGITS: [u8; ROOM] = [0; ROOM];
    static mut WORDS: [u8; 2048] = [0; 2048];
    let (arena, logits) = (ARENA.as_mut_slice(), &mut *LOGITS);
    let length = File::open(c"words.txt").and_then(|mut file| file.read(WORDS));
    let words = WORDS.get(..length.unwrap_or(0)).unwrap_or_default();
    println!("arena {}", arena.len());
    for word in words.split(|&byte| byte == b'\n') {
        if word.is_empty() {
            continue;
        }
        print!("word ");
        let put = |piece: &[u8]| print!("{} ", core::str::from_utf8(piece).unwrap_or("?"));
        if answer(word, arena, put).is_none() {
            println!("none");
            semihosting::process::exit(1);
        }
        println!();
        match bits(word, arena, logits) {
            Some((steps, checksum)) => println!("logits {steps} {checksum}"),
            None => semihosting::process::exit(1),
        }
    }
    println!("done");
    semihosting::process::exit(0)
}

/// Steps of greedy search, and the CRC-32 of all their logits.
fn bits(word: &[u8], arena: &mut [u8], logits: &mut [u8]) -> Option<(usize, u32)> {
    let header = MODEL.palm().header();
    let tokenizer = Tokenizer::of(MODEL.palm())?;
    let mut session = Session::new(MODEL, LIMITS, arena).ok()?;
    let mut ids = [0; LIMITS.source as usize];
    let count = tokenizer
        .encode(core::str::from_utf8(word).ok()?, &mut ids)
        .ok()?;
    let mut decoder = session.encode(ids.get(..count)?).ok()?.decoder();
    let mut places = logits.chunks_exact_mut(4);
    let (mut id, mut steps) = (header.decoder_start, 0);
    while steps < LIMITS.target as usize && (steps == 0 || id != header.eos) {
        let values = decoder.step(id).ok()?;
        for value in values {
            places.next()?.copy_from_slice(&value.to_le_bytes());
        }
        id = argmax(values);
        steps += 1;
    }
    let bytes = 4 * steps * header.vocab as usize;
    Some((steps, crc32(logits.get(..bytes)?)))
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    println!("panic {info}");
    semihosting::process::exit(101)
}
