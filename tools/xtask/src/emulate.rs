//! `cargo xtask emulate`: runs a model on an emulated board, text to text.
//!
//! The firmware reads `request.txt` from the folder in which QEMU runs, prints its report on
//! standard output, and writes `logits.bin` when asked for it. All of it goes through semihosting.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use palmtop::format::Palm;

use crate::boards::{Board, loader};
use crate::process::{capture, host_cargo};
use crate::report::{Reads, Report};
use crate::{every_board, toolchain, workspace};

/// Options of `emulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The board: m0, m3, m4f, m7, m33, m55 or rv32; or all, in turn, with a table.
    #[arg(value_parser = boards_named)]
    board: Boards,
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
    /// How to store the matrices of a checkpoint folder.
    #[arg(long, default_value = "int8")]
    weights: Weights,
    /// Run the model's golden input first.
    #[arg(long)]
    self_test: bool,
    /// Most tokens to generate; the target limit if absent.
    #[arg(long)]
    max_tokens: Option<u32>,
    /// Longest source in tokens that the arena is planned for.
    #[arg(long, default_value_t = 32)]
    source: u32,
    /// Longest target in tokens that the arena is planned for.
    #[arg(long, default_value_t = 48)]
    target: u32,
    /// Read experts on demand from a file of the host into so many slots; only the rest of the
    /// model is mapped.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
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

/// One board, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boards {
    /// This one.
    One(Board),
    /// Each in turn.
    All,
}

fn boards_named(name: &str) -> Result<Boards, String> {
    match name {
        "all" => Ok(Boards::All),
        name => Board::from_str(name, false).map(Boards::One),
    }
}

/// What to run on a board.
#[derive(Default)]
pub struct Request {
    /// The inputs.
    pub inputs: Vec<Input>,
    /// Longest source in tokens.
    pub source: u32,
    /// Longest target in tokens.
    pub target: u32,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// Whether the model's golden input is to be run.
    pub self_test: bool,
    /// Slots of the firmware that reads experts on demand; `None` for the other one.
    pub slots: Option<u32>,
    /// Multiply-accumulates of a unit of the firmware with bounded ones; `None` for the other one.
    pub unit: Option<u32>,
}

/// One input.
pub struct Input {
    /// What to encode.
    pub source: Source,
    /// Ids for the decoder in place of its own choices.
    pub forced: Option<Vec<u32>>,
    /// Whether the logits are wanted.
    pub logits: bool,
}

