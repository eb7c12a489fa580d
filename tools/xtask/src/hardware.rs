//! `cargo xtask boards`: firmware for boards that one can buy, with the model in it, and what of the
//! board's memory it takes. Nothing is run: what is shown is what the linker has placed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::boards::Board;
use crate::emulate::{Input, Request, Source, grouped};
use crate::toolchain::Toolchain;
use crate::{elf, emulate, process, toolchain, workspace};

/// Least room for the stack: twice what palmtop and the firmware were seen to use.
const STACK: u64 = 8 << 10;

/// Longest that a build may take, with its HAL.
const LIMIT: Duration = Duration::from_secs(1200);

/// Options of `boards`.
#[derive(clap::Args)]
pub struct Args {
    /// The boards, or `all`; without any, lists them.
    boards: Vec<String>,
    /// First count anew, on the emulated core, the instructions of a token with which some boards'
    /// firmware compares its cycles.
    #[arg(long)]
    forecast: bool,
}

/// The table `boards/boards.toml`.
#[derive(Deserialize)]
struct Table {
    board: Vec<Product>,
}

/// A board that one can buy.
#[derive(Clone, Deserialize)]
pub struct Product {
    /// The name, which is also that of its folder in `boards/` and of its crate.
    pub name: String,
    title: String,
    mcu: String,
    class: Board,
    target: String,
    layout: String,
    flash: u64,
    external: Option<External>,
    ram: u64,
    regions: Vec<Region>,
    models: Vec<ModelFile>,
}

/// Flash that is mapped nowhere.
#[derive(Clone, Deserialize)]
struct External {
    name: String,
    bytes: u64,
}

/// A part of the RAM.
#[derive(Clone, Deserialize)]
struct Region {
    name: String,
    at: u64,
    bytes: u64,
}

