//! The panic-free check: a program that calls every public function of the core, and whose panic
//! handler calls a symbol that does not exist, links only if no panic path is left in it.
//!
//! A control with one `v[i]` must fail to link, else the check would prove nothing.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::process;
use crate::toolchain::Toolchain;
use crate::workspace;

/// Where it is checked.
pub const TARGETS: [&str; 3] = [
    "thumbv6m-none-eabi",
    "thumbv7em-none-eabihf",
    "riscv32imac-unknown-none-elf",
];

/// The symbol that the panic handler calls and nothing defines.
const MISSING: &str = "palmtop_panic_path_left";

/// Links for one target, with and without the control.
pub fn check(toolchain: &Toolchain, target: &str) -> Result<()> {
    let (linked, message) = link(toolchain, target, false)?;
    if !linked && message.contains(MISSING) {
        bail!(
            "a panic path is left; these can reach it:\n{}",
            culprits(toolchain, target)?
        );
    }
    if !linked {
        bail!("the check does not build:\n{message}");
    }
    let (linked, message) = link(toolchain, target, true)?;
    if linked {
        bail!("the control links although it can panic: the check is blind");
    }
    if !message.contains(MISSING) {
        bail!("the control fails for another reason than its panic:\n{message}");
    }
    Ok(())
}

/// Whether it linked, and what the linker said.
fn link(toolchain: &Toolchain, target: &str, control: bool) -> Result<(bool, String)> {
    let folder = workspace::root().join("boards/panic-free");
    let mut command = toolchain.cargo(target, &folder, "build");
    command.args(["--release", "--locked"]);
    if control {
        command.args(["--features", "control"]);
    }
    let output = process::capture(&mut command, Duration::from_secs(900))?;
    Ok((output.status.success(), output.stderr))
}

/// The functions that call into `core::panicking`, read from the assembly of the whole program.
fn culprits(toolchain: &Toolchain, target: &str) -> Result<String> {
    let folder = workspace::root().join("boards/panic-free");
    let file = workspace::board_target().join(format!("panic-free-{target}.s"));
    let mut command = toolchain.cargo(target, &folder, "rustc");
    command.args(["--release", "--locked", "--", "--emit"]);
    command.arg(format!("asm={}", file.display()));
    process::capture(&mut command, Duration::from_secs(900))?;
    let assembly = std::fs::read_to_string(&file).unwrap_or_default();
    let mut function = "";
    let mut found: Vec<String> = Vec::new();
    for line in assembly.lines() {
        match line.strip_suffix(':') {
            Some(label) if !label.starts_with('.') && !label.starts_with(char::is_whitespace) => {
                function = label;
            }
            _ if line.starts_with(char::is_whitespace) && panics(line) => {
                let call = line.split_whitespace().last().unwrap_or_default();
                found.push(format!("  {function} -> {call}"));
            }
            _ => {}
        }
    }
    found.retain(|call| {
        !call
            .trim_start()
            .split(" -> ")
            .next()
            .is_some_and(is_panicking)
    });
    found.dedup();
    Ok(if found.is_empty() {
        "  (not found in the assembly)".into()
    } else {
        found.join("\n")
    })
}

/// Whether an instruction refers to a function that panics.
fn panics(line: &str) -> bool {
    !line.trim_start().starts_with('.') && is_panicking(line)
}

fn is_panicking(name: &str) -> bool {
    [
        "panicking",
        "slice_index_fail",
        "slice_error_fail",
        "unwrap_failed",
        "expect_failed",
        MISSING,
    ]
    .iter()
    .any(|part| name.contains(part))
}
