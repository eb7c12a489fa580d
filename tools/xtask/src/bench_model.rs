//! `cargo xtask bench model`: the shipped model's speed on the host, and its instructions on the boards.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::boards::Board;
use crate::emulate::{self, Input, Request, Source, Weights, grouped};
use crate::{bench, process, toolchain};

/// Options of `bench model`.
#[derive(clap::Args)]
pub struct Args {
    /// A .palm file or a checkpoint folder; the shipped model if absent.
    model: Option<PathBuf>,
    /// The text to run.
    #[arg(long, default_value = "microcontroller")]
    text: String,
    /// The boards to count on.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "m0,m3,m4f,m7,m33,m55,rv32"
    )]
    boards: Vec<Board>,
    /// Count on the boards only.
    #[arg(long)]
    skip_host: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.clone().unwrap_or_else(bench::shipped);
    let palm = emulate::palm_file(&model, Weights::Int8)?;
    if !args.skip_host {
        let mut command = Command::new(emulate::palmtop()?);
        process::show(command.arg("bench").arg(&palm))?;
    }
    let toolchain = toolchain::find()?;
    let request = Request {
        inputs: vec![Input {
            source: Source::Text(args.text.clone()),
            forced: None,
            logits: false,
        }],
        source: 32,
        target: 48,
        ..Request::default()
    };
    println!(
        "{:<6}{:>16}{:>16}{:>12}{:>10}  (instructions under QEMU, not cycles)",
        "board", "encoder", "per token", "arena", "stack"
    );
    let mut failed = 0;
    for &board in &args.boards {
        let limit = Duration::from_secs(600);
        let result = board
            .build(&toolchain)
            .and_then(|firmware| emulate::start(board, &firmware, &palm, &request, limit));
        match result {
            Ok((report, _)) => {
                let run = &report.runs[0];
                println!(
                    "{:<6}{:>16}{:>16}{:>12}{:>10}",
                    board.name(),
                    grouped(run.encoder_instructions),
                    grouped(run.instructions_per_token()),
                    grouped(report.arena_bytes),
                    grouped(report.stack_bytes),
                );
            }
            Err(error) => {
                failed += 1;
                println!("{:<6}{error:#}", board.name());
            }
        }
    }
    if failed > 0 {
        bail!("{failed} boards failed")
    } else {
        Ok(())
    }
}
