//! `palmtop compare`: how far a model is from a reference, layer by layer.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::args::{ModelArgs, ThreadArgs, WeightsArg};
use crate::engine::{Engine, most_tokens};
use crate::eval::dataset::{DataArgs, samples};
use crate::eval::difference::{Difference, Found};
use crate::eval::stats::{Rate, wilson};
use crate::model_file::Image;
use crate::table::Table;
use crate::text::{Codec, one_line};
use crate::units::{count, share};
use crate::{out, progress};

const EXAMPLES: &str = "Examples:
  palmtop compare model.palm checkpoint/ --data test.tsv
  palmtop compare model.palm checkpoint/ --data test.tsv --limit 200 --json
  palmtop compare int4.palm int8.palm --data test.tsv

REFERENCE is another conversion of the same checkpoint; a folder is converted to f32. Both models
read each line, and both decoders are fed what REFERENCE generated, so that their states stand for
the same tokens. MODEL runs once with its own routes and once with those of REFERENCE.

relative error is ‖Δ‖ / ‖reference‖ over all tokens; 1 − cosine is the mean over tokens. A flip is
a choice (a token has k of them, in the order of their weights) that differs from REFERENCE's.";

/// Outputs that differ which are shown.
const SHOWN: usize = 5;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    /// The model to compare with
    #[arg(value_name = "REFERENCE")]
    reference: PathBuf,

    /// How to store the matrices of REFERENCE if it is a checkpoint folder
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    reference_weights: WeightsArg,

    #[command(flatten)]
    data: DataArgs,

    /// Most tokens to generate, as far as the model has positions [default: its default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,

    /// Take token ids instead of text in the first column of the data
    #[arg(long)]
    ids: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    reference: String,
    data: String,
    #[serde(flatten)]
    found: Found,
    /// Lines whose output is not the reference's.
    changed: Rate,
    changed_outputs: usize,
    /// The first of them.
    examples: Vec<Example>,
    /// Lines that could not be run; they are left out.
    not_run: usize,
}

#[derive(Debug, Serialize)]
struct Example {
    text: String,
    output: String,
    reference: String,
}

/// Loads a reference; a folder is converted with `weights`.
pub fn reference(path: &std::path::Path, weights: WeightsArg) -> Result<Image> {
    Image::load(&ModelArgs {
        path: path.to_owned(),
        weights: path.is_dir().then_some(weights),
        slots: None,
    })
}

/// Compares and tells.
pub fn compare(args: &Args) -> Result<ExitCode> {
    args.threads.start();
    let groups = args.data.read()?;
    let samples = samples(&groups);
    let image = Image::load(&args.model)?;
    let other = reference(&args.reference, args.reference_weights)?;
    let mut model = Engine::new(&image)?;
    let mut reference = Engine::new(&other)?;
    let mut difference = Difference::new(&model, &reference)?;
    let codec = if args.ids {
        Codec::Ids
    } else {
        Codec::text(model.model().palm())?
    };
    let most = most_tokens(model.header(), args.max_tokens)
        .min(most_tokens(reference.header(), args.max_tokens));

    let mut examples = Vec::new();
    let (mut changed, mut not_run) = (0, 0);
    let bar = progress::lines(samples.len(), "comparing");
    for sample in &samples {
        let mut line = || -> Result<()> {
            let ids = codec.encode(&sample.text)?;
            let wanted = reference.answer(&ids, most, false)?.ids;
            let got = model.answer(&ids, most, false)?.ids;
            difference.add(&mut model, &mut reference, &ids, &wanted)?;
            if got != wanted {
                changed += 1;
                if examples.len() < SHOWN {
                    examples.push(Example {
                        text: sample.text.clone(),
                        output: codec.decode(&got),
                        reference: codec.decode(&wanted),
                    });
                }
            }
            Ok(())
        };
        if let Err(error) = line() {
            not_run += 1;
            bar.suspend(|| eprintln!("note: line {} is left out: {error:#}", sample.line));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let found = difference.found();
    let report = Report {
        model: image.path().display().to_string(),
        reference: other.path().display().to_string(),
        data: args.data.names(),
        changed: wilson(changed, found.lines.max(1)),
        changed_outputs: changed,
        found,
        examples,
        not_run,
    };
    if args.json {
        out::pretty_json(&report)?;
    } else {
        out::print(&text(&report))?;
    }
    Ok(if report.found.lines == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn text(report: &Report) -> String {
    let found = &report.found;
    let mut text = format!(
        "{} against {} on {}\n  {} lines, {} source tokens, {} target tokens{}\n",
        report.model,
        report.reference,
        report.data,
        count(found.lines as u64),
        count(found.source_tokens as u64),
        count(found.target_tokens as u64),
        match report.not_run {
            0 => String::new(),
            n => format!("; {n} lines left out"),
        }
    );
    text.push_str(&states(found));
    if !found.routes.is_empty() {
        text.push_str(&routes(found));
    }
    text.push_str("outputs\n");
    let [percent, interval] = report.changed.cells();
    let mut table = Table::new(&["", ">", ">", ">"]);
    table.row([
        "changed",
        &count(report.changed_outputs as u64),
        &percent,
        &interval,
    ]);
    text.push_str(&table.render());
    for example in &report.examples {
        text.push_str(&format!(
            "  {}\n    here       {}\n    reference  {}\n",
            one_line(&example.text),
            one_line(&example.output),
            one_line(&example.reference)
        ));
    }
    text
}

/// Three significant digits at least, whatever the size.
pub fn small(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value >= 0.01 {
        format!("{value:.4}")
    } else {
        format!("{value:.2e}")
    }
}

fn states(found: &Found) -> String {
    let sparse = !found.routes.is_empty();
    let mut headings = vec!["state after", ">relative error", ">1 − cosine"];
    headings.extend(
        sparse
            .then_some([">forced: relative", ">forced: 1 − cosine"])
            .into_iter()
            .flatten(),
    );
    let mut table = Table::new(&headings);
    for state in &found.states {
        let forced = [state.forced_relative, state.forced_one_minus_cosine];
        table.row(
            [
                state.state.clone(),
                small(state.relative),
                small(state.one_minus_cosine),
            ]
            .into_iter()
            .chain(forced.into_iter().flatten().map(small)),
        );
    }
    format!("error by layer\n{}", table.render())
}

fn routes(found: &Found) -> String {
    let mut table = Table::new(&[
        "layer",
        ">choices",
        ">flips",
        ">share",
        ">forced: flips",
        ">share",
    ]);
    let mut sums = [0; 3];
    let mut row = |name: &str, [decisions, free, forced]: [usize; 3]| {
        table.row([
            name.to_owned(),
            count(decisions as u64),
            count(free as u64),
            share(free as u64, decisions as u64),
            count(forced as u64),
            share(forced as u64, decisions as u64),
        ]);
    };
    for flips in &found.routes {
        let numbers = [flips.decisions, flips.flips, flips.forced_flips];
        for (sum, n) in sums.iter_mut().zip(numbers) {
            *sum += n;
        }
        row(&flips.label, numbers);
    }
    row("all", sums);
    format!("routes that differ\n{}", table.render())
}
