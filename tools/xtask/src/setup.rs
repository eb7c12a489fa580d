//! `cargo xtask setup`: finds what the board builds and the emulated boards need, installs what is
//! missing where it may, and says what to do where it may not.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::arm64;
use crate::defmt_log;
use crate::process;
use crate::toolchain::{self, TARGETS};

/// How long the first `rustup target add` may take before another way is tried.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(90);

/// The emulators: program and Debian package.
const EMULATORS: [(&str, &str); 2] = [
    ("qemu-system-arm", "qemu-system-arm"),
    ("qemu-system-riscv32", "qemu-system-misc"),
];

/// The compiler of the example in C, and Debian's package for it.
pub const C_COMPILER: (&str, &str) = ("arm-none-eabi-gcc", "gcc-arm-none-eabi");

/// Debian's packages with which `core` can be built from source.
const SOURCE_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// Programs that cargo installs, and what is not done without them: the linker with which an overflow of
/// the stack is a fault on the boards that one can buy, and the decoder of defmt's logs.
const CARGO_PROGRAMS: [(&str, &str); 2] = [
    ("flip-link", "boards will be linked without it"),
    (
        defmt_log::DECODER,
        "the log of the board that logs with defmt cannot be read",
    ),
];

/// Browsers in which the page of `palmtop report` is tested, and Debian's packages for one.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const BROWSER_PACKAGES: [&str; 2] = ["chromium", "fonts-dejavu-core"];

/// Options of `setup`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only look and report; install nothing.
    #[arg(long)]
    check: bool,
}

/// Sets up, or reports what is missing.
pub fn run(args: &Args) -> Result<()> {
    if toolchain::search().is_none() && !args.check {
        add_targets();
    }
    // Not where rustup could not give the boards' targets: it would only be waited for again.
    let rustup_serves = toolchain::search().is_some_and(|found| !found.is_from_source());
    if rustup_serves && !arm64::has_target() && !args.check && process::runs("rustup") {
        rustup(RUSTUP_PATIENCE, &[arm64::TARGET]);
    }
    let mut wanted: Vec<&str> = Vec::new();
    if toolchain::search().is_none() {
        wanted.extend(SOURCE_PACKAGES);
    }
    wanted.extend(
        EMULATORS
            .iter()
            .filter(|(program, _)| !process::runs(program))
            .map(|e| e.1),
    );
    if arm64::has_target() && !process::runs(arm64::EMULATOR.0) {
        wanted.push(arm64::EMULATOR.1);
    }
    if !process::runs(C_COMPILER.0) {
        wanted.push(C_COMPILER.1);
    }
    if !BROWSERS.iter().any(|program| process::runs(program)) {
        wanted.extend(BROWSER_PACKAGES);
    }
    if !wanted.is_empty() && !args.check {
        install(&wanted);
    }
    for (program, _) in CARGO_PROGRAMS {
        if !process::on_path(program) && !args.check {
            install_by_cargo(program);
        }
    }
    report()
}

/// Says what is there, and for what is not, what to do.
fn report() -> Result<()> {
    let mut missing = Vec::new();
    match toolchain::search() {
        Some(found) => println!("boards   {}", found.describe()),
        None => missing.push(format!(
            "no compiler for the boards. Either `rustup target add {}`, or on Debian \
             `apt-get install {}`, or `rustup component add rust-src` with lld installed",
            TARGETS.join(" "),
            SOURCE_PACKAGES.join(" ")
        )),
    }
    for (program, package) in EMULATORS {
        if process::runs(program) {
            println!("emulator {program}");
        } else {
            missing.push(format!(
                "no {program}. Install QEMU: Debian and Ubuntu `apt-get install {package}`, Fedora \
                 `dnf install {package}`, Arch `pacman -S qemu-system-arm qemu-system-riscv`, macOS \
                 `brew install qemu`"
            ));
        }
    }
    match (arm64::has_target(), process::runs(arm64::EMULATOR.0)) {
        (true, true) => println!(
            "arm64    {}, emulated by {}",
            arm64::TARGET,
            arm64::EMULATOR.0
        ),
        _ => println!(
            "arm64    none: the kernels of 64-bit Arm will not be tested. `rustup target add {}`, \
             and Debian's {}",
            arm64::TARGET,
            arm64::EMULATOR.1
        ),
    }
    for (program, without) in CARGO_PROGRAMS {
        match process::on_path(program) {
            true => println!("cargo    {program}"),
            false => {
                println!("cargo    no {program}: {without}. `cargo install --locked {program}`")
            }
        }
    }
    if process::runs(C_COMPILER.0) {
        println!("C        {}", C_COMPILER.0);
    } else {
        missing.push(format!(
            "no {}, for the example in C. Debian and Ubuntu `apt-get install {}`, Fedora `dnf install \
             arm-none-eabi-gcc-cs`, Arch `pacman -S arm-none-eabi-gcc`, macOS `brew install \
             arm-none-eabi-gcc`",
            C_COMPILER.0, C_COMPILER.1
        ));
    }
    match BROWSERS.iter().find(|program| process::runs(program)) {
        Some(program) => println!("browser  {program}"),
        None => println!(
            "browser  none: the test that looks at the page of `palmtop report` will be skipped. \
             Debian: `apt-get install {}`",
            BROWSER_PACKAGES.join(" ")
        ),
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("still missing:\n  {}", missing.join("\n  "));
}

/// Tries rustup: the first target with a time limit, since a machine without network may hang here.
fn add_targets() {
    if !process::runs("rustup") {
        return;
    }
    let _ = rustup(RUSTUP_PATIENCE, &TARGETS[..1]) && rustup(5 * RUSTUP_PATIENCE, &TARGETS[1..]);
}

/// `rustup target add`; whether that went well in time.
fn rustup(limit: Duration, targets: &[&str]) -> bool {
    println!(
        "rustup target add {} (at most {} s)",
        targets.join(" "),
        limit.as_secs()
    );
    let mut command = Command::new("rustup");
    process::clean(&mut command);
    command
        .args(["target", "add"])
        .args(targets)
        .env("RUSTUP_MAX_RETRIES", "1")
        .current_dir(crate::workspace::root());
    match process::capture(&mut command, limit) {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("  rustup could not: {}", output.tail(1));
            false
        }
        Err(_) => {
            println!("  rustup got no answer");
            false
        }
    }
}

/// Builds a program from crates.io.
fn install_by_cargo(program: &str) {
    println!("cargo install {program}");
    let mut command = process::host_cargo();
    command.args(["install", "--locked", "--quiet", program]);
    match process::capture(&mut command, Duration::from_secs(600)) {
        Ok(output) if output.status.success() => {}
        Ok(output) => println!("  cargo could not: {}", output.tail(1)),
        Err(error) => println!("  {error:#}"),
    }
}

/// Installs Debian packages where that needs no password.
fn install(packages: &[&str]) {
    if !process::runs("apt-get") {
        return;
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    let apt = |arguments: &[&str]| {
        let mut command = if root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        println!("{}", process::shown(&command));
        process::capture(&mut command, Duration::from_secs(600))
    };
    if !root && !may_sudo() {
        println!(
            "neither root nor sudo without a password: not installing {}",
            packages.join(" ")
        );
        return;
    }
    // The package lists may be absent or old; a failure here shows in the next step.
    let _ = apt(&["update"]);
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    match apt(&arguments) {
        Ok(output) if output.status.success() => {}
        Ok(output) => println!("  apt-get could not:\n{}", output.tail(5)),
        Err(error) => println!("  {error:#}"),
    }
}

fn may_sudo() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
