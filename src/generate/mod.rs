//! Search: from logits to a target.

mod greedy;

pub use greedy::{argmax, greedy};
