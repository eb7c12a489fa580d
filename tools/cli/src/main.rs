//! The `palmtop` command: converts checkpoints to `.palm` files, runs them, looks into them,
//! measures them. It computes with the same core that runs on the device.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod args;
mod boards;
mod cases;
mod commands;
mod engine;
mod eval;
mod experts;
mod failure;
mod mixtures;
mod model_file;
mod out;
mod page;
mod progress;
mod report;
mod room;
mod steer;
mod table;
mod templates;
mod text;
mod trace;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{bench, compare, convert, inspect, logits, run};

const EXAMPLES: &str = "Examples:
  palmtop convert checkpoint/ -o model.palm
  palmtop run model.palm \"microcontroller\"
  palmtop inspect model.palm --source 32 --target 48
  palmtop inspect model.palm --boards
  palmtop new my-firmware --board rp2350 --model model.palm
  palmtop eval model.palm --data test.tsv
  palmtop compare model.palm checkpoint/ --data test.tsv
  palmtop report model.palm --data tasks/ -o report.html

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Sparse mixture-of-experts encoder-decoder Transformers for microcontrollers
#[derive(Debug, Parser)]
#[command(name = "palmtop", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a .palm file from a checkpoint folder
    Convert(convert::Args),
    /// Run a model on text, a line of answer for each line of input
    Run(run::Args),
    /// Write encoder states and logits for given ids as safetensors
    Logits(logits::Args),
    /// Show what a model is, what it costs and which parts it fits
    Inspect(inspect::Args),
    /// Measure exact-match and token error rates on a file of text and expected output
    Eval(commands::eval::Args),
    /// Measure how far a model is from a reference: states, routes, outputs
    Compare(compare::Args),
    /// Write a page with pictures: accuracy, experts, flash, RAM, error by layer
    Report(commands::report::Args),
    /// Make a firmware project for a board and a model
    New(commands::new::Args),
    /// Time the encoder and the decoder on this machine
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Convert(args) => convert::convert(&args),
        Command::Run(args) => run::run(&args),
        Command::Logits(args) => logits::logits(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Eval(args) => commands::eval::eval(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::New(args) => commands::new::new(&args),
        Command::Bench(args) => bench::bench(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
