//! `palmtop run`: text in, text out, by greedy search.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palmtop::format::Header;
use serde::Serialize;

use crate::args::{ModelArgs, ThreadArgs, only_greedy};
use crate::engine::{Answer, Engine, most_tokens};
use crate::experts::PagingReport;
use crate::failure::failed;
use crate::model_file::Image;
use crate::steer::{Steer, SteerArgs};
use crate::text::{Codec, check_ids, one_line};
use crate::trace::{self, Taken};
use crate::{failure, out};

const EXAMPLES: &str = "Examples:
  palmtop run model.palm \"microcontroller\"
  palmtop run model.palm < words.txt > phonemes.txt
  palmtop run checkpoint/ --weights f16 \"microcontroller\" --trace
  palmtop run model.palm --ids \"5 6 7\" --json

A model that is only a decoder reads the text as its prompt and prints what follows.
Without TEXT, each line of stdin is one input and gives one line of answer. A line that cannot be
run gives an empty line, the reason on stderr, and exit code 1 at the end.";

/// UTF-8's, which some editors put at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    /// The text to run; without it, stdin is read, a line each
    #[arg(value_name = "TEXT")]
    text: Option<String>,

    /// Width of beam search; only 1, greedy search, is supported yet
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    beams: u32,

    /// Most tokens to generate, as far as the model has positions [default: its default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,

    /// Refuse inputs of more tokens than this [default: the model's own limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_source: Option<u32>,

    /// Take token ids instead of text, and print ids
    #[arg(long)]
    ids: bool,

    /// Show on stderr which experts each token took in each sparse layer, with their weights
    #[arg(long)]
    trace: bool,

    #[command(flatten)]
    steer: SteerArgs,

    /// Print one JSON object for each input
    #[arg(long)]
    json: bool,
}

/// What `--json` prints for an input.
#[derive(Debug, Serialize)]
struct Line<'a> {
    text: &'a str,
    output: String,
    ids: &'a [u32],
    output_ids: &'a [u32],
    /// The target limit was reached before the model ended by itself.
    cut: bool,
    timings: Timings,
    arena_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<PagingReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<&'a [Taken]>,
}

/// What `--json` prints for an input that could not be run.
#[derive(Debug, Serialize)]
struct FailedLine<'a> {
    text: &'a str,
    output: &'static str,
    error: String,
}

#[derive(Debug, Serialize)]
struct Timings {
    tokenize_ms: f64,
    encode_ms: f64,
    decode_ms: f64,
    decode_tokens_per_second: f64,
}

/// Runs TEXT, or every line of stdin.
pub fn run(args: &Args) -> Result<ExitCode> {
    args.threads.start();
    only_greedy(args.beams)?;
    let image = Image::load(&args.model)?;
    let mut engine = Engine::new(&image)?;
    let palm = *engine.model().palm();
    engine.steer(Steer::new(&args.steer, &palm)?);
    let codec = if args.ids {
        Codec::Ids
    } else {
        Codec::text(&palm)?
    };
    let h = palm.header();
    let max_tokens = most_tokens(h, args.max_tokens);
    let mut runner = Runner {
        args,
        h,
        codec,
        engine,
        max_tokens,
        tokens: 0,
    };

    let code = match &args.text {
        Some(text) => {
            out::line(&runner.answer(text)?)?;
            ExitCode::SUCCESS
        }
        None => runner.lines()?,
    };
    if let Some(paging) = runner.engine.paging() {
        eprintln!("{}", paging.over(runner.tokens).text());
    }
    Ok(code)
}

struct Runner<'m, 'a> {
    args: &'a Args,
    h: &'a Header,
    codec: Codec<'m>,
    engine: Engine<'m>,
    max_tokens: u32,
    /// Tokens in and out so far.
    tokens: usize,
}

