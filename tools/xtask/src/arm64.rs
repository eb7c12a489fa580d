//! The kernels for 64-bit Arm, tested in QEMU's user mode on processors that have different
//! instructions. Left out where the standard library for the target or the emulator is not there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process;

/// Linked statically and by the compiler's own linker, so that no other compiler and no libraries of
/// the target are needed.
pub const TARGET: &str = "aarch64-unknown-linux-musl";

/// QEMU's user mode: program and Debian package.
pub const EMULATOR: (&str, &str) = ("qemu-aarch64", "qemu-user");

/// Processors: without dot products, with them, with products of small matrices.
const PROCESSORS: [&str; 3] = ["cortex-a72", "cortex-a76", "max"];

/// Longest that a build with its tests may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Whether the compiler that builds for the host has the target's standard library.
pub fn has_target() -> bool {
    let mut command = process::host_rustc();
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let output = process::capture(&mut command, Duration::from_secs(60));
    let Ok(output) = output else {
        return false;
    };
    let folder = Path::new(output.stdout.trim());
    output.status.success() && std::fs::read_dir(folder).is_ok_and(|mut f| f.next().is_some())
}

/// Builds the tests and runs them on each processor; a note that says which.
pub fn test() -> Result<String> {
    if !has_target() {
        return Ok(format!("left out: no standard library for {TARGET}"));
    }
    if !process::runs(EMULATOR.0) {
        return Ok(format!("left out: no {}", EMULATOR.0));
    }
    let name = TARGET.to_uppercase().replace('-', "_");
    for processor in PROCESSORS {
        let mut command: Command = process::host_cargo();
        let runner = format!("{} -cpu {processor}", EMULATOR.0);
        command
            .env(format!("CARGO_TARGET_{name}_LINKER"), "rust-lld")
            .env(format!("CARGO_TARGET_{name}_RUNNER"), runner)
            .args([
                "test",
                "--release",
                "-p",
                "palmtop",
                "--features",
                "std,threads",
            ])
            .args(["--target", TARGET, "--test", "aarch64"]);
        let output = process::capture(&mut command, LIMIT)?;
        if !output.status.success() || !output.stdout.contains("3 passed") {
            bail!("on {processor}:\n{}", output.tail(60));
        }
    }
    Ok(PROCESSORS.join(", "))
}
