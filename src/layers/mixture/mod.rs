//! The mixture of experts: which experts a token goes to, with which weights, and who still has room.
//!
//! [`Router`] is the gate, p = softmax(W·h) and S = the chosen k; [`Dispatch`] places the tokens of
//! a sequence at their experts, capacity permitting; the experts run in `feed_forward`, and their
//! outputs are added up as Σ wᵢ·Eᵢ(h).

mod dispatch;
mod router;
mod trace;

pub(crate) use dispatch::{Dispatch, capacity_of, normalize_pair, waits};
pub(crate) use router::{Router, TokenAt};
pub use trace::{NoTrace, Route, RouteTrace, Stack};
