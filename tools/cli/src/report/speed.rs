//! How long tokens take on a board, as a range that says where it comes from.
//!
//! Instructions follow from the multiply-accumulates and a table that was measured on emulated
//! machines (`cargo xtask instructions` writes it). Cycles per instruction are a range per core, from
//! the timing of its instructions. Weights come through the flash's bandwidth, and either overlap
//! with computing fully (the fast end) or not at all (the slow end).

use std::sync::OnceLock;

use palmtop::kernels::Layout;
use palmtop_convert::Target;
use serde::{Deserialize, Serialize};

use super::cost::Work;

const TABLE: &str = include_str!("../../instructions.json");

/// Instructions per multiply-accumulate of a core class, for weights of a format.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// The class: the emulated board's name.
    pub class: String,
    /// The weights' format.
    pub format: String,
    /// The layout with which it was counted, the faster of the target's own and rows.
    pub layout: String,
    /// Least and most over the measured models, for the encoder's tokens.
    pub encoder: [f64; 2],
    /// The same for generated tokens.
    pub decoder: [f64; 2],
}

#[derive(Debug, Deserialize)]
struct Table {
    rows: Vec<Row>,
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let table: Table =
            serde_json::from_str(TABLE).expect("instructions.json is part of this program");
        table.rows
    })
}

/// The row of a class and format.
pub fn row(class: &str, format: &str) -> Option<&'static Row> {
    let mut rows = rows().iter();
    rows.find(|row| row.class == class && row.format == format)
}

/// The layout of int8 matrices with which a core class was counted to take the fewest
/// instructions: the target's own, named as `palmtop convert --target` does, or rows.
pub fn layout(class: &str, target: &str) -> Layout {
    let own = target.parse().map_or(Layout::Rows, Target::layout);
    match row(class, "int8") {
        Some(row) if row.layout == Layout::Rows.name() => Layout::Rows,
        _ => own,
    }
}

/// Cycles per instruction: at least, at most, and why.
pub type Cycles = (f64, f64, &'static str);

/// Cycles per instruction of a core class. From the instruction timings that Arm and the makers of
/// the RISC-V cores publish, for code that runs without waiting for memory; not measured here.
pub fn cycles(class: &str) -> Cycles {
    match class {
        "m0" => (
            1.1,
            1.7,
            "two stages: loads 2 cycles, taken branches 2 to 3",
        ),
        "m3" => (
            1.0,
            1.5,
            "loads 1 to 2 cycles, multiply-adds 2, taken branches 2 to 4",
        ),
        "m4f" => (
            1.0,
            1.5,
            "loads 1 to 2 cycles, float adds 1, taken branches 2 to 4",
        ),
        "m7" => (
            0.55,
            1.1,
            "two instructions a cycle where they pair, and its cache misses",
        ),
        "m33" => (
            1.0,
            1.4,
            "loads 1 to 2 cycles, some pairs of short instructions together",
        ),
        "m55" => (
            0.9,
            1.6,
            "vector instructions take 2 beats, overlapped by one",
        ),
        "rv32" => (
            1.0,
            1.7,
            "loads 1 to 2 cycles, branches 1 to 3, products 1 to 2",
        ),
        _ => (1.0, 2.0, "an unknown core"),
    }
}

/// A range: the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Least.
    pub from: f64,
    /// Most.
    pub to: f64,
}

/// What a token takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// Bytes of weights that are read.
    pub weight_bytes: [u64; 2],
    /// Instructions.
    pub instructions: Range,
    /// Milliseconds.
    pub milliseconds: Range,
}

/// What the range depends on.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Core class.
    pub class: &'a str,
    /// Clock in MHz.
    pub mhz: f64,
    /// Megabytes a second from flash: line by line, and at best.
    pub flash_mb_s: [f64; 2],
}

