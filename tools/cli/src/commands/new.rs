//! `palmtop new`: a firmware project for a board and a model, that builds at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model};
use palmtop_convert::{ExpertWeights, Options, Weights};

use crate::args::{ExpertWeightsArg, ModelArgs, WeightsArg};
use crate::failure::{Failure, failed, misused};
use crate::model_file::Image;
use crate::out;
use crate::report::parts::{FIRMWARE_BYTES, STACK_BYTES};
use crate::report::speed;
use crate::templates::{Facts, Machine, Template};
use crate::units::{bytes, count};

const EXAMPLES: &str = "Examples:
  palmtop new my-firmware --board rp2350 --model model.palm
  palmtop new my-firmware --board stm32f407 --model checkpoint/ --experts int4
  palmtop new my-firmware --board m4f --model checkpoint/      # for the emulator";

/// Arguments of `new`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The folder to make; its last part is the crate's name
    name: PathBuf,

    /// The board: a name, a microcontroller, or an emulated machine (m3, m4f, rv32)
    #[arg(long, value_name = "BOARD")]
    board: String,

    /// A .palm file, or a checkpoint folder, which is converted for the board
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,

    /// How to store the matrices of a checkpoint folder [default: int8]
    #[arg(long, value_name = "FORMAT")]
    weights: Option<WeightsArg>,

    /// How to store the experts of a checkpoint folder [default: as --weights]
    #[arg(long, value_name = "FORMAT")]
    experts: Option<ExpertWeightsArg>,

    /// Most source tokens [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    source: Option<u32>,

    /// Most target tokens [default: the model's default limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    target: Option<u32>,

    /// The palmtop library's folder [default: the checkout that this command was built from, if it
    /// is there, else the version of crates.io]
    #[arg(long, value_name = "PATH")]
    palmtop: Option<PathBuf>,
}

