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
    phases: Vec<Phase>,
    /// With experts read from storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    paged: Option<Paged>,
}

/// RAM if experts are read from storage through slots.
#[derive(Debug, Serialize)]
struct Paged {
    slots: usize,
    slot_bytes: u64,
    /// The arena with its slots: `Model::paged_arena_bytes`.
    arena_bytes: u64,
    /// Everything of the file but the experts: in flash that is mapped, or in RAM.
    resident_bytes: u64,
    /// Both together, where nothing is mapped.
    total_bytes: u64,
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

/// What takes the arena in one phase.
#[derive(Debug)]
pub struct Uses {
    /// The phase.
    pub phase: &'static str,
    /// Bytes by use.
    pub uses: [(&'static str, u64); 4],
    /// Bytes together.
    pub total: u64,
}

impl Memory {
    /// The plan of the core.
    pub fn of(model: &Model<'_>, limits: Limits, slots: Option<usize>) -> Self {
        let plan = model.memory_plan(limits);
        let mut phases = vec![
            Phase {
                phase: "encode",
                encoder_states: plan.encoder_states,
                cross_kv: 0,
                self_kv: 0,
                scratch: plan.encode_scratch + plan.source_ids,
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
        let h = model.palm().header();
        if h.decoder_only {
            phases.drain(..2);
        }
        let paged = |slots: usize| {
            let arena_bytes = model.paged_arena_bytes(limits, slots) as u64;
            let resident_bytes = u64::from(h.experts_section.offset);
            Paged {
                slots: slots.min(h.experts.count as usize),
                slot_bytes: model.slot_bytes() as u64,
                arena_bytes,
                resident_bytes,
                total_bytes: arena_bytes + resident_bytes,
            }
        };
        Self {
            source: limits.source,
            target: limits.target,
            arena_bytes: model.arena_bytes(limits) as u64,
            phases,
            paged: slots.filter(|_| h.experts.count > 0).map(paged),
        }
    }

    /// Bytes of the arena.
    pub fn arena(&self) -> u64 {
        self.arena_bytes
    }

    /// The limits, in words: `at source 32, target 48`.
    pub fn at(&self) -> String {
        match self.source {
            0 => format!("at {} positions", self.target),
            source => format!("at source {source}, target {}", self.target),
        }
    }

    /// The phases.
    pub fn phases(&self) -> Vec<Uses> {
        let uses = |p: &Phase| Uses {
            phase: p.phase,
            uses: [
                ("encoder states", p.encoder_states),
                ("cross-attention K/V", p.cross_kv),
                ("self-attention K/V", p.self_kv),
                ("scratch", p.scratch),
            ],
            total: p.total,
        };
        self.phases.iter().map(uses).collect()
    }

    /// RAM with experts read from storage.
    pub fn paged_line(&self) -> Option<String> {
        let p = self.paged.as_ref()?;
        Some(format!(
            "paged, {} slots of {}: arena {} ({}), resident part {} ({}), together {}",
            p.slots,
            bytes(p.slot_bytes),
            count(p.arena_bytes),
            bytes(p.arena_bytes),
            count(p.resident_bytes),
            bytes(p.resident_bytes),
            bytes(p.total_bytes)
        ))
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
        let paged = self
            .paged_line()
            .map_or(String::new(), |line| format!("  {line}\n"));
        format!(
            "  arena {} bytes ({}): exactly the greatest phase\n{}{paged}",
            count(self.arena_bytes),
            bytes(self.arena_bytes),
            table.render()
        )
    }
}
