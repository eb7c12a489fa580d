//! Runs requests through a model and reports what they took.

use palmtop::generate::{argmax, greedy};
use palmtop::storage::Statistics;
use palmtop::text::Tokenizer;
use palmtop::{Decoder, Error, Limits, Model, NoTrace};

use crate::counter::Counter;
use crate::errors;
use crate::experts::{self, Experts};
use crate::host::{Console, Floats, Lines, MAX_LINE};
use crate::mark::palmtop_mark;
use crate::request::{Wish, read_numbers};

/// Most tokens of a source or a target.
const MAX_TOKENS: usize = 1024;

/// Memory for lines and ids; a static, since it would not fit on a small stack.
pub struct Buffers {
    line: [u8; MAX_LINE],
    source: [u32; MAX_TOKENS],
    target: [u32; MAX_TOKENS],
    forced: [u32; MAX_TOKENS],
}

impl Buffers {
    /// Zeros.
    #[must_use]
    pub const fn new() -> Self {
        let ids = [0; MAX_TOKENS];
        Self {
            line: [0; MAX_LINE],
            source: ids,
            target: ids,
            forced: ids,
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// What a request has said so far.
struct Settings {
    limits: Limits,
    /// Slots for paged experts.
    slots: usize,
    max_tokens: usize,
    /// Where logits go, once an input has wanted them.
    floats: Option<Floats>,
    /// Whether the next input wants them.
    logits: bool,
    /// Ids in `Buffers::forced` for the next input.
    forced: usize,
}

/// A model, a console, and what it takes to run.
pub struct Runner<'a> {
    model: &'a Model<'static>,
    arena: &'a mut [u8],
    counter: &'a Counter,
    out: &'a mut Console,
}

/// Nothing more can be done; the reason has been reported.
pub struct Stop;

/// Finds the model at the start of `window`, checks all of it, and puts the checked view, which has
/// some hundred bytes, where the stack does not pay for it.
///
/// # Errors
/// [`Stop`] if there is no sound model.
#[inline(never)]
pub fn load<'v>(
    window: &'static [u8],
    view: &'v mut Option<Model<'static>>,
    out: &mut Console,
) -> Result<&'v Model<'static>, Stop> {
    let model = experts::model(window);
    match model {
        Ok(model) => {
            out.text("model")
                .number(model.palm().bytes().len() as u64)
                .end();
            Ok(view.insert(model))
        }
        Err(error) => {
            errors::format(out, error);
            Err(Stop)
        }
    }
}

impl<'a> Runner<'a> {
    /// Runs a model in an arena.
    pub fn new(
        model: &'a Model<'static>,
        arena: &'a mut [u8],
        counter: &'a Counter,
        out: &'a mut Console,
    ) -> Self {
        Self {
            model,
            arena,
            counter,
            out,
        }
    }

