//! Arguments that several commands share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use palmtop::kernels::pool;
use palmtop_convert::{ExpertWeights, Weights};

use crate::failure::{Failure, misused};

/// Which model, and how to convert it if it is a checkpoint.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// A .palm file, or a checkpoint folder (config.json and safetensors), which is converted on
    /// the fly
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,

    /// How to store the matrices of a checkpoint folder [default: int8]
    #[arg(long, value_name = "FORMAT")]
    pub weights: Option<WeightsArg>,

    /// Read experts from the file when they are needed, through a cache of N of them; only the rest
    /// of the file is kept in memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub slots: Option<u32>,
}

/// How many threads compute.
#[derive(Debug, Clone, Args)]
pub struct ThreadArgs {
    /// Threads that compute; results are the same with any number
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=pool::MOST as i64))]
    threads: u32,
}

impl ThreadArgs {
    /// Has everything from now on computed by so many threads, and gives their number.
    pub fn start(&self) -> usize {
        let (wanted, threads) = (
            self.threads as usize,
            pool::set_threads(self.threads as usize),
        );
        if threads < wanted {
            eprintln!("note: --threads {wanted}: the system gives {threads}");
        }
        threads
    }
}

/// Storage formats of matrices, as `--weights` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// Signed bytes, a scale per row; activations, attention and caches are int8 too
    Int8,
    /// Half precision, widened to f32 for arithmetic
    F16,
    /// Single precision, as the checkpoint has them
    F32,
}

impl From<WeightsArg> for Weights {
    fn from(arg: WeightsArg) -> Self {
        match arg {
            WeightsArg::Int8 => Self::Int8,
            WeightsArg::F16 => Self::F16,
            WeightsArg::F32 => Self::F32,
        }
    }
}

/// Storage formats of experts, as `--experts` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExpertWeightsArg {
    /// Four bits a value, a scale for 32 columns; activations are int8
    Int4,
    /// Signed bytes, a scale per row; activations are int8
    Int8,
    /// Half precision, widened to f32 for arithmetic
    F16,
    /// Single precision, as the checkpoint has them
    F32,
}

impl From<ExpertWeightsArg> for ExpertWeights {
    fn from(arg: ExpertWeightsArg) -> Self {
        match arg {
            ExpertWeightsArg::Int4 => Self::Int4,
            ExpertWeightsArg::Int8 => Self::Int8,
            ExpertWeightsArg::F16 => Self::F16,
            ExpertWeightsArg::F32 => Self::F32,
        }
    }
}

/// Token ids on the command line: `5,6,7`, spaces allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(pub Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ids = text
            .split([',', ' ', '\t'])
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse()
                    .map_err(|_| format!("`{part}` is not a token id"))
            })
            .collect::<Result<Vec<u32>, _>>()?;
        if ids.is_empty() {
            return Err("no ids: give at least one, as in 5,6,7".to_owned());
        }
        Ok(Self(ids))
    }
}

/// Only greedy search is there as yet.
pub fn only_greedy(beams: u32) -> Result<(), Failure> {
    if beams > 1 {
        return Err(
            misused(format!("--beams {beams}: beam search is not supported yet"))
                .help("leave --beams out, or give --beams 1 for greedy search"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_commas_or_spaces() {
        assert_eq!("5,6, 7".parse(), Ok(Ids(vec![5, 6, 7])));
        assert!("".parse::<Ids>().is_err());
        assert!("5,x".parse::<Ids>().is_err());
        assert!("-1".parse::<Ids>().is_err());
    }
}
