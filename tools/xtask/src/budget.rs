//! The budget that CI holds: `budget.toml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::boards::Board;
use crate::emulate::grouped;

/// Most bytes, by board or target.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Budget {
    /// Flash of the library in the any-model firmware.
    pub any_model: BTreeMap<String, u64>,
    /// Flash of a firmware for g2p alone.
    pub g2p_alone: BTreeMap<String, u64>,
    /// Stack of the small models.
    pub stack: BTreeMap<String, u64>,
}

/// The file.
pub fn load() -> Result<Budget> {
    toml::from_str(include_str!("../budget.toml")).context("tools/xtask/budget.toml")
}

/// Refuses more than there is in a part of the budget; what has no number there may take any.
pub fn hold(part: &BTreeMap<String, u64>, name: &str, bytes: u64) -> Result<()> {
    match part.get(name) {
        Some(&most) if bytes > most => bail!(
            "{} bytes on {name}, and the budget has {}",
            grouped(bytes),
            grouped(most)
        ),
        _ => Ok(()),
    }
}

/// Holds the stack of a board.
pub fn hold_stack(board: Board, bytes: u64) -> Result<()> {
    hold(&load()?.stack, board.name(), bytes).context("stack")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_sound_and_holds() {
        let budget = load().unwrap();
        let most = budget.stack["m4f"];
        assert!(hold(&budget.stack, "m4f", most).is_ok());
        assert!(hold(&budget.stack, "m4f", most + 1).is_err());
        assert!(hold(&budget.stack, "none", u64::MAX).is_ok());
        for name in budget.any_model.keys().chain(budget.stack.keys()) {
            assert!(
                Board::ALL.iter().any(|board| board.name() == name),
                "{name}"
            );
        }
    }
}
