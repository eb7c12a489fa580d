//! Counts, in the emulator and not by our own code, how often an encoding loads each byte of each
//! expert: a plugin of QEMU watches every load of the guest (`plugin/loads.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use palmtop::{Limits, Route, RouteTrace, Stack};

use crate::board_tests;
use crate::boards::Board;
use crate::emulate::{self, Request, Weights, grouped};
use crate::host::Host;
use crate::models::{self, SWITCH};
use crate::process::capture;
use crate::toolchain::Toolchain;
use crate::{elf, workspace};

/// Tokens that one pass over an expert's weights serves.
const BATCH: u32 = 16;

/// The function whose call tells the plugin that a phase ends: before and after an encoding, and
/// after each decoder step.
const MARK: &str = "palmtop_mark";

/// The phase that is the first input's encoding; phase 0 is the start, with the checks of the file.
const ENCODING: usize = 1;

/// How often an expert was loaded in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Sum over its bytes.
    pub bytes: u64,
    /// Most loads of one byte.
    pub most: u32,
}

/// Builds the plugin and returns its path.
fn plugin() -> Result<PathBuf> {
    let source = workspace::root().join("tools/xtask/plugin/loads.c");
    let folder = workspace::target().join("plugin");
    fs::create_dir_all(&folder)?;
    let file = folder.join("loads.so");
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

/// For each phase of a run, the loads of each expert of a mapped model.
pub fn count(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    limit: Duration,
) -> Result<Vec<Vec<Loads>>> {
    let program = fs::read(firmware).with_context(|| firmware.display().to_string())?;
    let mark = elf::symbol(&program, MARK).with_context(|| format!("no symbol {MARK}"))?;
    let host = Host::open(model)?;
    let palm = *host.model()?.palm();
    let (start, _) = board.model_window();
    let experts = palm.header().experts.count;
    let mut regions = String::new();
    for index in 0..experts {
        let expert = palm.expert(index);
        regions += &format!("{} {}\n", start + expert.offset, expert.len);
    }
    let scratch = workspace::target().join("plugin");
    let path = |what: &str| scratch.join(format!("{what}-{}.txt", std::process::id()));
    let plugin = plugin()?;
    let (wanted, found) = (path("regions"), path("loads"));
    fs::write(&wanted, regions)?;
    let argument = format!(
        "{},regions={},mark={mark:#x},out={}",
        plugin.display(),
        wanted.display(),
        found.display()
    );
    let arguments = ["-plugin".to_owned(), argument];
    let run = emulate::start_with(board, firmware, model, request, limit, &arguments);
    let text = fs::read_to_string(&found).unwrap_or_default();
    for file in [&wanted, &found] {
        let _ = fs::remove_file(file);
    }
    run.context("with QEMU's plugin that counts loads")?;
    parse(&text, experts as usize)
}

/// Reads what the plugin wrote.
fn parse(text: &str, experts: usize) -> Result<Vec<Vec<Loads>>> {
    let mut phases: Vec<Vec<Loads>> = Vec::new();
    let mut ended = false;
    for line in text.lines() {
        let bad = || anyhow!("the plugin's line `{line}`");
        if let Some(count) = line.strip_prefix("end ") {
            let count = count.parse().map_err(|_| bad())?;
            phases.resize_with(count, || vec![Loads::default(); experts]);
            ended = true;
            continue;
        }
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let &[phase, expert, bytes, most] = numbers.as_slice() else {
            return Err(bad());
        };
        while phases.len() <= phase as usize {
            phases.push(vec![Loads::default(); experts]);
        }
        let loads = phases[phase as usize].get_mut(expert as usize);
        *loads.ok_or_else(bad)? = Loads {
            bytes,
            most: most as u32,
        };
    }
    if ended {
        Ok(phases)
    } else {
        bail!("the plugin did not write its end");
    }
}

/// Counts the tokens that each expert of the encoder takes.
struct Tokens<'h> {
    host: &'h Host,
    counts: Vec<u32>,
}

