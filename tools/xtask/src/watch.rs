//! Watches an emulated run from outside, with a plugin of QEMU (`plugin/watch.c`): loads of experts'
//! bytes, the instructions of one function, and those of kinds of functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::boards::Board;
use crate::emulate::{self, Request};
use crate::host::Host;
use crate::process::capture;
use crate::report::Report;
use crate::{elf, workspace};

/// The function whose call ends a phase: before and after each encoding, and after each decoder
/// step.
const MARK: &str = "palmtop_mark";

/// The first phase that counts, the first input's encoding; phase 0 is the start, with the checks
/// of the file. After it comes a decoder step each.
pub const ENCODING: usize = 1;

/// What to watch.
pub enum Watched {
    /// Loads of each expert's bytes in a mapped model.
    Experts,
    /// Instructions of the function whose mangled name has all of these parts.
    Function(&'static [&'static str]),
    /// Instructions by kind of function, which a mangled name gives (see the plugin).
    Kinds(fn(&str) -> u8),
}

/// Kind of functions that count for the kind of what ran before them, and on the side.
pub const HELPER: u8 = 0;

/// Kind of functions that end a kind of [`STICKY`] and more.
pub const UNIT: u8 = 1;

/// Kind of functions that count for the kind of what ran before them.
pub const THROUGH: u8 = 2;

/// Kind of functions with no other.
pub const OTHER: u8 = 3;

/// Kinds from here on stay until a function of kind [`UNIT`] runs.
pub const STICKY: u8 = 100;

/// What happened from one mark to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// Loads of each expert.
    pub loads: Vec<Loads>,
    /// All instructions.
    pub instructions: u64,
    /// Those of the function that was watched, whatever it calls included.
    pub inside: u64,
    /// Kind, its instructions, and those of them in helpers.
    pub kinds: Vec<(u8, u64, u64)>,
}

/// How often an expert's bytes were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Sum over the bytes.
    pub bytes: u64,
    /// Most loads of one byte.
    pub most: u32,
}

/// Runs a request and gives its phases.
pub fn run(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    watched: &Watched,
) -> Result<Vec<Phase>> {
    Ok(run_all(board, firmware, model, request, watched)?.0)
}

/// As [`run`], with the report and the raw logits.
pub fn run_all(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    watched: &Watched,
) -> Result<(Vec<Phase>, Report, Vec<u8>)> {
    let program = fs::read(firmware).with_context(|| firmware.display().to_string())?;
    let address = |parts: &[&str]| {
        let found = elf::symbol(&program, |name| {
            parts.iter().all(|part| name.contains(part))
        });
        found.with_context(|| format!("the firmware has no function {}", parts.join(" ")))
    };
    let plugin = plugin()?;
    let scratch = |what: &str| plugin.with_file_name(format!("{what}-{}.txt", std::process::id()));
    let (regions, kinds, out) = (scratch("regions"), scratch("kinds"), scratch("out"));
    let mark = address(&[MARK])?;
    let mut argument = format!("{},mark={mark:#x},out={}", plugin.display(), out.display());
    let mut experts = 0;
    match watched {
        Watched::Experts => {
            let host = Host::open(model)?;
            let palm = *host.model()?.palm();
            let (start, _) = board.model_window();
            experts = palm.header().experts.count;
            let mut lines = String::new();
            for expert in (0..experts).map(|index| palm.expert(index)) {
                lines += &format!("{} {}\n", start + expert.offset, expert.len);
            }
            fs::write(&regions, lines)?;
            argument += &format!(",regions={}", regions.display());
        }
        Watched::Kinds(kind_of) => {
            let functions = elf::functions(&program);
            let lines = functions.iter().map(|function| {
                let kind = kind_of(&function.name);
                format!("{} {} {kind}\n", function.start, function.length)
            });
            fs::write(&kinds, lines.collect::<String>())?;
            argument += &format!(",kinds={}", kinds.display());
        }
        Watched::Function(parts) => argument += &format!(",function={:#x}", address(parts)?),
    }
    let (arguments, limit) = (["-plugin".to_owned(), argument], Duration::from_secs(1800));
    let result = emulate::start_with(board, firmware, model, request, limit, &arguments);
    let text = fs::read_to_string(&out).unwrap_or_default();
    for file in [&regions, &kinds, &out] {
        let _ = fs::remove_file(file);
    }
    let (report, logits) = result.context("with QEMU's plugin that watches the run")?;
    Ok((parse(&text, experts as usize)?, report, logits))
}

