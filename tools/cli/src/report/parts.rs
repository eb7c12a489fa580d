//! Common parts, and whether a model fits them.

use serde::Serialize;

use crate::table::Table;
use crate::units::{bytes, margin};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Flash counted for the firmware beside the model.
pub const FIRMWARE_BYTES: u64 = 64 * KIB;
/// RAM counted for the stack and the firmware's statics beside the arena.
pub const STACK_BYTES: u64 = 8 * KIB;

/// A microcontroller as it is commonly sold.
#[derive(Debug)]
struct Chip {
    name: &'static str,
    flash: u64,
    flash_note: &'static str,
    /// The largest contiguous RAM: the arena must lie in it.
    ram: u64,
    /// Whether the stack can lie in another RAM.
    stack_apart: bool,
    ram_note: &'static str,
}

const CHIPS: [Chip; 7] = [
    Chip {
        name: "RP2040",
        flash: 2 * MIB,
        flash_note: "external flash (Pico)",
        ram: 264 * KIB,
        stack_apart: false,
        ram_note: "",
    },
    Chip {
        name: "RP2350",
        flash: 4 * MIB,
        flash_note: "external flash (Pico 2)",
        ram: 520 * KIB,
        stack_apart: false,
        ram_note: "",
    },
    Chip {
        name: "nRF52840",
        flash: MIB,
        flash_note: "",
        ram: 256 * KIB,
        stack_apart: false,
        ram_note: "",
    },
    Chip {
        name: "STM32F407",
        flash: MIB,
        flash_note: "",
        ram: 128 * KIB,
        stack_apart: true,
        ram_note: "of 192 KiB: 128 contiguous; stack in 64 CCM",
    },
    Chip {
        name: "STM32H743",
        flash: 2 * MIB,
        flash_note: "",
        ram: 512 * KIB,
        stack_apart: true,
        ram_note: "of 1 MiB: 512 KiB contiguous (AXI); stack in DTCM",
    },
    Chip {
        name: "ESP32-C3",
        flash: 4 * MIB,
        flash_note: "external flash, typical",
        ram: 384 * KIB,
        stack_apart: false,
        ram_note: "of 400 KiB: 16 are the cache",
    },
    Chip {
        name: "ESP32-S3",
        flash: 8 * MIB,
        flash_note: "external flash, typical",
        ram: 416 * KIB,
        stack_apart: true,
        ram_note: "of 512 KiB: 416 contiguous (SRAM1); stack in SRAM2",
    },
];

/// How a model sits on a part.
#[derive(Debug, Serialize)]
pub struct Fit {
    part: &'static str,
    fits: bool,
    flash_bytes: u64,
    flash_note: &'static str,
    flash_margin: i64,
    arena_ram_bytes: u64,
    ram_note: &'static str,
    ram_margin: i64,
}

/// How a model sits on the common parts.
#[derive(Debug, Serialize)]
pub struct Fits {
    firmware_bytes: u64,
    stack_bytes: u64,
    parts: Vec<Fit>,
}

impl Fits {
    /// Compares a file and an arena with every part.
    pub fn of(file: u64, arena: u64) -> Self {
        let parts = CHIPS
            .iter()
            .map(|chip| {
                let stack = if chip.stack_apart { 0 } else { STACK_BYTES };
                let flash_margin = chip.flash as i64 - (file + FIRMWARE_BYTES) as i64;
                let ram_margin = chip.ram as i64 - (arena + stack) as i64;
                Fit {
                    part: chip.name,
                    fits: flash_margin >= 0 && ram_margin >= 0,
                    flash_bytes: chip.flash,
                    flash_note: chip.flash_note,
                    flash_margin,
                    arena_ram_bytes: chip.ram,
                    ram_note: chip.ram_note,
                    ram_margin,
                }
            })
            .collect();
        Self {
            firmware_bytes: FIRMWARE_BYTES,
            stack_bytes: STACK_BYTES,
            parts,
        }
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&["part", "fits", ">flash", ">left", ">RAM", ">left", "notes"]);
        for fit in &self.parts {
            let verdict = match (fit.fits, fit.flash_margin < 0, fit.ram_margin < 0) {
                (true, ..) => "yes",
                (_, true, true) => "no: flash, RAM",
                (_, true, false) => "no: flash",
                _ => "no: RAM",
            };
            let notes: Vec<&str> = [fit.flash_note, fit.ram_note]
                .into_iter()
                .filter(|note| !note.is_empty())
                .collect();
            table.row([
                fit.part.to_owned(),
                verdict.to_owned(),
                whole(fit.flash_bytes),
                margin(fit.flash_margin),
                whole(fit.arena_ram_bytes),
                margin(fit.ram_margin),
                notes.join("; "),
            ]);
        }
        format!(
            "{}  Assumed beside the model: {} of flash for the firmware, {} of RAM for its stack.\n",
            table.render(),
            bytes(self.firmware_bytes),
            bytes(self.stack_bytes)
        )
    }
}

/// A part's memory, always a whole number of KiB.
fn whole(n: u64) -> String {
    if n.is_multiple_of(MIB) {
        format!("{} MiB", n / MIB)
    } else {
        format!("{} KiB", n / KIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(fits: &Fits, name: &str) -> bool {
        fits.parts.iter().any(|fit| fit.part == name && fit.fits)
    }

    #[test]
    fn a_byte_too_many_does_not_fit() {
        let edge = MIB - FIRMWARE_BYTES;
        assert!(fit(&Fits::of(edge, 0), "nRF52840"));
        assert!(!fit(&Fits::of(edge + 1, 0), "nRF52840"));
        assert!(fit(&Fits::of(0, 248 * KIB), "nRF52840"));
        assert!(!fit(&Fits::of(0, 248 * KIB + 1), "nRF52840"));
    }

    #[test]
    fn the_arena_must_be_contiguous() {
        assert!(fit(&Fits::of(0, 128 * KIB), "STM32F407"));
        assert!(!fit(&Fits::of(0, 128 * KIB + 1), "STM32F407"));
    }
}
