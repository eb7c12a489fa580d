//! `palmtop bench`: how fast the core runs on this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use palmtop::Limits;
use palmtop::generate::argmax;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::engine::{Engine, limits};
use crate::experts::PagingReport;
use crate::model_file::Image;
use crate::out;
use crate::table::Table;
use crate::units::{bytes, count};

const EXAMPLES: &str = "Examples:
  palmtop bench model.palm
  palmtop bench checkpoint/ --weights f16 --json

Times are medians of several rounds on this machine, with the portable core and one thread. They
say nothing of a microcontroller.";

/// Lengths of source that are timed, as far as the model takes them.
const SOURCES: [u32; 3] = [8, 32, 128];
/// Decoder steps of a round, as far as the model takes them.
const STEPS: u32 = 32;
/// Source tokens behind the decoder steps.
const DECODER_SOURCE: u32 = 32;
/// Fewest rounds of a measurement.
const ROUNDS: usize = 5;
/// Rounds go on until this time is used.
const ENOUGH: Duration = Duration::from_millis(600);

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Bench {
    model: String,
    file_bytes: usize,
    load_ms: f64,
    encode: Vec<Encode>,
    decode: Decode,
    /// Whether this machine computes the bits of the file's golden pair; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    golden_bits: Option<bool>,
    /// What was read in all rounds together, if experts are read from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<PagingReport>,
}

#[derive(Debug, Serialize)]
struct Encode {
    source: u32,
    median_ms: f64,
    tokens_per_second: f64,
    rounds: usize,
    arena_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Decode {
    source: u32,
    steps: u32,
    median_ms_per_token: f64,
    tokens_per_second: f64,
    rounds: usize,
    arena_bytes: usize,
}

/// Measures and tells.
pub fn bench(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let image = Image::load(&args.model)?;
    let mut engine = Engine::new(&image)?;
    let load = start.elapsed();

    let h = *engine.header();
    let within = |n: u32, most: u32| if most > 0 { n.min(most) } else { n };
    let mut sources: Vec<u32> = SOURCES.iter().map(|n| within(*n, h.max_source)).collect();
    sources.dedup();
    if h.decoder_only {
        sources.clear();
    }
    let mut encode = Vec::new();
    for source in sources {
        encode.push(time_encoder(&mut engine, source)?);
    }
    let source = if h.decoder_only {
        0
    } else {
        within(DECODER_SOURCE, h.max_source)
    };
    let decode = time_decoder(&mut engine, source, within(STEPS, h.max_target))?;
    // A round more was run of each than counts.
    let encoded = |e: &Encode| e.source as usize * (e.rounds + 1);
    let tokens = encode.iter().map(encoded).sum::<usize>()
        + (decode.source + decode.steps) as usize * (decode.rounds + 1);
    let paging = engine.paging().map(|paging| paging.over(tokens));
    let bench = Bench {
        model: image.path().display().to_string(),
        file_bytes: engine.header().total_len as usize,
        load_ms: milliseconds(load),
        encode,
        decode,
        golden_bits: golden(&mut engine)?,
        paging,
    };
    if args.json {
        out::pretty_json(&bench)?;
    } else {
        out::print(&text(&bench, image.is_converted()))?;
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

/// Ids spread over the vocabulary, the same in every run.
fn ids(n: u32, vocab: u32) -> Vec<u32> {
    (0..n)
        .map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(7) % vocab)
        .collect()
}

fn time_encoder(engine: &mut Engine<'_>, source: u32) -> Result<Encode> {
    let h = *engine.header();
    let ids = ids(source, h.vocab);
    let (limits, _) = limits(&h, ids.len(), 1)?;
    let times = rounds(|| {
        let mut session = engine.session(limits)?;
        let start = Instant::now();
        let mut encoded = session.encode(&ids)?;
        std::hint::black_box(encoded.hidden());
        Ok(start.elapsed())
    })?;
    let seconds = median(&times);
    Ok(Encode {
        source,
        median_ms: seconds * 1e3,
        tokens_per_second: f64::from(source) / seconds,
        rounds: times.len(),
        arena_bytes: engine.model().arena_bytes(limits),
    })
}

fn time_decoder(engine: &mut Engine<'_>, source: u32, steps: u32) -> Result<Decode> {
    let h = *engine.header();
    let ids = ids(source, h.vocab);
    let limits = Limits {
        source,
        target: steps,
        beams: 1,
    };
    let times = rounds(|| {
        let mut session = engine.session(limits)?;
        let mut decoder = if h.decoder_only {
            session.decoder_only()?
        } else {
            session.encode(&ids)?.decoder()
        };
        let mut id = h.decoder_start;
        let start = Instant::now();
        for _ in 0..steps {
            id = argmax(decoder.step(id)?);
        }
        Ok(start.elapsed())
    })?;
    let seconds = median(&times) / f64::from(steps);
    Ok(Decode {
        source,
        steps,
        median_ms_per_token: seconds * 1e3,
        tokens_per_second: 1.0 / seconds,
        rounds: times.len(),
        arena_bytes: engine.model().arena_bytes(limits),
    })
}

/// Times of several rounds, after one that is thrown away.
fn rounds(mut round: impl FnMut() -> Result<Duration>) -> Result<Vec<Duration>> {
    round()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS || start.elapsed() < ENOUGH {
        times.push(round()?);
    }
    Ok(times)
}

/// The median in seconds, never zero.
fn median(times: &[Duration]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
        .get(seconds.len() / 2)
        .copied()
        .unwrap_or(0.0)
        .max(1e-9)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn text(bench: &Bench, converted: bool) -> String {
    let mut table = Table::new(&["", ">median", ">tokens/s", ">rounds", ">arena"]);
    for e in &bench.encode {
        table.row([
            format!("encode {} tokens", e.source),
            format!("{:.3} ms", e.median_ms),
            format!("{:.0}", e.tokens_per_second),
            e.rounds.to_string(),
            bytes(e.arena_bytes as u64),
        ]);
    }
    let d = &bench.decode;
    table.row([
        match d.source {
            0 => format!("decode a token (of {})", d.steps),
            source => format!("decode a token (of {}, source {source})", d.steps),
        },
        format!("{:.3} ms", d.median_ms_per_token),
        format!("{:.0}", d.tokens_per_second),
        d.rounds.to_string(),
        bytes(d.arena_bytes as u64),
    ]);
    let golden = match bench.golden_bits {
        Some(true) => "  golden pair: the same bits as in the file\n",
        Some(false) => "  golden pair: OTHER bits than in the file\n",
        None => "",
    };
    let load = if converted {
        "converted and checked"
    } else {
        "read and checked"
    };
    let paging = bench
        .paging
        .map_or(String::new(), |paging| format!("  {}\n", paging.text()));
    format!(
        "{}: {} bytes, {load} in {:.1} ms\n{}{golden}{paging}",
        bench.model,
        count(bench.file_bytes as u64),
        bench.load_ms,
        table.render()
    )
}
