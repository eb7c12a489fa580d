//! A firmware's use of one model, from text to text, without a board. PALMTOP_MODEL is the model's
//! path.
#![no_std]

use palmtop::generate::greedy;
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model, NoTrace, Session, include_model};

/// The model, checked when this is compiled.
pub const MODEL: Model = include_model!(env!("PALMTOP_MODEL"));

/// Letters of a word and phonemes of its pronunciation.
pub const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Exactly what a session needs.
pub const ARENA_BYTES: usize = MODEL.arena_bytes(LIMITS);

/// Answers a text: `put` gets the answer piece by piece. Nothing if it cannot be done.
#[inline]
pub fn answer(text: &[u8], arena: &mut [u8], mut put: impl FnMut(&[u8])) -> Option<()> {
    let tokenizer = Tokenizer::of(MODEL.palm())?;
    let mut session = Session::new(MODEL, LIMITS, arena).ok()?;
    let mut ids = [0; LIMITS.source as usize];
    let text = core::str::from_utf8(text).ok()?;
    let count = tokenizer.encode(text, &mut ids).ok()?;
    let mut decoder = session.encode(ids.get(..count)?).ok()?.decoder();
    let emit = |id| put(tokenizer.piece(id));
    greedy(&mut decoder, LIMITS.target as usize, &mut NoTrace, emit).ok()?;
    Some(())
}
