//! `palmtop eval`: how often outputs are right, with intervals, and a second model beside.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use palmtop::Model;
use serde::Serialize;

use crate::args::{ModelArgs, WeightsArg};
use crate::engine::{Engine, most_tokens};
use crate::eval::dataset::{self, Sample};
use crate::eval::score::{Score, Scorer, Unit};
use crate::eval::stats::{Paired, Rate, edit_rate, paired, wilson};
use crate::model_file::Image;
use crate::table::Table;
use crate::text::{Codec, one_line};
use crate::units::{count, share};
use crate::{out, progress};

const EXAMPLES: &str = "Examples:
  palmtop eval model.palm --data test.tsv
  palmtop eval model.palm --data test.tsv --ignore-stress --json
  palmtop eval checkpoint/ --data test.tsv --compare checkpoint/ --compare-weights f32

A line of the data is TEXT<TAB>EXPECTED, then further right answers, each after a TAB; any of them
counts as right. WER is the rate of lines that are wrong, as is usual for pronunciation.";

/// Lines that could not be run which are named before the rest is only counted.
const NAMED: usize = 5;

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The data: TEXT<TAB>EXPECTED[<TAB>ALTERNATIVE…] on each line
    #[arg(long, value_name = "FILE.tsv")]
    data: PathBuf,

    /// Only the first N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Leave stress out on both sides: digits of ARPAbet, and the marks of IPA
    #[arg(long)]
    ignore_stress: bool,

    /// What the token error rate counts [default: tokens if most expected outputs have spaces]
    #[arg(long, value_name = "UNIT")]
    unit: Option<Unit>,

    /// Most tokens to generate, as far as the model has positions [default: its default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,

    /// Run this model on the same lines too, and give the paired difference
    #[arg(long, value_name = "OTHER_MODEL")]
    compare: Option<PathBuf>,

    /// How to store the matrices of OTHER_MODEL if it is a checkpoint folder [default: int8]
    #[arg(long, value_name = "FORMAT", requires = "compare")]
    compare_weights: Option<WeightsArg>,

    /// Write text and output of each line, and OTHER_MODEL's output
    #[arg(long, value_name = "FILE.tsv")]
    out: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    data: String,
    lines: usize,
    unit: Unit,
    ignore_stress: bool,
    result: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
}

/// A model's rates.
#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    exact_match: Rate,
    wer: Rate,
    token_error_rate: Rate,
    /// Lines that could not be run; they count as wrong.
    not_run: usize,
    /// Lines whose output the target limit ended.
    cut: usize,
    tokens_per_second: f64,
}

/// The other model, and the difference.
#[derive(Debug, Serialize)]
struct Compared {
    other: Measured,
    /// Lines on which both outputs are the same, whether right or wrong.
    same_output: Rate,
    wer_difference: Paired,
}

