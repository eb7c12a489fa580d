//! `palmtop convert`: a checkpoint folder becomes one `.palm` file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use palmtop::Limits;
use palmtop_convert::{Options, Weights};

use crate::args::WeightsArg;
use crate::failure::misused;
use crate::model_file::{Image, not_converted};
use crate::out;
use crate::progress::ConversionBar;
use crate::report::flash::Flash;
use crate::units::{bytes, count};

const EXAMPLES: &str = "Examples:
  palmtop convert checkpoint/ -o model.palm
  palmtop convert checkpoint/ -o model-f16.palm --weights f16 --source 64 --target 96";

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

    /// Default limit of source tokens, for who states none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    source: Option<u32>,

    /// Default limit of target positions, for who states none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    target: Option<u32>,

    /// Token rows that the encoder computes together: more need more RAM and read weights less
    /// often; results stay the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    tile: Option<u8>,
}

/// Converts, writes, sums up.
pub fn convert(args: &Args) -> Result<ExitCode> {
    let (folder, output) = (&args.checkpoint, &args.output);
    check_paths(folder, output)?;
    let options = Options {
        weights: Weights::from(args.weights),
        source: args.source,
        target: args.target,
        tile: args.tile,
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
