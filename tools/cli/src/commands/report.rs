//! `palmtop report`: a page about a model on some data, with pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use palmtop::Limits;

use crate::args::{ModelArgs, ThreadArgs, WeightsArg};
use crate::commands::compare::reference;
use crate::engine::Engine;
use crate::eval::dataset::{DataArgs, Group, samples};
use crate::eval::difference::{Difference, Found};
use crate::eval::load::{Load, count, loads};
use crate::eval::runner::{Measured, Runner};
use crate::eval::score::{Scorer, Unit};
use crate::model_file::Image;
use crate::report::architecture::Architecture;
use crate::report::flash::Flash;
use crate::report::memory::Memory;
use crate::report::page;
use crate::{out, progress};

const EXAMPLES: &str = "Examples:
  palmtop report model.palm --data test.tsv -o report.html
  palmtop report model.palm --data tasks/ -o report.html             # every .tsv file is a task
  palmtop report model.palm --data test.tsv --reference checkpoint/ -o report.html

The page is one file without scripts that loads nothing: how right the model is, which experts take
which tokens, what was dropped, where flash and RAM go, and, with --reference, how far each layer is
from another conversion of the same checkpoint (a folder is converted to f32).

A line of the data is TEXT<TAB>EXPECTED, then further right answers, each after a TAB. Files are
groups, named by their stems; a line `#task NAME` without a TAB begins a group inside of a file.";

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    #[command(flatten)]
    data: DataArgs,

    /// The page to write; one that is there is replaced once the new one is complete
    #[arg(short, long, value_name = "REPORT.html")]
    output: PathBuf,

    /// Show the error of each layer against this model
    #[arg(long, value_name = "MODEL2")]
    reference: Option<PathBuf>,

    /// How to store the matrices of MODEL2 if it is a checkpoint folder
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "f32",
        requires = "reference"
    )]
    reference_weights: WeightsArg,

    /// Lines of each group on which MODEL2 is run too
    #[arg(long, value_name = "N", default_value_t = 50, requires = "reference",
        value_parser = clap::value_parser!(u64).range(1..))]
    reference_lines: u64,

    /// Source tokens to plan RAM for [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    source: Option<u32>,

    /// Target positions to plan RAM for [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    target: Option<u32>,

    /// Leave stress out on both sides: digits of ARPAbet, and the marks of IPA
    #[arg(long)]
    ignore_stress: bool,

    /// What the token error rate counts [default: tokens if most expected outputs have spaces]
    #[arg(long, value_name = "UNIT")]
    unit: Option<Unit>,

    /// Most tokens to generate, as far as the model has positions [default: its default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,
}

/// Everything that the page shows.
#[derive(Debug)]
pub struct Facts {
    /// The model's path.
    pub model: String,
    /// The paths of the data.
    pub data: String,
    /// What the model is.
    pub architecture: Architecture,
    /// Where flash goes.
    pub flash: Flash,
    /// Where RAM goes.
    pub memory: Memory,
    /// What an edit counts, in words.
    pub unit: &'static str,
    /// Rates of all lines.
    pub all: Measured,
    /// Groups: name, lines, rates.
    pub groups: Vec<(String, usize, Measured)>,
    /// Which experts took what.
    pub loads: Vec<Load>,
    /// The other model's path, and how far the model is from it.
    pub difference: Option<(String, Found)>,
}

/// Runs the data and writes the page.
pub fn report(args: &Args) -> Result<ExitCode> {
    args.threads.start();
    out::check_file(&args.output)?;
    let groups = args.data.read()?;
    let samples = samples(&groups);
    let unit = args.unit.unwrap_or_else(|| Unit::of(&samples));
    let scorer = Scorer {
        unit,
        ignore_stress: args.ignore_stress,
    };
    let image = Image::load(&args.model)?;
    let mut runner = Runner::new(&image, args.max_tokens)?;
    let other = match &args.reference {
        Some(path) => Some(reference(path, args.reference_weights)?),
        None => None,
    };

    let mut loads = loads(runner.engine.model().palm(), groups.len());
    let bar = progress::lines(samples.len(), "evaluating");
    for (at, group) in groups.iter().enumerate() {
        for sample in &group.samples {
            if let Some(ran) = runner.run(sample, &scorer, true) {
                let letters = runner.codec.letters(&sample.text, &ran.source);
                count(&mut loads, at, &letters, &ran.answer.routes);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    runner.say();
    let difference = match &other {
        None => None,
        Some(other) => {
            let found = difference(args, &groups, &mut runner, other)?;
            Some((other.path().display().to_string(), found))
        }
    };

    let model = *runner.engine.model();
    let h = model.palm().header();
    let limits = Limits {
        source: match h.decoder_only {
            true => 0,
            false => args.source.unwrap_or(h.default_source),
        },
        target: args.target.unwrap_or(h.default_target),
        beams: 1,
    };
    let slots = args.model.slots.map(|slots| slots as usize);
    let mut start = 0;
    let measured = |group: &Group| {
        let lines = start..start + group.samples.len();
        start = lines.end;
        let rates = runner.measured(lines.clone(), false);
        (group.name.clone(), lines.len(), rates)
    };
    let facts = Facts {
        model: image.path().display().to_string(),
        data: args.data.names(),
        architecture: Architecture::of(model.palm()),
        flash: Flash::of(model.palm()),
        memory: Memory::of(&model, limits, slots),
        unit: unit.name(),
        groups: groups.iter().map(measured).collect(),
        all: runner.measured(0..samples.len(), false),
        loads,
        difference,
    };
    out::file(&args.output, page::page(&facts).html().as_bytes())?;
    eprintln!("wrote {}", args.output.display());
    Ok(ExitCode::SUCCESS)
}

/// Runs the first lines of each group on both models.
fn difference(
    args: &Args,
    groups: &[Group],
    runner: &mut Runner<'_>,
    other: &Image,
) -> Result<Found> {
    let mut reference = Engine::new(other)?;
    let mut difference = Difference::new(&runner.engine, &reference)?;
    let lines = usize::try_from(args.reference_lines).unwrap_or(usize::MAX);
    let samples: Vec<_> = groups
        .iter()
        .flat_map(|group| group.samples.iter().take(lines))
        .collect();
    let bar = progress::lines(samples.len(), "comparing");
    for sample in samples {
        let mut line = || -> Result<()> {
            let ids = runner.codec.encode(&sample.text)?;
            let wanted = reference.answer(&ids, runner.max_tokens, false)?.ids;
            difference.add(&mut runner.engine, &mut reference, &ids, &wanted)
        };
        if let Err(error) = line() {
            let line = sample.line;
            bar.suspend(|| eprintln!("note: line {line} is not compared: {error:#}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(difference.found())
}
