//! `cargo xtask experts`: instructions per token with 4 and with 128 experts, everything else being
//! equal, and the router's part of them, counted in the emulator.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::board_tests::input;
use crate::boards::Board;
use crate::emulate::{Request, Weights, grouped};
use crate::host::Host;
use crate::models::{self, SWITCH, Tiny};
use crate::toolchain::{self, Toolchain};
use crate::watch::{self, Phase, Watched};

/// Few and many experts.
const COUNTS: [usize; 2] = [4, 128];

/// Tokens of the source, and of the target.
const SOURCE: u32 = 32;
const TARGET: u32 = 8;

/// Instructions per token by which two models of the same sizes may differ: other weights give other
/// values, on which a few instructions depend (exponentials, ties of roundings), and an encoder looks
/// once a batch which experts some token asked for.
const NOISE: f64 = 57.0;

/// The router: from a token's state to its experts and gates.
const ROUTER: &[&str] = &["router", "6choose"];

/// Options of `experts`.
#[derive(clap::Args)]
pub struct Args {
    /// The board.
    #[arg(default_value = "m4f")]
    board: Board,
}

/// Prints the counts.
pub fn run(args: &Args) -> Result<()> {
    println!("{}", check(args.board, &toolchain::find()?)?);
    Ok(())
}

/// Instructions per token.
#[derive(Clone, Copy, Debug)]
struct Cost {
    all: f64,
    router: f64,
}

/// Counts for one expert per token and for two.
///
/// First with routers whose every choice is a tie: tokens take the same experts whether there are
/// few or many, so that all that may grow is the router; more is an error. Then with the routers of
/// the model: tokens spread over more experts, and an encoder's batches get smaller. Decoder steps
/// have no batches: there nothing may grow but the router, up to [`NOISE`].
pub fn check(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let (mut text, mut wrong) = (String::new(), false);
    for top_k in [1, 2] {
        let [few, many] = COUNTS.map(|experts| model(top_k, experts));
        let (few, many) = (few?, many?);
        for (tied, how) in [(true, "the same experts"), (false, "spread")] {
            let cost = |path: &Path| match tied {
                true => costs(board, &firmware, &models::with_tied_routers(path)?),
                false => costs(board, &firmware, path),
            };
            let (few, many) = (cost(&few)?, cost(&many)?);
            for (part, few, many) in [("encoder", few[0], many[0]), ("decoder", few[1], many[1])] {
                let (growth, router) = (many.all - few.all, many.router - few.router);
                let [least, most] = COUNTS;
                text += &format!(
                    "\n    {top_k} of {least} -> {top_k} of {most}, {how}, {part}: {} -> {} \
                     instructions per token, {growth:.0} more; the router {} -> {}, {router:.0} more",
                    grouped(few.all as u64),
                    grouped(many.all as u64),
                    grouped(few.router as u64),
                    grouped(many.router as u64)
                );
                if (tied || part == "decoder") && growth > router + NOISE {
                    text += " WRONG";
                    wrong = true;
                }
            }
        }
    }
    if wrong {
        bail!("more grows than the router:{text}");
    }
    Ok(text)
}

/// A model with so many experts, of which a token goes to `top_k`.
fn model(top_k: usize, experts: usize) -> Result<PathBuf> {
    let name = format!("{top_k}-of-{experts}");
    if top_k == 1 {
        let sizes = Tiny {
            experts,
            capacity: SOURCE as usize,
            ..SWITCH
        };
        return models::switch(&name, &sizes, Weights::Int8);
    }
    let (experts, top_k) = (experts.to_string(), top_k.to_string());
    let sizes = ["--d-model", "48", "--d-ff", "96", "--layers", "4"];
    let routes = ["--experts", &experts, "--top-k", &top_k];
    models::random(&name, &[&sizes[..], &routes].concat())
}

/// Per token: of an encoding, and of a decoder step.
fn costs(board: Board, firmware: &Path, path: &Path) -> Result<[Cost; 2]> {
    let host = Host::open(path)?;
    let vocab = host.model()?.palm().header().vocab;
    let source: Vec<u32> = (0..SOURCE).map(|i| (i * i + 3 * i + 1) % vocab).collect();
    let target: Vec<u32> = (0..TARGET).map(|i| (5 * i + 2) % vocab).collect();
    let request = Request {
        inputs: vec![input(&source, Some(target))],
        source: SOURCE,
        target: TARGET,
        ..Request::default()
    };
    let phases = watch::run(board, firmware, path, &request, &Watched::Function(ROUTER))?;
    let first = watch::ENCODING + 1;
    Ok([
        cost(phases.get(watch::ENCODING..first), SOURCE)?,
        cost(phases.get(first..first + TARGET as usize), TARGET)?,
    ])
}

/// Of phases in which so many tokens were computed.
fn cost(phases: Option<&[Phase]>, tokens: u32) -> Result<Cost> {
    let phases = phases.context("phases are missing")?;
    let per_token =
        |count: fn(&Phase) -> u64| phases.iter().map(count).sum::<u64>() as f64 / f64::from(tokens);
    let cost = Cost {
        all: per_token(|phase| phase.instructions),
        router: per_token(|phase| phase.inside),
    };
    if cost.router == 0.0 || cost.router > cost.all {
        bail!("the router's instructions were not seen: {cost:?}");
    }
    Ok(cost)
}
