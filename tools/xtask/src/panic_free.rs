//! The panic-free check: a program that calls every public function of the core, and whose panic
//! handler calls a symbol that does not exist, links only if no panic path is left in it.
//!
//! A control with one `v[i]` must fail to link, else the check would prove nothing.

use std::fs;
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
        bail!("panic paths are left:\n{}", culprits(toolchain, target)?);
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
    command.args(["--release"]);
    if control {
        command.args(["--features", "control"]);
    }
    let output = process::capture(&mut command, Duration::from_secs(900))?;
    Ok((output.status.success(), output.stderr))
}

/// The places in the source whose panics are left: linked once more with the missing symbol defined,
/// the program holds a `core::panic::Location` for each of them, and for nothing else.
fn culprits(toolchain: &Toolchain, target: &str) -> Result<String> {
    let folder = workspace::root().join("boards/panic-free");
    let mut command = toolchain.cargo(target, &folder, "rustc");
    command.args(["--release", "--", "-C"]);
    command.arg(format!("link-arg=--defsym={MISSING}=0"));
    let output = process::capture(&mut command, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("the check does not build:\n{}", output.stderr);
    }
    let program = workspace::board_target()
        .join(target)
        .join("release/panic-free");
    let places = locations(&fs::read(&program)?);
    Ok(if places.is_empty() {
        "  (panics without a place)".into()
    } else {
        places.join("\n")
    })
}

/// Every `core::panic::Location` in a 32-bit little-endian ELF program: pointer and length of a file
/// name that ends in `.rs`, line, column.
fn locations(elf: &[u8]) -> Vec<String> {
    let segments = segments(elf);
    let text_at = |address: u32, length: u32| {
        let (start, bytes) = segments.iter().find(|(start, bytes)| {
            address >= *start && u64::from(address - start) < bytes.len() as u64
        })?;
        let at = (address - start) as usize;
        std::str::from_utf8(bytes.get(at..at.checked_add(length as usize)?)?).ok()
    };
    let mut found = Vec::new();
    for (_, bytes) in &segments {
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        for window in words.windows(4) {
            let &[address, length, line, column] = window else {
                continue;
            };
            let plausible = (4..512).contains(&length) && line > 0 && (1..1000).contains(&column);
            let file = plausible.then(|| text_at(address, length)).flatten();
            if let Some(file) = file.filter(|name| name.ends_with(".rs")) {
                found.push(format!("  {file}:{line}:{column}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The loaded segments of a 32-bit little-endian ELF file: address and bytes.
fn segments(elf: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| -> Option<u32> {
        let bytes = elf.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let half = |at: usize| Some(word(at)? & 0xFFFF);
    let (Some(table), Some(count)) = (word(28), half(44)) else {
        return Vec::new();
    };
    (0..count as usize)
        .filter_map(|i| {
            let header = table as usize + 32 * i;
            let (kind, offset) = (word(header)?, word(header + 4)? as usize);
            let (address, size) = (word(header + 8)?, word(header + 16)? as usize);
            (kind == 1).then_some((address, elf.get(offset..offset + size)?))
        })
        .collect()
}
