//! Places at the experts: which tokens of a sequence each expert takes.

use super::router::Choice;
use super::trace::{Route, RouteTrace, Stack};
use crate::format::{LayerRecord, Policy};

/// What a full expert does not take: the token gets nothing of it.
const DROPPED: u16 = u16::MAX;

/// torch.finfo(torch.float32).eps: the least sum that NLLB's gates are divided by.
const EPSILON: f32 = f32::EPSILON;

/// Where the tokens of a sequence go: `top_k` places a token.
pub(crate) struct DispatchView<'a> {
    /// Expert of each place, or [`DROPPED`].
    pub choices: &'a mut [u16],
    pub gates: &'a mut [f32],
    /// Places that were asked of each expert so far.
    pub counts: &'a mut [u32],
    pub top_k: usize,
    /// Most tokens an expert takes; 0: no limit.
    pub capacity: u32,
}

/// Whether an expert that was asked for so many places has one more: `cumsum <= capacity`.
const fn has_room(asked: u32, capacity: u32) -> bool {
    capacity == 0 || asked < capacity
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

impl DispatchView<'_> {
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
        let kept = has_room(*count, capacity);
        *count = count.saturating_add(1);
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

/// A token at an expert, and the weight of its output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Position of the token in its sequence.
    pub token: u32,
    /// wᵢ.
    pub weight: f32,
}

/// An expert has no place left: nothing of it is added for this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the expert's capacity is used up")
    }
}

impl core::error::Error for Full {}

/// The tokens of a sequence at their experts: `CAPACITY` places at each of `EXPERTS` experts, given
/// in the order of the calls. No sizes of zero:
///
/// ```
/// # use palmtop::mixture::{Choice, Dispatch, Full};
/// let mut dispatch = Dispatch::<4, 2>::new();
/// let first = |expert| Choice { expert, weight: 0.75 };
/// assert_eq!(dispatch.place(0, first(3)), Ok(()));
/// assert_eq!(dispatch.place(1, first(3)), Ok(()));
/// assert_eq!(dispatch.place(2, first(3)), Err(Full));
/// assert_eq!(dispatch.tokens_of(3).len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Dispatch<const EXPERTS: usize, const CAPACITY: usize> {
    queues: [heapless::Vec<Place, CAPACITY>; EXPERTS],
}

impl<const EXPERTS: usize, const CAPACITY: usize> Dispatch<EXPERTS, CAPACITY> {
    /// All places free.
    pub const fn new() -> Self {
        const {
            assert!(
                EXPERTS > 0 && CAPACITY > 0,
                "no experts, or no room at them"
            )
        };
        Self {
            queues: [const { heapless::Vec::new() }; EXPERTS],
        }
    }

    /// Takes the next place at the chosen expert for `token`.
    ///
    /// # Errors
    /// [`Full`] where `CAPACITY` tokens came before, or there is no such expert.
    pub fn place(&mut self, token: u32, choice: Choice) -> Result<(), Full> {
        let queue = self.queues.get_mut(usize::from(choice.expert));
        let weight = choice.weight;
        let queue = queue.filter(|queue| has_room(queue.len() as u32, CAPACITY as u32));
        match queue.map(|queue| queue.push(Place { token, weight })) {
            Some(Ok(())) => Ok(()),
            _ => Err(Full),
        }
    }

    /// The tokens of an expert, in the order in which they came; none for an expert that is not.
    pub fn tokens_of(&self, expert: u16) -> &[Place] {
        let queue = self.queues.get(usize::from(expert));
        queue.map_or(&[], |queue| queue.as_slice())
    }
}

impl<const EXPERTS: usize, const CAPACITY: usize> Default for Dispatch<EXPERTS, CAPACITY> {
    fn default() -> Self {
        Self::new()
    }
}
