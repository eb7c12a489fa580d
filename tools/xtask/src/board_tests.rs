//! What the emulated boards must show: small models start everywhere, bad input is refused by name,
//! and the logits are, bit for bit, the host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palmtop::Limits;
use palmtop::format::crc32;

use crate::bench;
use crate::boards::Board;
use crate::budget;
use crate::emulate::{self, Input, Request, Source, Weights, grouped};
use crate::host::{Expected, Host};
use crate::report::Report;
use crate::toolchain::{self, Toolchain};
use crate::workspace;

/// Fixtures with random weights that every board runs: two families with experts or dense layers,
/// pre-norm, one post-norm with learned positions, one whose tokens have two experts and are
/// dropped, and one with a mixture block of whole layers, rotary positions and shared key heads.
const FIXTURES: [&str; 5] = ["switch", "t5", "bart", "nllb-moe-50", "palm-layers"];

/// Words for the larger models.
pub const WORDS: &str = include_str!("words.txt");

/// Longest source and target of the words.
pub const WORD_LIMITS: Limits = Limits {
    source: 32,
    target: 48,
    beams: 1,
};

/// Longest source and target of the prompts of many tasks.
const TASK_LIMITS: Limits = Limits {
    source: 96,
    target: 96,
    beams: 1,
};

/// Options of `bits`.
#[derive(clap::Args)]
pub struct Args {
    /// A .palm file, or a checkpoint folder to be converted first.
    model: PathBuf,
    /// How to store the matrices of a checkpoint folder.
    #[arg(long, default_value = "int8")]
    weights: Weights,
    /// The boards.
    #[arg(long, value_delimiter = ',', default_value = "m4f,m3")]
    boards: Vec<Board>,
    /// The first so many words.
    #[arg(long, default_value_t = 100)]
    words: usize,
    /// A file of texts, one per line, up to the first tab; a built-in list of words if absent.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Most source tokens.
    #[arg(long, default_value_t = WORD_LIMITS.source)]
    source: u32,
    /// Most target positions.
    #[arg(long, default_value_t = WORD_LIMITS.target)]
    target: u32,
}

/// Compares the logits of words on emulated boards with the host's.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain::find()?;
    let text = match &args.file {
        Some(file) => fs::read_to_string(file).with_context(|| file.display().to_string())?,
        None => WORDS.to_owned(),
    };
    let words: Vec<&str> = texts(&text).take(args.words).collect();
    let limits = Limits {
        source: args.source,
        target: args.target,
        ..WORD_LIMITS
    };
    for &board in &args.boards {
        let model = emulate::palm_file_for(&args.model, args.weights, Some(board.layout_target()))?;
        println!(
            "{}: {}",
            board.name(),
            compare_texts(board, &toolchain, &model, &words, limits)?
        );
    }
    Ok(())
}

/// The texts of a file: its lines up to their first tab.
fn texts(file: &str) -> impl Iterator<Item = &str> {
    file.lines()
        .map(|line| line.split_once('\t').map_or(line, |(text, _)| text))
}

/// Targets of `palmtop convert`: one for each layout.
const TARGETS: [&str; 5] = ["any", "x86_64", "thumbv7em", "thumbv7m", "thumbv6m"];

/// A small model in every layout, whether it is the board's or not: the host's ids and bits.
pub fn layouts(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let folder = workspace::root().join("tests/fixtures/switch");
    for target in TARGETS {
        let model = emulate::palm_file_for(&folder, Weights::Int8, Some(target))?;
        tiny_model(board, &firmware, &model).with_context(|| format!("laid out for {target}"))?;
    }
    Ok(format!("{} layouts equal", TARGETS.len()))
}

/// Small models with odd shapes, int8 in the board's layout and f16: the host's ids, bits and arena
/// bytes. Besides the note, what is printed of each, for the golden output.
pub fn tiny_models(board: Board, toolchain: &Toolchain) -> Result<(String, Vec<String>)> {
    let firmware = board.build(toolchain)?;
    let (mut stack, mut steps, mut lines) = (0, 0, Vec::new());
    for fixture in FIXTURES {
        for weights in [Weights::Int8, Weights::F16] {
            let name = format!("{fixture}, {}", weights.name());
            let folder = workspace::root().join("tests/fixtures").join(fixture);
            let model = emulate::palm_file_for(&folder, weights, Some(board.layout_target()))?;
            let (report, line) =
                tiny_model(board, &firmware, &model).with_context(|| name.clone())?;
            lines.push(format!("{name}: {line}"));
            stack = stack.max(report.stack_bytes);
            steps += report
                .runs
                .iter()
                .map(|run| run.tokens.len())
                .sum::<usize>();
        }
    }
    budget::hold_stack(board, stack)?;
    let note = format!("{steps} steps equal, stack {} bytes", grouped(stack));
    Ok((note, lines))
}

