//! `palmtop eval`: how often outputs are right, with intervals, and a second model beside.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::args::{ModelArgs, ThreadArgs, WeightsArg};
use crate::eval::dataset::{DataArgs, Group, samples};
use crate::eval::runner::{Measured, Outcome, Runner};
use crate::eval::score::{Score, Scorer, Unit};
use crate::eval::slots;
use crate::eval::stats::{Paired, Rate, paired, wilson};
use crate::experts::PagingReport;
use crate::model_file::Image;
use crate::steer::{Steer, SteerArgs};
use crate::table::Table;
use crate::text::one_line;
use crate::units::{count, share};
use crate::{out, progress};

const EXAMPLES: &str = "Examples:
  palmtop eval model.palm --data test.tsv
  palmtop eval model.palm --data test.tsv --ignore-stress --json
  palmtop eval checkpoint/ --data test.tsv --compare checkpoint/ --compare-weights f32
  palmtop eval model.palm --data tasks/ --slot-f1          # a table of all files in tasks/
  palmtop eval model.palm --data test.tsv --drop-expert enc1:2

A line of the data is TEXT<TAB>EXPECTED, then further right answers, each after a TAB; any of them
counts as right. A line `#task NAME` without a TAB names the task of the lines after it. Each file
or task has a row of its own, and the rates at the top are those of all lines.

Exact match is the rate of lines whose output is a right answer. WER is the rate of lines that are
wrong, as is usual for pronunciation; it is shown where inputs are single words.";

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Leave stress out on both sides: digits of ARPAbet, and the marks of IPA
    #[arg(long)]
    ignore_stress: bool,

    /// What the token error rate counts [default: tokens if most expected outputs have spaces]
    #[arg(long, value_name = "UNIT")]
    unit: Option<Unit>,

    /// Give precision, recall and F1 of answers that are lists `name=value; name=value`
    #[arg(long)]
    slot_f1: bool,

    /// Most tokens to generate, as far as the model has positions [default: its default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,

    /// Run this model on the same lines too, and give the paired difference
    #[arg(long, value_name = "OTHER_MODEL")]
    compare: Option<PathBuf>,

    /// How to store the matrices of OTHER_MODEL if it is a checkpoint folder [default: int8]
    #[arg(long, value_name = "FORMAT", requires = "compare")]
    compare_weights: Option<WeightsArg>,

    #[command(flatten)]
    steer: SteerArgs,

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
    /// Files and tasks, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupReport>,
    /// What was read, if experts are read from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<PagingReport>,
    /// Whether inputs are single words, so that WER means what it says.
    #[serde(skip)]
    words: bool,
}

