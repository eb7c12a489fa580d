//! The pieces of work that `palmtop bench` times: encoding sources of three lengths, and generating
//! 64 tokens after one. Programs that time other engines print the same cases, as lines of JSON
//! with the milliseconds of every round.

use std::time::{Duration, Instant};

use anyhow::Result;
use palmtop::format::{Header, NONE32};
use palmtop::generate::argmax;
use palmtop::storage::WeightSource;
use palmtop::{Encoding, Error, Limits, Progress};
use serde::Serialize;

use crate::engine::Engine;

/// Lengths of source that are encoded, as far as the model takes them.
const SOURCES: [u32; 3] = [32, 128, 512];
/// Lengths of source that are decoded from, as far as the model takes them.
const DECODER_SOURCES: [u32; 2] = [32, 512];
/// Tokens that are generated, as far as the model has positions for them.
const STEPS: u32 = 64;
/// Source ids are spread over so many of the vocabulary, or as many as it has.
const SPREAD: u32 = 31_000;
/// Fewest rounds of a case, if their number is not given.
const ROUNDS: usize = 5;
/// Rounds go on until this time is used.
const ENOUGH: Duration = Duration::from_millis(600);

/// A case and what its rounds took.
#[derive(Debug, Serialize)]
pub struct Case {
    /// `enc128`, `dec64@32`: what was done, with the lengths that were used.
    pub case: String,
    /// Milliseconds of each round.
    pub ms: Vec<f64>,
    /// Source tokens.
    pub source: u32,
    /// Tokens that a round encodes or generates.
    pub tokens: u32,
    /// Bytes of the arena at the limits of this case.
    pub arena_bytes: usize,
}

