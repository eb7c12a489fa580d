#![doc = include_str!("LIB.md")]
#![no_std]

#[cfg(feature = "std")]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("palmtop reads little-endian images in place: big-endian targets are not supported");

pub mod format;
pub mod generate;
mod include;
pub mod kernels;
mod layers;
mod model;
pub mod mixture {
    //! Experts with sizes that the compiler knows.
    pub use crate::layers::mixture::{Choice, Dispatch, ExpertTable, Full, Gate, Place, Router};
}
pub mod storage;
mod tensor;
pub mod text;

#[doc(hidden)]
pub use include::Aligned;
pub use layers::mixture::{NoTrace, Route, RouteTrace, Stack};
pub use model::{
    Arena, BlockShape, Decoder, Encoded, Encoding, Error, Limits, MemoryPlan, Model, Progress,
    Session, Shape, StackShape,
};
#[doc(hidden)]
pub use tensor::bench;

// What must not compile, and the same programs that do.
#[cfg(doctest)]
#[doc = include_str!("../tests/compile_fail.md")]
mod compile_fail {}
