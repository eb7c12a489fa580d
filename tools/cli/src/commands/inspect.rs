//! `palmtop inspect`: what a model is, what it costs, where it fits.

use std::process::ExitCode;

use anyhow::Result;
use palmtop::Limits;
use palmtop::kernels::Layout;
use palmtop_convert::{Options, Weights};
use serde::Serialize;

use crate::args::{ModelArgs, only_greedy};
use crate::boards::{self, Board};
use crate::failure::{Failure, failed};
use crate::model_file::Image;
use crate::out;
use crate::report::architecture::Architecture;
use crate::report::cost::Cost;
use crate::report::flash::Flash;
use crate::report::memory::Memory;
use crate::report::on_board::{self, OnBoard, Subject};
use crate::report::parts::Fits;
use crate::report::speed;

const EXAMPLES: &str = "Examples:
  palmtop inspect model.palm
  palmtop inspect model.palm --source 32 --target 48 --json
  palmtop inspect checkpoint/ --weights f16
  palmtop inspect model.palm --board rp2350    # does it fit, how fast may it be, and why
  palmtop inspect model.palm --boards          # the same for all boards
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

    /// What it costs on a board: a name from the table of boards, or a microcontroller
    #[arg(long, value_name = "BOARD", conflicts_with = "slots")]
    board: Option<String>,

    /// What it costs on every board of the table
    #[arg(long, conflicts_with_all = ["board", "slots"])]
    boards: bool,

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
    let image = load(args)?;
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

    let cost = Cost::of(palm, source.into(), target.into());
    if args.boards || args.board.is_some() {
        let chosen = match &args.board {
            Some(name) => std::slice::from_ref(boards::find(name)?),
            None => boards::all(),
        };
        let subject = Subject {
            model: &model,
            limits,
            cost: &cost,
            layout: palm.header().layout.name(),
        };
        return on_boards(args, chosen, &subject);
    }
    let flash = Flash::of(palm);
    let slots = args.model.slots.map(|slots| slots as usize);
    let memory = Memory::of(&model, limits, slots);
    let report = Report {
        model: image.path().display().to_string(),
        architecture: Architecture::of(palm),
        fits: Fits::of(flash.total(), memory.arena()),
        cost,
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

/// The model; a checkpoint folder is converted for the board, if one was named.
fn load(args: &Args) -> Result<Image> {
    let path = &args.model.path;
    if !path.is_dir() || !(args.boards || args.board.is_some()) {
        return Image::load_to_inspect(&args.model);
    }
    let layout = match &args.board {
        Some(name) => {
            let board = boards::find(name)?;
            speed::layout(&board.class, &board.layout)
        }
        None => Layout::Rows,
    };
    let options = Options {
        weights: args.model.weights.map_or(Weights::Int8, Weights::from),
        layout,
        ..Options::default()
    };
    Image::convert_with(path, &options)
}

/// What a model costs on boards. The exit code is that of a job well done even where it does not
/// fit: that is the answer.
fn on_boards(args: &Args, boards: &[Board], subject: &Subject<'_, '_>) -> Result<ExitCode> {
    let all: Vec<OnBoard> = boards
        .iter()
        .map(|board| OnBoard::of(board, subject))
        .collect();
    match &all[..] {
        _ if args.json => out::pretty_json(&all)?,
        [one] if !args.boards => out::print(&one.text())?,
        _ => out::print(&on_board::table(&all))?,
    }
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