fn tiny_model(board: Board, firmware: &Path, path: &Path) -> Result<(Report, String)> {
    let host = Host::open(path)?;
    let model = host.model()?;
    let header = model.palm().header();
    let golden = model.palm().section(header.golden);
    let golden_length = |at: usize| match golden.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    };
    let limits = Limits {
        source: golden_length(0).max(9),
        target: golden_length(4).max(7),
        beams: 1,
    };
    let sources: Vec<Vec<u32>> = [1, 4, 9]
        .map(|length| (0..length).map(|i| (7 * i + 3) % header.vocab).collect())
        .into();
    let fed: Vec<u32> = (0..6)
        .map(|i| (5 * i + header.decoder_start) % header.vocab)
        .collect();
    let mut request = Request {
        source: limits.source,
        target: limits.target,
        self_test: !golden.is_empty(),
        ..Request::default()
    };
    let mut expected = Vec::new();
    for source in &sources {
        expected.push(host.logits(source, fed.clone(), limits)?);
        request.inputs.push(input(source, Some(fed.clone())));
    }
    // And greedy search, with its end and the tokens that a model forces.
    request
        .inputs
        .extend(sources.iter().map(|source| input(source, None)));
    let patience = limit(request.inputs.len());
    let (mut report, logits) = emulate::start(board, firmware, path, &request, patience)?;
    check(&report, &logits, &request, &expected)?;
    let generated = report.runs.split_off(expected.len());
    if generated.len() != sources.len() {
        bail!("{} sources gave {} outputs", sources.len(), generated.len());
    }
    for (source, run) in sources.iter().zip(&generated) {
        let wanted = host.generate(source, limits)?;
        if run.tokens != wanted {
            bail!(
                "source {source:?} gives tokens {:?}, on the host {wanted:?}",
                run.tokens
            );
        }
    }
    let arena = model.arena_bytes(limits) as u64;
    if report.arena_bytes != arena {
        bail!("arena of {} bytes, on the host {arena}", report.arena_bytes);
    }
    let answers = generated.iter().map(|run| format!("{:?}", run.tokens));
    let answers: Vec<String> = answers.collect();
    let line = format!(
        "arena {arena}, logits {:08x}, answers {}",
        crc32(&logits),
        answers.join(" ")
    );
    Ok((report, line))
}

/// Words through the shipped model: the host's bits.
pub fn same_bits(board: Board, toolchain: &Toolchain, words: usize) -> Result<String> {
    let words: Vec<&str> = WORDS.lines().take(words).collect();
    let model = emulate::palm_file_for(
        &bench::shipped(),
        Weights::Int8,
        Some(board.layout_target()),
    )?;
    compare_texts(board, toolchain, &model, &words, WORD_LIMITS)
}

/// Held-out prompts through the model of many tasks, some of each task: the host's bits.
pub fn tasks(board: Board, toolchain: &Toolchain, prompts: usize) -> Result<String> {
    let folder = workspace::root().join("tools/zoo/tasks");
    let file = folder.join("eval/heldout20.tsv");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let all: Vec<&str> = texts(&text).collect();
    let step = (all.len() / prompts.max(1)).max(1);
    let some: Vec<&str> = all.iter().copied().step_by(step).take(prompts).collect();
    let model = emulate::palm_file_for(&folder, Weights::Int8, Some(board.layout_target()))?;
    compare_texts(board, toolchain, &model, &some, TASK_LIMITS)
}

fn compare_texts(
    board: Board,
    toolchain: &Toolchain,
    path: &Path,
    texts: &[&str],
    limits: Limits,
) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let (request, expected) = texts_request(path, texts, limits)?;
    let report = compare(board, &firmware, path, &request, &expected)?;
    let steps: usize = report.runs.iter().map(|run| run.tokens.len()).sum();
    let runs = report.runs.len().max(1) as u64;
    let encoder = report
        .runs
        .iter()
        .map(|run| run.encoder_instructions)
        .sum::<u64>()
        / runs;
    let token = report
        .runs
        .iter()
        .flat_map(|run| &run.token_instructions)
        .sum::<u64>();
    Ok(format!(
        "{} texts, {steps} steps equal; {} instructions per encoding, {} per token, stack {}",
        texts.len(),
        grouped(encoder),
        grouped(token / steps.max(1) as u64),
        grouped(report.stack_bytes),
    ))
}

/// What asks for the logits of texts along the host's own output, and those of the host.
pub fn texts_request(
    path: &Path,
    texts: &[&str],
    limits: Limits,
) -> Result<(Request, Vec<Expected>)> {
    let host = Host::open(path)?;
    let mut request = Request {
        source: limits.source,
        target: limits.target,
        ..Request::default()
    };
    let mut expected = Vec::new();
    for text in texts {
        let source = host.ids(text, limits.source)?;
        let wanted = host.greedy_logits(&source, limits)?;
        let forced = Some(wanted.fed.clone());
        request.inputs.push(Input {
            source: Source::Text((*text).to_owned()),
            forced,
            logits: true,
        });
        expected.push(wanted);
    }
    Ok((request, expected))
}

