//! `cargo xtask`: what the repository does besides building: set-up, tests, emulated boards, sizes.
//!
//! Exit codes: 0 done, 1 something failed, 2 wrong usage.

mod bench;
mod board_tests;
mod boards;
mod c_example;
mod elf;
mod emulate;
mod experts;
mod host;
mod instructions;
mod loads;
mod models;
mod new_tests;
mod paged_tests;
mod panic_free;
mod process;
mod report;
mod setup;
mod size;
mod test;
mod toolchain;
mod watch;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the palmtop repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what the board builds and the emulated boards need.
    Setup(setup::Args),
    /// Run every check: format, lints, docs, tests, cross builds, panic-free links, emulated boards.
    Test(test::Args),
    /// Run a model on an emulated board, text to text, counting instructions, RAM and stack.
    Emulate(emulate::Args),
    /// Compare the logits of words on emulated boards with the host's, bit for bit.
    Bits(board_tests::Args),
    /// Time the shipped model on the host and count its instructions on the emulated boards.
    Bench(bench::Args),
    /// Count instructions per token with 4 and with 128 experts on an emulated board.
    Experts(experts::Args),
    /// Build a board's firmware and print where it is.
    Firmware(boards::FirmwareArgs),
    /// Count instructions per multiply-accumulate on the emulated boards, for `palmtop inspect --board`.
    Instructions(instructions::Args),
    /// Build the example in C for the emulated M4F and pronounce words with it.
    C(c_example::Args),
    /// Text size of the any-model firmware, by crate, from the linker's map.
    Size(size::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Emulate(args) => emulate::run(&args),
        Task::Bits(args) => board_tests::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Experts(args) => experts::run(&args),
        Task::Firmware(args) => boards::firmware(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::C(args) => c_example::run(&args),
        Task::Size(args) => size::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
