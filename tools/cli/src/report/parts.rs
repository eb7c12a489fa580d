//! Common parts, and whether a model fits them.

use serde::Serialize;

use crate::boards::{self, Part};
use crate::table::Table;
use crate::units::{bytes, margin};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Flash counted for the firmware beside the model.
pub const FIRMWARE_BYTES: u64 = 64 * KIB;
/// RAM counted for the stack and the firmware's statics beside the arena.
pub const STACK_BYTES: u64 = 8 * KIB;

/// How a model sits on a part.
#[derive(Debug, Serialize)]
pub struct Fit {
    part: String,
    fits: bool,
    flash_bytes: u64,
    flash_note: String,
    flash_margin: i64,
    /// Of the largest RAM: the arena must lie in it.
    arena_ram_bytes: u64,
    ram_note: String,
    ram_margin: i64,
}

/// How a model sits on the common parts.
#[derive(Debug, Serialize)]
pub struct Fits {
    firmware_bytes: u64,
    stack_bytes: u64,
    parts: Vec<Fit>,
}

impl Fit {
    fn of(part: Part, file: u64, arena: u64) -> Self {
        let stack_apart = boards::stack_apart(&part.regions, STACK_BYTES);
        let stack = if stack_apart { 0 } else { STACK_BYTES };
        let (ram, name) = match part.regions.first() {
            Some(region) => (region.bytes, region.name.as_str()),
            None => (0, ""),
        };
        let ram_note = match (part.regions.len(), stack_apart) {
            (..=1, _) => String::new(),
            (_, true) => format!("{name}, of {} in all; stack beside it", whole(part.ram)),
            (_, false) => format!("{name}, of {} in all", whole(part.ram)),
        };
        let flash_margin = part.flash as i64 - (file + FIRMWARE_BYTES) as i64;
        let ram_margin = ram as i64 - (arena + stack) as i64;
        Self {
            fits: flash_margin >= 0 && ram_margin >= 0,
            flash_bytes: part.flash,
            flash_note: part.title,
            flash_margin,
            arena_ram_bytes: ram,
            ram_note,
            ram_margin,
            part: part.mcu,
        }
    }
}

impl Fits {
    /// Compares a file and an arena with every part.
    pub fn of(file: u64, arena: u64) -> Self {
        let parts = boards::parts().into_iter();
        let parts = parts.map(|part| Fit::of(part, file, arena)).collect();
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
            let notes = [fit.flash_note.as_str(), &fit.ram_note];
            let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
            table.row([
                fit.part.clone(),
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
        assert!(fit(&Fits::of(0, 128 * KIB), "STM32F407VG"));
        assert!(!fit(&Fits::of(0, 128 * KIB + 1), "STM32F407VG"));
    }
}
