//! The data of `eval`, `report` and `compare`: `text<TAB>expected[<TAB>alternative…]`, a line each.
//!
//! Lines come in groups: a file is one, named by its stem, unless lines `#task NAME` (without a TAB)
//! begin groups in it. A folder stands for its `.tsv` files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::failed;

/// Malformed lines that are named before the rest is only counted.
const NAMED: usize = 10;
/// What begins a line that names the task of those after it.
const TASK: &str = "#task ";

/// Which data.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// The data: TEXT<TAB>EXPECTED[<TAB>ALTERNATIVE…] on each line, or a folder of such .tsv files;
    /// may be given several times
    #[arg(long, value_name = "FILE.tsv", required = true)]
    pub data: Vec<PathBuf>,

    /// Only the first N lines (of each file or task)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

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

/// Lines that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The task's name, or the file's stem.
    pub name: String,
    /// Its lines; never none.
    pub samples: Vec<Sample>,
}

/// Every line of some groups.
pub fn samples(groups: &[Group]) -> Vec<&Sample> {
    groups.iter().flat_map(|group| &group.samples).collect()
}

impl DataArgs {
    /// The files as one text, for a report.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.data.iter().map(|p| p.display().to_string()).collect();
        names.join(", ")
    }

    /// Reads every file. Each group has a name of its own.
    pub fn read(&self) -> Result<Vec<Group>> {
        let limit = self
            .limit
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut groups: Vec<Group> = Vec::new();
        for path in files(&self.data)? {
            for mut group in read(&path)? {
                group.samples.truncate(limit);
                if groups.iter().any(|known| known.name == group.name) {
                    group.name = format!("{}: {}", path.display(), group.name);
                }
                groups.push(group);
            }
        }
        Ok(groups)
    }
}

/// The files that some paths stand for.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let name = path.display();
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {name}"))?;
        let mut found = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("cannot read {name}"))?.path();
            if file.extension().is_some_and(|e| e == "tsv") && file.is_file() {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(failed(format!("{name} has no .tsv files"))
                .help("give a file, or a folder with files NAME.tsv")
                .into());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Reads a file.
fn read(path: &Path) -> Result<Vec<Group>> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        failed(format!(
            "{name} is not UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
        .help("convert the file to UTF-8")
    })?;
    let stem = path.file_stem().map_or_else(
        || name.to_string(),
        |stem| stem.to_string_lossy().into_owned(),
    );
    let groups = parse(&text, &stem).map_err(|bad| {
        failed(format!("{name} has malformed lines:\n  {}", describe(&bad)))
            .help("a line is TEXT<TAB>EXPECTED, then further right answers, each after a TAB")
    })?;
    if groups.is_empty() {
        return Err(failed(format!("{name} has no lines to evaluate")).into());
    }
    Ok(groups)
}

/// What is wrong with a line, by its number.
type Malformed = (usize, &'static str);

/// Takes lines apart; lines of nothing but blanks are skipped. `stem` names lines of no task.
fn parse(text: &str, stem: &str) -> Result<Vec<Group>, Vec<Malformed>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut groups: Vec<Group> = Vec::new();
    let mut task = stem;
    let mut bad = Vec::new();
    for (line, row) in text.lines().enumerate().map(|(i, row)| (i + 1, row)) {
        if row.trim().is_empty() {
            continue;
        }
        if let Some(name) = row.strip_prefix(TASK)
            && !row.contains('\t')
            && !name.trim().is_empty()
        {
            task = name.trim();
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
            let sample = Sample {
                line,
                text: text.to_owned(),
                expected: expected.map(str::to_owned).collect(),
            };
            match groups.iter_mut().find(|group| group.name == task) {
                Some(group) => group.samples.push(sample),
                None => groups.push(Group {
                    name: task.to_owned(),
                    samples: vec![sample],
                }),
            }
        }
    }
    if bad.is_empty() { Ok(groups) } else { Err(bad) }
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
        let groups = parse("a\tX Y\tX Z\n\nb\tZ\t\n", "stem").unwrap();
        assert_eq!((groups.len(), &*groups[0].name), (1, "stem"));
        let samples = &groups[0].samples;
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].expected, ["X Y", "X Z"]);
        assert_eq!((samples[1].line, samples[1].expected.len()), (3, 1));
    }

    #[test]
    fn tasks_begin_groups() {
        let text = "a\tX\n#task two\nb\tX\n#task three\n#task\tX\n#task two\nc\tX\n";
        let groups = parse(text, "one").unwrap();
        let texts = |group: &Group| -> Vec<String> {
            group.samples.iter().map(|s| s.text.clone()).collect()
        };
        let groups: Vec<_> = groups.iter().map(|g| (&*g.name, texts(g))).collect();
        let wanted = [
            ("one", vec!["a".to_owned()]),
            ("two", vec!["b".to_owned(), "c".to_owned()]),
            ("three", vec!["#task".to_owned()]),
        ];
        assert_eq!(groups.len(), 3);
        assert!(wanted.iter().all(|w| groups.contains(w)), "{groups:?}");
    }

    #[test]
    fn malformed_lines_are_named_by_number() {
        let bad = parse("a\tX\nb\n\tX\nc\t \n", "stem").unwrap_err();
        assert_eq!(
            bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [2, 3, 4]
        );
    }
}
