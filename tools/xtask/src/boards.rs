//! The emulated boards: where each one's crate lies, how QEMU is started, how firmware is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::process;
use crate::toolchain::{self, Toolchain};
use crate::workspace;

/// An emulated board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Cortex-M0: microbit with enlarged memory.
    M0,
    /// Cortex-M3: mps2-an385.
    M3,
    /// Cortex-M4F: mps2-an386.
    M4f,
    /// Cortex-M7: mps2-an500.
    M7,
    /// Cortex-M33: mps2-an505.
    M33,
    /// Cortex-M55: mps3-an547.
    M55,
    /// RV32IMAC: riscv32 virt.
    Rv32,
}

impl Board {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::M0,
        Self::M3,
        Self::M4f,
        Self::M7,
        Self::M33,
        Self::M55,
        Self::Rv32,
    ];

    /// The name that the command line and the firmware use.
    pub fn name(self) -> &'static str {
        match self {
            Self::M0 => "m0",
            Self::M3 => "m3",
            Self::M4f => "m4f",
            Self::M7 => "m7",
            Self::M33 => "m33",
            Self::M55 => "m55",
            Self::Rv32 => "rv32",
        }
    }

    /// The folder in `boards/`, which is also the crate's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::M0 => "microbit-qemu",
            Self::M3 => "mps2-an385",
            Self::M4f => "mps2-an386",
            Self::M7 => "mps2-an500",
            Self::M33 => "mps2-an505",
            Self::M55 => "mps3-an547",
            Self::Rv32 => "riscv32-virt",
        }
    }

    /// The target triple.
    pub fn target(self) -> &'static str {
        match self {
            Self::M0 => "thumbv6m-none-eabi",
            Self::M3 => "thumbv7m-none-eabi",
            Self::M4f | Self::M7 => "thumbv7em-none-eabihf",
            Self::M33 | Self::M55 => "thumbv8m.main-none-eabihf",
            Self::Rv32 => "riscv32imac-unknown-none-elf",
        }
    }

    /// What `palmtop convert --target` calls the layout that this board reads fast.
    pub fn layout_target(self) -> &'static str {
        match self {
            Self::M55 => "thumbv8.1m.main",
            _ => self.target(),
        }
    }

    /// Where the model goes, and how many bytes there are. The same as in the board's `main.rs`.
    pub fn model_window(self) -> (u32, u64) {
        match self {
            Self::M0 => (0x0010_0000, 3 << 20),
            Self::M3 | Self::M4f => (0x2100_0000, 16 << 20),
            Self::M7 => (0x6000_0000, 16 << 20),
            Self::M33 => (0x8000_0000, 16 << 20),
            Self::M55 => (0x6000_0000, 256 << 20),
            Self::Rv32 => (0x8400_0000, 64 << 20),
        }
    }

    /// Where in flash the resident part of a model goes whose experts are paged, and how many bytes
    /// there are. The same as in the board's `main.rs`.
    pub fn flash_window(self) -> (u32, u64) {
        match self {
            Self::M0 | Self::M3 | Self::M4f | Self::M7 => (0x0010_0000, 3 << 20),
            Self::M33 => (0x1010_0000, 3 << 20),
            Self::M55 => (0x0004_0000, 256 << 10),
            Self::Rv32 => self.model_window(),
        }
    }

    /// QEMU for this board, with counted instructions and semihosting, without model and firmware.
    pub fn qemu(self) -> Command {
        let (program, machine): (&str, &[&str]) = match self {
            Self::M0 => (
                "qemu-system-arm",
                &[
                    "microbit",
                    "-global",
                    "nrf51-soc.flash-size=4194304",
                    "-global",
                    "nrf51-soc.sram-size=262144",
                ],
            ),
            Self::Rv32 => ("qemu-system-riscv32", &["virt", "-bios", "none"]),
            _ => ("qemu-system-arm", &[self.folder()]),
        };
        let mut command = Command::new(program);
        command.arg("-M").args(machine);
        // One instruction is 64 ns of virtual time on Arm (SysTick counts it), 1 ns on RISC-V
        // (minstret counts it).
        command.args([
            "-icount",
            if self == Self::Rv32 {
                "shift=0"
            } else {
                "shift=6"
            },
        ]);
        command.args(["-nographic", "-monitor", "none", "-serial", "none"]);
        command.args(["-semihosting-config", "enable=on,target=native"]);
        command
    }

    /// Builds the firmware and returns the path of its ELF file.
    pub fn build(self, toolchain: &Toolchain) -> Result<PathBuf> {
        self.build_with(toolchain, &[], &[])
    }

    /// As [`Board::build`], of the firmware that reads experts on demand.
    pub fn build_paged(self, toolchain: &Toolchain) -> Result<PathBuf> {
        self.build_variant(toolchain, &["paged"])
    }

    /// As [`Board::build`], of the firmware that has no model but the kernels by themselves.
    pub fn build_kernels(self, toolchain: &Toolchain) -> Result<PathBuf> {
        self.build_variant(toolchain, &["kernels"])
    }

    /// As [`Board::build`], of the firmware that works in bounded units, mapped or paged.
    pub fn build_units(self, toolchain: &Toolchain, paged: bool) -> Result<PathBuf> {
        let features: &[&str] = if paged {
            &["units", "paged"]
        } else {
            &["units"]
        };
        self.build_variant(toolchain, features)
    }

    /// The firmware with features, beside the other one, which cargo would put into its place.
    fn build_variant(self, toolchain: &Toolchain, features: &[&str]) -> Result<PathBuf> {
        let named = features
            .iter()
            .map(|name| format!("palmtop-firmware/{name}"));
        let named: Vec<String> = named.collect();
        let names: Vec<&str> = named.iter().map(String::as_str).collect();
        let built = self.build_with(toolchain, &names, &[])?;
        let variant = built.with_file_name(format!("{}-{}", self.folder(), features.join("-")));
        fs::copy(&built, &variant)?;
        Ok(variant)
    }

    /// As [`Board::build`], with features and with further arguments for the linker.
    pub fn build_with(
        self,
        toolchain: &Toolchain,
        features: &[&str],
        link_args: &[String],
    ) -> Result<PathBuf> {
        let folder = workspace::root().join("boards").join(self.folder());
        let mut command = toolchain.cargo(self.target(), &folder, "rustc");
        command.args(["--release", "--bin", self.folder()]);
        for feature in features {
            command.args(["--features", feature]);
        }
        if !link_args.is_empty() {
            command.arg("--");
            for argument in link_args {
                command.arg("-C").arg(format!("link-arg={argument}"));
            }
        }
        let output = process::capture(&mut command, Duration::from_secs(900))?;
        if !output.status.success() {
            bail!(
                "the firmware for {} does not build:\n{}",
                self.name(),
                output.stderr
            );
        }
        Ok(self.elf())
    }

    /// Where the built firmware lies.
    fn elf(self) -> PathBuf {
        workspace::board_target()
            .join(self.target())
            .join("release")
            .join(self.folder())
    }
}

/// The argument that makes QEMU place a file at an address.
pub fn loader(file: &Path, address: u32) -> String {
    let file = file.to_string_lossy().replace(',', ",,");
    format!("loader,file={file},addr={address:#x},force-raw=on")
}

/// Options of `firmware`.
#[derive(clap::Args)]
pub struct FirmwareArgs {
    /// The board.
    board: Board,
}

/// Builds a board's firmware and prints where it is.
pub fn firmware(args: &FirmwareArgs) -> Result<()> {
    let elf = args.board.build(&toolchain::find()?)?;
    println!("{}", elf.display());
    Ok(())
}
