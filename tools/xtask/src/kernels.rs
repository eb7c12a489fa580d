//! Runs the firmware that has no model but the kernels by themselves: checked against their portable
//! twins, or counted.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::boards::{Board, loader};
use crate::emulate::grouped;
use crate::process::capture;
use crate::toolchain::Toolchain;
use crate::workspace;

/// Bytes of the file of random weights: eight of the longest rows.
const FILE: usize = 8 * 65536;

/// A layer that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Rows, columns and tokens.
    pub shape: (u64, u64, u64),
    /// Instructions that prepare quantized activations for the kernel.
    pub prepare: u64,
    /// Those of the sums of products.
    pub dots: u64,
    /// Those of the whole layer but for `prepare`: sums, zero points, f32 outputs.
    pub layer: u64,
    /// Whether the weights lie in rows in order and not in the target's own layout.
    pub rows: bool,
}

/// Checks every kernel of a board; a note for who reads along.
pub fn check(board: Board, toolchain: &Toolchain, seed: u32) -> Result<String> {
    let text = run(board, toolchain, &format!("check {seed}\n"))?;
    let mut cases = 0;
    let mut checks = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("checked ") {
            let count = rest.split(' ').next().unwrap_or_default();
            cases += count.parse::<u64>().with_context(|| line.to_owned())?;
            checks += 1;
        }
    }
    if checks == 0 || cases == 0 {
        bail!("nothing was checked:\n{text}");
    }
    Ok(format!("{} cases of {checks} checks", grouped(cases)))
}

/// Counts the layers of a board.
pub fn count(board: Board, toolchain: &Toolchain) -> Result<Vec<Counted>> {
    let text = run(board, toolchain, "count\n")?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("kernel "));
    let counted = lines.map(|line| counted(line).with_context(|| line.to_owned()));
    let counted = counted.collect::<Result<Vec<_>>>()?;
    if counted.is_empty() {
        bail!("nothing was counted:\n{text}");
    }
    Ok(counted)
}

/// A line's layout, and its numbers.
fn counted(line: &str) -> Result<Counted> {
    let (layout, numbers) = line.split_once(' ').context("no numbers")?;
    let numbers: Result<Vec<u64>, _> = numbers.split(' ').map(str::parse).collect();
    match numbers?[..] {
        [rows, cols, tokens, prepare, dots, layer] => Ok(Counted {
            shape: (rows, cols, tokens),
            prepare,
            dots,
            layer,
            rows: layout == "rows",
        }),
        _ => bail!("not six numbers"),
    }
}

/// Runs a request and returns what the firmware printed.
fn run(board: Board, toolchain: &Toolchain, request: &str) -> Result<String> {
    let firmware = board.build_kernels(toolchain)?;
    let name = format!("kernels-{}-{}", board.name(), std::process::id());
    let folder = workspace::target().join("emulate").join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("request.txt"), request)?;
    let weights = folder.join("weights.bin");
    fs::write(&weights, random_bytes())?;
    let (address, _) = board.model_window();
    let mut qemu = board.qemu();
    qemu.arg("-device").arg(loader(&weights, address));
    qemu.arg("-kernel").arg(&firmware).current_dir(&folder);
    let output = capture(&mut qemu, Duration::from_secs(600));
    fs::remove_dir_all(&folder)?;
    let output = output?;
    let text = output.stdout;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("error", what)) => bail!("the firmware reports: {what}"),
            Some(("panic", place)) => bail!("the firmware panicked at {place}"),
            Some(("fault", place)) => bail!("the firmware hit a hardware fault: {place}"),
            _ => {}
        }
    }
    if !text.lines().any(|line| line == "done") {
        bail!(
            "the firmware stopped before its end; it had printed:\n{text}{}",
            output.stderr
        );
    }
    Ok(text)
}

/// Bytes that every layout takes for weights within ±127, whatever lies beside them.
fn random_bytes() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let sound = |byte: &u8| *byte != 0 && !(127..=130).contains(byte);
    std::iter::from_fn(|| Some(next()))
        .filter(sound)
        .take(FILE)
        .collect()
}
