//! Finds out how this machine can build for bare-metal targets.
//!
//! Two ways serve. *Prebuilt*: the compiler on the path has `core` for the targets (after
//! `rustup target add`, or from a distribution that packages them). *From source*: some compiler
//! has the source of `core` beside it, and cargo's `-Zbuild-std` builds it; the compilers that
//! Debian ships for its web browsers (`rustc-web`) are of this kind.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process;
use crate::workspace;

/// Every target that the core is built for.
pub const TARGETS: [&str; 6] = [
    "thumbv6m-none-eabi",
    "thumbv7m-none-eabi",
    "thumbv7em-none-eabihf",
    "thumbv8m.main-none-eabihf",
    "riscv32imc-unknown-none-elf",
    "riscv32imac-unknown-none-elf",
];

/// Set to `prebuilt` or `source` to insist on one of the two ways.
pub const CHOICE: &str = "PALMTOP_CROSS";

/// The oldest compiler that builds this repository, as `(major, minor)`.
const OLDEST: (u32, u32) = (1, 95);

/// A way to build for bare-metal targets.
pub struct Toolchain {
    /// The compiler.
    rustc: PathBuf,
    /// Its cargo.
    cargo: PathBuf,
    /// The linker to name where the targets' own choice, `rust-lld`, is not there.
    linker: Option<&'static str>,
    /// Whether `core` is to be built from its source.
    from_source: bool,
}

impl Toolchain {
    /// A cargo that builds for a target, in a folder of `boards/`, into the boards' target folder.
    pub fn cargo(&self, target: &str, folder: &Path, subcommand: &str) -> Command {
        self.cargo_with("core", target, folder, subcommand)
    }

    /// As [`Toolchain::cargo`], for a crate that has a linker of its own in its `.cargo/config.toml`
    /// and may use a heap. The note says why its linker was not taken, if so.
    pub fn cargo_for_product(
        &self,
        target: &str,
        folder: &Path,
    ) -> (Command, Option<&'static str>) {
        let mut command = self.cargo_with("core,alloc", target, folder, "build");
        if target.starts_with("riscv") {
            return (command, None);
        }
        // flip-link runs rust-lld and knows no other linker.
        let note = match (process::on_path("flip-link"), self.linker) {
            (true, None) => return (command, None),
            (false, _) => "without flip-link, which `cargo install flip-link` installs",
            (true, Some(_)) => "without flip-link, which needs rust-lld",
        };
        let linker = self.linker.unwrap_or("rust-lld");
        command.env(linker_variable(target), linker);
        (command, Some(note))
    }

    fn cargo_with(&self, crates: &str, target: &str, folder: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        process::clean_for_boards(&mut command);
        command.env("RUSTC", &self.rustc);
        use_own_libraries(&mut command, &self.rustc);
        if let Some(linker) = self.linker {
            command.env(linker_variable(target), linker);
        }
        command.args([subcommand, "--target", target]);
        if self.from_source {
            command
                .arg(format!("-Zbuild-std={crates}"))
                .env("RUSTC_BOOTSTRAP", "1");
        }
        command
            .env("CARGO_TARGET_DIR", workspace::board_target())
            .current_dir(folder);
        command
    }

    /// Whether it builds `core` itself, because nobody gave it the targets.
    pub fn is_from_source(&self) -> bool {
        self.from_source
    }

    /// One line that says what was found.
    pub fn describe(&self) -> String {
        let has = if self.from_source {
            "builds core from source"
        } else {
            "has all targets"
        };
        let linker = self.linker.unwrap_or("rust-lld");
        format!("{} {has}, linked by {linker}", version_text(&self.rustc))
    }
}

/// The variable by which cargo learns a target's linker.
fn linker_variable(target: &str) -> String {
    let name = target.to_uppercase().replace(['-', '.'], "_");
    format!("CARGO_TARGET_{name}_LINKER")
}

