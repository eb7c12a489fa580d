//! The firmware for g2p alone, as small as it is measured, on emulated boards: the host's answers and
//! bits without the library's features.

use std::fs;
use std::process;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::board_tests::{WORD_LIMITS, WORDS};
use crate::boards::Board;
use crate::emulate::{self, Weights, grouped};
use crate::host::Host;
use crate::process::capture;
use crate::toolchain::Toolchain;
use crate::{bench, workspace};

/// Where it runs.
pub const BOARDS: [Board; 2] = [Board::M4f, Board::M0];

/// Its crate.
const NAME: &str = "g2p-alone-emulated";

/// Words on a board against the host: answers, and the CRC-32 of all logits.
pub fn check(board: Board, toolchain: &Toolchain, words: usize) -> Result<String> {
    let target = Some(board.layout_target());
    let model = emulate::palm_file_for(&bench::shipped(), Weights::Int8, target)?;
    let model = fs::canonicalize(model)?;
    let source = workspace::root().join("boards").join(NAME);
    let mut cargo = toolchain.cargo(board.target(), &source, "build");
    cargo.args(["--release", "--config", "profile.release.opt-level=\"s\""]);
    cargo.env("PALMTOP_MODEL", &model);
    let output = capture(&mut cargo, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("{NAME} does not build:\n{}", output.tail(30));
    }
    let built = workspace::board_target()
        .join(board.target())
        .join("release");

    let host = Host::open(&model)?;
    let arena = host.model()?.arena_bytes(WORD_LIMITS);
    let (mut wanted, mut asked, mut steps) = (format!("arena {arena}\n"), String::new(), 0);
    for word in WORDS.lines().take(words) {
        let expected = host.greedy_logits(&host.ids(word, WORD_LIMITS.source)?, WORD_LIMITS)?;
        let (count, checksum) = (
            expected.tokens.len(),
            palmtop::format::crc32(&expected.logits),
        );
        let text = host.text(&expected.tokens)?;
        wanted += &format!("word {text}\nlogits {count} {checksum}\n");
        asked += &format!("{word}\n");
        steps += count;
    }
    wanted += "done\n";

    let run = format!("{NAME}-{}-{}", board.name(), process::id());
    let folder = workspace::target().join("emulate").join(run);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("words.txt"), asked)?;
    let mut qemu = board.qemu();
    qemu.arg("-kernel")
        .arg(built.join(NAME))
        .current_dir(&folder);
    let output = capture(&mut qemu, Duration::from_secs(600));
    fs::remove_dir_all(&folder)?;
    let got = output?.stdout;
    for (line, wanted) in got.lines().chain(std::iter::repeat("")).zip(wanted.lines()) {
        if line.trim_end() != wanted.trim_end() {
            bail!("`{line}` in place of `{wanted}` on {}", board.name());
        }
    }
    Ok(format!(
        "{words} words, {} steps equal",
        grouped(steps as u64)
    ))
}
