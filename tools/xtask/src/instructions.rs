//! `cargo xtask instructions`: the table from which `palmtop inspect --board` forecasts: instructions
//! per multiply-accumulate of whole models, by core class and by the format of the weights.
//!
//! Everything that a token takes is in it (norms, attention, routing, the head), spread over its
//! multiply-accumulates; that models differ in that shows as a range. What int4 experts take is what
//! a model with them takes, less its int8 part.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::boards::Board;
use crate::emulate::{self, Input, Request, Source};
use crate::host::Host;
use crate::process::capture;
use crate::{toolchain, workspace};

/// Models of the zoo, with an input each.
const MODELS: [(&str, &str); 2] = [
    ("g2p", "microcontroller"),
    ("tasks", "What is the capital of France?"),
];

/// Formats: what the table calls them, and how to convert.
const FORMATS: [(&str, &[&str]); 4] = [
    ("int8", &[]),
    ("int4", &["--experts", "int4"]),
    ("f16", &["--weights", "f16"]),
    ("f32", &["--weights", "f32"]),
];

/// Limits of both.
const LIMIT: u32 = 64;

/// Options of `instructions`.
#[derive(clap::Args)]
pub struct Args {
    /// The boards to count on; rows of others stay as they are.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "m0,m3,m4f,m7,m33,m55,rv32"
    )]
    boards: Vec<Board>,
    /// Only print.
    #[arg(long)]
    dry: bool,
}

/// A row of the table.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    class: String,
    format: String,
    layout: String,
    encoder: [f64; 2],
    decoder: [f64; 2],
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    #[serde(default)]
    how: String,
    rows: Vec<Row>,
}

/// Multiply-accumulates of a token on average: attention, and by format.
struct Macs {
    attention: f64,
    int8: f64,
    own: f64,
}

