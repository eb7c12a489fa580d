//! The data of `palmtop eval`: `text<TAB>expected[<TAB>alternative…]`, a line each.

use std::path::Path;

use anyhow::{Context, Result};

use crate::failure::failed;

/// Malformed lines that are named before the rest is only counted.
const NAMED: usize = 10;

/// A line of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What goes in.
    pub text: String,
    /// What may come out; never empty.
    pub expected: Vec<String>,
}

/// Reads a file.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Sample>> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        failed(format!(
            "{name} is not UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
        .help("convert the file to UTF-8")
    })?;
    let mut samples = parse(&text).map_err(|bad| {
        failed(format!("{name} has malformed lines:\n  {}", describe(&bad)))
            .help("a line is TEXT<TAB>EXPECTED, then further right answers, each after a TAB")
    })?;
    samples.truncate(limit.unwrap_or(usize::MAX));
    if samples.is_empty() {
        return Err(failed(format!("{name} has no lines to evaluate")).into());
    }
    Ok(samples)
}

/// What is wrong with a line, by its number.
type Malformed = (usize, &'static str);

/// Takes lines apart; lines of nothing but blanks are skipped.
fn parse(text: &str) -> Result<Vec<Sample>, Vec<Malformed>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut samples = Vec::new();
    let mut bad = Vec::new();
    for (line, row) in text.lines().enumerate().map(|(i, row)| (i + 1, row)) {
        if row.trim().is_empty() {
            continue;
        }
        let mut cells = row.split('\t');
        let text = cells.next().unwrap_or("");
        let first = cells.next();
        if text.is_empty() {
            bad.push((line, "the text before the TAB is empty"));
        } else if first.is_none() {
            bad.push((line, "there is no TAB between text and expected output"));
        } else if first.is_some_and(|first| first.trim().is_empty()) {
            bad.push((line, "the expected output is empty"));
        } else {
            let expected = first
                .into_iter()
                .chain(cells)
                .filter(|cell| !cell.trim().is_empty());
            samples.push(Sample {
                line,
                text: text.to_owned(),
                expected: expected.map(str::to_owned).collect(),
            });
        }
    }
    if bad.is_empty() {
        Ok(samples)
    } else {
        Err(bad)
    }
}

fn describe(bad: &[Malformed]) -> String {
    let mut lines: Vec<String> = bad
        .iter()
        .take(NAMED)
        .map(|(line, what)| format!("line {line}: {what}"))
        .collect();
    if bad.len() > NAMED {
        lines.push(format!("and {} more", bad.len() - NAMED));
    }
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_are_read_and_blank_lines_skipped() {
        let samples = parse("a\tX Y\tX Z\n\nb\tZ\t\n").unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].expected, ["X Y", "X Z"]);
        assert_eq!((samples[1].line, samples[1].expected.len()), (3, 1));
    }

    #[test]
    fn malformed_lines_are_named_by_number() {
        let bad = parse("a\tX\nb\n\tX\nc\t \n").unwrap_err();
        assert_eq!(
            bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [2, 3, 4]
        );
    }
}
