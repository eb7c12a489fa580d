//! `cargo xtask emulate`: runs a model on an emulated board, text to text.
//!
//! The firmware reads `request.txt` from the folder in which QEMU runs, prints its report on
//! standard output, and writes `logits.bin` when asked for it. All of it goes through semihosting.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::boards::{Board, loader};
use crate::process::{capture, host_cargo};
use crate::report::Report;
use crate::{toolchain, workspace};

/// Options of `emulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The board.
    board: Board,
    /// A .palm file, or a checkpoint folder to be converted first.
    model: PathBuf,
    /// The texts, one run each.
    text: Vec<String>,
    /// Further texts, one per line of this file.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Token ids in place of a text, separated by spaces or commas. May be given several times.
    #[arg(long)]
    ids: Vec<String>,
    /// Token ids to feed to the decoder in place of its own choices.
    #[arg(long)]
    force: Option<String>,
    /// Most tokens to generate; the target limit if absent.
    #[arg(long)]
    max_tokens: Option<u32>,
    /// Longest source in tokens that the arena is planned for.
    #[arg(long, default_value_t = 32)]
    source: u32,
    /// Longest target in tokens that the arena is planned for.
    #[arg(long, default_value_t = 48)]
    target: u32,
    /// Write the logits of every decoder step here, as little-endian f32.
    #[arg(long)]
    logits: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Seconds after which a hanging emulator is ended.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// What to run on a board.
#[derive(Default)]
pub struct Request {
    /// Texts.
    pub texts: Vec<String>,
    /// Inputs as token ids.
    pub ids: Vec<Vec<u32>>,
    /// Ids for the decoder in place of its own choices.
    pub forced: Option<Vec<u32>>,
    /// Longest source in tokens.
    pub source: u32,
    /// Longest target in tokens.
    pub target: u32,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// Whether the logits are wanted.
    pub logits: bool,
}

impl Request {
    /// The request file's text.
    fn lines(&self) -> Result<String> {
        let mut lines = format!("limits {} {}\n", self.source, self.target);
        if let Some(most) = self.max_tokens {
            lines += &format!("max {most}\n");
        }
        if self.logits {
            lines += "logits\n";
        }
        let spaced = |ids: &[u32]| ids.iter().map(|id| format!(" {id}")).collect::<String>();
        if let Some(forced) = &self.forced {
            lines += &format!("force{}\n", spaced(forced));
        }
        for ids in &self.ids {
            lines += &format!("ids{}\n", spaced(ids));
        }
        for text in &self.texts {
            if text.contains('\n') {
                bail!("a text has several lines; give each line as a text of its own");
            }
            lines += &format!("text {text}\n");
        }
        Ok(lines)
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut texts = args.text.clone();
    if let Some(file) = &args.file {
        let content = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        texts.extend(content.lines().map(str::to_owned));
    }
    let request = Request {
        texts,
        ids: args
            .ids
            .iter()
            .map(|ids| parse_ids(ids))
            .collect::<Result<_>>()?,
        forced: args.force.as_deref().map(parse_ids).transpose()?,
        source: args.source,
        target: args.target,
        max_tokens: args.max_tokens,
        logits: args.logits.is_some(),
    };
    if request.texts.is_empty() && request.ids.is_empty() {
        bail!("nothing to run: give a text, --file or --ids");
    }
    let firmware = args.board.build(&toolchain::find()?)?;
    let model = palm_file(&args.model, &[])?;
    let limit = Duration::from_secs(args.timeout);
    let (report, logits) = start(args.board, &firmware, &model, &request, limit)?;
    if let Some(path) = &args.logits {
        fs::write(path, logits).with_context(|| path.display().to_string())?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Starts QEMU with a firmware, a model and a request; returns the report and the raw logits.
pub fn start(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    limit: Duration,
) -> Result<(Report, Vec<u8>)> {
    let (address, window) = board.model_window();
    let length = fs::metadata(model)
        .with_context(|| model.display().to_string())?
        .len();
    if length > window {
        bail!(
            "{} has {length} bytes, but {} has room for a model of {window}",
            model.display(),
            board.name()
        );
    }
    let folder =
        workspace::target()
            .join("emulate")
            .join(format!("{}-{}", board.name(), process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("request.txt"), request.lines()?)?;
    let mut qemu = board.qemu();
    qemu.arg("-device")
        .arg(loader(&fs::canonicalize(model)?, address));
    qemu.arg("-kernel").arg(firmware).current_dir(&folder);
    let result = capture(&mut qemu, limit).and_then(|output| {
        let report = Report::parse(&output.stdout);
        if report.is_ok() && !output.status.success() {
            bail!(
                "the emulator ended with {}:\n{}",
                output.status,
                output.tail(10)
            );
        }
        report.with_context(|| output.stderr.trim().to_owned())
    });
    let logits = fs::read(folder.join("logits.bin")).unwrap_or_default();
    fs::remove_dir_all(&folder)?;
    Ok((
        result.with_context(|| format!("on {}", board.name()))?,
        logits,
    ))
}

/// The .palm file for a model: itself, or what the `palmtop` command makes of a checkpoint folder,
/// made anew when the folder has changed.
pub fn palm_file(model: &Path, options: &[&str]) -> Result<PathBuf> {
    let what = fs::metadata(model).with_context(|| model.display().to_string())?;
    if !what.is_dir() {
        return Ok(model.to_owned());
    }
    let model = fs::canonicalize(model)?;
    let name = model
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let tag: String = options
        .iter()
        .map(|o| o.trim_start_matches('-'))
        .map(|o| format!("-{o}"))
        .collect();
    let folder = workspace::target().join("palm");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}{tag}.palm"));
    let made = fs::metadata(&file).and_then(|data| data.modified()).ok();
    let mut newest = None;
    for entry in fs::read_dir(&model)? {
        newest = newest.max(entry?.metadata()?.modified().ok());
    }
    if made.is_some() && made > newest {
        return Ok(file);
    }
    let mut command = host_cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "-p",
        "palmtop-cli",
        "--",
        "convert",
    ]);
    command.arg(&model).arg("-o").arg(&file).args(options);
    let output = capture(&mut command, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("{} does not convert:\n{}", model.display(), output.tail(10));
    }
    Ok(file)
}

fn parse_ids(text: &str) -> Result<Vec<u32>> {
    text.split([' ', ','])
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse()
                .with_context(|| format!("`{part}` is not a token id"))
        })
        .collect()
}

fn print(report: &Report) {
    for run in &report.runs {
        println!("{}", run.output);
        eprintln!(
            "  {} source tokens, {} instructions in the encoder; {} tokens, {} instructions each",
            run.ids.len(),
            grouped(run.encoder_instructions),
            run.tokens.len(),
            grouped(run.instructions_per_token()),
        );
    }
    eprintln!(
        "{}: model {} bytes, arena {} bytes, stack {} bytes",
        report.board,
        grouped(report.model_bytes),
        grouped(report.arena_bytes),
        grouped(report.stack_bytes)
    );
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