/// A model that the board's crate wants in its folder.
#[derive(Clone, Deserialize)]
struct ModelFile {
    file: String,
    from: String,
    experts: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let products = table()?;
    if args.boards.is_empty() {
        for product in &products {
            println!("{:<18} {}, {}", product.name, product.title, product.mcu);
        }
        return Ok(());
    }
    let mut chosen = Vec::new();
    for name in &args.boards {
        let found: Vec<&Product> = products
            .iter()
            .filter(|product| name == "all" || product.name == *name)
            .collect();
        if found.is_empty() {
            let names: Vec<&str> = products.iter().map(|board| board.name.as_str()).collect();
            bail!("`{name}` is no board; {} are", names.join(", "));
        }
        chosen.extend(found);
    }
    let toolchain = toolchain::find()?;
    let mut failed = Vec::new();
    for product in chosen {
        let forecast = match args.forecast && product.forecast_file().is_file() {
            true => product.forecast(&toolchain),
            false => Ok(()),
        };
        match forecast.and_then(|()| product.build(&toolchain)) {
            Ok(report) => println!("{report}"),
            Err(error) => {
                eprintln!("{error:#}\n");
                failed.push(product.name.as_str());
            }
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        names => bail!("not built: {}", names.join(", ")),
    }
}

/// The boards of `boards/boards.toml`.
pub fn table() -> Result<Vec<Product>> {
    let path = workspace::root().join("boards/boards.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let table: Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(table.board)
}

impl Product {
    /// The folder of the board's crate.
    pub fn folder(&self) -> PathBuf {
        workspace::root().join("boards").join(&self.name)
    }

    /// Converts the models, builds the firmware and says what it takes; an error if that is more than
    /// the board has.
    pub fn build(&self, toolchain: &Toolchain) -> Result<String> {
        let mut models = Vec::new();
        for model in &self.models {
            models.push(self.convert(model)?);
        }
        let (mut command, note) = toolchain.cargo_for_product(&self.target, &self.folder());
        command.arg("--release");
        let output = process::capture(&mut command, LIMIT)?;
        if !output.status.success() {
            bail!(
                "the firmware for {} does not build:\n{}",
                self.name,
                output.tail(60)
            );
        }
        let path = workspace::board_target()
            .join(&self.target)
            .join("release")
            .join(&self.name);
        let file = fs::read(&path).with_context(|| path.display().to_string())?;
        let usage = self
            .usage(&file, &models)
            .ok_or_else(|| anyhow!("{} is no ELF file that can be read", path.display()))?;
        let mut report = format!("{} ({}, {})\n", self.title, self.mcu, self.target);
        report += &self.check(&usage)?;
        if let Some(note) = note {
            report += &format!("  linked   {note}\n");
        }
        report += &format!("  ELF      {}\n", shown(&path));
        Ok(report)
    }

    /// Converts a model into the board's folder, unless it is there and newer than what it comes from;
    /// gives the file's length.
    fn convert(&self, model: &ModelFile) -> Result<u64> {
        let from = workspace::root().join(&model.from);
        let to = self.folder().join(&model.file);
        let command = emulate::palmtop()?;
        let mut newest = fs::metadata(&command)?.modified()?;
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            newest = newest.max(entry?.metadata()?.modified()?);
        }
        let there = fs::metadata(&to).and_then(|file| file.modified());
        if there.map_or(true, |there| there <= newest) {
            let mut convert = Command::new(command);
            convert.arg("convert").arg(&from).arg("-o").arg(&to);
            convert.args(["--target", &self.layout, "--experts", &model.experts]);
            let output = process::capture(&mut convert, LIMIT)?;
            if !output.status.success() {
                bail!("{} does not convert:\n{}", from.display(), output.tail(10));
            }
        }
        Ok(fs::metadata(&to)?.len())
    }

    /// Where the board's firmware has its forecast from, if it compares cycles with one.
    fn forecast_file(&self) -> PathBuf {
        self.folder().join("src/forecast.in")
    }

    /// Counts the instructions of a token on the emulated core, and writes them down for the firmware.
    fn forecast(&self, toolchain: &Toolchain) -> Result<()> {
        let model = self.models.first().context("the board has no model")?;
        self.convert(model)?;
        let request = Request {
            inputs: vec![Input {
                source: Source::Text("microcontroller".into()),
                forced: None,
                logits: false,
            }],
            source: 32,
            target: 48,
            ..Request::default()
        };
        let firmware = self.class.build(toolchain)?;
        let model = self.folder().join(&model.file);
        let (report, _) = emulate::start(self.class, &firmware, &model, &request, LIMIT)?;
        let run = report
            .runs
            .first()
            .context("the emulator reported no run")?;
        let number = grouped(run.instructions_per_token()).replace(',', "_");
        fs::write(self.forecast_file(), number + "\n")?;
        Ok(())
    }

    /// What a firmware and its models take.
    fn usage(&self, file: &[u8], models: &[u64]) -> Option<Usage> {
        let sections = elf::sections(file)?;
        let stored = sections.iter().filter(|section| section.stored);
        let image: u64 = stored.map(|section| u64::from(section.size)).sum();
        let address = |name| elf::symbol(file, |symbol| symbol == name).map(u64::from);
        let partition = address("__model_start")
            .zip(address("__model_end"))
            .map(|(start, end)| end.saturating_sub(start));
        let arena = elf::symbol_bytes(file, |symbol| symbol.contains("PALMTOP_ARENA"));

        // What some runtimes call the room that is left for stack and heap takes nothing.
        let room = |name: &str| name == ".stack" || name == ".heap";
        let statics = sections.iter().filter(|section| !room(section.name));
        let spans: Vec<(u64, u64)> = statics
            .map(|section| (section.address.into(), section.size.into()))
            .collect();
        let regions = self.regions.iter().map(|region| {
            let inside = spans.iter().filter(|(start, _)| region.contains(*start));
            (region.clone(), inside.map(|(_, size)| size).sum())
        });
        let stack = match sections.iter().find(|section| section.name == ".stack") {
            Some(section) => section.size.into(),
            None => {
                let top = address("_stack_start")?;
                // Of its own region, or of the one that it is the end of.
                let region = self
                    .regions
                    .iter()
                    .find(|region| region.contains(top - 1))?;
                let below = spans
                    .iter()
                    .filter(|(start, size)| region.contains(*start) && start + size <= top);
                let floor = below.map(|(start, size)| start + size).max();
                top - floor.unwrap_or(region.at)
            }
        };
        Some(Usage {
            image,
            model: models.iter().sum(),
            partition,
            arena,
            regions: regions.collect(),
            stack,
        })
    }

    /// The report's lines on flash and RAM; an error if something does not fit.
    fn check(&self, usage: &Usage) -> Result<String> {
        let name = &self.name;
        let mut flash = usage.image;
        let mut report = match (usage.partition, &self.external) {
            (Some(room), _) => {
                if usage.model > room {
                    let (model, room) = (grouped(usage.model), grouped(room));
                    bail!("{name}: a model of {model} bytes in a partition of {room}");
                }
                flash += usage.model;
                format!(
                    "  flash    firmware {} and, in {} bytes of its own, model {}",
                    grouped(usage.image),
                    grouped(room),
                    grouped(usage.model)
                )
            }
            (None, Some(external)) => {
                if usage.model > external.bytes {
                    bail!("{name}: the model is larger than its external flash");
                }
                format!(
                    "  {}: model {} of {} bytes\n  flash    firmware with the model's resident part {}",
                    external.name,
                    grouped(usage.model),
                    grouped(external.bytes),
                    grouped(usage.image)
                )
            }
            (None, None) => {
                let Some(firmware) = usage.image.checked_sub(usage.model) else {
                    bail!("{name}: the firmware is smaller than the model that it should hold");
                };
                format!(
                    "  flash    firmware {} and model {}",
                    grouped(firmware),
                    grouped(usage.model)
                )
            }
        };
        let Some(left) = self.flash.checked_sub(flash) else {
            bail!(
                "{name}: {} bytes of flash, {} there",
                grouped(flash),
                self.flash
            );
        };
        report += &format!(
            ": {} of {} bytes, {} left\n",
            grouped(flash),
            grouped(self.flash),
            grouped(left)
        );
        if usage.arena == 0 {
            bail!("{name}: no arena is linked");
        }
        report += &format!(
            "  RAM      arena {}, room for the stack {}; statics with the arena:",
            grouped(usage.arena),
            grouped(usage.stack)
        );
        for (region, used) in usage.regions.iter().filter(|(_, used)| *used > 0) {
            if *used > region.bytes {
                bail!(
                    "{name}: {used} bytes in {}, which has {}",
                    region.name,
                    region.bytes
                );
            }
            let (used, all) = (grouped(*used), grouped(region.bytes));
            report += &format!(" {} {used} of {all}", region.name);
        }
        report += &format!(" ({} in all)\n", grouped(self.ram));
        if usage.stack < STACK {
            let stack = grouped(usage.stack);
            bail!(
                "{name}: {stack} bytes for the stack, {} wanted",
                grouped(STACK)
            );
        }
        Ok(report)
    }
}

impl Region {
    fn contains(&self, address: u64) -> bool {
        (self.at..self.at + self.bytes).contains(&address)
    }
}

/// Bytes that a firmware takes.
struct Usage {
    /// What the program's file puts into flash.
    image: u64,
    /// The models' files.
    model: u64,
    /// Size of the model's partition, if it has one.
    partition: Option<u64>,
    /// The arena.
    arena: u64,
    /// Statics in each part of the RAM, the arena among them.
    regions: Vec<(Region, u64)>,
    /// From the statics, or the RAM's end, to the stack's start.
    stack: u64,
}

/// A path as seen from the repository's root.
fn shown(path: &Path) -> String {
    let root = workspace::root();
    path.strip_prefix(&root)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_has_a_crate_and_regions_that_add_up() {
        let table = table().unwrap();
        assert_eq!(table.len(), 7);
        for board in table {
            for file in [
                "Cargo.toml",
                "Cargo.lock",
                "README.md",
                ".cargo/config.toml",
            ] {
                let path = board.folder().join(file);
                assert!(path.is_file(), "{}", path.display());
            }
            let sum: u64 = board.regions.iter().map(|region| region.bytes).sum();
            assert_eq!(sum, board.ram, "{}", board.name);
            let config = fs::read_to_string(board.folder().join(".cargo/config.toml")).unwrap();
            assert!(config.contains(&format!("target = \"{}\"", board.target)));
        }
    }
}
