//! The mixture of experts: which experts a token goes to, with which weights, and who still has room.
//!
//! H̃ = Σ wᵢ·Eᵢ(h) over the chosen S = g(h). The tables here have sizes that the compiler knows:
//! [`Router`] is g, [`ExpertTable`] the E, [`Dispatch`] the places of a sequence's tokens at their
//! experts. A [`Session`](crate::Session) takes any model, so it runs the same rules over views of
//! its arena; these are for code that knows its model, and for reading.
//!
//! ```ignore
//! const EXPERTS: ExpertTable<'static, 4> = ExpertTable::of(G2P.palm(), LAYER);   // 4, or no build
//! const ROUTER: Router<'static, 4, 2> = Router::of(G2P.palm(), LAYER);
//!
//! let gate = ROUTER.gate(&h);                       // p = softmax(W·h); S, the two greatest; w = p / Σ p
//! for choice in gate.chosen {
//!     EXPERTS.add(choice, &h, &mut sum, scratch);   // H̃ += w · E(h)
//! }
//! ```

mod dispatch;
mod router;
mod table;
mod trace;

pub use dispatch::{Dispatch, Full, Place};
pub(crate) use dispatch::{DispatchView, capacity_of, normalize_pair, waits};
pub use router::{Choice, Gate, Router};
pub(crate) use router::{RouterView, TokenAt};
pub use table::ExpertTable;
pub use trace::{NoTrace, Route, RouteTrace, Stack};
