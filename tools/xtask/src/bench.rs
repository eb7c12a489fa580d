//! `cargo xtask bench`: instructions on the emulated boards.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::{bench_kernels, bench_model, workspace};

/// The shipped model.
pub fn shipped() -> PathBuf {
    workspace::root().join("tools/zoo/g2p")
}

/// What `bench` counts.
#[derive(Subcommand)]
pub enum Bench {
    /// Instructions of whole models, per token and per multiply-accumulate, by kind of work.
    Model(bench_model::Args),
    /// Instructions per multiply-accumulate of int8 products, beside CMSIS-NN's.
    Kernels(bench_kernels::Args),
}

/// Runs the command.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Model(args) => bench_model::run(args),
        Bench::Kernels(args) => bench_kernels::run(args),
    }
}
