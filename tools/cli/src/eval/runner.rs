//! A model on the lines of the data: what came out, and how right it was.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::dataset::Sample;
use super::score::{Score, Scorer};
use super::slots::{SlotRates, Slots, compare, rates};
use super::stats::{Rate, edit_rate, wilson};
use crate::engine::{Answer, Engine, most_tokens};
use crate::model_file::Image;
use crate::text::Codec;

/// Lines that could not be run which are named before the rest is only counted.
const NAMED: usize = 5;

/// What came of a line.
#[derive(Debug)]
pub struct Outcome {
    /// The text that came out; empty if the line could not be run.
    pub output: String,
    /// How far it is from a right answer.
    pub score: Score,
    slots: Slots,
    cut: bool,
    tokens: usize,
    time: Duration,
    not_run: Option<(usize, String)>,
}

/// A line that was run.
#[derive(Debug)]
pub struct Ran {
    /// The ids that went in.
    pub source: Vec<u32>,
    /// What came out.
    pub answer: Answer,
}

/// A model and what it has done so far.
pub struct Runner<'m> {
    /// The model's path.
    pub name: String,
    /// Its tokenizer.
    pub codec: Codec<'m>,
    /// What runs it.
    pub engine: Engine<'m>,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// A line's outcome each.
    pub outcomes: Vec<Outcome>,
}

/// A model's rates.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// The model's path.
    pub model: String,
    /// Lines whose output is a right answer.
    pub exact_match: Rate,
    /// Lines that are wrong; the word error rate where a line is a word.
    pub wer: Rate,
    /// Edits per unit.
    pub token_error_rate: Rate,
    /// Of lists of slots, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotRates>,
    /// Lines that could not be run; they count as wrong.
    pub not_run: usize,
    /// Lines whose output the target limit ended.
    pub cut: usize,
    /// Tokens in and out for each second of computing.
    pub tokens_per_second: f64,
}

impl<'m> Runner<'m> {
    /// A model that has not run yet.
    pub fn new(image: &'m Image, max_tokens: Option<u32>) -> Result<Self> {
        let engine = Engine::new(image)?;
        let codec = Codec::text(engine.model().palm())
            .with_context(|| format!("cannot evaluate {}", image.path().display()))?;
        Ok(Self {
            name: image.path().display().to_string(),
            codec,
            max_tokens: most_tokens(engine.header(), max_tokens),
            engine,
            outcomes: Vec::new(),
        })
    }

    /// Runs a line. One that cannot be run has no output and is wrong.
    pub fn run(&mut self, sample: &Sample, scorer: &Scorer, trace: bool) -> Option<Ran> {
        let ran = self.ran(&sample.text, trace);
        self.note(sample, scorer, ran)
    }

    /// Runs a text.
    pub fn ran(&mut self, text: &str, trace: bool) -> Result<Ran> {
        let source = self.codec.encode(text)?;
        let answer = self.engine.answer(&source, self.max_tokens, trace)?;
        Ok(Ran { source, answer })
    }

    /// Takes note of what came of a line.
    pub fn note(&mut self, sample: &Sample, scorer: &Scorer, ran: Result<Ran>) -> Option<Ran> {
        let output = ran
            .as_ref()
            .map_or_else(|_| String::new(), |ran| self.codec.decode(&ran.answer.ids));
        let mut outcome = Outcome {
            score: scorer.score(&output, &sample.expected),
            slots: compare(&output, &sample.expected),
            output,
            cut: false,
            tokens: 0,
            time: Duration::ZERO,
            not_run: None,
        };
        let ran = match ran {
            Ok(ran) => {
                outcome.cut = ran.answer.cut;
                outcome.tokens = ran.source.len() + ran.answer.steps;
                outcome.time = ran.answer.encode + ran.answer.decode;
                Some(ran)
            }
            Err(error) => {
                outcome.not_run = Some((sample.line, format!("{error:#}")));
                None
            }
        };
        self.outcomes.push(outcome);
        ran
    }

    /// Says on stderr which lines could not be run, and what was read from the file.
    pub fn say(&self) {
        let not_run: Vec<_> = self
            .outcomes
            .iter()
            .filter_map(|o| o.not_run.as_ref())
            .collect();
        for (line, error) in not_run.iter().take(NAMED) {
            eprintln!("note: {}: line {line} counts as wrong: {error}", self.name);
        }
        if not_run.len() > NAMED {
            eprintln!(
                "note: {}: and {} lines more",
                self.name,
                not_run.len() - NAMED
            );
        }
        if let Some(paging) = self.engine.paging() {
            eprintln!("{}", paging.over(self.tokens()).text());
        }
    }

    /// Tokens in and out.
    pub fn tokens(&self) -> usize {
        self.outcomes.iter().map(|o| o.tokens).sum()
    }

    /// The rates over some of the lines.
    pub fn measured(&self, lines: Range<usize>, slots: bool) -> Measured {
        let outcomes = self.outcomes.get(lines).unwrap_or_default();
        let n = outcomes.len();
        let scores: Vec<Score> = outcomes.iter().map(|o| o.score).collect();
        let exact = scores.iter().filter(|score| score.is_exact()).count();
        let tokens: usize = outcomes.iter().map(|o| o.tokens).sum();
        let time: Duration = outcomes.iter().map(|o| o.time).sum();
        Measured {
            model: self.name.clone(),
            exact_match: wilson(exact, n),
            wer: wilson(n - exact, n),
            token_error_rate: edit_rate(&scores),
            slots: slots.then(|| rates(outcomes.iter().map(|o| &o.slots))),
            not_run: outcomes.iter().filter(|o| o.not_run.is_some()).count(),
            cut: outcomes.iter().filter(|o| o.cut).count(),
            tokens_per_second: tokens as f64 / time.as_secs_f64().max(1e-9),
        }
    }
}
