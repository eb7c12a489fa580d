//! Routing (Fedus et al. 2022, "Switch Transformers", section 2.1; `SwitchTransformersTop1Router`).

use crate::kernels::{float, softmax};
use crate::tensor::Matrix;

/// One of the two stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stack {
    /// The encoder.
    Encoder,
    /// The decoder.
    Decoder,
}

/// A routing decision, as it is shown to a [`RouteTrace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Route<'a> {
    /// The stack.
    pub stack: Stack,
    /// The layer in its stack, from 0.
    pub layer: usize,
    /// The token's position.
    pub token: usize,
    /// The router's probabilities, one per expert.
    pub probabilities: &'a [f32],
    /// The expert chosen: the greatest probability, the lower index among equals.
    pub expert: usize,
}

/// Watches routing decisions, and may replace them (to replay those of another run).
///
/// A decoder step whose expert could not be read ([`Error::Storage`](crate::Error::Storage)) and
/// that is polled again shows the same decision again.
pub trait RouteTrace {
    /// Called for each token of each sparse layer; gives the expert that the token goes to. An
    /// expert that does not exist is taken as the chosen one.
    fn route(&mut self, route: &Route<'_>) -> usize {
        route.expert
    }

    /// Called after [`RouteTrace::route`]: whether the expert still had room, and the gate.
    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        let _ = (route, kept, gate);
    }
}

/// Watches nothing; costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl RouteTrace for NoTrace {}

/// The router of a sparse layer: softmax(W·x + b) over the experts, in f32.
pub(crate) struct Router<'m> {
    pub weights: Matrix<'m>,
}

impl Router<'_> {
    /// Fills `probabilities` and gives the index of the greatest, the lower among equals.
    pub fn probabilities(&self, x: &[f32], probabilities: &mut [f32]) -> usize {
        for (expert, p) in probabilities.iter_mut().enumerate() {
            let logit = float::dot(x, self.weights.row(expert));
            *p = self
                .weights
                .bias
                .get(expert)
                .map_or(logit, |bias| logit + bias);
        }
        softmax::softmax(probabilities);
        let (mut best, mut greatest) = (0, f32::NEG_INFINITY);
        for (expert, p) in probabilities.iter().enumerate() {
            if *p > greatest {
                (best, greatest) = (expert, *p);
            }
        }
        best
    }
}

/// What a full expert does not take: the token's expert output is zero, its residual stays.
pub(crate) const DROPPED: u16 = u16::MAX;

/// Which expert each token of a sequence goes to, and how many each expert has.
pub(crate) struct Dispatch<'a> {
    /// Expert of each token, or [`DROPPED`].
    pub choices: &'a mut [u16],
    pub gates: &'a mut [f32],
    /// Tokens that asked for each expert so far.
    pub counts: &'a mut [u32],
    /// Most tokens an expert takes; 0: no limit.
    pub capacity: u32,
}

impl Dispatch<'_> {
    /// Places `token` at `expert` if there is room: `cumsum <= capacity`, in token order. Gives
    /// whether there was.
    pub fn place(&mut self, token: usize, expert: usize, gate: f32) -> bool {
        let Some(count) = self.counts.get_mut(expert) else {
            return false;
        };
        *count = count.saturating_add(1);
        let kept = self.capacity == 0 || *count <= self.capacity;
        if let (Some(choice), Some(gates)) =
            (self.choices.get_mut(token), self.gates.get_mut(token))
        {
            *choice = if kept { expert as u16 } else { DROPPED };
            *gates = gate;
        }
        kept
    }
}
