//! The gate: from a token's state to its k experts and their weights.
//!
//! Fedus et al. 2022, section 2.1 (`SwitchTransformersTop1Router`); Costa-jussà et al. 2022
//! (`NllbMoeTop2Router`); Jiang et al. 2024 (`MixtralSparseMoeBlock`); Roller et al. 2021 for
//! routing by token.

use super::dispatch::{normalize_pair, waits};
use super::trace::{Route, RouteTrace, Stack};
use crate::format::{LayerRecord, Palm, Policy};
use crate::kernels::{float, softmax};
use crate::tensor::{Matrix, Table, bytes};

/// The rule by which a layer's tokens find their experts.
pub(crate) struct RouterView<'m> {
    policy: Policy,
    experts: usize,
    weights: Table<'m>,
    /// A value an expert, or none.
    bias: &'m [f32],
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

impl<'m> RouterView<'m> {
    /// The router of a layer.
    pub fn resident(palm: &Palm<'m>, record: &LayerRecord) -> Self {
        Self {
            policy: record.policy,
            experts: record.experts.into(),
            weights: Table::resident(palm, record.router),
            bias: Matrix::resident(palm, record.router).bias,
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
            *p = self.bias.get(expert).map_or(logit, |bias| logit + bias);
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

/// An expert that a token goes to, and the weight of its output.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Choice {
    /// Index of the expert in its layer.
    pub expert: u16,
    /// wᵢ.
    pub weight: f32,
}

/// What the router says of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate<const EXPERTS: usize, const TOP_K: usize> {
    /// p = softmax(W·h).
    pub probabilities: [f32; EXPERTS],
    /// S with its weights, best first.
    pub chosen: [Choice; TOP_K],
}

/// g: from a token's normed state to its `TOP_K` of `EXPERTS` experts.
#[derive(Debug, Clone, Copy)]
pub struct Router<'m, const EXPERTS: usize, const TOP_K: usize> {
    palm: Palm<'m>,
    record: LayerRecord,
}

impl<'m, const EXPERTS: usize, const TOP_K: usize> Router<'m, EXPERTS, TOP_K> {
    /// The router of `layer` (an index of the layer table: the encoder's, then the decoder's, then
    /// the mixture block).
    ///
    /// # Panics
    /// In a `const` it does not compile, elsewhere it panics, where the layer has another number of
    /// experts, or sends a token to another number of them; [`Router::try_of`] gives `None`.
    pub const fn of(palm: &Palm<'m>, layer: u32) -> Self {
        match Self::try_of(palm, layer) {
            Some(router) => router,
            None => panic!("the layer has no router of these sizes"),
        }
    }

    /// [`Router::of`], or `None` where the sizes are others.
    pub const fn try_of(palm: &Palm<'m>, layer: u32) -> Option<Self> {
        match palm.mixture(layer) {
            Some(record)
                if record.experts as usize == EXPERTS && record.top_k as usize == TOP_K =>
            {
                Some(Self {
                    palm: *palm,
                    record,
                })
            }
            _ => None,
        }
    }

    /// p = softmax(W·h); S, the `TOP_K` greatest; their weights by the layer's policy. Routing by
    /// position or token takes the first of either.
    pub fn gate(&self, h: &[f32]) -> Gate<EXPERTS, TOP_K> {
        let mut probabilities = [0.0; EXPERTS];
        let (mut experts, mut weights) = ([0; TOP_K], [0.0; TOP_K]);
        let at = TokenAt {
            stack: Stack::Encoder,
            layer: 0,
            token: 0,
            id: 0,
        };
        let places = (&mut experts[..], &mut weights[..]);
        let view = RouterView::resident(&self.palm, &self.record);
        view.choose(h, at, &mut probabilities, places, &mut super::NoTrace);
        if waits(&self.record) {
            normalize_pair(&mut weights);
        }
        let mut chosen = [Choice::default(); TOP_K];
        for (choice, (expert, weight)) in chosen.iter_mut().zip(experts.iter().zip(weights)) {
            *choice = Choice {
                expert: *expert,
                weight,
            };
        }
        Gate {
            probabilities,
            chosen,
        }
    }
}
