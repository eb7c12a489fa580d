//! `palmtop inspect`: what a model is, what it costs, where it fits.

use std::process::ExitCode;

use anyhow::Result;
use palmtop::Limits;
use serde::Serialize;

use crate::args::{ModelArgs, only_greedy};
use crate::failure::{Failure, failed};
use crate::model_file::Image;
use crate::out;
use crate::report::architecture::Architecture;
use crate::report::cost::Cost;
use crate::report::flash::Flash;
use crate::report::memory::Memory;
use crate::report::parts::Fits;

const EXAMPLES: &str = "Examples:
  palmtop inspect model.palm
  palmtop inspect model.palm --source 32 --target 48 --json
  palmtop inspect checkpoint/ --weights f16
  palmtop inspect model.palm --slots 4         # RAM with experts read from storage";

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Source tokens to plan for [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    source: Option<u32>,

    /// Target positions to plan for [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    target: Option<u32>,

    /// Beams to plan for; only 1, greedy search, is supported yet
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    beams: u32,

    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything that `inspect` tells.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    architecture: Architecture,
    flash: Flash,
    memory: Memory,
    cost: Cost,
    fits: Fits,
}

/// Looks and tells.
pub fn inspect(args: &Args) -> Result<ExitCode> {
    only_greedy(args.beams)?;
    let image = Image::load_to_inspect(&args.model)?;
    let model = image.model()?;
    let palm = model.palm();
    let h = palm.header();
    let source = args.source.unwrap_or(h.default_source);
    let target = args.target.unwrap_or(h.default_target);
    within("--source", source, h.max_source)?;
    within("--target", target, h.max_target)?;
    let limits = Limits {
        source: if h.decoder_only { 0 } else { source },
        target,
        beams: args.beams,
    };

    let flash = Flash::of(palm);
    let slots = args.model.slots.map(|slots| slots as usize);
    let memory = Memory::of(&model, limits, slots);
    let report = Report {
        model: image.path().display().to_string(),
        architecture: Architecture::of(palm),
        fits: Fits::of(flash.total(), memory.arena()),
        cost: Cost::of(palm, source.into(), target.into()),
        flash,
        memory,
    };
    if args.json {
        out::pretty_json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let how = if image.is_converted() {
        " (converted on the fly)"
    } else {
        ""
    };
    let at = if h.decoder_only {
        format!("{target} positions")
    } else {
        format!("source {source}, target {target}")
    };
    out::print(&format!(
        "{}{how}\n{}\nflash\n{}\nRAM at {at}\n{}\n\
         touched by one token\n{}\nparts\n{}",
        report.model,
        report.architecture.text(),
        report.flash.text(),
        report.memory.text(),
        report.cost.text(),
        report.fits.text(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a limit that the model cannot be run with; 0 means that it has none.
fn within(option: &str, limit: u32, most: u32) -> Result<(), Failure> {
    if most > 0 && limit > most {
        return Err(failed(format!(
            "{option} {limit} is more than the model's limit of {most}"
        ))
        .help(format!("give {option} {most} or less")));
    }
    Ok(())
}
