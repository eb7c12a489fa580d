//! Answers go to stdout, and files to their place, through here: an error while writing is an error,
//! not a panic, and a file is there whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use palmtop_convert::write_atomically;

use crate::failure::{Failure, failed};

/// Writes and flushes, so that a reader at the other end of a pipe sees the line at once.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a line.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Writes a value as one line of JSON.
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string(value)?)?;
    Ok(())
}

/// Writes a value as indented JSON.
pub fn pretty_json(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// Finds out before the work what would keep [`file()`] from writing after it.
pub fn check_file(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    if path.is_dir() {
        return Err(failed(format!(
            "cannot write {name}: it is a folder and is not overwritten"
        ))
        .help("give a file in it"));
    }
    if path.exists() && !path.is_file() {
        return Err(
            failed(format!("cannot write {name}: it is not an ordinary file"))
                .help("give the path of a file"),
        );
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => Err(failed(format!(
            "cannot write {name}: there is no folder {}",
            parent.display()
        ))
        .help("make the folder first, or give another path")),
        _ => Ok(()),
    }
}

/// Writes a file so that it is there whole or not at all.
pub fn file(path: &Path, bytes: &[u8]) -> Result<()> {
    check_file(path)?;
    write_atomically(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
