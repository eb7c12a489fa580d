//! Memory of a thread for panels: weights in another order, the scores of a few queries. It grows to
//! what was needed most and is not part of a session's arena, whose size is the same on every target.

use std::cell::Cell;
use std::vec::Vec;

std::thread_local! {
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// 64 bytes, aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory that goes back to the thread when it is dropped.
pub(super) struct Scratch(Vec<Line>);

/// At least `bytes` bytes of initialized memory, aligned to 64.
pub(super) fn take(bytes: usize) -> Scratch {
    let mut lines = SCRATCH.take();
    let count = bytes.div_ceil(64);
    if lines.len() < count {
        lines.resize(count, Line([0; 64]));
    }
    Scratch(lines)
}

impl Scratch {
    /// The first byte.
    pub fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.set(core::mem::take(&mut self.0));
    }
}
