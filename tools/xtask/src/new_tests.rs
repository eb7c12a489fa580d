//! Projects of `palmtop new`: they build at once, and where there is an emulator they answer on their
//! console what the host answers.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::boards::Board;
use crate::process::capture;
use crate::toolchain::Toolchain;
use crate::{bench, emulate, workspace};

/// Emulated boards with a project.
pub const EMULATED: [Board; 3] = [Board::M4f, Board::M3, Board::Rv32];

/// A real board with a project.
pub struct Real {
    /// What `palmtop new --board` takes.
    pub name: &'static str,
    target: &'static str,
}

/// All of them.
pub const REAL: [Real; 7] = [
    Real {
        name: "pico2",
        target: "thumbv8m.main-none-eabihf",
    },
    Real {
        name: "stm32f4-discovery",
        target: "thumbv7em-none-eabihf",
    },
    Real {
        name: "pico",
        target: "thumbv6m-none-eabi",
    },
    Real {
        name: "nrf52840-dk",
        target: "thumbv7em-none-eabihf",
    },
    Real {
        name: "stm32h743-nucleo",
        target: "thumbv7em-none-eabihf",
    },
    Real {
        name: "pico2-riscv",
        target: "riscv32imac-unknown-none-elf",
    },
    Real {
        name: "esp32c3",
        target: "riscv32imc-unknown-none-elf",
    },
];

/// What is typed.
const WORDS: [&str; 2] = ["hello", "microcontroller"];

/// Builds a project and talks with it.
pub fn answers(board: Board, toolchain: &Toolchain) -> Result<String> {
    let name = format!("project-{}", board.name());
    let (elf, sizes) = build(&name, board.name(), board.target(), toolchain, &[])?;
    let folder = workspace::target().join("projects");
    let typed = folder.join(format!("{name}.in"));
    let told = folder.join(format!("{name}.out"));
    // Ctrl-D ends the emulator.
    fs::write(&typed, format!("{}\n\x04", WORDS.join("\n")))?;
    let mut qemu = match board {
        Board::Rv32 => {
            let mut qemu = Command::new("qemu-system-riscv32");
            qemu.args(["-M", "virt", "-bios", "none"]);
            qemu
        }
        _ => {
            let mut qemu = Command::new("qemu-system-arm");
            qemu.args(["-M", board.folder()]);
            qemu.args(["-semihosting-config", "enable=on,target=native"]);
            qemu
        }
    };
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(&elf);
    qemu.stdin(File::open(&typed)?).stdout(File::create(&told)?);
    let mut child = qemu.stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("no end; it said:\n{}", fs::read_to_string(&told)?);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let told = fs::read_to_string(&told)?;
    let mut wanted = "self-test: the bits of the file\r\n> ".to_owned();
    for word in WORDS {
        let mut run = Command::new(emulate::palmtop()?);
        run.arg("run").arg(project(&name).join("model.palm"));
        let output = capture(run.arg(word), Duration::from_secs(60))?;
        wanted += &format!("{word}\r\n{}\r\n> ", output.stdout.trim_end());
    }
    if told != wanted {
        bail!("it says\n{told}\nand not\n{wanted}");
    }
    Ok(sizes)
}

/// Builds a project for a board that is not here.
pub fn links(board: &Real, toolchain: &Toolchain) -> Result<String> {
    let name = format!("project-{}", board.name);
    let options = ["--experts", "int4"];
    Ok(build(&name, board.name, board.target, toolchain, &options)?.1)
}

fn project(name: &str) -> PathBuf {
    workspace::target().join("projects").join(name)
}

/// Makes a project and builds it: the program, and what the linker says of it.
fn build(
    name: &str,
    board: &str,
    target: &str,
    toolchain: &Toolchain,
    options: &[&str],
) -> Result<(PathBuf, String)> {
    let folder = project(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut new = Command::new(emulate::palmtop()?);
    new.arg("new").arg(&folder).args(["--board", board]);
    new.arg("--model").arg(bench::shipped());
    new.args(["--source", "32", "--target", "48"]).args(options);
    let output = capture(&mut new, Duration::from_secs(120))?;
    if !output.status.success() {
        bail!("palmtop new:\n{}", output.tail(10));
    }
    let mut cargo = toolchain.cargo(target, &folder, "build");
    // Other flags than the boards', so another folder.
    cargo.env(
        "CARGO_TARGET_DIR",
        workspace::target().join("projects/target"),
    );
    let output = capture(cargo.arg("--release"), Duration::from_secs(1500))?;
    if !output.status.success() {
        bail!("{name} does not build:\n{}", output.tail(40));
    }
    let elf = workspace::target().join("projects/target").join(target);
    let elf = elf.join("release").join(name);
    let bytes = |region: &str| {
        let mut lines = output.stderr.lines();
        let line = lines.find(|line| line.trim_start().starts_with(region));
        line.and_then(|line| line.split(':').nth(1)).map(|rest| {
            rest.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    // What says it is not there when nothing had to be linked anew.
    let sizes = match (bytes("FLASH"), bytes("RAM"), bytes("DROM"), bytes("DRAM")) {
        (Some(flash), Some(ram), ..) => format!("flash {flash}, RAM {ram}"),
        (_, _, Some(data), Some(ram)) => format!("data in flash {data}, RAM {ram}"),
        _ => String::new(),
    };
    fs::metadata(&elf).with_context(|| elf.display().to_string())?;
    Ok((elf, sizes))
}
