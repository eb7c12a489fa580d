//! `cargo xtask bench model`: instructions of whole models on the emulated boards, per token and per
//! multiply-accumulate, and what kinds of work they go to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::boards::Board;
use crate::emulate::{self, Input, Request, Source, Weights, grouped};
use crate::host::Host;
use crate::kinds::{self, Kind, Split};
use crate::macs;
use crate::models::{self, Family, Tiny};
use crate::toolchain;
use crate::watch::{self, Watched};

/// The fixed shape: 8 tokens of a source, 8 decoder steps.
const SHAPE: Tiny = Tiny {
    family: Family::T5,
    d_model: 128,
    heads: 4,
    d_kv: 32,
    d_ff: 512,
    vocab: 64,
    encoder_layers: 3,
    decoder_layers: 3,
    experts: 0,
    capacity: 0,
    text: false,
    tied_routers: false,
};
const TOKENS: u32 = 8;

/// Options of `bench model`.
#[derive(clap::Args)]
pub struct Args {
    /// A .palm file or a checkpoint folder, in place of the fixed shape and the shipped model.
    model: Option<PathBuf>,
    /// The text to run, if the model has a tokenizer.
    #[arg(long, default_value = "microcontroller")]
    text: String,
    /// The boards to count on.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "m0,m3,m4f,m7,m33,m55,rv32"
    )]
    boards: Vec<Board>,
    /// Only models whose name has this text.
    #[arg(long)]
    only: Option<String>,
    /// The layout of int8 matrices, as `palmtop convert --target` takes it; the board's own if absent.
    #[arg(long)]
    target: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A model to count.
struct Case {
    name: String,
    /// A folder, to be converted for each target, or a file.
    path: PathBuf,
    text: Option<String>,
}

/// What was counted.
#[derive(Serialize)]
struct Counted {
    board: String,
    model: String,
    source_tokens: u64,
    generated_tokens: u64,
    macs_encoder: u64,
    macs_decoder: u64,
    instructions_encoder: u64,
    instructions_decoder: u64,
    instructions_per_mac: f64,
    encoder: Vec<Part>,
    decoder: Vec<Part>,
}

/// The instructions of a kind of work.
#[derive(Serialize)]
struct Part {
    kind: Kind,
    instructions: u64,
    /// Those of them in the routines that stand for float instructions.
    float_emulation: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain::find()?;
    let mut cases = cases(args)?;
    if let Some(only) = &args.only {
        cases.retain(|case| case.name.contains(only));
    }
    let mut all = Vec::new();
    for &board in &args.boards {
        let firmware = board.build(&toolchain)?;
        for case in &cases {
            let counted = count(board, &firmware, case, args.target.as_deref())
                .with_context(|| format!("{} on {}", case.name, board.name()))?;
            if !args.json {
                print(&counted);
            }
            all.push(counted);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn cases(args: &Args) -> Result<Vec<Case>> {
    let case = |name: &str, path, text: Option<&String>| Case {
        name: name.to_owned(),
        path,
        text: text.cloned(),
    };
    if let Some(path) = &args.model {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        return Ok(vec![case(&name, path.clone(), Some(&args.text))]);
    }
    Ok(vec![
        case("shape-t5", models::checkpoint("shape-t5", &SHAPE)?, None),
        case("g2p", crate::bench::shipped(), Some(&args.text)),
    ])
}

fn count(board: Board, firmware: &Path, case: &Case, target: Option<&str>) -> Result<Counted> {
    let target = target.unwrap_or(board.layout_target());
    let path = emulate::palm_file_for(&case.path, Weights::Int8, Some(target))?;
    let host = Host::open(&path)?;
    let palm = *host.model()?.palm();
    let vocab = palm.header().vocab;
    let (ids, forced) = match &case.text {
        Some(text) => (host.ids(text, 64)?, None),
        None => (
            (0..TOKENS).map(|i| (i * i + 3 * i + 1) % vocab).collect(),
            Some((0..TOKENS).map(|i| (5 * i + 2) % vocab).collect()),
        ),
    };
    let source = ids.len() as u32;
    let request = Request {
        inputs: vec![Input {
            source: Source::Ids(ids),
            forced,
            logits: false,
        }],
        source,
        target: 48.min(match case.text {
            Some(_) => palm.header().default_target.max(1),
            None => TOKENS,
        }),
        ..Request::default()
    };
    let phases = watch::run(
        board,
        firmware,
        &path,
        &request,
        &Watched::Kinds(kinds::of_function),
    )?;
    // The start, the encoding, the steps, and what is printed after the last one.
    let [_, encoding, steps @ .., _] = &phases[..] else {
        bail!("phases are missing");
    };
    let (encoder, decoder) = (Split::of(std::slice::from_ref(encoding)), Split::of(steps));
    let macs = macs::of(&palm, source.into(), steps.len() as u64);
    let (in_encoder, in_decoder) = (encoder.total(), decoder.total());
    Ok(Counted {
        board: board.name().to_owned(),
        model: case.name.clone(),
        source_tokens: source.into(),
        generated_tokens: steps.len() as u64,
        macs_encoder: macs.encoder,
        macs_decoder: macs.decoder,
        instructions_encoder: in_encoder,
        instructions_decoder: in_decoder,
        instructions_per_mac: (in_encoder + in_decoder) as f64
            / (macs.encoder + macs.decoder) as f64,
        encoder: parts(&encoder),
        decoder: parts(&decoder),
    })
}

fn parts(split: &Split) -> Vec<Part> {
    let numbers = split.all.iter().zip(&split.helpers);
    let parts = Kind::ALL.into_iter().zip(numbers);
    parts
        .map(|(kind, (all, helpers))| Part {
            kind,
            instructions: *all,
            float_emulation: *helpers,
        })
        .collect()
}

fn print(counted: &Counted) {
    let macs = counted.macs_encoder + counted.macs_decoder;
    println!(
        "{} {}: {:.2} instructions per MAC over {} + {} tokens",
        counted.board,
        counted.model,
        counted.instructions_per_mac,
        counted.source_tokens,
        counted.generated_tokens
    );
    let per = |whole: u64, parts: u64| whole / parts.max(1);
    for (what, instructions, macs, tokens) in [
        (
            "per encoder token",
            counted.instructions_encoder,
            counted.macs_encoder,
            counted.source_tokens,
        ),
        (
            "per generated token",
            counted.instructions_decoder,
            counted.macs_decoder,
            counted.generated_tokens,
        ),
    ] {
        println!(
            "  {what:<20}{:>14} instructions {:>12} MACs{:>8.2}",
            grouped(per(instructions, tokens)),
            grouped(per(macs, tokens)),
            instructions as f64 / macs.max(1) as f64
        );
    }
    let share = |number: u64, macs: u64| number as f64 / macs.max(1) as f64;
    println!(
        "  {:<14}{:>10}{:>10}{:>10}  (instructions per MAC; all, of it float emulation)",
        "", "encoder", "decoder", "both"
    );
    for (encoder, decoder) in counted.encoder.iter().zip(&counted.decoder) {
        let both = encoder.instructions + decoder.instructions;
        if both == 0 {
            continue;
        }
        let emulated = encoder.float_emulation + decoder.float_emulation;
        println!(
            "  {:<14}{:>10.3}{:>10.3}{:>10.3}{:>10.3}",
            encoder.kind.name(),
            share(encoder.instructions, counted.macs_encoder),
            share(decoder.instructions, counted.macs_decoder),
            share(both, macs),
            share(emulated, macs)
        );
    }
}
