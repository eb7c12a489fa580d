//! Runs a model on the host: the arena, its limits, and the way from ids to ids.

use std::time::{Duration, Instant};

use anyhow::Result;
use palmtop::format::{ALIGN, Header, NONE32};
use palmtop::generate::greedy;
use palmtop::{Limits, Model, NoTrace, Session};

use crate::failure::failed;
use crate::trace::{Recorder, Taken};

/// A model with an arena that grows to what the longest input so far needed.
#[derive(Debug)]
pub struct Engine<'m> {
    model: Model<'m>,
    arena: Vec<u128>,
}

/// What came out for one input.
#[derive(Debug)]
pub struct Answer {
    /// The generated ids: without the start token, with the end token if there was one.
    pub ids: Vec<u32>,
    /// Decoder steps that were computed.
    pub steps: usize,
    /// Whether the target limit was reached before the model ended by itself.
    pub cut: bool,
    /// Arena bytes at the limits of this input.
    pub arena_bytes: usize,
    /// Time of the encoder.
    pub encode: Duration,
    /// Time of all decoder steps.
    pub decode: Duration,
    /// Routing decisions, if they were asked for.
    pub routes: Vec<Taken>,
}

impl<'m> Engine<'m> {
    /// An engine without an arena yet.
    pub fn new(model: Model<'m>) -> Self {
        Self {
            model,
            arena: Vec::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// The header.
    pub fn header(&self) -> &Header {
        self.model.palm().header()
    }

    /// Makes room and starts a session at these limits.
    pub fn session(&mut self, limits: Limits) -> Result<Session<'m, '_>> {
        let bytes = self.model.arena_bytes(limits);
        let blocks = bytes.div_ceil(ALIGN);
        if self.arena.len() < blocks {
            let more = blocks - self.arena.len();
            self.arena.try_reserve_exact(more).map_err(|_| {
                failed(format!(
                    "this machine has no memory for an arena of {bytes} bytes"
                ))
                .help("shorten the input, or generate fewer tokens")
            })?;
            self.arena.resize(blocks, 0);
        }
        let arena = &mut bytemuck::cast_slice_mut(&mut self.arena)[..bytes];
        Ok(Session::new(self.model, limits, arena)?)
    }

    /// Greedy search from `source`, with limits just large enough for it.
    pub fn answer(&mut self, source: &[u32], max_tokens: u32, trace: bool) -> Result<Answer> {
        let limits = limits(self.header(), source.len(), max_tokens)?;
        let h = *self.header();
        let arena_bytes = self.model.arena_bytes(limits);
        let mut recorder = Recorder::default();
        let mut session = self.session(limits)?;
        let start = Instant::now();
        let encoded = if trace {
            session.encode_traced(source, &mut recorder)?
        } else {
            session.encode(source)?
        };
        let encode = start.elapsed();

        let start = Instant::now();
        let mut decoder = encoded.decoder();
        let mut ids = Vec::new();
        let most = max_tokens as usize;
        let steps = if trace {
            greedy(&mut decoder, most, &mut recorder, |id| ids.push(id))?
        } else {
            greedy(&mut decoder, most, &mut NoTrace, |id| ids.push(id))?
        };
        let decode = start.elapsed();
        let ended = h.eos != NONE32 && ids.last() == Some(&h.eos);
        let forced = h.forced_eos != NONE32 && steps == most;
        let cut = h.eos != NONE32 && (!ended || forced);
        Ok(Answer {
            ids,
            steps,
            cut,
            arena_bytes,
            encode,
            decode,
            routes: recorder.taken,
        })
    }
}

/// Most tokens to generate: as many as asked for, or the model's default, and never more than it
/// has positions for.
pub fn most_tokens(h: &Header, asked: Option<u32>) -> u32 {
    let most = if h.max_target > 0 {
        h.max_target
    } else {
        u32::MAX
    };
    asked.unwrap_or(h.default_target).min(most)
}

/// Limits for a source of this length, within what the model can take.
pub fn limits(h: &Header, source: usize, target: u32) -> Result<Limits> {
    check_source(h, source)?;
    if h.max_target > 0 && target > h.max_target {
        return Err(failed(format!(
            "{target} target positions are more than the model's limit of {}",
            h.max_target
        ))
        .help(format!(
            "the model can be run with {} target positions or fewer",
            h.max_target
        ))
        .into());
    }
    Ok(Limits {
        source: source as u32,
        target,
        beams: 1,
    })
}

/// Refuses a source that the model cannot take.
pub fn check_source(h: &Header, source: usize) -> Result<()> {
    if h.max_source > 0 && source > h.max_source as usize {
        return Err(failed(format!(
            "the source has {source} tokens, more than the model's limit of {}",
            h.max_source
        ))
        .help(format!("shorten it to {} tokens", h.max_source))
        .into());
    }
    Ok(())
}
