//! What the library's cargo features take in flash: the firmware of `boards/g2p-alone` with none of
//! them, with each one, and with all.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::emulate::{self, Weights, grouped};
use crate::process::capture;
use crate::toolchain::Toolchain;
use crate::{bench, elf, workspace};

/// Where it is measured.
pub const TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "thumbv6m-none-eabi"];

/// The features of the library that leave something out.
const FEATURES: [&str; 7] = [
    "dense",
    "floats",
    "gelu",
    "int4",
    "layer-norm",
    "mixture-block",
    "units",
];

/// Prints the table.
pub fn print(toolchain: &Toolchain) -> Result<()> {
    print!("{:<28}", "bytes, g2p alone");
    for target in TARGETS {
        for level in ["2", "s"] {
            let core = target.split('-').next().unwrap_or(target);
            print!("{:>14}", format!("{core} {level}"));
        }
    }
    println!();
    let all = FEATURES.join(",");
    let rows = [("without features", "")].into_iter();
    let rows = rows.chain(FEATURES.map(|name| (name, name)));
    for (name, features) in rows.chain([("all of them", all.as_str())]) {
        print!("{name:<28}");
        for target in TARGETS {
            for level in ["2", "s"] {
                let bytes = bytes(toolchain, target, features, level)?;
                print!("{:>14}", grouped(bytes));
            }
        }
        println!();
    }
    Ok(())
}

/// Flash of the firmware for g2p alone, the model's own bytes not counted, at an optimization level.
pub fn bytes(toolchain: &Toolchain, target: &str, features: &str, level: &str) -> Result<u64> {
    let model = emulate::palm_file(&bench::shipped(), Weights::Int8)?;
    let model = fs::canonicalize(&model)?;
    let folder = workspace::root().join("boards/g2p-alone");
    let mut cargo = toolchain.cargo(target, &folder, "build");
    cargo.args(["--release", "--features", features]);
    if level != "2" {
        cargo.args([
            "--config",
            &format!("profile.release.opt-level=\"{level}\""),
        ]);
    }
    cargo.env("PALMTOP_MODEL", &model);
    let output = capture(&mut cargo, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("g2p-alone does not build:\n{}", output.tail(30));
    }
    let program = workspace::board_target()
        .join(target)
        .join("release/g2p-alone");
    loaded(&program)?
        .checked_sub(fs::metadata(&model)?.len())
        .context("the model is not in the program")
}

/// Bytes of the sections that a program has in flash.
fn loaded(program: &Path) -> Result<u64> {
    let elf = fs::read(program).with_context(|| program.display().to_string())?;
    let sections = elf::sections(&elf).context("no ELF file of 32 bits")?;
    let stored = sections.iter().filter(|section| section.stored);
    Ok(stored.map(|section| u64::from(section.size)).sum())
}
