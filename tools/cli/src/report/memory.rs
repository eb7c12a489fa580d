//! Exact RAM at given limits.

use palmtop::{Limits, Model};
use serde::Serialize;

use crate::table::Table;
use crate::units::{bytes, count};

/// RAM of the arena, and what takes it.
#[derive(Debug, Serialize)]
pub struct Memory {
    source: u32,
    target: u32,
    arena_bytes: u64,
    phases: [Phase; 3],
}

/// What lies in the arena at one time. The phases share the arena: the greatest is its size.
#[derive(Debug, Serialize)]
struct Phase {
    phase: &'static str,
    encoder_states: u64,
    cross_kv: u64,
    self_kv: u64,
    scratch: u64,
    total: u64,
}

impl Memory {
    /// The plan of the core.
    pub fn of(model: &Model<'_>, limits: Limits) -> Self {
        let plan = model.memory_plan(limits);
        let phases = [
            Phase {
                phase: "encode",
                encoder_states: plan.encoder_states,
                cross_kv: 0,
                self_kv: 0,
                scratch: plan.encode_scratch,
                total: plan.encode(),
            },
            Phase {
                phase: "cross-attention K/V",
                encoder_states: plan.encoder_states,
                cross_kv: plan.cross_kv,
                self_kv: 0,
                scratch: plan.cross_scratch,
                total: plan.cross(),
            },
            Phase {
                phase: "decode",
                encoder_states: 0,
                cross_kv: plan.cross_kv,
                self_kv: plan.self_kv,
                scratch: plan.decoder_state + plan.decode_scratch,
                total: plan.decode(),
            },
        ];
        Self {
            source: limits.source,
            target: limits.target,
            arena_bytes: model.arena_bytes(limits) as u64,
            phases,
        }
    }

    /// Bytes of the arena.
    pub fn arena(&self) -> u64 {
        self.arena_bytes
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            "phase",
            ">encoder states",
            ">cross K/V",
            ">self K/V",
            ">scratch",
            ">together",
        ]);
        let cell = |n: u64| if n == 0 { "–".to_owned() } else { count(n) };
        for phase in &self.phases {
            table.row([
                phase.phase.to_owned(),
                cell(phase.encoder_states),
                cell(phase.cross_kv),
                cell(phase.self_kv),
                cell(phase.scratch),
                cell(phase.total),
            ]);
        }
        format!(
            "  arena {} bytes ({}): exactly the greatest phase\n{}",
            count(self.arena_bytes),
            bytes(self.arena_bytes),
            table.render()
        )
    }
}
