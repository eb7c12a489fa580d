//! Places at the experts: which tokens of a sequence each expert takes.

use super::trace::{Route, RouteTrace, Stack};
use crate::format::{LayerRecord, Policy};

/// What a full expert does not take: the token gets nothing of it.
const DROPPED: u16 = u16::MAX;

/// torch.finfo(torch.float32).eps: the least sum that NLLB's gates are divided by.
const EPSILON: f32 = f32::EPSILON;

/// Where the tokens of a sequence go: `top_k` places a token.
pub(crate) struct Dispatch<'a> {
    /// Expert of each place, or [`DROPPED`].
    pub choices: &'a mut [u16],
    pub gates: &'a mut [f32],
    /// Places that were asked of each expert so far.
    pub counts: &'a mut [u32],
    pub top_k: usize,
    /// Most tokens an expert takes; 0: no limit.
    pub capacity: u32,
}

/// The capacity of a layer's experts for a call with so many tokens; 0: no limit.
pub(crate) fn capacity_of(record: &LayerRecord, tokens: usize) -> u32 {
    if record.capacity_fraction > 0.0 {
        let exact = record.capacity_fraction * tokens as f32;
        let whole = exact as u32;
        whole.saturating_add(u32::from((whole as f32) < exact))
    } else {
        record.capacity
    }
}

impl Dispatch<'_> {
    /// The places of `token`.
    pub fn of(&mut self, token: usize) -> (&mut [u16], &mut [f32]) {
        let start = token.saturating_mul(self.top_k);
        let end = start.saturating_add(self.top_k);
        (
            self.choices.get_mut(start..end).unwrap_or_default(),
            self.gates.get_mut(start..end).unwrap_or_default(),
        )
    }

    /// Asks a place for the choice of `rank` of `token`: `cumsum <= capacity`, in the order of
    /// the calls. Without one the choice is dropped, its gate 0. Gives the expert and whether there
    /// was a place.
    fn place(&mut self, token: usize, rank: usize) -> (usize, bool) {
        let capacity = self.capacity;
        let index = token.saturating_mul(self.top_k).saturating_add(rank);
        let (Some(choice), Some(gate)) = (self.choices.get_mut(index), self.gates.get_mut(index))
        else {
            return (0, false);
        };
        let expert = usize::from(*choice);
        let Some(count) = self.counts.get_mut(expert) else {
            return (expert, false);
        };
        *count = count.saturating_add(1);
        let kept = capacity == 0 || *count <= capacity;
        if !kept {
            *choice = DROPPED;
            *gate = 0.0;
        }
        (expert, kept)
    }

    /// Places all choices of `token`, in rank order, and shows them.
    pub fn place_token(
        &mut self,
        (stack, layer, token): (Stack, usize, usize),
        probabilities: &[f32],
        trace: &mut impl RouteTrace,
    ) {
        for rank in 0..self.top_k {
            let (expert, kept) = self.place(token, rank);
            let gate = self.of(token).1.get(rank).copied().unwrap_or(0.0);
            let route = Route {
                stack,
                layer,
                token,
                rank,
                probabilities,
                expert,
            };
            trace.placed(&route, kept, gate);
        }
    }

    /// NLLB-MoE: the first choices of all `tokens`, then all second ones, and the gates
    /// p / (p₁ + p₂), normalized before or after dropping (`NllbMoeTop2Router.route_tokens`).
    pub fn place_all(
        &mut self,
        (stack, layer, tokens): (Stack, usize, usize),
        normalize_first: bool,
        trace: &mut impl RouteTrace,
    ) {
        if normalize_first {
            self.normalize(tokens);
        }
        // What a place was asked for is needed to show it; a dropped one forgets its expert.
        for token in 0..tokens {
            let (expert, kept) = self.place(token, 0);
            if !kept {
                show(trace, (stack, layer, token, 0), expert, (false, 0.0));
            }
        }
        for token in 0..tokens {
            let (expert, kept) = self.place(token, 1);
            if !kept {
                show(trace, (stack, layer, token, 1), expert, (false, 0.0));
            }
        }
        if !normalize_first {
            self.normalize(tokens);
        }
        for token in 0..tokens {
            let (choices, gates) = self.of(token);
            for (rank, (choice, gate)) in choices.iter().zip(gates).enumerate() {
                if *choice != DROPPED {
                    let at = (stack, layer, token, rank);
                    show(trace, at, usize::from(*choice), (true, *gate));
                }
            }
        }
    }

    fn normalize(&mut self, tokens: usize) {
        for token in 0..tokens {
            normalize_pair(self.of(token).1);
        }
    }
}

/// Gates over their sum, which is at least [`EPSILON`].
pub(crate) fn normalize_pair(gates: &mut [f32]) {
    let sum = gates.iter().fold(0.0, |sum, gate| sum + gate);
    let sum = if sum > EPSILON { sum } else { EPSILON };
    for gate in gates.iter_mut() {
        *gate /= sum;
    }
}

fn show(
    trace: &mut impl RouteTrace,
    (stack, layer, token, rank): (Stack, usize, usize, usize),
    expert: usize,
    (kept, gate): (bool, f32),
) {
    let route = Route {
        stack,
        layer,
        token,
        rank,
        probabilities: &[],
        expert,
    };
    trace.placed(&route, kept, gate);
}

/// Whether a layer's places are given only when all its tokens have chosen.
pub(crate) fn waits(record: &LayerRecord) -> bool {
    record.policy == Policy::Nllb
}