    /// Runs every line of `request.txt`.
    ///
    /// # Errors
    /// [`Stop`] at the first line that cannot be done.
    #[inline(never)]
    pub fn run(mut self, buffers: &mut Buffers) -> Result<(), Stop> {
        let mut settings = Settings {
            limits: self.model.default_limits(),
            slots: 1,
            max_tokens: MAX_TOKENS,
            floats: None,
            logits: false,
            forced: 0,
        };
        let Buffers {
            line,
            source,
            target,
            forced,
        } = buffers;
        let Some(mut lines) = Lines::open(c"request.txt", line) else {
            self.out
                .text("error request: no request.txt in the host's folder")
                .end();
            return Err(Stop);
        };
        let mut arena_shown = 0;
        while let Some(line) = lines.next_line() {
            match Wish::parse(line) {
                Wish::Nothing => {}
                Wish::Limits { source, target } => {
                    settings.limits = Limits {
                        source,
                        target,
                        beams: 1,
                    };
                }
                Wish::Slots(slots) => settings.slots = slots as usize,
                #[cfg(feature = "units")]
                Wish::Unit(unit) => crate::units::set(unit),
                #[cfg(not(feature = "units"))]
                Wish::Unit(_) => return self.stop("units are not bounded here"),
                Wish::Max(most) => settings.max_tokens = most as usize,
                Wish::Logits => {
                    settings.logits = true;
                    if settings.floats.is_none() {
                        settings.floats = Floats::create(c"logits.bin");
                    }
                    if settings.floats.is_none() {
                        return self.stop("logits.bin cannot be created");
                    }
                }
                Wish::SelfTest => self.self_test(&settings, source)?,
                Wish::Force(ids) => match read_numbers(ids, forced) {
                    Some(count) => settings.forced = count,
                    None => return self.stop("ids to force are not numbers, or too many"),
                },
                Wish::Ids(ids) => {
                    self.start_input(&settings, &mut arena_shown);
                    let Some(count) = read_numbers(ids, source) else {
                        return self.stop("ids are not numbers, or too many");
                    };
                    self.input(&source[..count], target, forced, &mut settings)?;
                }
                Wish::Text(text) => {
                    self.start_input(&settings, &mut arena_shown);
                    let count = self.encode_text(text, source)?;
                    self.input(&source[..count], target, forced, &mut settings)?;
                }
                Wish::Unknown => return self.stop("a line is not understood"),
            }
        }
        Ok(())
    }

    fn stop(&mut self, why: &str) -> Result<(), Stop> {
        self.out.text("error request: ").text(why).end();
        Err(Stop)
    }

    fn start_input(&mut self, settings: &Settings, arena_shown: &mut usize) {
        let bytes = experts::arena_bytes(self.model, settings.limits, settings.slots);
        if bytes != *arena_shown {
            self.out.text("arena").number(bytes as u64).end();
            *arena_shown = bytes;
        }
        self.out.text("input").end();
    }

    fn encode_text(&mut self, text: &[u8], ids: &mut [u32]) -> Result<usize, Stop> {
        let Some(tokenizer) = Tokenizer::of(self.model.palm()) else {
            self.out
                .text("error text: the model has no tokenizer; give ids")
                .end();
            return Err(Stop);
        };
        let Ok(text) = str::from_utf8(text) else {
            self.out.text("error text: not UTF-8").end();
            return Err(Stop);
        };
        let start = self.counter.now();
        match tokenizer.encode(text, ids) {
            Ok(count) => {
                self.out
                    .text("tokenizer")
                    .number(self.counter.since(start))
                    .end();
                Ok(count)
            }
            Err(error) => {
                errors::text(self.out, error);
                Err(Stop)
            }
        }
    }

    #[inline(never)]
    fn self_test(&mut self, settings: &Settings, ids: &mut [u32]) -> Result<(), Stop> {
        let mut slot = None;
        let (limits, slots) = (settings.limits, settings.slots);
        let session = experts::open(&mut slot, self.model, self.arena, limits, slots);
        match session.and_then(|session| session.self_test(ids)) {
            Ok(()) => {
                self.out.text("selftest passed").end();
                Ok(())
            }
            Err(error) => {
                errors::run(self.out, error);
                Err(Stop)
            }
        }
    }

    /// Encodes a source, and generates from it or feeds what is forced.
    fn input(
        &mut self,
        source: &[u32],
        target: &mut [u32],
        forced: &[u32],
        settings: &mut Settings,
    ) -> Result<(), Stop> {
        self.out.text("ids");
        for id in source {
            self.out.number((*id).into());
        }
        self.out.end();
        let most = settings
            .max_tokens
            .min(target.len())
            .min(settings.limits.target as usize);
        let forced = forced
            .get(..core::mem::take(&mut settings.forced))
            .unwrap_or_default();
        let generated = self.generate(source, target, forced, most, settings);
        settings.logits = false;
        let count = match generated {
            Ok(count) => count,
            Err(error) => {
                errors::run(self.out, error);
                return Err(Stop);
            }
        };
        if let Some(tokenizer) = Tokenizer::of(self.model.palm()) {
            self.out.text("output ");
            tokenizer.decode(&target[..count], |piece| {
                self.out.escaped(piece);
            });
            self.out.end();
        }
        Ok(())
    }

