//! The gate: from a token's state to its k experts and their weights.
//!
//! Fedus et al. 2022, section 2.1 (`SwitchTransformersTop1Router`); Costa-jussà et al. 2022
//! (`NllbMoeTop2Router`); Jiang et al. 2024 (`MixtralSparseMoeBlock`); Roller et al. 2021 for
//! routing by token.

use super::trace::{Route, RouteTrace, Stack};
use crate::format::{LayerRecord, Palm, Policy};
use crate::kernels::{float, softmax};
use crate::tensor::{Matrix, bytes};

/// The rule by which a layer's tokens find their experts.
pub(crate) struct Router<'m> {
    policy: Policy,
    experts: usize,
    weights: Matrix<'m>,
    /// The expert of each token id (routing by token).
    table: &'m [u8],
}

/// Whose decision it is.
#[derive(Clone, Copy)]
pub(crate) struct TokenAt {
    pub stack: Stack,
    pub layer: usize,
    pub token: usize,
    /// Id of the token; only routing by token looks at it.
    pub id: u32,
}

impl TokenAt {
    /// Shows that every choice has its place, where there is no capacity.
    pub fn show_placed(
        self,
        probabilities: &[f32],
        (chosen, gates): (&[u16], &[f32]),
        trace: &mut impl RouteTrace,
    ) {
        for (rank, (expert, gate)) in chosen.iter().zip(gates).enumerate() {
            let route = Route {
                stack: self.stack,
                layer: self.layer,
                token: self.token,
                rank,
                probabilities,
                expert: usize::from(*expert),
            };
            trace.placed(&route, true, *gate);
        }
    }
}

impl<'m> Router<'m> {
    /// The router of a layer.
    pub fn resident(palm: &Palm<'m>, record: &LayerRecord) -> Self {
        Self {
            policy: record.policy,
            experts: record.experts.into(),
            weights: Matrix::resident(palm, record.router),
            table: bytes(palm, record.router),
        }
    }

    /// Chooses as many experts as `chosen` has places, best first, for a token whose normed state
    /// is `x`; `gates` gets their weights. `probabilities` has a place for each expert.
    pub fn choose(
        &self,
        x: &[f32],
        at: TokenAt,
        probabilities: &mut [f32],
        (chosen, gates): (&mut [u16], &mut [f32]),
        trace: &mut impl RouteTrace,
    ) {
        if self.policy.is_learned() {
            self.probabilities(x, probabilities);
        } else {
            self.in_turn(at, probabilities, chosen);
        }
        let equal = 1.0 / chosen.len() as f32;
        for rank in 0..chosen.len() {
            let (before, rest) = chosen.split_at_mut_checked(rank).unwrap_or_default();
            let Some(slot) = rest.first_mut() else { return };
            let expert = match self.policy.is_learned() {
                true => greatest(probabilities, before),
                false => usize::from(*slot),
            };
            let TokenAt {
                stack,
                layer,
                token,
                ..
            } = at;
            let wanted = trace.route(&Route {
                stack,
                layer,
                token,
                rank,
                probabilities,
                expert,
            });
            let taken = before.iter().any(|other| usize::from(*other) == wanted);
            let expert = if wanted < self.experts && !taken {
                wanted
            } else {
                expert
            };
            *slot = expert as u16;
            if let Some(gate) = gates.get_mut(rank) {
                *gate = match self.policy.is_learned() {
                    true => probabilities.get(expert).copied().unwrap_or(0.0),
                    false => equal,
                };
            }
        }
        if self.policy == Policy::TopK {
            let sum = gates.iter().fold(0.0, |sum, gate| sum + gate);
            for gate in gates.iter_mut() {
                *gate /= sum;
            }
        }
    }

    /// p = softmax(W·x + b) over the experts, in f32.
    fn probabilities(&self, x: &[f32], probabilities: &mut [f32]) {
        for (expert, p) in probabilities.iter_mut().enumerate() {
            let logit = float::dot(x, self.weights.row(expert));
            *p = self
                .weights
                .bias
                .get(expert)
                .map_or(logit, |bias| logit + bias);
        }
        softmax::softmax(probabilities);
    }

    /// Routing without a router: a first expert by position or by token, and those after it.
    fn in_turn(&self, at: TokenAt, probabilities: &mut [f32], chosen: &mut [u16]) {
        let first = match self.policy {
            Policy::Hash => self
                .table
                .get(at.id as usize)
                .map_or(0, |e| usize::from(*e)),
            _ => at.token,
        };
        probabilities.fill(0.0);
        let equal = 1.0 / chosen.len() as f32;
        for (rank, slot) in chosen.iter_mut().enumerate() {
            let expert = first.saturating_add(rank).checked_rem(self.experts);
            let expert = expert.unwrap_or(0);
            *slot = expert as u16;
            if let Some(p) = probabilities.get_mut(expert) {
                *p = equal;
            }
        }
    }
}

/// The index of the greatest value that is not among `chosen`, the lower among equals.
fn greatest(values: &[f32], chosen: &[u16]) -> usize {
    let (mut best, mut most) = (usize::MAX, f32::NEG_INFINITY);
    for (index, value) in values.iter().enumerate() {
        let free = !chosen.iter().any(|other| usize::from(*other) == index);
        if free && (*value > most || best == usize::MAX) {
            (best, most) = (index, *value);
        }
    }
    best
}
