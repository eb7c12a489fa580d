//! `cargo xtask yields`: how many instructions lie between two yields of a task that works in bounded
//! units, as `boards/pico2` does; counted from outside, by QEMU's plugin.

use std::fmt;

use anyhow::{Result, bail};

use crate::bench;
use crate::board_tests::{self, WORD_LIMITS, WORDS};
use crate::boards::Board;
use crate::emulate::{self, Weights, grouped};
use crate::toolchain::{self, Toolchain};
use crate::watch::{self, Phase, THROUGH, UNIT as UNIT_ENDS, Watched};

/// Multiply-accumulates of a unit: as in `boards/pico2` and `boards/nrf52840-dk`.
const UNIT: u32 = 33_000;

/// Most instructions between two yields.
const MOST: u64 = 50_000;

/// Experts in the arena at a time where they are paged.
const SLOTS: u32 = 4;

/// The functions of units, by two parts of their mangled names, and what to call them.
const UNITS: [(&str, &str, &str); 14] = [
    ("6encode", "11keys_values17h", "encoder: keys and values"),
    ("6encode", "9attention17h", "encoder: attention"),
    ("6encode", "5dense17h", "encoder: dense block"),
    ("6encode", "6routes17h", "encoder: routes"),
    ("6encode", "6expert17h", "encoder: expert"),
    (
        "6encode",
        "5cross17h",
        "encoder: keys and values of cross-attention",
    ),
    ("6encode", "5embed17h", "encoder: embedding"),
    ("6encode", "", "encoder: sums and norms"),
    ("6decode", "9attention17h", "decoder: attention"),
    ("6decode", "5dense17h", "decoder: dense block"),
    ("6decode", "6routes17h", "decoder: routes"),
    ("6decode", "6expert17h", "decoder: expert"),
    ("6decode", "4head17h", "decoder: head"),
    (
        "7storage5paged",
        "7prepare17h",
        "storage: a piece of an expert",
    ),
];

/// Code of the first of [`UNITS`] for the plugin.
const FIRST: u8 = 10;

/// Options of `yields`.
#[derive(clap::Args)]
pub struct Args {
    /// The boards.
    #[arg(long, value_delimiter = ',', default_value = "m4f,m33")]
    boards: Vec<Board>,
    /// The first so many words.
    #[arg(long, default_value_t = 100)]
    words: usize,
    /// Multiply-accumulates of a unit.
    #[arg(long, default_value_t = UNIT)]
    unit: u32,
}

/// Counts on each board, mapped and paged, and prints the greatest count of each kind of unit.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain::find()?;
    let mut most = 0;
    for &board in &args.boards {
        for paged in [false, true] {
            let counted = count(board, &toolchain, args.words, args.unit, paged)?;
            println!("{}{}: {counted}", board.name(), experts_are(paged));
            for (name, most, count) in &counted.units {
                println!("  {:>9} {:>9}  {name}", grouped(*most), grouped(*count));
            }
            most = most.max(counted.most);
        }
    }
    hold(most)
}

/// Words on a board, mapped and paged: the host's bits, and never more between two yields than there
/// may be.
pub fn check(board: Board, toolchain: &Toolchain, words: usize) -> Result<String> {
    let mut notes = Vec::new();
    for paged in [false, true] {
        let counted = count(board, toolchain, words, UNIT, paged)?;
        notes.push(format!("{counted}{}", experts_are(paged)));
        hold(counted.most)?;
    }
    Ok(notes.join("; "))
}

fn experts_are(paged: bool) -> &'static str {
    if paged { ", experts paged" } else { "" }
}

fn hold(most: u64) -> Result<()> {
    if most > MOST {
        bail!(
            "{} instructions between two yields, {} are allowed",
            grouped(most),
            grouped(MOST)
        );
    }
    Ok(())
}

/// What was counted.
struct Counted {
    words: usize,
    /// Of all instructions between yields.
    most: u64,
    /// Where that was.
    at: String,
    /// All instructions of the units.
    total: u64,
    /// Yields.
    yields: u64,
    /// Name, most instructions and number of each kind of unit.
    units: Vec<(String, u64, u64)>,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {} instructions between two of {} yields ({}), {} in all, {} words",
            grouped(self.most),
            grouped(self.yields),
            self.at,
            grouped(self.total),
            self.words
        )
    }
}

fn count(
    board: Board,
    toolchain: &Toolchain,
    words: usize,
    unit: u32,
    paged: bool,
) -> Result<Counted> {
    let firmware = board.build_units(toolchain, paged)?;
    let target = Some(board.layout_target());
    let model = emulate::palm_file_for(&bench::shipped(), Weights::Int8, target)?;
    let words: Vec<&str> = WORDS.lines().take(words).collect();
    let (mut request, expected) = board_tests::texts_request(&model, &words, WORD_LIMITS)?;
    request.unit = Some(unit);
    request.slots = paged.then_some(SLOTS);
    let watched = Watched::Kinds(kind_of);
    let (phases, report, logits) = watch::run_all(board, &firmware, &model, &request, &watched)?;
    board_tests::check(&report, &logits, &request, &expected)?;
    let mut counted = Counted {
        words: words.len(),
        most: 0,
        at: String::new(),
        total: 0,
        yields: 0,
        units: Vec::new(),
    };
    // Before the first mark comes the start.
    for phase in phases.iter().skip(1) {
        let Some(name) = name_of(phase) else { continue };
        let instructions = phase.instructions;
        counted.yields += 1;
        counted.total += instructions;
        if instructions > counted.most {
            (counted.most, counted.at) = (instructions, name.clone());
        }
        match counted.units.iter_mut().find(|(other, ..)| *other == name) {
            Some((_, most, count)) => {
                *most = instructions.max(*most);
                *count += 1;
            }
            None => counted.units.push((name, instructions, 1)),
        }
    }
    counted.units.sort_by_key(|(_, most, _)| u64::MAX - most);
    // One that is blind would find no unit too long.
    let tokens: usize = report.runs.iter().map(|run| run.tokens.len()).sum();
    if (counted.yields as usize) < 10 * tokens {
        bail!("{} units for {tokens} tokens were seen", counted.yields);
    }
    Ok(counted)
}

/// The plugin's kind of a function: that of its unit, or for others, that of what ran before.
fn kind_of(name: &str) -> u8 {
    if name.contains("palmtop_firmware") || name.contains("palmtop_mark") {
        return UNIT_ENDS;
    }
    let of_model = name.contains("7palmtop");
    let unit = UNITS.iter().position(|(module, function, _)| {
        of_model && name.contains(module) && name.contains(function)
    });
    unit.map_or(THROUGH, |index| FIRST + index as u8)
}

/// The unit that lies between two marks, by what took most of it; `None` where the firmware reports.
fn name_of(phase: &Phase) -> Option<String> {
    let kinds = phase.kinds.iter().filter(|(kind, ..)| *kind >= FIRST);
    let (kind, ..) = kinds.max_by_key(|(_, all, _)| *all)?;
    let (_, _, name) = UNITS.get(usize::from(kind - FIRST))?;
    Some((*name).to_owned())
}
