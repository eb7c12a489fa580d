//! The model, its session in every order of use, and the search.

use core::hint::black_box;

use palmtop::format::ExpertRecord;
use palmtop::generate::{argmax, greedy};
use palmtop::kernels::Layout;
use palmtop::storage::{Mapped, StorageError, WeightSource};
use palmtop::{
    Arena, BlockShape, Error, Limits, MemoryPlan, Model, NoTrace, Route, RouteTrace, Session,
    Shape, Stack, StackShape,
};

use crate::{Opaque, nth};

/// Limits of any size.
pub fn limits(opaque: &Opaque) -> Limits {
    Limits {
        source: opaque.number(0),
        target: opaque.number(1),
        beams: opaque.number(2),
    }
}

/// A model of any content that is well-formed.
fn model(opaque: &Opaque) -> Option<Model<'static>> {
    black_box(Model::parse(opaque.bytes)).ok()
}

/// Sizes, also of shapes that no file has.
pub fn sizes(opaque: &mut Opaque) {
    let limits = limits(opaque);
    if let Some(model) = model(opaque) {
        black_box(model.palm());
        black_box(model.shape());
        black_box(model.arena_bytes(limits));
        black_box(model.memory_plan(limits));
        black_box(model.default_limits());
    }
    let size = |index: usize| opaque.number(index) as usize;
    let flag = |index: usize| opaque.number(index) > 0;
    let stack = |from: usize| StackShape {
        layers: size(from),
        heads: size(from + 1),
        kv_heads: size(from + 2),
        d_kv: size(from + 3),
        dense_ff: size(from + 4),
        expert_ff: size(from + 5),
        experts: size(from + 6),
        top_k: size(from + 7),
        aside: flag(from + 8),
        integer_experts: flag(from + 9),
        float_experts: flag(from + 10),
        by_token: flag(from + 11),
    };
    let (encoder, decoder) = (stack(3), stack(15));
    black_box((encoder.inner(), encoder.kv_inner()));
    let block = BlockShape {
        experts: size(27),
        top_k: size(28),
        expert_ff: size(29),
        attention: flag(30),
        integer_experts: flag(31),
        float_experts: flag(32),
    };
    let shape = Shape {
        d_model: size(33),
        vocab: size(34),
        int8: flag(35),
        tile: size(36),
        unit: size(40),
        encoder,
        decoder,
        block: flag(37).then_some(block),
        parallel: flag(38),
        decoder_only: flag(39),
        layout: Layout::from_code(opaque.number(40) as u8).unwrap_or_default(),
    };
    let plan = black_box(MemoryPlan::new(&shape, limits));
    black_box((plan.encode(), plan.cross(), plan.decode(), plan.total()));
}

/// The arena type.
pub fn arena(_: &mut Opaque) {
    let mut arena = black_box(Arena::<64>::new());
    black_box(arena.as_mut_slice());
    black_box(Arena::<32>::default());
}

/// The usual order: session, encoding, decoder.
pub fn run(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let session = black_box(Session::new(model, limits, opaque.arena));
    let Ok(mut session) = session else { return };
    black_box(session.model());
    black_box(session.limits());
    let Ok(mut encoded) = black_box(session.encode(opaque.ids)) else {
        return;
    };
    black_box(encoded.hidden());
    let mut decoder = encoded.decoder();
    for &id in opaque.numbers {
        match decoder.step(id) {
            Ok(logits) => black_box(argmax(logits)),
            Err(_) => break,
        };
        black_box(decoder.logits());
        black_box(decoder.position());
        black_box(decoder.session().limits());
    }
    decoder.restart();
}

/// A model without an encoder.
pub fn decoder_only(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let Ok(mut session) = Session::new(model, limits, opaque.arena) else {
        return;
    };
    let Ok(mut decoder) = black_box(session.decoder_only()) else {
        return;
    };
    for &id in opaque.numbers {
        let _ = black_box(decoder.step(id).is_ok());
    }
}

/// The golden input.
pub fn self_test(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    if let Ok(mut session) = black_box(Session::new(model, limits, opaque.arena)) {
        let _ = black_box(session.self_test(opaque.ids));
    }
}

/// Bounded steps.
pub fn bounded_steps(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let Ok(mut session) = Session::new(model, limits, opaque.arena) else {
        return;
    };
    let Ok(mut encoding) = black_box(session.start(opaque.ids)) else {
        return;
    };
    for _ in 0..opaque.halves.len() {
        let _ = black_box(encoding.poll());
    }
    let Ok(encoded) = black_box(encoding.finish()) else {
        return;
    };
    let mut decoder = encoded.decoder();
    for &id in opaque.numbers {
        let _ = black_box(decoder.begin(id));
        let _ = black_box(decoder.poll());
    }
}

/// A trace that chooses any expert.
struct Any<'o>(&'o [u32]);

impl RouteTrace for Any<'_> {
    fn route(&mut self, route: &Route<'_>) -> usize {
        self.0.get(route.token).copied().unwrap_or_default() as usize
    }

    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        black_box((route.expert, kept, gate));
    }

    fn layer(&mut self, stack: Stack, layer: usize, states: &[f32]) {
        black_box((stack, layer, states));
    }
}

/// With routes shown and replaced.
pub fn traced(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let Ok(mut session) = Session::new(model, limits, opaque.arena) else {
        return;
    };
    let mut trace = Any(opaque.numbers);
    if let Ok(mut encoding) = session.start(opaque.ids) {
        let _ = black_box(encoding.poll_traced(&mut trace));
        let _ = black_box(encoding.finish_traced(&mut trace).is_ok());
    }
    let Ok(encoded) = black_box(session.encode_traced(opaque.ids, &mut trace)) else {
        return;
    };
    let mut decoder = encoded.decoder();
    let _ = black_box(
        decoder
            .step_traced(nth(opaque.numbers, 3), &mut trace)
            .is_ok(),
    );
    let _ = black_box(decoder.begin(nth(opaque.numbers, 4)));
    let _ = black_box(decoder.poll_traced(&mut trace));
}

/// A source that gives any bytes, or none.
struct Fickle(&'static [u8], &'static [u32]);

impl WeightSource for Fickle {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        let start = self.1.get(index as usize).copied().unwrap_or(expert.offset) as usize;
        self.0.get(start..).ok_or(StorageError::Read)
    }
}

/// Weights from elsewhere.
pub fn other_source(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let mut mapped = black_box(Mapped::new(*model.palm()));
    let expert = model.palm().expert(opaque.number(3));
    let _ = black_box(mapped.expert(opaque.number(3), &expert));
    let source = Fickle(opaque.bytes, opaque.numbers);
    let session = Session::with_source(model, limits, opaque.arena, source);
    let Ok(mut session) = black_box(session) else {
        return;
    };
    let result: Result<(), Error> = (|| {
        let mut decoder = session.encode(opaque.ids)?.decoder();
        for &id in opaque.numbers {
            black_box(decoder.step(id)?);
        }
        Ok(())
    })();
    let _ = black_box(result);
}

/// Greedy search.
pub fn search(opaque: &mut Opaque) {
    let (Some(model), limits) = (model(opaque), limits(opaque)) else {
        return;
    };
    let Ok(mut session) = Session::new(model, limits, opaque.arena) else {
        return;
    };
    let Ok(encoded) = session.encode(opaque.ids) else {
        return;
    };
    let mut decoder = encoded.decoder();
    let most = nth(opaque.numbers, 3) as usize;
    let count = greedy(&mut decoder, most, &mut NoTrace, |id| {
        black_box(id);
    });
    let _ = black_box(count);
    black_box(argmax(opaque.floats));
}
