//! `cargo xtask emulate all`: one model and its inputs on every emulated core, as a table.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palmtop::Limits;

use crate::board_tests;
use crate::boards::Board;
use crate::emulate::{self, Input, Request, Source, Weights, grouped};
use crate::host::Host;
use crate::report::Report;
use crate::toolchain::Toolchain;

/// What to run.
pub struct Args<'a> {
    /// A .palm file, or a checkpoint folder.
    pub model: &'a Path,
    /// How to store the matrices of a checkpoint folder.
    pub weights: Weights,
    /// Inputs and limits.
    pub request: Request,
    /// Patience for each board.
    pub limit: Duration,
    /// Reports as JSON in place of the table.
    pub json: bool,
}

/// The table's columns.
const TITLES: [&str; 7] = [
    "core",
    "answer",
    "instructions per letter",
    "per token",
    "arena",
    "stack",
    "same bits",
];

/// Runs every board in turn and prints a row as soon as it has one.
pub fn run(toolchain: &Toolchain, args: &Args<'_>) -> Result<()> {
    let (mut rows, mut reports, mut wrong) = (Vec::new(), Vec::new(), 0);
    for board in Board::ALL {
        eprintln!("{} …", board.name());
        match run_board(board, toolchain, args) {
            Ok((report, same)) => {
                wrong += usize::from(same.is_err());
                rows.extend(report.runs.iter().map(|run| {
                    let letters = run.ids.len().max(1) as u64;
                    [
                        board.name().to_owned(),
                        run.output.clone(),
                        grouped(run.encoder_instructions / letters),
                        grouped(run.instructions_per_token()),
                        grouped(report.arena_bytes),
                        grouped(report.stack_bytes),
                        match &same {
                            Ok(()) => "yes".to_owned(),
                            Err(error) => format!("NO: {error:#}"),
                        },
                    ]
                }));
                reports.push(report);
            }
            Err(error) => {
                wrong += 1;
                let mut row = [const { String::new() }; TITLES.len()];
                (row[0], row[1]) = (board.name().to_owned(), format!("{error:#}"));
                rows.push(row);
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        print!("{}", table(&rows));
    }
    match wrong {
        0 => Ok(()),
        count => bail!(
            "{count} of {} boards did not give the host's bits",
            Board::ALL.len()
        ),
    }
}

/// A board's report along the host's own output, and whether all its logits are the host's.
fn run_board(board: Board, toolchain: &Toolchain, args: &Args<'_>) -> Result<(Report, Result<()>)> {
    let firmware = match args.request.slots {
        Some(_) => board.build_paged(toolchain)?,
        None => board.build(toolchain)?,
    };
    let model = emulate::palm_file_for(args.model, args.weights, Some(board.layout_target()))?;
    let host = Host::open(&model)?;
    let limits = Limits {
        source: args.request.source,
        target: args.request.target,
        beams: 1,
    };
    let mut request = Request {
        source: limits.source,
        target: limits.target,
        slots: args.request.slots,
        self_test: args.request.self_test,
        ..Request::default()
    };
    let mut expected = Vec::new();
    for input in &args.request.inputs {
        let ids = match &input.source {
            Source::Ids(ids) => ids.clone(),
            Source::Text(text) => host.ids(text, limits.source)?,
        };
        let mut wanted = host.greedy_logits(&ids, limits).context("on the host")?;
        if let Some(most) = args.request.max_tokens {
            let most = (most as usize).min(wanted.fed.len());
            let logits = wanted.logits.len() / wanted.fed.len().max(1) * most;
            wanted.fed.truncate(most);
            wanted.tokens.truncate(most);
            wanted.logits.truncate(logits);
        }
        request.inputs.push(Input {
            source: input.source.clone(),
            forced: Some(wanted.fed.clone()),
            logits: true,
        });
        expected.push(wanted);
    }
    let (report, logits) = emulate::start(board, &firmware, &model, &request, args.limit)?;
    let same = board_tests::check(&report, &logits, &request, &expected);
    Ok((report, same))
}

/// Rows in columns: text to the left, numbers to the right.
fn table(rows: &[[String; TITLES.len()]]) -> String {
    let titles = TITLES;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(titles[column].chars().count())
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            line += &match column {
                2..=5 => format!("{cell:>width$}  "),
                _ => format!("{cell:<width$}  "),
            };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&titles);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &line(&cells);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |answer: &str, count: &str| {
            ["m4f", answer, count, "1", "2", "3", "yes"].map(str::to_owned)
        };
        let text = table(&[row("K AO1", "927,000"), row("a long answer", "5")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let ends = |line: &str, what: &str| line.find(what).unwrap() + what.len();
        assert_eq!(ends(lines[0], "per letter"), ends(lines[1], "927,000"));
        assert_eq!(ends(lines[2], "5 "), ends(lines[1], "927,000") + 1);
        assert_eq!(lines[1].find("yes"), lines[2].find("yes"));
    }
}
