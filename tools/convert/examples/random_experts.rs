//! Writes a model with random weights and many experts, for measurements on boards and hosts.
//!
//! ```text
//! cargo run --release -p palmtop-convert --example random_experts -- \
//!     --experts 128 --d-model 512 --d-ff 1024 --layers 4 -o big.palm
//! cargo run --release -p palmtop-convert --example random_experts -- --experts 4 -o four.palm
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use palmtop_convert::random::{Spec, write};

const USAGE: &str = "usage: random_experts -o FILE.palm [options]
  --d-model N    width of the model [64]          --d-ff N       hidden width [128]
  --layers N     layers of either stack [2]       --experts N    experts of a mixture [8]
  --heads N      query heads [4]                  --kv-heads N   key heads [1]
  --top-k N      experts per token [2]            --vocab N      ids [64]
  --positions N  longest source and target [64]   --seed N       start of the numbers [1]
  --weights int8|f16|f32                          --expert-weights int4|int8|f16|f32
  --all-sparse   a mixture in every layer, not in each second one";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let mut spec = Spec::default();
    let mut output = None;
    while let Some(option) = args.next() {
        if option == "--all-sparse" {
            spec.all_sparse = true;
            continue;
        }
        if matches!(option.as_str(), "-h" | "--help") {
            println!("{USAGE}");
            return Ok(());
        }
        let value = args
            .next()
            .ok_or(format!("{option} wants a value\n{USAGE}"))?;
        let number = || match value.parse::<usize>() {
            Ok(number) => Ok(number),
            Err(_) => Err(format!("{option} {value}: a whole number is wanted")),
        };
        match option.as_str() {
            "-o" | "--output" => output = Some(PathBuf::from(&value)),
            "--d-model" => spec.d_model = number()?,
            "--d-ff" => spec.d_ff = number()?,
            "--layers" => spec.layers = number()?,
            "--experts" => spec.experts = number()?,
            "--heads" => spec.heads = number()?,
            "--kv-heads" => spec.kv_heads = number()?,
            "--top-k" => spec.top_k = number()?,
            "--vocab" => spec.vocab = number()?,
            "--positions" => spec.positions = number()?,
            "--seed" => spec.seed = number()? as u64,
            "--weights" => spec.weights = value.parse()?,
            "--expert-weights" => spec.expert_weights = Some(value.parse()?),
            _ => return Err(format!("{option} is not an option\n{USAGE}")),
        }
    }
    let output = output.ok_or(format!("-o FILE.palm is missing\n{USAGE}"))?;
    write(&output, &spec).map_err(|error| error.to_string())?;
    let bytes = std::fs::metadata(&output)
        .map_err(|error| error.to_string())?
        .len();
    println!("{}: {bytes} bytes", output.display());
    Ok(())
}
