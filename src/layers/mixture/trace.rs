//! Watching and replacing routing decisions.

/// Where a routing decision is made, or a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stack {
    /// The encoder.
    Encoder,
    /// The mixture block between encoder and decoder.
    Block,
    /// The decoder.
    Decoder,
}

/// A routing decision, as it is shown to a [`RouteTrace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Route<'a> {
    /// The stack.
    pub stack: Stack,
    /// The layer in its stack, from 0; 0 in the mixture block.
    pub layer: usize,
    /// The token's position; 0 in the mixture block, which decides once for all tokens.
    pub token: usize,
    /// 0 for the first choice, 1 for the second, …
    pub rank: usize,
    /// The router's probabilities, one per expert. Routing without a router gives the chosen
    /// experts equal ones.
    pub probabilities: &'a [f32],
    /// The expert chosen: of those that no earlier rank has, the one with the greatest probability,
    /// the lower index among equals.
    pub expert: usize,
}

/// Watches routing decisions, and may replace them (to replay those of another run).
pub trait RouteTrace {
    /// Called for each rank of each token of each sparse layer, in rank order; gives the expert
    /// that the token goes to. An expert that does not exist, or that the token goes to already,
    /// is taken as the chosen one.
    fn route(&mut self, route: &Route<'_>) -> usize {
        route.expert
    }

    /// Called after [`RouteTrace::route`], when it is decided whether the expert still had room,
    /// with the final gate (0 if it had not). NLLB's rule decides when all tokens of the layer have
    /// been seen: `route.probabilities` is empty then.
    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        let _ = (route, kept, gate);
    }

    /// Called when a layer is done: with the states of all tokens `[source, D]` in the encoder and
    /// after the mixture block, of the token `[1, D]` in the decoder, before any final norm.
    fn layer(&mut self, stack: Stack, layer: usize, states: &[f32]) {
        let _ = (stack, layer, states);
    }
}

/// Watches nothing; costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl RouteTrace for NoTrace {}
