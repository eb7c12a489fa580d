//! `palmtop bench`: how fast the core runs on this machine.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use palmtop::Limits;
use serde::Serialize;

use crate::args::{ModelArgs, ThreadArgs};
use crate::cases::{Case, Plan};
use crate::engine::Engine;
use crate::experts::PagingReport;
use crate::model_file::Image;
use crate::out;
use crate::table::Table;
use crate::units::{bytes, count};

const EXAMPLES: &str = "Examples:
  palmtop bench model.palm
  palmtop bench model.palm 10 --json
  palmtop bench checkpoint/ --weights f16

enc128 encodes a source of 128 tokens, up to the encoder's states. dec64@32 generates 64 tokens after a
source of 32: keys and values of cross-attention, then the most likely token each time, the end token
left out. A model with fewer positions runs shorter cases, whose names say so. Each case has a
round more than is counted.

With --json each line is an object with the name of its case and the milliseconds of its rounds;
`load` is the time until the model can compute, and `all`, the last, is the whole run's and has the
rest. Times are of this machine, and say nothing of a microcontroller.";

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    /// Rounds of each case [default: as many as fit in 0.6 s, at least 5]
    #[arg(value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    rounds: Option<u32>,

    /// Print a JSON object on a line for each case
    #[arg(long)]
    json: bool,
}

/// The line of a case that has nothing but times.
#[derive(Debug, Serialize)]
struct Timed {
    case: &'static str,
    ms: [f64; 1],
}

/// What there is to know besides the cases.
#[derive(Debug, Serialize)]
struct Bench {
    #[serde(flatten)]
    timed: Timed,
    model: String,
    file_bytes: usize,
    threads: usize,
    /// Whether this machine computes the bits of the file's golden pair; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    golden_bits: Option<bool>,
    /// What was read in all rounds together, if experts are read from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<PagingReport>,
    /// Most memory that the command had at a time, mapped files included; absent where the system
    /// does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    /// How the cases differ from those that other engines run.
    notes: Vec<String>,
}

/// Measures and tells.
pub fn bench(args: &Args) -> Result<ExitCode> {
    let threads = args.threads.start();
    let start = Instant::now();
    let image = Image::load(&args.model)?;
    let mut engine = Engine::new(&image)?;
    let load = Timed {
        case: "load",
        ms: [milliseconds(start)],
    };
    if args.json {
        out::json(&load)?;
    }
    let plan = Plan::of(engine.header());
    let rounds = args.rounds.map(|rounds| rounds as usize);
    let mut cases = Vec::new();
    plan.run(&mut engine, rounds, |case| {
        if args.json {
            out::json(&case)?;
        }
        cases.push(case);
        Ok(())
    })?;
    let decoder_only = engine.header().decoder_only;
    let tokens = cases.iter().map(|case| case.all_tokens(decoder_only)).sum();
    let bench = Bench {
        model: image.path().display().to_string(),
        file_bytes: engine.header().total_len as usize,
        threads,
        paging: engine.paging().map(|paging| paging.over(tokens)),
        golden_bits: golden(&mut engine)?,
        peak_memory_bytes: peak_memory(),
        notes: plan.notes,
        timed: Timed {
            case: "all",
            ms: [milliseconds(start)],
        },
    };
    if args.json {
        out::json(&bench)?;
    } else {
        let load = (load.ms[0], image.is_converted());
        out::print(&text(&bench, &cases, load))?;
    }
    Ok(if bench.golden_bits == Some(false) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Runs the file's golden pair, if it has one, and compares bits.
fn golden(engine: &mut Engine<'_>) -> Result<Option<bool>> {
    let palm = *engine.model().palm();
    let section = palm.section(palm.header().golden);
    let (lengths, _) = section.as_chunks::<4>();
    let [source, target, ..] = lengths else {
        return Ok(None);
    };
    let (source, target) = (u32::from_le_bytes(*source), u32::from_le_bytes(*target));
    let mut session = engine.session(Limits {
        source,
        target,
        beams: 1,
    })?;
    match session.self_test(&mut vec![0; source as usize]) {
        Ok(()) => Ok(Some(true)),
        Err(palmtop::Error::GoldenMismatch) => Ok(Some(false)),
        Err(error) => Err(error.into()),
    }
}

/// The greatest resident set so far, where Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn text(bench: &Bench, cases: &[Case], (load, converted): (f64, bool)) -> String {
    let mut table = Table::new(&["", ">best", ">median", ">tokens/s", ">rounds", ">arena"]);
    for case in cases {
        table.row([
            case.case.clone(),
            format!("{:.3} ms", case.best()),
            format!("{:.3} ms", case.median()),
            format!(
                "{:.0}",
                f64::from(case.tokens) * 1e3 / case.median().max(1e-6)
            ),
            case.ms.len().to_string(),
            bytes(case.arena_bytes as u64),
        ]);
    }
    let golden = match bench.golden_bits {
        Some(true) => "  golden pair: the same bits as in the file\n",
        Some(false) => "  golden pair: OTHER bits than in the file\n",
        None => "",
    };
    let how = if converted {
        "converted and checked"
    } else {
        "read and checked"
    };
    let threads = match bench.threads {
        1 => String::new(),
        threads => format!(", {threads} threads"),
    };
    let paging = bench
        .paging
        .map_or(String::new(), |paging| format!("  {}\n", paging.text()));
    let memory = bench.peak_memory_bytes.map_or(String::new(), |peak| {
        format!("  memory: {} at most, the file included\n", bytes(peak))
    });
    let notes: String = bench
        .notes
        .iter()
        .map(|n| format!("  note: {n}\n"))
        .collect();
    format!(
        "{}: {} bytes, {how} in {load:.1} ms{threads}\n{}{golden}{paging}{memory}{notes}",
        bench.model,
        count(bench.file_bytes as u64),
        table.render()
    )
}