    /// Feeds what is forced in bounded units, and says how many tokens there are: nothing is reported
    /// meanwhile, so that between two marks lies what a cooperative task does between two yields.
    #[cfg(feature = "units")]
    fn generate(
        &mut self,
        source: &[u32],
        target: &mut [u32],
        forced: &[u32],
        _most: usize,
        settings: &mut Settings,
    ) -> Result<usize, Error> {
        let mut slot = None;
        let (limits, slots) = (settings.limits, settings.slots);
        let session = experts::open(&mut slot, self.model, self.arena, limits, slots)?;
        let mut decoder = crate::units::encode(session, source)?.decoder();
        for (&id, next) in forced.iter().zip(target.iter_mut()) {
            *next = crate::units::step(&mut decoder, id)?;
            write(settings, &mut decoder);
        }
        palmtop_mark();
        self.out.text("encoder 0").end();
        let count = forced.len().min(target.len());
        for &id in target.iter().take(count) {
            self.out.text("token").number(id.into()).text(" 0").end();
        }
        let all = experts::statistics(decoder.session().source());
        storage(self.out, "decoder-storage", all, None);
        Ok(count)
    }

    /// Fills `target` and says how many tokens there are.
    #[cfg(not(feature = "units"))]
    fn generate(
        &mut self,
        source: &[u32],
        target: &mut [u32],
        forced: &[u32],
        most: usize,
        settings: &mut Settings,
    ) -> Result<usize, Error> {
        let mut slot = None;
        let (limits, slots) = (settings.limits, settings.slots);
        let session = experts::open(&mut slot, self.model, self.arena, limits, slots)?;
        palmtop_mark();
        let start = self.counter.now();
        let encoded = session.encode(source)?;
        palmtop_mark();
        self.out
            .text("encoder")
            .number(self.counter.since(start))
            .end();
        let mut decoder = encoded.decoder();
        let first = experts::statistics(decoder.session().source());
        storage(self.out, "encoder-storage", first, None);
        let mut then = self.counter.now();
        let mut count = 0;
        let mut emit = |id: u32| {
            palmtop_mark();
            let instructions = self.counter.since(then);
            self.out
                .text("token")
                .number(id.into())
                .number(instructions)
                .end();
            if let Some(slot) = target.get_mut(count) {
                *slot = id;
                count += 1;
            }
            then = self.counter.now();
        };
        if forced.is_empty() {
            greedy(&mut decoder, most, &mut NoTrace, emit)?;
        } else {
            for &id in forced {
                emit(argmax(decoder.step(id)?));
                write(settings, &mut decoder);
            }
        }
        let all = experts::statistics(decoder.session().source());
        storage(self.out, "decoder-storage", all, first);
        if !forced.is_empty() {
            return Ok(count);
        }
        if settings.logits {
            decoder.restart();
            let mut id = self.model.palm().header().decoder_start;
            for &next in target.iter().take(count) {
                decoder.step(id)?;
                write(settings, &mut decoder);
                id = next;
            }
        }
        Ok(count)
    }
}

/// Writes the logits of the last step, if they are wanted.
fn write(settings: &mut Settings, decoder: &mut Decoder<'_, '_, '_, Experts<'_, '_>>) {
    if let (true, Some(file)) = (settings.logits, &mut settings.floats) {
        file.write(decoder.logits());
    }
}

/// Reports what the storage has given since `before`.
fn storage(out: &mut Console, key: &str, now: Option<Statistics>, before: Option<Statistics>) {
    if let Some(now) = now {
        let before = before.unwrap_or_default();
        out.text(key)
            .number(now.loads - before.loads)
            .number(now.hits - before.hits)
            .number(now.bytes_read - before.bytes_read)
            .end();
    }
}