/// Runs a request and compares tokens and logits of its first inputs, whose ids are forced, bit for
/// bit.
pub fn compare(
    board: Board,
    firmware: &Path,
    model: &Path,
    request: &Request,
    expected: &[Expected],
) -> Result<Report> {
    let patience = limit(request.inputs.len());
    let (report, logits) = emulate::start(board, firmware, model, request, patience)?;
    check(&report, &logits, request, expected)?;
    Ok(report)
}

/// Compares what came of a request, as [`compare`] does.
pub fn check(
    report: &Report,
    logits: &[u8],
    request: &Request,
    expected: &[Expected],
) -> Result<()> {
    if request.self_test && report.self_test != Some(true) {
        bail!("the golden self-test was not reported as passed");
    }
    if report.runs.len() != request.inputs.len() {
        bail!(
            "{} inputs gave {} runs",
            request.inputs.len(),
            report.runs.len()
        );
    }
    let mut rest = logits;
    for (run, wanted) in report.runs.iter().zip(expected) {
        let (got, more) = rest.split_at(wanted.logits.len().min(rest.len()));
        rest = more;
        if got.len() < wanted.logits.len() {
            bail!(
                "{} bytes of logits are missing",
                wanted.logits.len() - got.len()
            );
        }
        if let Some(at) = got.iter().zip(&wanted.logits).position(|(a, b)| a != b) {
            let values = wanted.logits.len() / 4 / wanted.fed.len().max(1);
            let index = at / 4;
            let value = |bytes: &[u8]| {
                let four = [0, 1, 2, 3].map(|i| bytes[4 * index + i]);
                f32::from_le_bytes(four)
            };
            bail!(
                "source {:?}, step {}, logit {}: {:e}, on the host {:e}",
                run.ids,
                index / values.max(1),
                index % values.max(1),
                value(got),
                value(&wanted.logits)
            );
        }
        if run.tokens != wanted.tokens {
            bail!(
                "source {:?}: tokens {:?}, on the host {:?}",
                run.ids,
                run.tokens,
                wanted.tokens
            );
        }
    }
    if !rest.is_empty() {
        bail!("{} bytes of logits are too many", rest.len());
    }
    Ok(())
}

/// Bad models and bad requests: each is refused with a word about what is wrong.
pub fn refusals(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let folder = workspace::root().join("tests/fixtures/switch");
    let model = emulate::palm_file(&folder, Weights::Int8)?;
    let good = fs::read(&model)?;
    let request = |source: u32, ids: &[u32]| Request {
        inputs: vec![input(ids, None)],
        source,
        target: 4,
        ..Request::default()
    };
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases: [(&str, Vec<u8>, Request); 8] = [
        ("no .palm file", vec![0; 64], request(4, &[1])),
        (
            "head is damaged",
            flip(good.len().min(200)),
            request(4, &[1]),
        ),
        ("is damaged", flip(good.len() / 2), request(4, &[1])),
        (
            "is damaged",
            good[..good.len() / 2].to_vec(),
            request(4, &[1]),
        ),
        (
            "out of the vocabulary",
            good.clone(),
            request(4, &[4_000_000_000]),
        ),
        ("the limit is 4", good.clone(), request(4, &[1; 5])),
        ("source is empty", good.clone(), request(4, &[])),
        ("arena needs", good.clone(), request(1 << 20, &[1])),
    ];
    let scratch = workspace::target().join("palm");
    let count = cases.len();
    for (index, (wanted, bytes, request)) in cases.into_iter().enumerate() {
        let file = scratch.join(format!("refused-{}-{index}.palm", board.name()));
        fs::write(&file, bytes)?;
        let result = emulate::start(board, &firmware, &file, &request, limit(1));
        fs::remove_file(&file)?;
        match result {
            Ok(_) => bail!("accepted what should be refused with `{wanted}`"),
            Err(error) if format!("{error:#}").contains(wanted) => {}
            Err(error) => return Err(error.context(format!("expected `{wanted}`"))),
        }
    }
    Ok(format!("{count} cases"))
}

/// An input of ids; its logits are wanted if ids are forced.
pub fn input(ids: &[u32], forced: Option<Vec<u32>>) -> Input {
    let logits = forced.is_some();
    Input {
        source: Source::Ids(ids.to_vec()),
        forced,
        logits,
    }
}

/// Patience for so many inputs.
pub fn limit(inputs: usize) -> Duration {
    Duration::from_secs(120 + 30 * inputs as u64)
}