/// Builds the plugin and returns its path.
fn plugin() -> Result<PathBuf> {
    let source = workspace::root().join("tools/xtask/plugin/watch.c");
    let folder = workspace::target().join("plugin");
    fs::create_dir_all(&folder)?;
    let file = folder.join("watch.so");
    // Of the interface, which QEMU 9 changed in a function that is not used here.
    let version = if qemu_major()? < 9 { 1 } else { 2 };
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC"]);
    compiler.arg("-fvisibility=hidden");
    if cfg!(target_os = "macos") {
        // Only there does the linker have to be told that QEMU has the missing symbols.
        compiler.args(["-undefined", "dynamic_lookup"]);
    }
    compiler.arg(format!("-DPLUGIN_VERSION={version}"));
    compiler.arg("-o").arg(&file).arg(&source);
    let output = capture(&mut compiler, Duration::from_secs(120))?;
    if !output.status.success() {
        bail!("the plugin does not compile:\n{}", output.tail(20));
    }
    Ok(file)
}

/// The first number of QEMU's version.
fn qemu_major() -> Result<u32> {
    let mut command = Command::new("qemu-system-arm");
    let output = capture(command.arg("--version"), Duration::from_secs(30))?;
    let number = output
        .stdout
        .split_whitespace()
        .find_map(|word| word.split('.').next()?.parse().ok());
    number.with_context(|| format!("which QEMU is this? {}", output.stdout))
}

/// Reads what the plugin wrote: its lines, and last of all `end` with the number of phases.
fn parse(text: &str, experts: usize) -> Result<Vec<Phase>> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut ended = None;
    for line in text.lines() {
        let bad = || anyhow!("the plugin's line `{line}`");
        let (key, rest) = line.split_once(' ').ok_or_else(bad)?;
        let numbers: Result<Vec<u64>, _> = rest.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|_| bad())?;
        let first = numbers.first().copied().ok_or_else(bad)? as usize;
        if key == "end" {
            ended = Some(first);
            continue;
        }
        if phases.len() <= first {
            let loads = vec![Loads::default(); experts];
            let phase = Phase {
                loads,
                ..Phase::default()
            };
            phases.resize(first + 1, phase);
        }
        let phase = &mut phases[first];
        match (key, &numbers[1..]) {
            ("instructions", &[all, inside]) => {
                (phase.instructions, phase.inside) = (all, inside);
            }
            ("kind", &[kind, all, helpers]) => phase.kinds.push((kind as u8, all, helpers)),
            ("loads", &[expert, bytes, most]) => {
                let loads = phase.loads.get_mut(expert as usize).ok_or_else(bad)?;
                let most = most as u32;
                *loads = Loads { bytes, most };
            }
            _ => return Err(bad()),
        }
    }
    match ended {
        Some(count) if count == phases.len() => Ok(phases),
        _ => bail!("the plugin did not write to its end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_writes() {
        let text = "instructions 0 9 0\nkind 0 3 8 2\nloads 0 1 64 2\ninstructions 1 7 3\nend 2\n";
        let phases = parse(text, 2).unwrap();
        assert_eq!(phases.len(), 2);
        assert_eq!(phases[0].loads[1], Loads { bytes: 64, most: 2 });
        assert_eq!(phases[0].kinds, [(3, 8, 2)]);
        assert_eq!((phases[1].instructions, phases[1].inside), (7, 3));
        assert_eq!(phases[1].loads, [Loads::default(); 2]);
        for bad in [
            "instructions 0 9 0\n",
            "instructions 0 9 0\nend 2\n",
            "loads 0 2 64 2\nend 1\n",
            "loads 0 1 64\nend 1\n",
            "fault\nend 0\n",
        ] {
            assert!(parse(bad, 2).is_err(), "{bad}");
        }
    }
}