/// A file or a task.
#[derive(Debug, Serialize)]
struct GroupReport {
    name: String,
    lines: usize,
    result: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
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
    args.threads.start();
    let groups = args.data.read()?;
    let samples = samples(&groups);
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
    let steer = Steer::new(&args.steer, here.engine.model().palm())?;
    here.engine.steer(steer);
    let other = match &args.compare {
        None => None,
        Some(path) => {
            let model = ModelArgs {
                path: path.clone(),
                weights: args.compare_weights,
                slots: None,
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
        here.run(sample, &scorer, false);
        if let Some(there) = &mut there {
            there.run(sample, &scorer, false);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    here.say();
    if let Some(there) = &there {
        there.say();
    }
    if let Some(path) = &args.out {
        let texts: Vec<&str> = samples.iter().map(|s| s.text.as_str()).collect();
        let text = outputs(&texts, &here, there.as_ref());
        out::file(path, text.as_bytes())?;
    }
    let slots = |group: &Group| args.slot_f1 && slots::are_expected(&group.samples);
    let of_all = groups.iter().all(slots) && args.slot_f1;
    if args.slot_f1 && !groups.iter().any(slots) {
        eprintln!("note: --slot-f1: no file expects answers of the form name=value; name=value");
    }
    let all = 0..samples.len();
    let report = Report {
        data: args.data.names(),
        lines: samples.len(),
        unit,
        ignore_stress: args.ignore_stress,
        result: here.measured(all.clone(), of_all),
        compared: there.as_ref().map(|t| compared(&here, t, all, of_all)),
        groups: by_group(&groups, &here, there.as_ref(), slots),
        paging: here.engine.paging().map(|p| p.over(here.tokens())),
        words: are_words(&groups),
    };
    if args.json {
        out::pretty_json(&report)?;
    } else {
        out::print(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether most inputs have no blanks in them.
fn are_words(groups: &[Group]) -> bool {
    let samples = samples(groups);
    let words = samples.iter().filter(|s| !s.text.trim().contains(' '));
    words.count() * 2 > samples.len()
}

/// The files and tasks, if there are several.
fn by_group(
    groups: &[Group],
    here: &Runner<'_>,
    there: Option<&Runner<'_>>,
    slots: impl Fn(&Group) -> bool,
) -> Vec<GroupReport> {
    if groups.len() < 2 {
        return Vec::new();
    }
    let mut start = 0;
    let reports = groups.iter().map(|group| {
        let lines = start..start + group.samples.len();
        start = lines.end;
        GroupReport {
            name: group.name.clone(),
            lines: lines.len(),
            result: here.measured(lines.clone(), slots(group)),
            compared: there.map(|there| compared(here, there, lines, slots(group))),
        }
    });
    reports.collect()
}

fn compared(here: &Runner<'_>, there: &Runner<'_>, lines: Range<usize>, slots: bool) -> Compared {
    let of = |runner: &Runner<'_>| -> (Vec<Score>, Vec<String>) {
        let outcomes = runner.outcomes.get(lines.clone()).unwrap_or_default();
        let part = |o: &Outcome| (o.score, o.output.clone());
        outcomes.iter().map(part).unzip()
    };
    let ((scores, outputs), (other_scores, other_outputs)) = (of(here), of(there));
    let same = outputs.iter().zip(&other_outputs).filter(|(a, b)| a == b);
    Compared {
        other: there.measured(lines.clone(), slots),
        same_output: wilson(same.count(), lines.len()),
        wer_difference: paired(&scores, &other_scores),
    }
}

/// The outputs as a table for other tools.
fn outputs(texts: &[&str], here: &Runner<'_>, there: Option<&Runner<'_>>) -> String {
    let cell = |outcome: &Outcome| one_line(&outcome.output).replace('\t', "\\t");
    let mut text = String::new();
    for (i, sample) in texts.iter().enumerate() {
        let mut cells = vec![(*sample).to_owned()];
        let both = [Some(here), there];
        let outcomes = both.into_iter().flatten().map(|r| r.outcomes.get(i));
        cells.extend(outcomes.map(|outcome| outcome.map_or_else(String::new, cell)));
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
    text.push_str(&rates(&report.result, report.lines, report.words));
    if let Some(compared) = &report.compared {
        text.push_str(&format!("compared with {}\n", compared.other.model));
        text.push_str(&rates(&compared.other, report.lines, report.words));
        text.push_str("difference on the same lines\n");
        let paired = &compared.wer_difference;
        let mut table = Table::new(&["", ">", ">"]);
        let [same, interval] = compared.same_output.cells();
        table.row(["same output", &same, &interval]);
        table.row([
            if report.words { "WER" } else { "wrong lines" }.to_owned(),
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
    if !report.groups.is_empty() {
        text.push_str(&groups(report));
    }
    text
}

/// A row per file or task, then one for all lines.
fn groups(report: &Report) -> String {
    let slots = report.groups.iter().any(|g| g.result.slots.is_some());
    let compared = report.compared.is_some();
    let mut headings = vec![
        "file or task",
        ">lines",
        ">exact match",
        ">95 % interval",
        ">error rate",
    ];
    headings.extend(slots.then_some(">slot F1"));
    headings.extend(
        compared
            .then_some([">other", ">same output"])
            .into_iter()
            .flatten(),
    );
    let mut table = Table::new(&headings);
    let mut row = |name: &str, lines: usize, result: &Measured, other: Option<&Compared>| {
        let [exact, interval] = result.exact_match.cells();
        let percent = |rate: &Rate| format!("{:.2} %", rate.percent);
        let mut cells = vec![
            name.to_owned(),
            count(lines as u64),
            exact,
            interval,
            percent(&result.token_error_rate),
        ];
        if slots {
            let f1 = result.slots.as_ref().map(|slots| percent(&slots.f1));
            cells.push(f1.unwrap_or_default());
        }
        if let Some(other) = other {
            cells.push(percent(&other.other.exact_match));
            cells.push(percent(&other.same_output));
        }
        table.row(cells);
    };
    for group in &report.groups {
        row(
            &group.name,
            group.lines,
            &group.result,
            group.compared.as_ref(),
        );
    }
    row(
        "all",
        report.lines,
        &report.result,
        report.compared.as_ref(),
    );
    format!("by file or task\n{}", table.render())
}

fn rates(measured: &Measured, lines: usize, words: bool) -> String {
    let mut table = Table::new(&["", ">", ">95 % interval"]);
    let mut rate = |name: &str, rate: &Rate| {
        let [percent, interval] = rate.cells();
        table.row([name, &percent, &interval]);
    };
    rate("exact match", &measured.exact_match);
    if words {
        rate("WER", &measured.wer);
    }
    rate("token error rate", &measured.token_error_rate);
    if let Some(slots) = &measured.slots {
        rate("slot F1", &slots.f1);
        let mut part = |name: &str, percent: f64| {
            table.row([name.to_owned(), format!("{percent:.2} %")]);
        };
        part("slot precision", slots.precision);
        part("slot recall", slots.recall);
        table.row(["slots expected".to_owned(), count(slots.expected as u64)]);
    }
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