/// The range for a token; `None` if nothing was measured for the class and a format of the weights.
pub fn token(machine: Machine<'_>, work: &Work, encoder: bool) -> Option<Token> {
    let macs = work.macs;
    // In int8 files the routers are f32, a small part that was counted with the rest.
    let (int8, f32) = match macs.int8 {
        0 => (0, macs.f32),
        int8 => (int8 + macs.f32, 0),
    };
    let kinds = [
        ("int8", int8),
        ("int4", macs.int4),
        ("f16", macs.f16),
        ("f32", f32),
    ];
    let (mut least, mut most) = (0.0, 0.0);
    // Attention is computed as the linear layers are: in bytes, or in floats.
    let base = if macs.int8 > 0 { "int8" } else { "f32" };
    for (format, macs) in kinds.into_iter().chain([(base, work.attention_macs)]) {
        if macs == 0 {
            continue;
        }
        // Where only f16 was measured, which is widened first, f32 takes no more.
        let row = row(machine.class, format).or_else(|| match format {
            "f32" => row(machine.class, "f16"),
            _ => None,
        })?;
        let per_mac = if encoder { row.encoder } else { row.decoder };
        least += macs as f64 * per_mac[0];
        most += macs as f64 * per_mac[1];
    }
    let (fast, slow, _) = cycles(machine.class);
    let compute = |instructions: f64, cycles: f64| instructions * cycles / machine.mhz / 1e3;
    let read = |bytes: u64, mb_s: f64| bytes as f64 / mb_s / 1e3;
    let [line, best] = machine.flash_mb_s;
    Some(Token {
        weight_bytes: work.weight_bytes,
        instructions: Range {
            from: least,
            to: most,
        },
        milliseconds: Range {
            from: compute(least, fast).max(read(work.weight_bytes[0], best)),
            to: compute(most, slow) + read(work.weight_bytes[1], line),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::report::cost::ByFormat;

    #[test]
    fn every_class_was_measured() {
        for board in boards::all() {
            for format in ["int8", "int4", "f16"] {
                let row = row(&board.class, format);
                assert!(row.is_some(), "{} {format}", board.class);
                let row = row.unwrap();
                for [from, to] in [row.encoder, row.decoder] {
                    assert!(0.0 < from && from <= to && to < 1000.0, "{row:?}");
                }
            }
            let (from, to, _) = cycles(&board.class);
            assert!(from < to);
        }
    }

    /// Published: 850 ms a token for a model of 14 MB of int8 weights, all touched, read through the
    /// XIP of an RP2350.
    #[test]
    fn a_published_run_on_rp2350_lies_in_the_range() {
        let board = boards::find("pico2").unwrap();
        let work = Work {
            weight_bytes: [14_000_000; 2],
            macs: ByFormat {
                int8: 14_000_000,
                ..ByFormat::default()
            },
            attention_macs: 0,
        };
        let machine = Machine {
            class: &board.class,
            mhz: board.mhz as f64,
            flash_mb_s: board.flash_mb_s,
        };
        let range = token(machine, &work, false).unwrap().milliseconds;
        assert!(range.from < 850.0 && 850.0 < range.to, "{range:?}");
    }

    /// Published: 19 tokens a second for 260 K parameters in f32 on an ESP32-S3 at 240 MHz, a core
    /// with a float unit, its weights in memory of 20 to 40 MB/s. A Cortex-M4F stands for the core.
    #[test]
    fn a_published_run_on_esp32_s3_lies_in_the_range() {
        let work = Work {
            weight_bytes: [1_040_000; 2],
            macs: ByFormat {
                f32: 260_000,
                ..ByFormat::default()
            },
            attention_macs: 0,
        };
        let machine = Machine {
            class: "m4f",
            mhz: 240.0,
            flash_mb_s: [20.0, 40.0],
        };
        let range = token(machine, &work, false).unwrap().milliseconds;
        let published = 1000.0 / 19.0;
        assert!(range.from < published && published < range.to, "{range:?}");
        // And the span is one of use: less than a factor of four.
        assert!(range.to < 4.0 * range.from, "{range:?}");
    }
}