/// The toolchain of this machine.
pub fn find() -> Result<Toolchain> {
    match search() {
        Some(toolchain) => Ok(toolchain),
        None => bail!("nothing here builds for bare-metal targets; run `cargo xtask setup`"),
    }
}

/// Looks for a toolchain; quick, and installs nothing.
pub fn search() -> Option<Toolchain> {
    let choice = env::var(CHOICE).unwrap_or_default();
    let candidates = candidates();
    let first = |from_source: bool, fits: fn(&Path) -> bool| {
        candidates
            .iter()
            .filter(|(rustc, _)| fits(rustc))
            .find_map(|(rustc, cargo)| {
                let linker = linker_for(rustc)?;
                Some(Toolchain {
                    rustc: rustc.clone(),
                    cargo: cargo.clone(),
                    linker,
                    from_source,
                })
            })
    };
    let prebuilt = || first(false, has_targets);
    let source = || first(true, has_source);
    match choice.as_str() {
        "prebuilt" => prebuilt(),
        "source" => source(),
        _ => prebuilt().or_else(source),
    }
}

/// Compilers worth asking, each with its cargo: the one that built this program, then the system's,
/// where an older one may be hidden behind rustup's.
fn candidates() -> Vec<(PathBuf, PathBuf)> {
    let host_cargo = process::host_cargo_path();
    let beside = host_cargo.with_file_name("rustc");
    let host_rustc = if beside.is_file() {
        beside
    } else {
        PathBuf::from("rustc")
    };
    let system = (
        PathBuf::from("/usr/bin/rustc"),
        PathBuf::from("/usr/bin/cargo"),
    );
    let mut all = vec![(host_rustc, host_cargo)];
    if system.0.is_file() && system.1.is_file() {
        all.push(system);
    }
    all.retain(|(rustc, _)| version(rustc).is_some_and(|version| version >= OLDEST));
    all
}

/// Whether `core` is installed for every target.
fn has_targets(rustc: &Path) -> bool {
    sysroot(rustc).is_some_and(|root| {
        TARGETS.iter().all(|target| {
            std::fs::read_dir(root.join("lib/rustlib").join(target).join("lib"))
                .is_ok_and(|mut files| files.next().is_some())
        })
    })
}

/// Whether the source of `core` lies beside the compiler.
fn has_source(rustc: &Path) -> bool {
    sysroot(rustc).is_some_and(|root| {
        root.join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file()
    })
}

/// `Some(None)`: the targets' own linker is there; `Some(name)`: use this one; `None`: there is none.
fn linker_for(rustc: &Path) -> Option<Option<&'static str>> {
    let own = sysroot(rustc).is_some_and(|root| {
        std::fs::read_dir(root.join("lib/rustlib")).is_ok_and(|hosts| {
            hosts
                .flatten()
                .any(|host| host.path().join("bin/rust-lld").is_file())
        })
    });
    if own || process::runs("rust-lld") {
        Some(None)
    } else if process::runs("ld.lld") {
        Some(Some("ld.lld"))
    } else {
        None
    }
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    ask(rustc, &["--print", "sysroot"]).map(|text| PathBuf::from(text.trim()))
}

fn version_text(rustc: &Path) -> String {
    ask(rustc, &["--version"]).map_or_else(|| "rustc".into(), |text| text.trim().to_owned())
}

fn version(rustc: &Path) -> Option<(u32, u32)> {
    let text = ask(rustc, &["--version"])?;
    let mut parts = text.split_whitespace().nth(1)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn ask(rustc: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(rustc);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    use_own_libraries(&mut command, rustc);
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A system's compiler must not load the libraries of the rustup toolchain that runs this program.
fn use_own_libraries(command: &mut Command, rustc: &Path) {
    if rustc.starts_with("/usr") {
        match process::library_path_without_rustup() {
            Some(path) => command.env("LD_LIBRARY_PATH", path),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}
