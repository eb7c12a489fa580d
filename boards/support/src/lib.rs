//! What firmware on real boards needs beside palmtop:
//!
//! * [`arena!`]: an arena in a memory of one's choice,
//! * [`partition`]: a model in a flash partition of its own, which is updated without the firmware,
//! * [`generate`]: text from a model in bounded steps, with something else done between them,
//! * [`Line`]: lines of text from a console that gives bytes.
#![cfg_attr(not(test), no_std)]

mod arena;
mod generate;
mod line;
pub mod partition;

pub use generate::{Ended, generate};
pub use line::Line;

#[doc(hidden)]
pub use arena::zeroed;
#[doc(hidden)]
pub use palmtop::Arena;
#[doc(hidden)]
pub use static_cell::StaticCell;