/// What to encode.
#[derive(Clone)]
pub enum Source {
    /// Text, for the model's tokenizer.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl Request {
    /// The request file's text.
    fn lines(&self) -> Result<String> {
        let mut lines = format!("limits {} {}\n", self.source, self.target);
        if let Some(slots) = self.slots {
            lines += &format!("slots {slots}\n");
        }
        if let Some(unit) = self.unit {
            lines += &format!("unit {unit}\n");
        }
        if let Some(most) = self.max_tokens {
            lines += &format!("max {most}\n");
        }
        if self.self_test {
            lines += "selftest\n";
        }
        let spaced = |ids: &[u32]| ids.iter().map(|id| format!(" {id}")).collect::<String>();
        for input in &self.inputs {
            if input.logits {
                lines += "logits\n";
            }
            if let Some(forced) = &input.forced {
                lines += &format!("force{}\n", spaced(forced));
            }
            match &input.source {
                Source::Ids(ids) => lines += &format!("ids{}\n", spaced(ids)),
                Source::Text(text) if text.contains('\n') => {
                    bail!("a text has several lines; give each line as a text of its own")
                }
                Source::Text(text) => lines += &format!("text {text}\n"),
            }
        }
        Ok(lines)
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let forced = args.force.as_deref().map(parse_ids).transpose()?;
    let mut sources = Vec::new();
    for ids in &args.ids {
        sources.push(Source::Ids(parse_ids(ids)?));
    }
    sources.extend(args.text.iter().cloned().map(Source::Text));
    if let Some(file) = &args.file {
        let content = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        sources.extend(content.lines().map(str::to_owned).map(Source::Text));
    }
    if sources.is_empty() && !args.self_test {
        bail!("nothing to run: give a text, --file, --ids or --self-test");
    }
    let logits = args.logits.is_some();
    let input = |source| Input {
        source,
        forced: forced.clone(),
        logits,
    };
    let request = Request {
        inputs: sources.into_iter().map(input).collect(),
        source: args.source,
        target: args.target,
        max_tokens: args.max_tokens,
        self_test: args.self_test,
        slots: args.slots,
        unit: None,
    };
    let toolchain = toolchain::find()?;
    let limit = Duration::from_secs(args.timeout);
    let board = match args.board {
        Boards::One(board) => board,
        Boards::All => {
            if forced.is_some() || logits {
                bail!("--force and --logits are for one board");
            }
            let all = every_board::Args {
                model: &args.model,
                weights: args.weights,
                request,
                limit,
                json: args.json,
            };
            return every_board::run(&toolchain, &all);
        }
    };
    let firmware = match args.slots {
        Some(_) => board.build_paged(&toolchain)?,
        None => board.build(&toolchain)?,
    };
    let model = palm_file_for(&args.model, args.weights, Some(board.layout_target()))?;
    let (report, logits) = start(board, &firmware, &model, &request, limit)?;
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

/// Starts QEMU with a firmware, a model and a request; returns the report and the raw logits. A
/// request with slots needs the firmware of [`Board::build_paged`].
pub fn start(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    limit: Duration,
) -> Result<(Report, Vec<u8>)> {
    start_with(board, firmware, model, request, limit, &[])
}

/// As [`start`], with further arguments for QEMU.
pub fn start_with(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    limit: Duration,
    arguments: &[String],
) -> Result<(Report, Vec<u8>)> {
    let folder =
        workspace::target()
            .join("emulate")
            .join(format!("{}-{}", board.name(), process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("request.txt"), request.lines()?)?;
    let model = fs::canonicalize(model).with_context(|| model.display().to_string())?;
    let result = place(board, &model, request.slots.is_some(), &folder).and_then(|device| {
        let mut qemu = board.qemu();
        qemu.arg("-device").arg(device).args(arguments);
        qemu.arg("-kernel").arg(firmware).current_dir(&folder);
        let output = capture(&mut qemu, limit)?;
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

/// The device that places a model, or of a paged one the resident part; then the whole file goes to
/// the folder in which QEMU runs, where the firmware reads it.
fn place(board: Board, model: &Path, paged: bool, folder: &Path) -> Result<String> {
    let (file, (address, window)) = if paged {
        let file = fs::read(model)?;
        let length = Palm::resident_len(&file)
            .map_err(|error| anyhow!("{}: {error}", model.display()))?
            as usize;
        let resident = folder.join("resident.palm");
        // What is no sound model goes there as it is, for the firmware to refuse.
        fs::write(&resident, file.get(..length).unwrap_or(&file))?;
        let whole = folder.join("model.palm");
        if fs::hard_link(model, &whole).is_err() {
            fs::copy(model, &whole)?;
        }
        (resident, board.flash_window())
    } else {
        (model.to_owned(), board.model_window())
    };
    let length = fs::metadata(&file)?.len();
    if length > window {
        bail!(
            "{} has {length} bytes, but {} has room for {window}",
            file.display(),
            board.name()
        );
    }
    Ok(loader(&file, address))
}

/// How `palmtop convert` stores matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// Signed bytes.
    Int8,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl Weights {
    /// As `palmtop convert --weights` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

/// The .palm file for a model: itself, or what the `palmtop` command makes of a checkpoint folder,
/// made anew when the folder or the command has changed.
pub fn palm_file(model: &Path, weights: Weights) -> Result<PathBuf> {
    palm_file_for(model, weights, None)
}

/// As [`palm_file`], laid out for a target.
pub fn palm_file_for(model: &Path, weights: Weights, target: Option<&str>) -> Result<PathBuf> {
    let what = fs::metadata(model).with_context(|| model.display().to_string())?;
    if !what.is_dir() {
        return Ok(model.to_owned());
    }
    let command = palmtop()?;
    let model = fs::canonicalize(model)?;
    let mut newest = fs::metadata(&command)?.modified().ok();
    for entry in fs::read_dir(&model)? {
        newest = newest.max(entry?.metadata()?.modified().ok());
    }
    let folder = workspace::target().join("palm");
    fs::create_dir_all(&folder)?;
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let layout = target.map(|target| format!("-{target}"));
    let layout = layout.unwrap_or_default();
    let file = folder.join(format!("{name}-{}{layout}.palm", weights.name()));
    if fs::metadata(&file)
        .and_then(|data| data.modified())
        .is_ok_and(|made| Some(made) > newest)
    {
        return Ok(file);
    }
    let mut convert = process::Command::new(command);
    convert
        .arg("convert")
        .arg(&model)
        .arg("-o")
        .arg(&file)
        .args(["--weights", weights.name()]);
    if let Some(target) = target {
        convert.args(["--target", target]);
    }
    let output = capture(&mut convert, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("{} does not convert:\n{}", model.display(), output.tail(10));
    }
    Ok(file)
}

/// Builds the `palmtop` command and returns its path.
pub fn palmtop() -> Result<PathBuf> {
    let mut build = host_cargo();
    build.args(["build", "--release", "-p", "palmtop-cli"]);
    let output = capture(&mut build, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("the palmtop command does not build:\n{}", output.stderr);
    }
    let name = format!("palmtop{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace::target().join("release").join(name))
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
        println!(
            "  {} instructions for {} source tokens in the encoder, {} per token for {} tokens",
            grouped(run.encoder_instructions),
            run.ids.len(),
            grouped(run.instructions_per_token()),
            run.tokens.len(),
        );
        if run.encoder_storage != Reads::default() || run.decoder_storage != Reads::default() {
            let (encoder, decoder) = (run.encoder_storage, run.decoder_storage);
            println!(
                "  storage: {} bytes in the encoder, hit rate {:.2}; {} bytes per token, hit rate {:.2}",
                grouped(encoder.bytes),
                encoder.hit_rate(),
                grouped(decoder.bytes / run.tokens.len().max(1) as u64),
                decoder.hit_rate(),
            );
        }
    }
    println!(
        "{}: model {} bytes, peak RAM {} bytes and stack {} bytes",
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
