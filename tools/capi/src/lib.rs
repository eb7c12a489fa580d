//! palmtop's functions for C: open, encode, step, text, errors as codes. No heap, no panics.
//!
//! `boards/c` makes a static library of them; `boards/c/include/palmtop.h` is their header, made
//! from this source (`tests/header.rs` holds it). The rules that its first lines give to who calls
//! from C are what every `SAFETY` comment here builds on:
//!
//! * A pointer is null, which is refused where the function does not say what it means, or it is
//!   valid for as many values as the call says, for as long as the call (an image and an arena: as
//!   long as the model and the session are used).
//! * A `palmtop_model` or `palmtop_session` is memory of the caller: zeroed or opened, used by one
//!   thread at a time, and a session is not moved or copied once it is open.
//! * Memory given for writing (arena, ids, text, model, session) is not used by others meanwhile
//!   and does not overlap with other arguments.
#![no_std]
#![allow(unsafe_code, non_camel_case_types)]
#![deny(clippy::undocumented_unsafe_blocks)]
// What callers promise is the same for every function, and said above once.
#![allow(clippy::missing_safety_doc)]

mod memory;
mod model;
mod session;
mod status;
mod text;

pub use model::*;
pub use session::*;
pub use status::*;
pub use text::*;
