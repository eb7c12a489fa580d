//! Reads what the firmware prints: lines of a key and its values.
//!
//! ```text
//! board m4f
//! counter 12000000 12000017     the loop's instructions, and those counted
//! model 1402880                 bytes
//! arena 40960                   bytes used of the arena
//! input                         one block per text or list of ids
//! ids 4 17 9
//! encoder 812345                instructions
//! encoder-storage 3 1 99072     paged experts: loads, hits, bytes read
//! token 12 40321                an id, and the instructions of its decoder step
//! decoder-storage 8 2 264192
//! output K AO1 R
//! stack 2110                    bytes, deepest so far
//! done
//! ```

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Everything that one start of the firmware reported.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The board's name.
    pub board: String,
    /// Bytes of the model file.
    pub model_bytes: u64,
    /// Bytes of the arena: the peak RAM of the session, stack apart.
    pub arena_bytes: u64,
    /// Deepest stack in bytes, by painting.
    pub stack_bytes: u64,
    /// Whether the golden input gave the golden bits, if it was run.
    pub self_test: Option<bool>,
    /// Each input and what it gave.
    pub runs: Vec<Run>,
}

/// One input and what it gave.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    /// Token ids of the input.
    pub ids: Vec<u32>,
    /// Instructions in the encoder.
    pub encoder_instructions: u64,
    /// Instructions in the tokenizer.
    pub tokenizer_instructions: u64,
    /// Generated token ids.
    pub tokens: Vec<u32>,
    /// Instructions for each generated token.
    pub token_instructions: Vec<u64>,
    /// What the encoder read, if experts are paged.
    pub encoder_storage: Reads,
    /// What all decoder steps together read, if experts are paged.
    pub decoder_storage: Reads,
    /// The text that the tokens stand for.
    pub output: String,
}

/// What was read from storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reads {
    /// Experts that were loaded.
    pub loads: u64,
    /// Experts that were in a slot already.
    pub hits: u64,
    /// Bytes of the loads.
    pub bytes: u64,
}

impl Reads {
    /// Of the firmware's three numbers.
    fn of(numbers: &[u64]) -> Self {
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        Self {
            loads: number(0),
            hits: number(1),
            bytes: number(2),
        }
    }

    /// Hits as a share of all experts asked for.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.loads).max(1) as f64
    }
}

impl Run {
    /// Mean instructions per generated token.
    pub fn instructions_per_token(&self) -> u64 {
        let tokens = self.token_instructions.len().max(1) as u64;
        self.token_instructions.iter().sum::<u64>() / tokens
    }
}

impl Report {
    /// Parses the firmware's output. An `error` line, a `panic` line and a missing end are errors.
    pub fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        let mut done = false;
        for line in text.lines() {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            let context = || format!("the firmware's line `{line}`");
            let number = || rest.parse::<u64>().with_context(context);
            let numbers = || {
                rest.split_whitespace()
                    .map(str::parse)
                    .collect::<Result<Vec<u64>, _>>()
                    .with_context(context)
            };
            match key {
                "board" => report.board = rest.to_owned(),
                "model" => report.model_bytes = number()?,
                "arena" => report.arena_bytes = number()?,
                "stack" => report.stack_bytes = report.stack_bytes.max(number()?),
                "counter" => check_counter(&numbers()?)?,
                "input" => report.runs.push(Run::default()),
                "selftest" => report.self_test = Some(rest == "passed"),
                "done" => done = true,
                "error" => bail!("the firmware reports: {rest}"),
                "panic" => bail!("the firmware panicked at {rest}"),
                "fault" => bail!("the firmware hit a hardware fault: {rest}"),
                _ => {
                    let run = report.runs.last_mut().with_context(context)?;
                    match (key, numbers()) {
                        ("output", _) => run.output = unescape(rest),
                        ("ids", Ok(ids)) => run.ids = ids.iter().map(|&id| id as u32).collect(),
                        ("tokenizer", Ok(n)) => run.tokenizer_instructions = first(&n),
                        ("encoder", Ok(n)) => run.encoder_instructions = first(&n),
                        ("encoder-storage", Ok(n)) => run.encoder_storage = Reads::of(&n),
                        ("decoder-storage", Ok(n)) => run.decoder_storage = Reads::of(&n),
                        ("token", Ok(n)) if n.len() == 2 => {
                            run.tokens.push(n[0] as u32);
                            run.token_instructions.push(n[1]);
                        }
                        _ => bail!("{} is not understood", context()),
                    }
                }
            }
        }
        if !done {
            bail!("the firmware stopped before its end; it had printed:\n{text}");
        }
        Ok(report)
    }
}

fn first(numbers: &[u64]) -> u64 {
    numbers.first().copied().unwrap_or_default()
}

/// The counter is trusted only if it counts a known loop to within a hundred thousandth.
fn check_counter(numbers: &[u64]) -> Result<()> {
    match *numbers {
        [expected, counted] if counted.abs_diff(expected) <= expected / 100_000 => Ok(()),
        [expected, counted] => bail!(
            "the instruction counter is wrong: a loop of {expected} instructions counted {counted}"
        ),
        _ => bail!("the counter line has {} numbers, not 2", numbers.len()),
    }
}

/// Undoes the firmware's `\\`, `\n` and `\xNN`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b'x') => {
                let digit = |b: Option<u8>| (b? as char).to_digit(16);
                if let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) {
                    bytes.push((16 * high + low) as u8);
                }
            }
            Some(other) => bytes.push(other),
            None => bytes.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "board m4f\ncounter 12000000 12000017\nmodel 64\narena 128\ninput\nids 1 2\n\
                          encoder 50\nencoder-storage 3 1 96\ntoken 7 10\ntoken 8 30\noutput a\\x20b\\\\\\n\nstack 96\ndone\n";

    #[test]
    fn a_whole_report() {
        let report = Report::parse(SAMPLE).unwrap();
        assert_eq!(
            (report.model_bytes, report.arena_bytes, report.stack_bytes),
            (64, 128, 96)
        );
        let run = &report.runs[0];
        assert_eq!(
            (run.tokens.as_slice(), run.instructions_per_token()),
            (&[7, 8][..], 20)
        );
        assert_eq!(run.output, "a b\\\n");
        let reads = run.encoder_storage;
        assert_eq!((reads.loads, reads.bytes, reads.hit_rate()), (3, 96, 0.25));
    }

    #[test]
    fn faults_are_errors() {
        assert!(
            Report::parse("board m4f\n")
                .unwrap_err()
                .to_string()
                .contains("before its end")
        );
        assert!(
            Report::parse("error no model\n")
                .unwrap_err()
                .to_string()
                .contains("no model")
        );
        assert!(Report::parse("counter 12000000 12000130\ndone\n").is_err());
    }
}