impl Runner<'_, '_> {
    /// Answers every line of stdin. Lines that fail are answered by an empty line.
    fn lines(&mut self) -> Result<ExitCode> {
        let mut stdin = io::stdin().lock();
        if stdin.is_terminal() {
            eprintln!("reading lines from the terminal; Ctrl-D ends");
        }
        let mut all_done = true;
        let mut bytes = Vec::new();
        for number in 1u64.. {
            bytes.clear();
            if stdin
                .read_until(b'\n', &mut bytes)
                .context("cannot read stdin")?
                == 0
            {
                break;
            }
            let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let mark = if number == 1 { BYTE_ORDER_MARK } else { b"" };
            let line = line.strip_prefix(mark).unwrap_or(line);
            let answer = match str::from_utf8(line) {
                Ok(text) => self.answer(text),
                Err(error) => Err(failed(format!("not UTF-8 at byte {}", error.valid_up_to()))
                    .help("convert the input to UTF-8")
                    .into()),
            };
            match answer {
                Ok(answer) => out::line(&answer)?,
                Err(error) => {
                    all_done = false;
                    let text = String::from_utf8_lossy(line);
                    let error = error.context(format!("line {number}"));
                    let _ = failure::report(&error);
                    if self.args.json {
                        let error = format!("{error:#}");
                        out::json(&FailedLine {
                            text: &text,
                            output: "",
                            error,
                        })?;
                    } else {
                        out::line("")?;
                    }
                }
            }
        }
        Ok(if all_done {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The line to print for a text; the trace goes to stderr.
    fn answer(&mut self, text: &str) -> Result<String> {
        let start = Instant::now();
        let ids = self.codec.encode(text)?;
        check_ids(&ids, self.h.vocab, "the input")?;
        let tokenize = start.elapsed();
        if let Some(most) = self.args.max_source
            && ids.len() > most as usize
        {
            return Err(failed(format!(
                "the text has {} tokens, more than the {most} that --max-source allows",
                ids.len()
            ))
            .help("shorten the text, or raise --max-source")
            .into());
        }
        let answer = self.engine.answer(&ids, self.max_tokens, self.args.trace)?;
        self.tokens += ids.len() + answer.steps;
        if answer.cut {
            let all =
                self.max_tokens == self.h.max_target || answer.most < self.max_tokens as usize;
            let raise = if all {
                "the model has no more positions"
            } else {
                "--max-tokens raises the limit"
            };
            eprintln!(
                "note: the output was cut after {} tokens; {raise}",
                answer.most
            );
        }
        if self.args.trace && !self.args.json {
            eprint!("{}", self.trace_text(&ids, &answer));
        }
        let output = self.codec.decode(&answer.ids);
        if !self.args.json {
            return Ok(one_line(&output));
        }
        Ok(serde_json::to_string(&Line {
            text,
            output,
            ids: &ids,
            output_ids: &answer.ids,
            cut: answer.cut,
            timings: timings(tokenize, &answer),
            arena_bytes: answer.arena_bytes,
            paging: answer.paging.map(|p| p.over(ids.len() + answer.steps)),
            routes: self.args.trace.then_some(&answer.routes),
        })?)
    }

    fn trace_text(&self, source: &[u32], answer: &Answer) -> String {
        let name = |id: &u32| {
            let piece = one_line(&self.codec.piece(*id));
            if piece.trim().is_empty() {
                format!("#{id}")
            } else {
                piece
            }
        };
        let source: Vec<String> = source.iter().map(name).collect();
        // A decoder step reads the token before the one that it generates; a model that is only a
        // decoder reads the prompt first.
        let mut target = if self.h.decoder_only {
            source.clone()
        } else {
            vec!["start".to_owned()]
        };
        target.extend(answer.ids.iter().map(name));
        trace::text(self.engine.model().palm(), &answer.routes, &source, &target)
    }
}

fn timings(tokenize: Duration, answer: &Answer) -> Timings {
    let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let seconds = answer.decode.as_secs_f64().max(1e-9);
    Timings {
        tokenize_ms: ms(tokenize),
        encode_ms: ms(answer.encode),
        decode_ms: ms(answer.decode),
        decode_tokens_per_second: (answer.steps as f64 / seconds * 10.0).round() / 10.0,
    }
}
