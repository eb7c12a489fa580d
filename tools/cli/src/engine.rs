//! Runs a model on the host: the arena, its limits, and the way from ids to ids.

use std::time::{Duration, Instant};

use anyhow::Result;
use palmtop::format::{Header, NONE32};
use palmtop::generate::{argmax, greedy};
use palmtop::{Decoder, Limits, Model, NoTrace, RouteTrace};

use crate::experts::{Experts, Lent, Paging};
use crate::failure::failed;
use crate::model_file::Image;
use crate::room::Room;
use crate::steer::Steer;
use crate::trace::{Recorder, Taken};

/// Token rows of the encoder's batches here: weights are read once for so many, and the rows of the
/// widest layers stay in a core's own cache. A microcontroller takes the file's number, which is what
/// arenas are reported for.
const ROWS: usize = 128;

/// A session of an engine.
pub type Session<'m, 'a> = palmtop::Session<'m, 'a, Lent<'a, 'm>>;

/// A model with an arena that grows to what the longest input so far needed.
#[derive(Debug)]
pub struct Engine<'m> {
    model: Model<'m>,
    arena: Room,
    experts: Experts<'m>,
    steer: Steer,
    /// The model's path, for what goes wrong later.
    name: String,
}

/// What came out for one input.
#[derive(Debug)]
pub struct Answer {
    /// The generated ids: without the start token, with the end token if there was one.
    pub ids: Vec<u32>,
    /// Decoder steps that were computed for them.
    pub steps: usize,
    /// Most ids that could be generated: what was asked for, or what the model has positions for.
    pub most: usize,
    /// Whether that limit was reached before the model ended by itself.
    pub cut: bool,
    /// Arena bytes at the limits of this input.
    pub arena_bytes: usize,
    /// Time of the encoder, or of reading the prompt if the model is only a decoder.
    pub encode: Duration,
    /// Time of all decoder steps.
    pub decode: Duration,
    /// Routing decisions, if they were asked for.
    pub routes: Vec<Taken>,
    /// What was read for this input, if experts are read from the file.
    pub paging: Option<Paging>,
}

/// What a source and given target ids lead to.
#[derive(Debug, Default)]
pub struct Fed {
    /// Encoder states `[S, D]` after the final norm; empty without an encoder.
    pub hidden: Vec<f32>,
    /// Logits `[T, V]`.
    pub logits: Vec<f32>,
}

impl<'m> Engine<'m> {
    /// An engine for an image; its arena grows with the first input.
    pub fn new(image: &'m Image) -> Result<Self> {
        let model = image.model()?;
        Ok(Self {
            model,
            arena: Room::default(),
            experts: image.experts(&model)?,
            steer: Steer::default(),
            name: image.path().display().to_string(),
        })
    }