impl Case {
    /// The best round in milliseconds.
    pub fn best(&self) -> f64 {
        self.ms.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The median in milliseconds.
    pub fn median(&self) -> f64 {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        ms.get(ms.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Tokens that were encoded or generated in all rounds, the one that does not count too.
    pub fn all_tokens(&self, decoder_only: bool) -> usize {
        let generated = self.case.starts_with("dec") && !decoder_only;
        let source = if generated { self.source } else { 0 };
        (self.tokens + source) as usize * (self.ms.len() + 1)
    }
}

/// The cases that a model can run, and how they differ from those of other engines.
#[derive(Debug, Default)]
pub struct Plan {
    /// Source lengths to encode.
    encode: Vec<u32>,
    /// Source lengths to decode from, or one 0 for a model that is only a decoder.
    decode: Vec<u32>,
    /// Tokens to generate.
    steps: u32,
    /// What the model's limits changed.
    pub notes: Vec<String>,
}

impl Plan {
    /// What this model can run of the cases.
    pub fn of(h: &Header) -> Self {
        let within = |n: u32, most: u32| if most > 0 { n.min(most) } else { n };
        let lengths = |wanted: &[u32]| {
            let mut all: Vec<u32> = wanted.iter().map(|n| within(*n, h.max_source)).collect();
            all.dedup();
            all
        };
        let mut plan = Self {
            encode: lengths(&SOURCES),
            decode: lengths(&DECODER_SOURCES),
            steps: within(STEPS, h.max_target),
            notes: Vec::new(),
        };
        if h.decoder_only {
            (plan.encode, plan.decode) = (Vec::new(), vec![0]);
            let note = "the model is only a decoder: it generates without a source";
            plan.notes.push(note.to_owned());
        } else if SOURCES.iter().any(|n| within(*n, h.max_source) != *n) {
            let most = h.max_source;
            let note = format!("the model takes {most} source tokens: longer cases are cut to it");
            plan.notes.push(note);
        }
        if plan.steps < STEPS {
            let most = plan.steps;
            let note = format!("the model has {most} target positions: so many are generated");
            plan.notes.push(note);
        }
        if spread(h.vocab) < SPREAD && !h.decoder_only {
            let note = format!(
                "the model has {} ids: sources repeat after {}",
                h.vocab,
                spread(h.vocab)
            );
            plan.notes.push(note);
        }
        plan
    }

    /// Times every case, `rounds` times or as often as seems enough, and hands each to `done`.
    pub fn run(
        &self,
        engine: &mut Engine<'_>,
        rounds: Option<usize>,
        mut done: impl FnMut(Case) -> Result<()>,
    ) -> Result<()> {
        for source in &self.encode {
            done(encode(engine, *source, rounds)?)?;
        }
        for source in &self.decode {
            done(decode(engine, *source, self.steps, rounds)?)?;
        }
        Ok(())
    }
}

/// Ids that sources are taken from.
fn spread(vocab: u32) -> u32 {
    SPREAD.min(vocab.saturating_sub(3)).max(1)
}

/// The source of `n` ids that every engine is given, its last id 1.
fn ids(n: u32, vocab: u32) -> Vec<u32> {
    let id = |i: u32| match i + 1 == n {
        true => 1,
        false => 3 + (u64::from(i) * 7919 % u64::from(spread(vocab))) as u32,
    };
    (0..n).map(|i| id(i).min(vocab.saturating_sub(1))).collect()
}

/// Up to the encoder's states; what cross-attention makes of them counts with the decoder.
fn encode(engine: &mut Engine<'_>, source: u32, rounds: Option<usize>) -> Result<Case> {
    let ids = ids(source, engine.header().vocab);
    let limits = Limits {
        source,
        target: 1,
        beams: 1,
    };
    let ms = timed(rounds, || {
        let mut session = engine.session(limits)?;
        let start = Instant::now();
        let mut encoding = session.start(&ids)?;
        to_states(&mut encoding)?;
        Ok(start.elapsed())
    })?;
    Ok(Case {
        case: format!("enc{source}"),
        ms,
        source,
        tokens: source,
        arena_bytes: engine.model().arena_bytes(limits),
    })
}

/// From the encoder's states to `steps` tokens, the most likely one each time, never the end.
fn decode(engine: &mut Engine<'_>, source: u32, steps: u32, rounds: Option<usize>) -> Result<Case> {
    let h = *engine.header();
    let ids = ids(source, h.vocab);
    let limits = Limits {
        source,
        target: steps,
        beams: 1,
    };
    let ms = timed(rounds, || {
        let mut session = engine.session(limits)?;
        let start;
        let mut decoder = if h.decoder_only {
            start = Instant::now();
            session.decoder_only()?
        } else {
            let mut encoding = session.start(&ids)?;
            to_states(&mut encoding)?;
            start = Instant::now();
            encoding.finish()?.decoder()
        };
        let mut id = h.decoder_start;
        for _ in 0..steps {
            id = greatest_but(decoder.step(id)?, h.eos);
        }
        std::hint::black_box(id);
        Ok(start.elapsed())
    })?;
    Ok(Case {
        case: match source {
            0 => format!("dec{steps}"),
            source => format!("dec{steps}@{source}"),
        },
        ms,
        source,
        tokens: steps,
        arena_bytes: engine.model().arena_bytes(limits),
    })
}

fn to_states<S: WeightSource>(encoding: &mut Encoding<'_, '_, '_, S>) -> Result<(), Error> {
    while !encoding.is_encoded() && encoding.poll()? == Progress::Pending {}
    Ok(())
}

/// The index of the greatest logit, `end` left out.
fn greatest_but(logits: &[f32], end: u32) -> u32 {
    if end == NONE32 || end as usize >= logits.len() {
        return argmax(logits);
    }
    let (before, after) = logits.split_at(end as usize);
    let after = after.get(1..).unwrap_or_default();
    let (low, high) = (argmax(before), argmax(after));
    let at = |logits: &[f32], id: u32| logits.get(id as usize).copied();
    match (at(before, low), at(after, high)) {
        (Some(a), Some(b)) if a >= b => low,
        (Some(_), None) => low,
        _ => end + 1 + high,
    }
}

/// Milliseconds of several rounds, after one that is thrown away.
fn timed(rounds: Option<usize>, mut round: impl FnMut() -> Result<Duration>) -> Result<Vec<f64>> {
    round()?;
    let start = Instant::now();
    let mut ms = Vec::new();
    while match rounds {
        Some(rounds) => ms.len() < rounds,
        None => ms.len() < ROUNDS || start.elapsed() < ENOUGH,
    } {
        ms.push(round()?.as_secs_f64() * 1e3);
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_of_other_engines() {
        assert_eq!(ids(4, 32_128), [3, 7922, 15_841, 1]);
        assert_eq!(ids(6, 32_128)[4], 3 + 4 * 7919 % 31_000);
        assert!(ids(512, 67).iter().all(|id| *id < 67));
        assert_eq!(ids(3, 1), [0, 0, 0]);
    }

    #[test]
    fn the_end_is_never_chosen() {
        let logits = [0.0, 9.0, 2.0, 2.0];
        assert_eq!(greatest_but(&logits, 1), 2);
        assert_eq!(greatest_but(&logits, 0), 1);
        assert_eq!(greatest_but(&logits, 3), 1);
        assert_eq!(greatest_but(&logits, NONE32), 1);
        assert_eq!(greatest_but(&[5.0, 9.0, 5.0], 1), 0);
    }
}