/// What a run took for a token: of the source, generated.
#[derive(Clone, Copy, Debug)]
struct Taken {
    encoder: f64,
    decoder: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let path = workspace::root().join("tools/cli/instructions.json");
    let mut table: Table = serde_json::from_str(&fs::read_to_string(&path)?)?;
    table.how = "Written by `cargo xtask instructions`.".into();
    let toolchain = toolchain::find()?;
    for &board in &args.boards {
        let firmware = board.build(&toolchain)?;
        let mut int8: Option<Row> = None;
        for (format, options) in FORMATS {
            let mut row: Option<Row> = None;
            for (model, text) in MODELS {
                // Of larger formats one model says enough, and the other has no room everywhere.
                if format.starts_with('f') && model != "g2p" {
                    continue;
                }
                let counted = best(board, &firmware, (model, options), text, int8.as_ref());
                let (layout, taken) = match counted {
                    Ok(Some(counted)) => counted,
                    Ok(None) => continue,
                    Err(error) => {
                        return Err(error.context(format!("{model} {format} on {}", board.name())));
                    }
                };
                println!(
                    "{:<6}{format:<6}{model:<8}{layout:<9}{:>8.2}{:>8.2}",
                    board.name(),
                    taken.encoder,
                    taken.decoder
                );
                let row = row.get_or_insert_with(|| Row {
                    class: board.name().into(),
                    format: format.into(),
                    layout,
                    encoder: [f64::MAX, 0.0],
                    decoder: [f64::MAX, 0.0],
                });
                widen(&mut row.encoder, taken.encoder);
                widen(&mut row.decoder, taken.decoder);
            }
            let Some(row) = row else { continue };
            let same = |other: &Row| other.class == row.class && other.format == row.format;
            table.rows.retain(|other| !same(other));
            if format == "int8" {
                int8 = Some(Row {
                    class: row.class.clone(),
                    format: row.format.clone(),
                    layout: row.layout.clone(),
                    ..row
                });
            }
            table.rows.push(row);
        }
    }
    let place = |row: &Row| {
        let board = Board::ALL.iter().position(|b| b.name() == row.class);
        (
            board,
            FORMATS.iter().position(|(name, _)| *name == row.format),
        )
    };
    table.rows.sort_by_key(place);
    if !args.dry {
        fs::write(&path, text_of(&table)?)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// JSON with a row on each line.
fn text_of(table: &Table) -> Result<String> {
    let rows: Result<Vec<String>, _> = table.rows.iter().map(serde_json::to_string).collect();
    Ok(format!(
        "{{\n\"how\": {},\n\"rows\": [\n{}\n]\n}}\n",
        serde_json::to_string(&table.how)?,
        rows?.join(",\n")
    ))
}

/// Takes a number, rounded to what it is worth, into a range.
fn widen(range: &mut [f64; 2], number: f64) {
    let number = (number * 100.0).round() / 100.0;
    *range = [range[0].min(number), range[1].max(number)];
}

/// Instructions per multiply-accumulate with the layout that takes fewer, the target's own or rows;
/// `None` if the board has no room for the model.
fn best(
    board: Board,
    firmware: &std::path::Path,
    (model, options): (&str, &[&str]),
    text: &str,
    int8: Option<&Row>,
) -> Result<Option<(String, Taken)>> {
    let mut best: Option<(String, Taken)> = None;
    for target in ["any", board.target()] {
        let palm = convert(model, options, target)?;
        if fs::metadata(&palm)?.len() > board.model_window().1 {
            return Ok(None);
        }
        let request = Request {
            inputs: vec![Input {
                source: Source::Text(text.to_owned()),
                forced: None,
                logits: false,
            }],
            source: LIMIT,
            target: LIMIT,
            ..Request::default()
        };
        let limit = Duration::from_secs(600);
        let (report, _) = emulate::start(board, firmware, &palm, &request, limit)?;
        let run = report.runs.first().context("nothing was run")?;
        let (source, steps) = (run.ids.len(), run.token_instructions.len());
        let (of_source, of_target, layout) = macs(&palm, source, steps)?;
        let per_mac = |instructions: f64, macs: &Macs, of_int8: Option<[f64; 2]>| match of_int8 {
            // The middle of the int8 range stands for the rest of this model.
            Some([from, to]) if macs.own > 0.0 => {
                let rest = (macs.int8 + macs.attention) * (from + to) / 2.0;
                (instructions - rest) / macs.own
            }
            _ => instructions / (macs.int8 + macs.own + macs.attention),
        };
        let is_int4 = options.contains(&"int4");
        let of = |range: fn(&Row) -> [f64; 2]| int8.filter(|_| is_int4).map(range);
        let taken = Taken {
            encoder: per_mac(
                run.encoder_instructions as f64 / source as f64,
                &of_source,
                of(|row| row.encoder),
            ),
            decoder: per_mac(
                run.instructions_per_token() as f64,
                &of_target,
                of(|row| row.decoder),
            ),
        };
        if best
            .as_ref()
            .is_none_or(|(_, best)| taken.decoder < best.decoder)
        {
            best = Some((layout, taken));
        }
        // Without int8 matrices there is but one layout.
        if options.contains(&"--weights") {
            break;
        }
    }
    Ok(best)
}

/// Converts a model of the zoo.
fn convert(model: &str, options: &[&str], target: &str) -> Result<PathBuf> {
    let folder = workspace::target().join("palm");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("table-{model}-{}-{target}.palm", options.join("")));
    let mut convert = Command::new(emulate::palmtop()?);
    convert.arg("convert");
    convert.arg(workspace::root().join("tools/zoo").join(model));
    convert.arg("-o").arg(&file).args(["--target", target]);
    let output = capture(convert.args(options), Duration::from_secs(300))?;
    if !output.status.success() {
        bail!("{model} does not convert:\n{}", output.tail(10));
    }
    Ok(file)
}

/// Multiply-accumulates of a source token and of a generated one, and the name of the layout.
fn macs(palm: &std::path::Path, source: usize, steps: usize) -> Result<(Macs, Macs, String)> {
    let mut inspect = Command::new(emulate::palmtop()?);
    // On average a step looks back on half of the target.
    let middle = steps.div_ceil(2).max(1);
    inspect.arg("inspect").arg(palm).arg("--json");
    inspect.args([
        "--source",
        &source.to_string(),
        "--target",
        &middle.to_string(),
    ]);
    let output = capture(&mut inspect, Duration::from_secs(60))?;
    let json: Value = serde_json::from_str(&output.stdout).context("what inspect says")?;
    let of = |token: &str| {
        let at = |name: &str| {
            let pointer = format!("/cost/{token}/chosen_expert/{name}");
            json.pointer(&pointer)
                .and_then(Value::as_f64)
                .context(pointer)
        };
        let own: Result<Vec<f64>> = ["int4", "f16", "f32"]
            .iter()
            .map(|format| at(&format!("macs_by_format/{format}")))
            .collect();
        // Routers are f32 in every file, a small part.
        let int8 = at("macs_by_format/int8")?;
        let [int4, f16, f32] = own?[..] else {
            bail!("formats");
        };
        let (int8, own) = match int8 > 0.0 {
            true => (int8 + f32, int4),
            false => (0.0, f16 + f32),
        };
        Ok(Macs {
            attention: at("attention_macs")?,
            int8,
            own,
        })
    };
    let layout = Host::open(palm)?.model()?.palm().header().layout.name();
    Ok((
        of("source_token")?,
        of("generated_token")?,
        layout.to_owned(),
    ))
}
