//! Sublayers in several turns: which part of one a call of `poll` computes.
//!
//! A sublayer is a row of parts, one after another: a product, norms, attention of some tokens. Each
//! part is so many equal pieces (rows of a matrix, tokens) of which a turn takes as many as it has
//! room for. A later turn runs through the same code, and gets no pieces of what is done already.
//! What a part has computed stays in the arena until the next turn. Outputs do not depend on how
//! the pieces are cut, since no sum goes across them.
//!
//! Without the feature `units` a turn is all of a sublayer, and nothing of this is in a program.

use core::ops::Range;

/// Rows of a matrix are taken in blocks of so many: every layout begins a block there.
pub(crate) const ROWS: usize = 16;

/// What a value costs that is normalized or quantized, in multiply-accumulates.
pub(crate) const NORM: usize = 14;
pub(crate) const QUANTIZE: usize = 20;

/// What an output of a product costs, in multiply-accumulates; and one that is gated.
const OUTPUT: usize = 12;
const GATED: usize = 52;

/// What a weight costs that is brought near for several tokens, and a row of them.
const NEAR: usize = 2;
const ROW: usize = 100;

/// What a byte costs that is read and checked.
pub(crate) const BYTE: usize = 8;

/// How far a sublayer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Parts that are done.
    parts: u16,
    /// Pieces of the next part that are done.
    pieces: u32,
}

/// One turn of a sublayer.
#[derive(Debug)]
pub(crate) struct Turn {
    place: Place,
    /// Parts that were asked about.
    seen: u16,
    /// Multiply-accumulates that there is room for; `usize::MAX` for any number.
    left: usize,
    /// Whether something was taken: the first pieces are, whatever they cost.
    began: bool,
    stopped: bool,
}

impl Turn {
    /// A turn from `place` on with room for `most` multiply-accumulates; `usize::MAX` for all.
    pub const fn new(place: Place, most: usize) -> Self {
        Self {
            place,
            seen: 0,
            left: most,
            began: false,
            stopped: false,
        }
    }

    /// The pieces of the next part that this turn computes, of `count` that cost `cost` each, in
    /// blocks of `block`, a power of two.
    #[inline]
    pub fn take(&mut self, count: usize, cost: usize, block: usize) -> Range<usize> {
        match cfg!(feature = "units") {
            true => self.take_some(count, cost, block),
            false => 0..count,
        }
    }

    #[inline(never)]
    fn take_some(&mut self, count: usize, cost: usize, block: usize) -> Range<usize> {
        let part = self.seen;
        self.seen = part.saturating_add(1);
        if self.stopped || part < self.place.parts {
            return 0..0;
        }
        let first = self.place.pieces as usize;
        let rest = count.saturating_sub(first);
        let mut taken = rest;
        if self.left != usize::MAX {
            let fit = self.left.checked_div(cost).unwrap_or(rest);
            let mut fit = fit & !block.wrapping_sub(1);
            if fit == 0 && !self.began {
                fit = block;
            }
            taken = rest.min(fit);
            self.left = self.left.saturating_sub(taken.saturating_mul(cost));
            self.began |= taken > 0;
        }
        let end = first.saturating_add(taken);
        if taken == rest {
            self.pass();
        } else {
            self.place.pieces = end as u32;
            self.stopped = true;
        }
        first..end
    }

    /// Rows of a matrix of `cols` columns that meets `tokens` tokens, with outputs that are gated or
    /// not.
    pub fn rows(&mut self, rows: usize, cols: usize, tokens: usize, gated: bool) -> Range<usize> {
        let (near, row) = if tokens > 1 { (NEAR, ROW) } else { (0, OUTPUT) };
        let output = if gated { GATED } else { OUTPUT };
        let weights = cols.saturating_mul(tokens.saturating_add(near));
        let cost = weights.saturating_add(tokens.saturating_mul(output));
        self.take(rows, cost.saturating_add(row), ROWS)
    }

    /// Whether this turn has nothing of the next part, which is then counted.
    #[inline]
    pub fn passes(&mut self) -> bool {
        if !cfg!(feature = "units") {
            return false;
        }
        let passes = self.stopped || self.seen < self.place.parts;
        self.seen = self.seen.saturating_add(passes.into());
        passes
    }

    /// Whether the next part is yet to be done, in this turn: then `take` or [`Turn::pass`] is for
    /// it, or [`Turn::stop`]; if not, it has been counted.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        if !cfg!(feature = "units") {
            return false;
        }
        let due = !self.stopped && self.seen >= self.place.parts;
        self.seen = self.seen.saturating_add(1);
        due
    }

    /// The present part is done.
    pub fn pass(&mut self) {
        self.place.parts = self.place.parts.saturating_add(1);
        self.place.pieces = 0;
    }

    /// Leaves the present part, and all after it, to a later turn.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Bytes that there is room to read and check; `usize::MAX` for any number.
    pub fn bytes(&self) -> usize {
        bytes_of(self.left)
    }

    /// Whether parts are left to a later turn.
    pub const fn is_stopped(&self) -> bool {
        cfg!(feature = "units") && self.stopped
    }

    /// Where a later turn goes on: at the start of the next sublayer, if this one is done.
    pub const fn place(&self) -> Place {
        match self.is_stopped() {
            true => self.place,
            false => Place {
                parts: 0,
                pieces: 0,
            },
        }
    }
}

/// Bytes that may be read and checked for so many multiply-accumulates: a multiple of 16 and no
/// fewer; `usize::MAX` for any number.
pub(crate) const fn bytes_of(most: usize) -> usize {
    if most == usize::MAX {
        return most;
    }
    let bytes = (most / BYTE) & !15;
    if bytes == 0 { 16 } else { bytes }
}

#[cfg(all(test, feature = "units"))]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// Runs a sublayer of three parts in turns; what each turn took.
    fn turns(most: usize) -> Vec<[Range<usize>; 3]> {
        let (mut place, mut all) = (Place::default(), Vec::new());
        loop {
            let mut turn = Turn::new(place, most);
            let taken = [
                turn.take(40, 20, ROWS),
                turn.take(3, 100, 1),
                turn.rows(0, 9, 9, false),
            ];
            all.push(taken);
            place = turn.place();
            if !turn.is_stopped() {
                return all;
            }
        }
    }

    #[test]
    fn every_piece_is_taken_once_in_order() {
        for most in [0, 1, 99, 100, 320, 350, 1000, usize::MAX] {
            let all = turns(most);
            for (part, count) in [(0, 40), (1, 3), (2, 0)] {
                let mut next = 0;
                for taken in all.iter().map(|turn| turn[part].clone()) {
                    assert!(taken.is_empty() || taken.start == next, "{most}: {all:?}");
                    next += taken.len();
                }
                assert_eq!(next, count, "{most}: {all:?}");
            }
            assert_eq!(all.len() == 1, most >= 1100, "{most}: {all:?}");
        }
        // Little room: a block of rows a turn, then a token.
        assert_eq!(turns(0).len(), 6);
        assert_eq!(turns(350)[2], [32..40, 0..1, 0..0]);
    }

    #[test]
    fn bytes_are_whole_blocks() {
        let bytes = [0, 127, 128, 1000, usize::MAX].map(bytes_of);
        assert_eq!(bytes, [16, 16, 16, 112, usize::MAX]);
    }
}
