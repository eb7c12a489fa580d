//! `cargo xtask defmt`: the emulated Cortex-M4F that logs with defmt over semihosting, its log decoded by
//! `defmt-print`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palmtop::format::crc32;

use crate::board_tests::WORD_LIMITS;
use crate::boards::{Board, loader};
use crate::emulate::{self, Weights};
use crate::golden;
use crate::host::Host;
use crate::process::{capture, on_path};
use crate::toolchain::{self, Toolchain};
use crate::{bench, workspace};

/// The decoder, which `cargo install` builds.
pub const DECODER: &str = "defmt-print";

/// The crate of the firmware.
const NAME: &str = "mps2-an386-defmt";

/// The board whose machine it is.
const BOARD: Board = Board::M4f;

/// A word with an answer, and a text that is too long.
const TEXTS: [&str; 2] = ["hi", "pneumonoultramicroscopicsilicovolcanoconiosis"];

/// Options of `defmt`.
#[derive(clap::Args)]
pub struct Args {
    /// The texts.
    #[arg(default_value = "hi")]
    texts: Vec<String>,
    /// A .palm file or a checkpoint folder; the shipped model if absent.
    #[arg(long)]
    model: Option<PathBuf>,
}

/// Runs texts and prints the decoded log.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.clone().unwrap_or_else(bench::shipped);
    let model = emulate::palm_file_for(&model, Weights::Int8, Some(BOARD.layout_target()))?;
    let texts: Vec<&str> = args.texts.iter().map(String::as_str).collect();
    print!("{}", log(&toolchain::find()?, &model, &texts)?);
    Ok(())
}

/// Texts through the shipped model: the log of a word's routes, pieces and bits, which are the host's,
/// and of errors, as the golden output has it.
pub fn check(toolchain: &Toolchain, overwrite: bool) -> Result<String> {
    let target = Some(BOARD.layout_target());
    let model = emulate::palm_file_for(&bench::shipped(), Weights::Int8, target)?;
    let log = log(toolchain, &model, &TEXTS)?;
    let host = Host::open(&model)?;
    let word = TEXTS[0];
    let expected = host.greedy_logits(&host.ids(word, WORD_LIMITS.source)?, WORD_LIMITS)?;
    let wanted = format!(
        "{word}: {} steps, logits {:08x}",
        expected.tokens.len(),
        crc32(&expected.logits)
    );
    if !log.contains(&wanted) {
        bail!("`{wanted}` is not in the log:\n{log}");
    }
    let file = workspace::root().join("boards").join(NAME).join(NAME);
    golden::hold(&file.with_extension("out"), &log, overwrite)?;
    Ok(format!("{} lines, {wanted}", log.lines().count()))
}

/// The decoded log of a run.
fn log(toolchain: &Toolchain, model: &Path, texts: &[&str]) -> Result<String> {
    if !on_path(DECODER) {
        bail!("no {DECODER} here; `cargo install --locked {DECODER}`, or run `cargo xtask setup`");
    }
    let firmware = build(toolchain)?;
    let model = fs::canonicalize(model)?;
    let run = format!("defmt-{}", process::id());
    let folder = workspace::target().join("emulate").join(run);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("words.txt"), texts.join("\n"))?;
    let raw = folder.join("log.bin");
    let mut qemu = BOARD.qemu();
    qemu.arg("-device");
    qemu.arg(loader(&model, BOARD.model_window().0));
    qemu.arg("-kernel").arg(&firmware).current_dir(&folder);
    let ended = to_file(&mut qemu, &raw, Duration::from_secs(300));
    let decoded = ended.and_then(|()| decode(&firmware, &raw));
    fs::remove_dir_all(&folder)?;
    let log = decoded?;
    if !log.lines().any(|line| line.ends_with(" done")) {
        bail!("the log has no end:\n{log}");
    }
    Ok(log)
}

fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = workspace::root().join("boards").join(NAME);
    let mut cargo = toolchain.cargo(BOARD.target(), &folder, "build");
    let output = capture(cargo.arg("--release"), Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("{NAME} does not build:\n{}", output.tail(30));
    }
    let built = workspace::board_target().join(BOARD.target());
    Ok(built.join("release").join(NAME))
}

/// Runs the emulator with its standard output, which is no text, in a file.
fn to_file(command: &mut Command, file: &Path, limit: Duration) -> Result<()> {
    command.stdin(Stdio::null()).stdout(File::create(file)?);
    let mut child = command.spawn().context("cannot start the emulator")?;
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            // What an error is, the log says.
            Some(_) => return Ok(()),
            None if Instant::now() >= deadline => {
                child.kill()?;
                child.wait()?;
                bail!("the emulator did not end within {} s", limit.as_secs());
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The log as text: a level and a message a line.
fn decode(firmware: &Path, raw: &Path) -> Result<String> {
    let mut command = Command::new(DECODER);
    command
        .arg("-e")
        .arg(firmware)
        .args(["--log-format", "{L} {s}"]);
    command
        .arg("stdin")
        .stdin(File::open(raw)?)
        .env("NO_COLOR", "1");
    let output = command
        .output()
        .with_context(|| format!("cannot start {DECODER}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{DECODER} ended with {}:\n{text}{error}", output.status);
    }
    let lines = text.lines().map(|line| line.trim_end().to_owned() + "\n");
    Ok(lines.collect())
}