impl RouteTrace for Tokens<'_> {
    fn placed(&mut self, route: &Route<'_>, kept: bool, _gate: f32) {
        if let (Stack::Encoder, true, Ok(model)) = (route.stack, kept, self.host.model()) {
            let layer = model.palm().layer(route.layer as u32);
            self.counts[layer.first_expert as usize + route.expert] += 1;
        }
    }
}

/// The models that are watched: Switch in integers and in floats, and two experts per token.
pub fn models() -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        (
            "switch, int8",
            models::switch("switch-loads", &SWITCH, Weights::Int8)?,
        ),
        (
            "switch, f16",
            models::switch("switch-loads", &SWITCH, Weights::F16)?,
        ),
    ])
}

/// An encoding over 64 tokens: a chosen expert's bytes are loaded at most ⌈tokens / 16⌉ times, one
/// that no token chose never.
pub fn encoder(board: Board, toolchain: &Toolchain, models: &[(&str, PathBuf)]) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let mut notes = Vec::new();
    for (name, path) in models {
        let note = encoder_of(board, &firmware, path).with_context(|| (*name).to_owned())?;
        notes.push(format!("{name}: {note}"));
    }
    Ok(notes.join("; "))
}

fn encoder_of(board: Board, firmware: &Path, path: &Path) -> Result<String> {
    let host = Host::open(path)?;
    let limits = Limits {
        source: 64,
        target: 1,
        beams: 1,
    };
    let vocab = host.model()?.palm().header().vocab;
    let source: Vec<u32> = (0..64).map(|i| (i * i + 3 * i + 1) % vocab).collect();
    let mut tokens = Tokens {
        host: &host,
        counts: vec![0; host.model()?.palm().header().experts.count as usize],
    };
    host.encode(&source, limits, &mut tokens)?;
    let request = Request {
        inputs: vec![board_tests::input(&source, Some(vec![0]))],
        source: limits.source,
        target: limits.target,
        ..Request::default()
    };
    let limit = Duration::from_secs(900);
    let phases = count(board, firmware, path, &request, limit)?;
    let encoding = phases.get(ENCODING).context("no encoding was seen")?;
    let palm = *host.model()?.palm();
    let (mut chosen, mut read, mut allowed) = (0, 0, 0);
    for (index, (loads, tokens)) in encoding.iter().zip(&tokens.counts).enumerate() {
        let length = u64::from(palm.expert(index as u32).len);
        let most = tokens.div_ceil(BATCH);
        if loads.most > most {
            bail!(
                "a byte of expert {index} is loaded {} times for {tokens} tokens, {most} are allowed; \
                 {} bytes of {length} in all",
                loads.most,
                loads.bytes
            );
        }
        // A counter that sees nothing would find nothing wrong.
        if *tokens > 0 && loads.bytes < u64::from(most) * length / 2 {
            bail!("only {} bytes of expert {index} were seen", loads.bytes);
        }
        chosen += usize::from(*tokens > 0);
        read += loads.bytes;
        allowed += u64::from(most) * length;
    }
    if chosen == 0 || chosen == encoding.len() {
        bail!(
            "{chosen} of {} experts are chosen: that shows nothing",
            encoding.len()
        );
    }
    Ok(format!(
        "{chosen} of {} experts chosen, {} bytes loaded of {} allowed",
        encoding.len(),
        grouped(read),
        grouped(allowed)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_writes() {
        let phases = parse("0 1 64 2\n2 0 7 1\nend 4\n", 2).unwrap();
        assert_eq!(phases.len(), 4);
        assert_eq!(phases[0][1], Loads { bytes: 64, most: 2 });
        assert_eq!(phases[2][0], Loads { bytes: 7, most: 1 });
        assert_eq!(phases[1], [Loads::default(); 2]);
        assert!(parse("0 1 64 2\n", 2).is_err());
        assert!(parse("0 9 64 2\nend 1\n", 2).is_err());
        assert!(parse("fault\nend 1\n", 2).is_err());
    }
}
