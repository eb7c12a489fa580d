//! `palmtop convert`: a checkpoint folder becomes one `.palm` file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use palmtop::Limits;
use palmtop_convert::{ExpertRule, ExpertWeights, Options, Target, Weights};

use crate::args::{ExpertWeightsArg, WeightsArg};
use crate::failure::misused;
use crate::model_file::{Image, not_converted};
use crate::out;
use crate::progress::ConversionBar;
use crate::report::flash::Flash;
use crate::units::{bytes, count};

const EXAMPLES: &str = "Examples:
  palmtop convert checkpoint/ -o model.palm
  palmtop convert checkpoint/ -o model-f16.palm --weights f16 --default-source 64 --default-target 96

Experts may have formats of their own, all of them or some; what comes later wins:
  palmtop convert checkpoint/ -o model-int4.palm --experts int4
  palmtop convert checkpoint/ -o model-mixed.palm --experts int4 \\
      --expert 'encoder.1.*=int8' --expert encoder.1.3=f16 --expert 'block.*.*=f16'
STACK is encoder, decoder or block (the mixture between them, whose layer is 0); * stands for
all. Numbers count from 0.";

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The checkpoint's folder: config.json, safetensors (single or sharded), tokenizer
    #[arg(value_name = "CHECKPOINT_DIR")]
    checkpoint: PathBuf,

    /// The file to write; one that is there is replaced once the new one is complete
    #[arg(short, long, value_name = "MODEL.palm")]
    output: PathBuf,

    /// How to store the matrices
    #[arg(long, value_name = "FORMAT", default_value = "int8")]
    weights: WeightsArg,

    /// How to store the matrices of experts [default: as --weights]
    #[arg(long, value_name = "FORMAT")]
    experts: Option<ExpertWeightsArg>,

    /// How to store some experts, as `encoder.1.*=f16`; may be given several times
    #[arg(long, value_name = "STACK.LAYER.EXPERT=FORMAT")]
    expert: Vec<ExpertRule>,

    /// Default limit of source tokens, for who states none
    #[arg(long, visible_alias = "source", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    default_source: Option<u32>,

    /// Default limit of target positions, for who states none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    default_target: Option<u32>,

    /// Rows of position tables, and so the most tokens of a source or target [default: what
    /// config.json says or a limit needs, at most 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_positions: Option<u32>,

    /// Token rows that the encoder computes together: more need more RAM and read weights less
    /// often; results stay the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    tile: Option<u8>,

    /// Lay int8 matrices out for a target, as thumbv7em or x86_64; read everywhere, fast there
    #[arg(long, value_name = "TARGET", default_value_t, value_parser = target)]
    target: Target,
}

/// Converts, writes, sums up.
pub fn convert(args: &Args) -> Result<ExitCode> {
    let (folder, output) = (&args.checkpoint, &args.output);
    check_paths(folder, output)?;
    let options = Options {
        weights: Weights::from(args.weights),
        experts: args.experts.map(ExpertWeights::from),
        expert_rules: args.expert.clone(),
        max_positions: args.max_positions,
        source: args.default_source,
        target: args.default_target,
        tile: args.tile,
        layout: args.target.layout(),
        ..Options::default()
    };
    let mut bar = ConversionBar::new();
    let converted = palmtop_convert::convert(folder, &options, &mut bar);
    bar.finish();
    let converted = converted.map_err(|error| not_converted(folder, &error))?;

    let image = Image::from_bytes(&converted.bytes, output);
    let model = image
        .model()
        .context("the converter made a file that does not check")?;
    out::file(output, &converted.bytes)?;

    let h = model.palm().header();
    let limits = Limits {
        source: h.default_source,
        target: h.default_target,
        beams: 1,
    };
    let flash = Flash::of(model.palm());
    out::print(&format!(
        "{}: {} ({} bytes)\n  {}\n  arena {} ({} bytes) for source {}, target {}\n",
        output.display(),
        bytes(flash.total()),
        count(flash.total()),
        flash.line(),
        bytes(model.arena_bytes(limits) as u64),
        count(model.arena_bytes(limits) as u64),
        limits.source,
        limits.target,
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The target of that name.
fn target(text: &str) -> Result<Target, String> {
    match text.parse::<u32>() {
        Ok(_) => Err("it takes a target, as thumbv7em; the limit is --default-target".to_owned()),
        Err(_) => text.parse(),
    }
}

/// Finds out before the work what would fail after it.
fn check_paths(folder: &Path, output: &Path) -> Result<()> {
    let metadata =
        std::fs::metadata(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    if !metadata.is_dir() {
        return Err(misused(format!("{} is not a folder", folder.display()))
            .help("give the checkpoint's folder, the one that holds config.json")
            .into());
    }
    out::check_file(output)?;
    Ok(())
}
