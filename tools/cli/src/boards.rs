//! The boards that one can buy, from `boards/boards.toml`.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, misused};

/// The table; part of this program, so that it works wherever it is installed.
const TABLE: &str = include_str!("../../../boards/boards.toml");

/// A board.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Board {
    /// What the commands call it.
    pub name: String,
    /// What it is sold as.
    pub title: String,
    /// The microcontroller.
    pub mcu: String,
    /// Its core.
    pub core: String,
    /// The emulated machine whose instruction counts stand for the core.
    pub class: String,
    /// The compiler's target triple.
    pub target: String,
    /// What `palmtop convert --target` takes.
    pub layout: String,
    /// Clock in MHz.
    pub mhz: u64,
    /// Bytes that a model and its firmware share.
    pub flash: u64,
    /// Megabytes a second from flash: line by line, and at best.
    pub flash_mb_s: [f64; 2],
    /// Where these come from.
    pub flash_source: String,
    /// Further flash, not mapped: for experts that are read on demand.
    pub external: Option<External>,
    /// Bytes of all RAM.
    pub ram: u64,
    /// Its parts, the largest first.
    pub regions: Vec<Region>,
}

/// Flash that is read on demand.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct External {
    /// The chip.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Megabytes a second.
    pub mb_s: f64,
}

/// A part of the RAM.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Region {
    /// Its name in the linker's script.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// A microcontroller with its memory.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    /// The microcontroller.
    pub mcu: String,
    /// What has this much flash.
    pub title: String,
    /// Bytes that a model and its firmware share.
    pub flash: u64,
    /// Bytes of all RAM.
    pub ram: u64,
    /// Its parts, the largest first.
    pub regions: Vec<Region>,
}

impl Board {
    /// The RAM in which the arena must lie as a whole.
    pub fn arena_region(&self) -> &Region {
        &self.regions[0]
    }

    /// Whether there is RAM for the stack beside the arena's.
    pub fn stack_apart(&self, stack: u64) -> bool {
        stack_apart(&self.regions, stack)
    }
}

/// Whether one of these, the arena's first, is room for the stack beside the arena's.
pub fn stack_apart(regions: &[Region], stack: u64) -> bool {
    let mut others = regions.iter().skip(1);
    others.any(|region| region.bytes >= 2 * stack)
}

/// All of `boards.toml`.
#[derive(Deserialize)]
struct Table {
    board: Vec<Board>,
    part: Vec<Part>,
}

fn table() -> &'static Table {
    static BOARDS: OnceLock<Table> = OnceLock::new();
    BOARDS.get_or_init(|| toml::from_str(TABLE).expect("boards.toml is part of this program"))
}

/// All boards.
pub fn all() -> &'static [Board] {
    &table().board
}

/// The microcontrollers of the boards, each once, and those for which there is no board here.
pub fn parts() -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for board in all() {
        // Which of its cores is no matter of memory.
        let mcu = board.mcu.split(',').next().unwrap_or_default();
        if parts.iter().all(|part| part.mcu != mcu) {
            parts.push(Part {
                mcu: mcu.to_owned(),
                title: board.title.clone(),
                flash: board.flash,
                ram: board.ram,
                regions: board.regions.clone(),
            });
        }
    }
    parts.extend(table().part.iter().cloned());
    parts
}

/// The board of that name, or the first with that microcontroller: `pico2`, `RP2350`, `stm32f407`.
pub fn find(name: &str) -> Result<&'static Board, Failure> {
    let plain = |text: &str| -> String {
        let kept = text.chars().filter(char::is_ascii_alphanumeric);
        kept.collect::<String>().to_lowercase()
    };
    let wanted = plain(name);
    let by_name = all().iter().find(|board| plain(&board.name) == wanted);
    let by_mcu = || {
        let mut boards = all().iter();
        boards.find(|board| wanted.len() >= 5 && plain(&board.mcu).starts_with(&wanted))
    };
    by_name.or_else(by_mcu).ok_or_else(|| {
        let names: Vec<&str> = all().iter().map(|board| board.name.as_str()).collect();
        misused(format!("`{name}` is no board that is known here")).help(format!(
            "boards: {}; or a microcontroller, as RP2350",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        assert!(all().len() >= 6);
        for board in all() {
            let sum: u64 = board.regions.iter().map(|region| region.bytes).sum();
            assert_eq!(sum, board.ram, "{}", board.name);
            let largest = board.regions.iter().map(|region| region.bytes).max();
            assert_eq!(Some(board.arena_region().bytes), largest, "{}", board.name);
            assert!(board.flash_mb_s[0] <= board.flash_mb_s[1], "{}", board.name);
            let layout: Result<palmtop_convert::Target, _> = board.layout.parse();
            assert!(layout.is_ok(), "{}", board.name);
        }
        for part in parts() {
            let bytes = part.regions.iter().map(|region| region.bytes);
            assert_eq!(bytes.clone().sum::<u64>(), part.ram, "{}", part.mcu);
            assert_eq!(bytes.max(), Some(part.regions[0].bytes), "{}", part.mcu);
        }
        assert_eq!(parts().len(), 7);
    }

    #[test]
    fn boards_have_several_names() {
        assert_eq!(find("pico2").unwrap().name, "pico2");
        assert_eq!(find("RP2350").unwrap().name, "pico2");
        assert_eq!(find("nrf52840").unwrap().name, "nrf52840-dk");
        assert_eq!(find("stm32f407").unwrap().name, "stm32f4-discovery");
        assert_eq!(find("Pico-2").unwrap().name, "pico2");
        assert!(find("pic").is_err());
        assert!(find("esp8266").is_err());
    }
}
