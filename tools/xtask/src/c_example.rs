//! The library from C: the example of `boards/c`, built by GCC, on the emulated Cortex-M4F, with the
//! host's bits.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use palmtop::Limits;

use crate::boards::Board;
use crate::emulate::{self, Weights, grouped};
use crate::host::Host;
use crate::process::{self, capture};
use crate::setup::C_COMPILER;
use crate::toolchain::{self, Toolchain};
use crate::{bench, workspace};

/// The board on which the example runs.
const BOARD: Board = Board::M4f;

/// The limits that the example has.
const LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// What every translation unit gets.
const FLAGS: [&str; 11] = [
    "-mcpu=cortex-m4",
    "-mfpu=fpv4-sp-d16",
    "-mfloat-abi=hard",
    "-O2",
    "-std=c11",
    "-ffreestanding",
    "-ffunction-sections",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
];

/// Words for the larger models.
const WORDS: &str = include_str!("words.txt");

/// Options of `c`.
#[derive(clap::Args)]
pub struct Args {
    /// The words.
    #[arg(default_value = "microcontroller")]
    words: Vec<String>,
    /// A .palm file or a checkpoint folder; the shipped model if absent.
    #[arg(long)]
    model: Option<PathBuf>,
}

/// Builds the example, runs it and prints what it says.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.clone().unwrap_or_else(bench::shipped);
    let palm = emulate::palm_file(&model, Weights::Int8)?;
    let firmware = build(&toolchain::find()?, &palm, None)?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    print!("{}", start(&firmware, &words)?);
    println!("{}", firmware.display());
    Ok(())
}

/// The header by itself, as C and as C++ read it.
pub fn header() -> Result<String> {
    let header = folder().join("include/palmtop.h");
    for (language, standard) in [("c", "-std=c99"), ("c++", "-std=c++11")] {
        let mut compiler = Command::new(C_COMPILER.0);
        compiler.args([
            "-fsyntax-only",
            "-ffreestanding",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]);
        compiler.args([standard, "-x", language]).arg(&header);
        run_compiler(&mut compiler)?;
    }
    Ok(String::new())
}

/// Words through the shipped model, called from C, against the host: text, and the CRC-32 of the bits
/// of all logits. With one byte less of arena the session is refused.
pub fn same_bits(toolchain: &Toolchain, words: usize) -> Result<String> {
    let palm = emulate::palm_file(&bench::shipped(), Weights::Int8)?;
    let host = Host::open(&palm)?;
    let model = host.model()?;
    let words: Vec<&str> = WORDS.lines().take(words).collect();
    let arena = model.arena_bytes(LIMITS);
    let text = start(&build(toolchain, &palm, Some(arena))?, &words)?;
    let mut lines = text.lines();
    let mut expect = |wanted: &str| match lines.next() {
        Some(line) if line.starts_with(wanted) => Ok(()),
        other => bail!("`{}` in place of `{wanted}`", other.unwrap_or("nothing")),
    };
    expect(&format!("arena {arena}"))?;
    expect("selftest PALMTOP_OK")?;
    let mut steps = 0;
    for word in &words {
        let source = host.ids(word, LIMITS.source)?;
        let wanted = host.greedy_logits(&source, LIMITS)?;
        expect(&format!("word {}", host.text(&wanted.tokens)?))?;
        let checksum = palmtop::format::crc32(&wanted.logits);
        // Then the number of pieces of work, which the host does not know.
        expect(&format!("logits {} {checksum} ", wanted.tokens.len()))?;
        steps += wanted.tokens.len();
    }
    let refused = start_any(&build(toolchain, &palm, Some(arena - 1))?, &words)?;
    let wanted = format!(
        "error session PALMTOP_ARENA_TOO_SMALL {arena} {}",
        arena - 1
    );
    if !refused.contains(&wanted) {
        bail!("`{wanted}` is not in what a smaller arena gives:\n{refused}");
    }
    Ok(format!(
        "{} words, {} steps",
        words.len(),
        grouped(steps as u64)
    ))
}

fn folder() -> PathBuf {
    workspace::root().join("boards/c")
}

/// Builds the static library and the example with it, a model, and so many bytes of arena.
fn build(toolchain: &Toolchain, palm: &Path, arena: Option<usize>) -> Result<PathBuf> {
    let target = BOARD.target();
    let mut cargo = toolchain.cargo(target, &folder(), "build");
    let output = capture(cargo.arg("--release"), Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("the library for C does not build:\n{}", output.stderr);
    }
    let built = workspace::board_target().join(target).join("release");
    let firmware = built.join("palmtop-c-example");
    let example = folder().join("example");
    let mut compiler = Command::new(C_COMPILER.0);
    compiler.args(FLAGS);
    compiler.args(["-nostdlib", "-Wl,--gc-sections", "-Wl,--no-warn-execstack"]);
    if let Some(arena) = arena {
        compiler.arg(format!("-DARENA_BYTES={arena}"));
    }
    compiler.arg(format!("-DMODEL=\"{}\"", palm.display()));
    compiler.arg("-I").arg(folder().join("include"));
    for source in ["main.c", "mps2-an386.c", "model.S"] {
        compiler.arg(example.join(source));
    }
    compiler.arg("-T").arg(example.join("mps2-an386.ld"));
    compiler.arg("-L").arg(&built).arg("-lpalmtop_c");
    run_compiler(compiler.arg("-o").arg(&firmware))?;
    Ok(firmware)
}

fn run_compiler(compiler: &mut Command) -> Result<()> {
    if !process::runs(C_COMPILER.0) {
        bail!("no {} here; run `cargo xtask setup`", C_COMPILER.0);
    }
    let output = capture(compiler, Duration::from_secs(120))?;
    if !output.status.success() {
        bail!("the example in C does not build:\n{}", output.tail(30));
    }
    Ok(())
}

/// What the example prints, which must end well.
fn start(firmware: &Path, words: &[&str]) -> Result<String> {
    let text = start_any(firmware, words)?;
    if !text.ends_with("done\n") {
        bail!("the example in C did not come to its end:\n{text}");
    }
    Ok(text)
}

fn start_any(firmware: &Path, words: &[&str]) -> Result<String> {
    let mut qemu = BOARD.qemu();
    let mut config = "enable=on,target=native".to_owned();
    for word in words {
        config += &format!(",arg={}", word.replace(',', ",,"));
    }
    qemu.args(["-semihosting-config", &config]);
    qemu.arg("-kernel").arg(firmware);
    let output = capture(&mut qemu, Duration::from_secs(600))?;
    // QEMU writes what SYS_WRITE0 gets to its standard error.
    Ok(output.stdout + &output.stderr)
}