    /// Says more of an expert that could not be read.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref() {
            Some(palmtop::Error::Storage { .. }) => {
                let more = self
                    .experts
                    .take_error()
                    .map_or(String::new(), |error| format!(": {error}"));
                failed(format!("cannot use {}: {error}{more}", self.name))
                    .help("copy the file again, or convert its checkpoint again")
                    .into()
            }
            _ => error,
        }
    }

    /// Lets the user change routes.
    pub fn steer(&mut self, steer: Steer) {
        self.steer = steer;
    }

    /// The model.
    pub fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// The header.
    pub fn header(&self) -> &Header {
        self.model.palm().header()
    }

    /// What was read so far, if experts are read from the file.
    pub fn paging(&self) -> Option<Paging> {
        self.experts.paging()
    }

    /// Makes room and starts a session at these limits.
    pub fn session(&mut self, limits: Limits) -> Result<Session<'m, '_>> {
        let model = self.model.with_tile(ROWS.max(self.model.shape().tile));
        let bytes = model.arena_bytes(limits);
        let arena = self.arena.of(bytes).map_err(|_| {
            failed(format!(
                "this machine has no memory for an arena of {bytes} bytes"
            ))
            .help("shorten the input, or generate fewer tokens")
        })?;
        let experts = Lent(&mut self.experts);
        Ok(palmtop::Session::with_source(
            model, limits, arena, experts,
        )?)
    }

    /// Greedy search from `source`, with limits just large enough for it. A model that is only a
    /// decoder goes on from `source`.
    pub fn answer(&mut self, source: &[u32], max_tokens: u32, trace: bool) -> Result<Answer> {
        if trace || !self.steer.is_idle() {
            let mut recorder = Recorder {
                steer: self.steer.clone(),
                ..Recorder::default()
            };
            let mut answer = self.traced(source, max_tokens, &mut recorder)?;
            answer.routes = recorder.taken;
            Ok(answer)
        } else {
            self.traced(source, max_tokens, &mut NoTrace)
        }
    }

    /// Runs a source and feeds the decoder these ids, step by step. A model that is only a decoder
    /// is fed them alone.
    pub fn fed<T: RouteTrace>(
        &mut self,
        source: &[u32],
        target: &[u32],
        trace: &mut T,
    ) -> Result<Fed> {
        let fed = self.feed(source, target, trace);
        fed.map_err(|error| self.explain(error))
    }

    fn feed<T: RouteTrace>(
        &mut self,
        source: &[u32],
        target: &[u32],
        trace: &mut T,
    ) -> Result<Fed> {
        let h = *self.header();
        let limits = if h.decoder_only {
            limits(&h, target.len(), 1)?.0
        } else {
            limits(&h, source.len(), target.len() as u32)?.0
        };
        let mut fed = Fed::default();
        let mut session = self.session(limits)?;
        let mut decoder = if h.decoder_only {
            session.decoder_only()?
        } else {
            let mut encoded = session.encode_traced(source, trace)?;
            fed.hidden.extend_from_slice(encoded.hidden());
            encoded.decoder()
        };
        for id in target {
            let logits = decoder.step_traced(*id, trace)?;
            fed.logits.extend_from_slice(logits);
        }
        Ok(fed)
    }

    /// [`Engine::answer`] with a trace of one's own.
    pub fn traced<T: RouteTrace>(
        &mut self,
        source: &[u32],
        max_tokens: u32,
        trace: &mut T,
    ) -> Result<Answer> {
        let answer = self.generate(source, max_tokens, trace);
        answer.map_err(|error| self.explain(error))
    }

    fn generate<T: RouteTrace>(
        &mut self,
        source: &[u32],
        max_tokens: u32,
        trace: &mut T,
    ) -> Result<Answer> {
        let h = *self.header();
        let (limits, most) = limits(&h, source.len(), max_tokens)?;
        let arena_bytes = self.model.arena_bytes(limits);
        let before = self.paging();
        let mut session = self.session(limits)?;
        let start = Instant::now();
        let mut ids = Vec::new();
        let (steps, encode) = if h.decoder_only {
            let mut decoder = session.decoder_only()?;
            let next = prompt(&mut decoder, source, trace)?;
            let encode = start.elapsed();
            let steps = go_on(&mut decoder, next, most, &h, trace, &mut ids)?;
            (steps, encode)
        } else {
            let encoded = session.encode_traced(source, trace)?;
            let encode = start.elapsed();
            let mut decoder = encoded.decoder();
            let steps = greedy(&mut decoder, most, trace, |id| ids.push(id))?;
            (steps, encode)
        };
        let decode = start.elapsed() - encode;
        let ended = h.eos != NONE32 && ids.last() == Some(&h.eos);
        let forced = h.forced_eos != NONE32 && ids.len() == most;
        Ok(Answer {
            cut: h.eos != NONE32 && (!ended || forced),
            ids,
            steps,
            most,
            arena_bytes,
            encode,
            decode,
            routes: Vec::new(),
            paging: self.paging().map(|paging| paging.since(before)),
        })
    }
}

/// Feeds a prompt and gives the id that follows it.
fn prompt<T: RouteTrace>(
    decoder: &mut Decoder<'_, '_, '_, Lent<'_, '_>>,
    source: &[u32],
    trace: &mut T,
) -> Result<u32> {
    let mut next = 0;
    for id in source {
        next = argmax(decoder.step_traced(*id, trace)?);
    }
    Ok(next)
}

/// Goes on from the id that follows a prompt, the most likely one each time. Gives the steps.
fn go_on<T: RouteTrace>(
    decoder: &mut Decoder<'_, '_, '_, Lent<'_, '_>>,
    mut next: u32,
    most: usize,
    h: &Header,
    trace: &mut T,
    ids: &mut Vec<u32>,
) -> Result<usize> {
    for steps in 0..most {
        if steps + 1 == most && h.forced_eos != NONE32 {
            next = h.forced_eos;
        }
        ids.push(next);
        if next == h.eos || steps + 1 == most {
            return Ok(steps);
        }
        next = argmax(decoder.step_traced(next, trace)?);
    }
    Ok(0)
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

/// Limits for a source of this length and so many generated ids, within what the model can take,
/// and the ids that can be generated within them.
///
/// The prompt of a model that is only a decoder takes target positions; its last generated id
/// needs none.
pub fn limits(h: &Header, source: usize, target: u32) -> Result<(Limits, usize)> {
    check_source(h, source)?;
    let positions = if h.decoder_only {
        let prompt = u32::try_from(source).unwrap_or(u32::MAX);
        let wanted = prompt.saturating_add(target.max(1) - 1);
        if h.max_target > 0 {
            wanted.min(h.max_target)
        } else {
            wanted
        }
    } else {
        target
    };
    if h.max_target > 0 && positions > h.max_target {
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
    let most = if h.decoder_only {
        positions as usize + 1 - source
    } else {
        target as usize
    };
    let limits = Limits {
        source: if h.decoder_only { 0 } else { source as u32 },
        target: positions,
        beams: 1,
    };
    Ok((limits, most))
}

/// Refuses a source that the model cannot take.
pub fn check_source(h: &Header, source: usize) -> Result<()> {
    let (what, most) = if h.decoder_only {
        ("prompt", h.max_target)
    } else {
        ("source", h.max_source)
    };
    if most > 0 && source > most as usize {
        return Err(failed(format!(
            "the {what} has {source} tokens, more than the model's limit of {most}"
        ))
        .help(format!("shorten it to {most} tokens"))
        .into());
    }
    Ok(())
}