/// Runs every line, on both models if there are two.
pub fn eval(args: &Args) -> Result<ExitCode> {
    let limit = args.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let samples = dataset::read(&args.data, limit)?;
    if let Some(path) = &args.out {
        out::check_file(path)?;
    }
    let unit = args.unit.unwrap_or_else(|| Unit::of(&samples));
    let scorer = Scorer {
        unit,
        ignore_stress: args.ignore_stress,
    };

    let image = Image::load(&args.model)?;
    let mut here = Runner::new(&image, args.max_tokens)?;
    let other = match &args.compare {
        None => None,
        Some(path) => {
            let model = ModelArgs {
                path: path.clone(),
                weights: args.compare_weights,
            };
            Some(Image::load(&model)?)
        }
    };
    let mut there = match &other {
        None => None,
        Some(image) => Some(Runner::new(image, args.max_tokens)?),
    };

    let bar = progress::lines(samples.len(), "evaluating");
    for sample in &samples {
        here.run(sample, &scorer);
        if let Some(there) = &mut there {
            there.run(sample, &scorer);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    here.say_not_run();
    let compared = there.as_ref().map(|there| {
        there.say_not_run();
        let same = here
            .outputs
            .iter()
            .zip(&there.outputs)
            .filter(|(a, b)| a == b)
            .count();
        Compared {
            other: there.measured(),
            same_output: wilson(same, samples.len()),
            wer_difference: paired(&here.scores, &there.scores),
        }
    });
    if let Some(path) = &args.out {
        let text = outputs(&samples, &here, there.as_ref());
        out::file(path, text.as_bytes())?;
    }
    let report = Report {
        data: args.data.display().to_string(),
        lines: samples.len(),
        unit,
        ignore_stress: args.ignore_stress,
        result: here.measured(),
        compared,
    };
    if args.json {
        out::pretty_json(&report)?
    } else {
        out::print(&text(&report))?
    }
    Ok(ExitCode::SUCCESS)
}

/// A model and what it has done so far.
struct Runner<'m> {
    name: String,
    codec: Codec<'m>,
    engine: Engine<'m>,
    max_tokens: u32,
    outputs: Vec<String>,
    scores: Vec<Score>,
    not_run: Vec<(usize, String)>,
    cut: usize,
    tokens: usize,
    time: Duration,
}

impl<'m> Runner<'m> {
    fn new(image: &'m Image, max_tokens: Option<u32>) -> Result<Self> {
        let model: Model<'m> = image.model()?;
        let codec = Codec::text(model.palm())
            .with_context(|| format!("cannot evaluate {}", image.path().display()))?;
        let max_tokens = most_tokens(model.palm().header(), max_tokens);
        Ok(Self {
            name: image.path().display().to_string(),
            codec,
            engine: Engine::new(model),
            max_tokens,
            outputs: Vec::new(),
            scores: Vec::new(),
            not_run: Vec::new(),
            cut: 0,
            tokens: 0,
            time: Duration::ZERO,
        })
    }

    /// Runs a line. One that cannot be run has no output and is wrong.
    fn run(&mut self, sample: &Sample, scorer: &Scorer) {
        let output = match self.output(&sample.text) {
            Ok(output) => output,
            Err(error) => {
                self.not_run.push((sample.line, format!("{error:#}")));
                String::new()
            }
        };
        self.scores.push(scorer.score(&output, &sample.expected));
        self.outputs.push(output);
    }

    fn output(&mut self, text: &str) -> Result<String> {
        let ids = self.codec.encode(text)?;
        let answer = self.engine.answer(&ids, self.max_tokens, false)?;
        self.cut += usize::from(answer.cut);
        self.tokens += ids.len() + answer.steps;
        self.time += answer.encode + answer.decode;
        Ok(self.codec.decode(&answer.ids))
    }

    fn say_not_run(&self) {
        for (line, error) in self.not_run.iter().take(NAMED) {
            eprintln!("note: {}: line {line} counts as wrong: {error}", self.name);
        }
        if self.not_run.len() > NAMED {
            eprintln!(
                "note: {}: and {} lines more",
                self.name,
                self.not_run.len() - NAMED
            );
        }
    }

    fn measured(&self) -> Measured {
        let n = self.scores.len();
        let exact = self.scores.iter().filter(|score| score.is_exact()).count();
        Measured {
            model: self.name.clone(),
            exact_match: wilson(exact, n),
            wer: wilson(n - exact, n),
            token_error_rate: edit_rate(&self.scores),
            not_run: self.not_run.len(),
            cut: self.cut,
            tokens_per_second: self.tokens as f64 / self.time.as_secs_f64().max(1e-9),
        }
    }
}

/// The outputs as a table for other tools.
fn outputs(samples: &[Sample], here: &Runner<'_>, there: Option<&Runner<'_>>) -> String {
    let mut text = String::new();
    for (i, sample) in samples.iter().enumerate() {
        let cell = |output: &str| one_line(output).replace('\t', "\\t");
        let mut cells = vec![sample.text.clone(), cell(&here.outputs[i])];
        cells.extend(there.map(|there| cell(&there.outputs[i])));
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

fn text(report: &Report) -> String {
    let stress = if report.ignore_stress {
        ", stress ignored"
    } else {
        ""
    };
    let mut text = format!(
        "{} on {}: {} lines, edits count {}{stress}\n",
        report.result.model,
        report.data,
        count(report.lines as u64),
        report.unit.name()
    );
    text.push_str(&rates(&report.result, report.lines));
    if let Some(compared) = &report.compared {
        text.push_str(&format!("compared with {}\n", compared.other.model));
        text.push_str(&rates(&compared.other, report.lines));
        text.push_str("difference on the same lines\n");
        let paired = &compared.wer_difference;
        let mut table = Table::new(&["", ">", ">"]);
        let [same, interval] = compared.same_output.cells();
        table.row(["same output", &same, &interval]);
        table.row([
            "WER".to_owned(),
            format!("{:+.2} points", paired.points),
            format!("[{:+.2}, {:+.2}]", paired.low, paired.high),
        ]);
        table.row([
            "wrong only here".to_owned(),
            count(paired.wrong_only_here as u64),
        ]);
        table.row([
            "wrong only there".to_owned(),
            count(paired.wrong_only_there as u64),
        ]);
        text.push_str(&table.render());
    }
    text
}

fn rates(measured: &Measured, lines: usize) -> String {
    let mut table = Table::new(&["", ">", ">95 % interval"]);
    let mut rate = |name: &str, rate: &Rate| {
        let [percent, interval] = rate.cells();
        table.row([name, &percent, &interval]);
    };
    rate("exact match", &measured.exact_match);
    rate("WER", &measured.wer);
    rate("token error rate", &measured.token_error_rate);
    let mut counted = |name: &str, n: usize| {
        if n > 0 {
            table.row([
                name.to_owned(),
                count(n as u64),
                share(n as u64, lines as u64),
            ]);
        }
    };
    counted("lines not run", measured.not_run);
    counted("outputs cut", measured.cut);
    table.row([
        "tokens/s, in and out".to_owned(),
        format!("{:.0}", measured.tokens_per_second),
    ]);
    table.render()
}
