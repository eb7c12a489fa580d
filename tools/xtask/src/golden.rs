//! Golden outputs: what the models answer on each emulated board, and the CRC-32 of their logits, in a
//! file beside the board's crate. The bits are compared with the host's as well; the files show that
//! neither has changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use palmtop::format::crc32;

use crate::board_tests::{self, WORD_LIMITS, WORDS};
use crate::boards::Board;
use crate::emulate::{self, Weights};
use crate::toolchain::Toolchain;
use crate::{bench, workspace};

/// Words through the shipped model.
const TEXTS: usize = 2;

/// Runs the small models and words through the shipped one on a board, against the host and the golden
/// output; or writes that anew.
pub fn check(board: Board, toolchain: &Toolchain, overwrite: bool) -> Result<String> {
    let (note, mut lines) = board_tests::tiny_models(board, toolchain)?;
    lines.extend(words(board, toolchain)?);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    hold(&file(board), &text, overwrite)?;
    Ok(note)
}

/// Compares what was printed with a golden output, or writes that anew.
pub fn hold(file: &Path, text: &str, overwrite: bool) -> Result<()> {
    if overwrite {
        return fs::write(file, text).with_context(|| file.display().to_string());
    }
    let golden = fs::read_to_string(file).with_context(|| {
        format!(
            "{}: `cargo xtask test --overwrite` writes it",
            file.display()
        )
    })?;
    match difference(&golden, text) {
        None => Ok(()),
        Some(difference) => bail!(
            "not as {} has it (`cargo xtask test --overwrite` writes it anew):\n{difference}",
            file.display()
        ),
    }
}

fn file(board: Board) -> PathBuf {
    let folder = workspace::root().join("boards").join(board.folder());
    folder.join(board.folder()).with_extension("out")
}

/// Words through the shipped model: answers and the bits of the logits.
fn words(board: Board, toolchain: &Toolchain) -> Result<Vec<String>> {
    let firmware = board.build(toolchain)?;
    let target = Some(board.layout_target());
    let model = emulate::palm_file_for(&bench::shipped(), Weights::Int8, target)?;
    let words: Vec<&str> = WORDS.lines().take(TEXTS).collect();
    let (request, expected) = board_tests::texts_request(&model, &words, WORD_LIMITS)?;
    let patience = board_tests::limit(4 * words.len());
    let (report, logits) = emulate::start(board, &firmware, &model, &request, patience)?;
    board_tests::check(&report, &logits, &request, &expected)?;
    let mut lines = Vec::new();
    let mut rest = logits.as_slice();
    for ((word, run), wanted) in words.iter().zip(&report.runs).zip(&expected) {
        let (own, more) = rest.split_at(wanted.logits.len().min(rest.len()));
        rest = more;
        lines.push(format!(
            "g2p, int8: arena {}, logits {:08x}, {word}: {}",
            report.arena_bytes,
            crc32(own),
            run.output
        ));
    }
    Ok(lines)
}

/// The first line that differs, as both have it.
fn difference(golden: &str, text: &str) -> Option<String> {
    let end = "(the end)";
    let mut golden = golden.lines();
    let mut text = text.lines();
    loop {
        match (golden.next(), text.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                let (a, b) = (a.unwrap_or(end), b.unwrap_or(end));
                return Some(format!("- {a}\n+ {b}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").unwrap(), "- b\n+ c");
        assert_eq!(difference("a\n", "a\nc\n").unwrap(), "- (the end)\n+ c");
        assert!(difference("a\nb\n", "a\n").is_some());
    }
}
