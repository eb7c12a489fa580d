//! `cargo xtask`: what the repository does besides building: set-up, tests, emulated boards, sizes.
//!
//! Exit codes: 0 done, 1 something failed, 2 wrong usage.

mod arm64;
mod bench;
mod bench_kernels;
mod bench_model;
mod board_tests;
mod boards;
mod budget;
mod c_example;
mod defmt_log;
mod elf;
mod emulate;
mod every_board;
mod experts;
mod g2p_alone;
mod golden;
mod hardware;
mod host;
mod instructions;
mod kernels;
mod kinds;
mod loads;
mod macs;
mod models;
mod new_tests;
mod paged_tests;
mod panic_free;
mod process;
mod report;
mod setup;
mod size;
mod size_features;
mod test;
mod toolchain;
mod watch;
mod workspace;
mod yields;

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
    /// Count instructions on the emulated boards.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Count instructions per token with 4 and with 128 experts on an emulated board.
    Experts(experts::Args),
    /// Count instructions between two yields of a cooperative task that works in bounded units.
    Yields(yields::Args),
    /// Build a board's firmware and print where it is.
    Firmware(boards::FirmwareArgs),
    /// Build firmware for boards that one can buy, with the model, and print what of their memory it takes.
    Boards(hardware::Args),
    /// Count instructions per multiply-accumulate on the emulated boards, for `palmtop inspect --board`.
    Instructions(instructions::Args),
    /// Build the example in C for the emulated M4F and pronounce words with it.
    C(c_example::Args),
    /// Run texts on the emulated M4F that logs with defmt, and print its log.
    Defmt(defmt_log::Args),
    /// Flash of the any-model firmware by crate or module, and what the library's features take.
    Size(size::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Emulate(args) => emulate::run(&args),
        Task::Bits(args) => board_tests::run(&args),
        Task::Bench(bench) => bench::run(&bench),
        Task::Experts(args) => experts::run(&args),
        Task::Yields(args) => yields::run(&args),
        Task::Firmware(args) => boards::firmware(&args),
        Task::Boards(args) => hardware::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::C(args) => c_example::run(&args),
        Task::Defmt(args) => defmt_log::run(&args),
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