/// Makes the project.
pub fn new(args: &Args) -> Result<ExitCode> {
    let name = crate_name(&args.name)?;
    if args.name.exists() {
        return Err(failed(format!("{} exists already", args.name.display()))
            .help("give another name, or remove it first")
            .into());
    }
    let template = Template::find(&args.board)?;
    let facts = template.facts();
    let (palmtop, palmtop_told) = library(args.palmtop.as_deref())?;
    let image = load(args, &facts)?;
    let model = image.model()?;
    let limits = limits(args, &model)?;
    if Tokenizer::of(model.palm()).is_none() || model.shape().decoder_only {
        return Err(failed(format!(
            "the project's console works with text in and out, and {} {}",
            args.model.display(),
            if model.shape().decoder_only {
                "has no encoder"
            } else {
                "has no tokenizer"
            }
        ))
        .help("begin with boards/ of the repository")
        .into());
    }
    check_fit(&model, limits, template, &facts)?;

    let arena = model.arena_bytes(limits);
    let file_name = |path: &Path| {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = canonical.file_stem().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let fill = |text: &str| {
        let mut text = text.to_owned();
        let board_folder = facts.title.trim_start_matches("QEMU's ");
        for (key, value) in [
            ("name", name.as_str()),
            ("model", &file_name(&args.model)),
            ("title", facts.title),
            ("mcu", facts.mcu),
            ("core", facts.core),
            ("board", template.name),
            ("board_folder", board_folder),
            ("target_triple", facts.target),
            ("run", template.run),
            ("console", template.console),
            ("link_args", template.link_args),
            ("source", &limits.source.to_string()),
            ("target", &limits.target.to_string()),
            ("arena", &count(arena as u64)),
            ("self_test", &self_test_fits(&model, limits).to_string()),
            ("palmtop", &palmtop_told),
            ("more", &more(template, &facts)),
        ] {
            text = text.replace(&format!("{{{{{key}}}}}"), value);
        }
        text.trim_end().to_owned() + "\n"
    };
    let folder = &args.name;
    let write = |path: &str, content: &[u8]| -> Result<()> {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    write("Cargo.toml", manifest(&name, template, &palmtop).as_bytes())?;
    write(".cargo/config.toml", config(template, &facts).as_bytes())?;
    write(".gitignore", b"/target\n")?;
    write(
        "build.rs",
        fill(include_str!("../../templates/build.rs")).as_bytes(),
    )?;
    if let Some(memory) = template.memory_x {
        write("memory.x", memory.as_bytes())?;
    }
    write(
        "src/main.rs",
        fill(include_str!("../../templates/main.rs")).as_bytes(),
    )?;
    write("src/board.rs", fill(template.board_rs).as_bytes())?;
    write(
        "README.md",
        fill(include_str!("../../templates/README.md")).as_bytes(),
    )?;
    write("model.palm", model.palm().bytes())?;

    let file = model.palm().bytes().len() as u64;
    out::print(&format!(
        "{}: {} on {}\n  flash: {} of model, about {} of firmware, of {}\n  RAM: {} of arena for source \
         {}, target {}, about {} of stack, of {}\n  palmtop: {palmtop_told}\nnow: cd {} && cargo build \
         --release\n",
        folder.display(),
        file_name(&args.model),
        facts.title,
        bytes(file),
        bytes(FIRMWARE_BYTES),
        bytes(facts.flash),
        bytes(arena as u64),
        limits.source,
        limits.target,
        bytes(STACK_BYTES),
        bytes(facts.ram),
        folder.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The crate's name, if the folder's is one.
fn crate_name(folder: &Path) -> Result<String, Failure> {
    /// Names that would stand for something else in the project.
    const TAKEN: [&str; 12] = [
        "palmtop",
        "core",
        "std",
        "alloc",
        "test",
        "proc_macro",
        "board",
        "main",
        "build",
        "nb",
        "cortex-m",
        "cortex-m-rt",
    ];
    const KEYWORDS: [&str; 39] = [
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum",
        "extern", "false", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod",
        "move", "mut", "pub", "ref", "return", "self", "static", "struct", "super", "trait",
        "true", "type", "unsafe", "use", "where", "while", "abstract",
    ];
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fine = name.starts_with(letter)
        && name
            .chars()
            .all(|c| letter(c) || c.is_ascii_digit() || c == '-');
    if fine && !TAKEN.contains(&&*name) && !KEYWORDS.contains(&&*name) {
        return Ok(name.into_owned());
    }
    Err(misused(format!("`{name}` cannot be the name of a crate here")).help(
        "letters, digits, - and _, a letter first, and neither a word of Rust nor a crate that is used",
    ))
}

/// The dependency's right side, and what to say of it.
fn library(given: Option<&Path>) -> Result<(String, String), Failure> {
    let is_library = |folder: &Path| {
        fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"palmtop\""))
    };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = match given {
        Some(folder) if is_library(folder) => folder,
        Some(folder) => {
            return Err(
                misused(format!("{} is not palmtop's folder", folder.display()))
                    .help("give the one whose Cargo.toml names the package palmtop"),
            );
        }
        None if is_library(&own) => &own,
        None => {
            let version = env!("CARGO_PKG_VERSION");
            let told = format!(
                "crates.io, version {version} (its sources are not where this command was built: \
                 --palmtop PATH takes another copy)"
            );
            return Ok((format!("\"{version}\""), told));
        }
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let text = folder.display().to_string();
    // What JSON writes as a string, TOML reads as one.
    let quoted = serde_json::to_string(&text).unwrap_or_default();
    Ok((
        format!("{{ path = {quoted} }}"),
        format!("the folder {text}"),
    ))
}

/// The model: the file, or the folder converted for the board.
fn load(args: &Args, facts: &Facts<'_>) -> Result<Image> {
    let path = &args.model;
    let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !metadata.is_dir() {
        if args.weights.is_some() || args.experts.is_some() {
            return Err(misused(format!(
                "--weights and --experts say how to convert a checkpoint folder, but {} is a file",
                path.display()
            ))
            .help("leave them out, or give the checkpoint's folder")
            .into());
        }
        return Image::load_to_inspect(&ModelArgs {
            path: path.clone(),
            weights: None,
            slots: None,
        });
    }
    let options = Options {
        weights: args.weights.map_or(Weights::Int8, Weights::from),
        experts: args.experts.map(ExpertWeights::from),
        source: args.source,
        target: args.target,
        layout: speed::layout(facts.class, facts.layout),
        ..Options::default()
    };
    Image::convert_with(path, &options)
}

fn limits(args: &Args, model: &Model<'_>) -> Result<Limits, Failure> {
    let h = model.palm().header();
    let limits = Limits {
        source: args.source.unwrap_or(h.default_source),
        target: args.target.unwrap_or(h.default_target),
        beams: 1,
    };
    for (option, limit, most) in [
        ("--source", limits.source, h.max_source),
        ("--target", limits.target, h.max_target),
    ] {
        if most > 0 && limit > most {
            return Err(failed(format!(
                "{option} {limit} is more than the model's limit of {most}"
            ))
            .help(format!("give {option} {most} or less")));
        }
    }
    Ok(limits)
}

/// Refuses what the board has no room for, with the figures.
fn check_fit(
    model: &Model<'_>,
    limits: Limits,
    template: &Template,
    facts: &Facts<'_>,
) -> Result<(), Failure> {
    let file = model.palm().bytes().len() as u64;
    let arena = model.arena_bytes(limits) as u64;
    let mut lacks = Vec::new();
    if file + FIRMWARE_BYTES > facts.flash {
        lacks.push(format!(
            "flash: {} bytes of model and about {} of firmware, of {}",
            count(file),
            count(FIRMWARE_BYTES),
            count(facts.flash)
        ));
    }
    if arena + STACK_BYTES > facts.ram {
        lacks.push(format!(
            "RAM: {} bytes of arena (source {}, target {}) and about {} of stack, of {}",
            count(arena),
            limits.source,
            limits.target,
            count(STACK_BYTES),
            count(facts.ram)
        ));
    }
    if lacks.is_empty() {
        return Ok(());
    }
    Err(failed(format!(
        "the model does not fit {}: {}",
        facts.title,
        lacks.join("; ")
    ))
    .help(format!(
        "smaller limits (--source, --target), a checkpoint folder with --experts int4, or another board; \
         `palmtop inspect MODEL --board {}` says what would do",
        template.name
    )))
}

/// Whether the model has a golden input that these limits have room for.
fn self_test_fits(model: &Model<'_>, limits: Limits) -> bool {
    let golden = model.palm().section(model.palm().header().golden);
    let word = |at: usize| match golden.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    };
    word(0) <= limits.source && word(4) <= limits.target
}

fn manifest(name: &str, template: &Template, palmtop: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
         # A workspace of its own, wherever it lies.\n[workspace]\n\n\
         [dependencies]\npalmtop = {palmtop}\n{}\n\
         [profile.dev]\nopt-level = 1\npanic = \"abort\"\n\n\
         # With the restrained inlining of .cargo/config.toml as fast as 3, with a third less flash.\n\
         [profile.release]\nopt-level = 2\nlto = \"fat\"\ncodegen-units = 1\npanic = \"abort\"\n\
         debug = 2\n",
        template.dependencies
    )
}

fn config(template: &Template, facts: &Facts<'_>) -> String {
    format!(
        "[build]\ntarget = \"{target}\"\n\n[target.\"{target}\"]\nrunner = \"{runner}\"\n\
         rustflags = [\"-Cllvm-args=--inline-threshold=25\"]\n",
        target = facts.target,
        runner = template.runner
    )
}

/// What the README says besides.
fn more(template: &Template, facts: &Facts<'_>) -> String {
    let mut told = match template.machine {
        Machine::Board => {
            "- Not run on this board by those who made the template: it builds and links.\n\
             - More for this board, in `boards/` of palmtop's repository: other tasks kept alive \
             between bounded steps,\n  the model in a flash partition of its own, experts paged from \
             storage, logs by defmt."
        }
        Machine::Emulated { .. } => {
            "- An emulator counts instructions, not cycles: how fast it answers says nothing."
        }
    }
    .to_owned();
    if facts.target.starts_with("riscv") {
        told += "\n- The linker's table shows RAM as full: here the stack is a section that takes what is left.";
    }
    told
}
