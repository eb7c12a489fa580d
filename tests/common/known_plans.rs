//! The arena of the committed image at some limits, checked by the compiler: whatever target
//! compiles this file has these very numbers, or does not compile it.
//!
//! `no_std`, so that it can be compiled for a microcontroller: include it as a module with `#[path]`.

use palmtop::{Limits, Model, include_model};

/// The committed image: a Switch Transformer of 27 KB, int8.
pub const TINY: Model<'static> = include_model!("../fixtures/tiny/tiny.palm");

/// Source limit, target limit, bytes of the arena.
pub const KNOWN: [(u32, u32, usize); 8] = [
    (1, 1, 440),
    (2, 3, 680),
    (5, 3, 1_080),
    (16, 16, 3_456),
    (33, 7, 5_904),
    (7, 33, 3_584),
    (64, 64, 10_808),
    (4000, 1000, 577_152),
];

const _: () = {
    let mut i = 0;
    while i < KNOWN.len() {
        let (source, target, bytes) = KNOWN[i];
        let limits = Limits {
            source,
            target,
            beams: 1,
        };
        assert!(
            TINY.arena_bytes(limits) == bytes,
            "another plan than the known one"
        );
        i += 1;
    }
};
