//! Router, dispatch and experts with sizes that the compiler knows.

use core::hint::black_box;

use palmtop::format::Palm;
use palmtop::mixture::{Choice, Dispatch, ExpertTable, Router};

use crate::{Opaque, nth};

/// A layer's experts applied one by one. (`of`, which is for constants, says in its documentation
/// that it panics.)
pub fn mixture(opaque: &mut Opaque) {
    let Ok(palm) = black_box(Palm::parse(opaque.bytes)) else {
        return;
    };
    let layer = opaque.number(0);
    let _ = black_box(palm.mixture(layer).is_some());
    let (Some(router), Some(experts)) = (
        black_box(Router::<5, 2>::try_of(&palm, layer)),
        black_box(ExpertTable::<5>::try_of(&palm, layer)),
    ) else {
        return;
    };
    let gate = router.gate(opaque.others);
    black_box(gate.probabilities);
    black_box(experts.scratch_bytes());
    for choice in gate.chosen {
        experts.add(choice, opaque.others, opaque.floats, opaque.arena);
    }
}

/// Places.
pub fn dispatch(opaque: &mut Opaque) {
    let mut dispatch = black_box(Dispatch::<5, 3>::default());
    for (token, expert) in (0..).zip(opaque.numbers) {
        let choice = Choice {
            expert: *expert as u16,
            weight: 0.5,
        };
        let _ = black_box(dispatch.place(token, choice));
    }
    black_box(dispatch.tokens_of(nth(opaque.numbers, 0) as u16));
}
