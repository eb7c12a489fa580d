//! A short run of whatever the parser accepts: wrong numbers may come out, nothing else may happen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palmtop::storage::WeightSource;
use palmtop::{Decoder, Limits, Model, Session};
use palmtop_fuzz::Image;
use std::cell::RefCell;
use std::hint::black_box;

/// Arena bytes above which a run is not tried: sizes are bounded by the file's, so few have more.
const MOST_ARENA: usize = 1 << 20;

thread_local! {
    static BUFFERS: RefCell<(Image, Vec<u128>)> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    BUFFERS.with_borrow_mut(|(image, arena)| {
        if let Some(bytes) = image.read(input) {
            run(bytes, arena);
        }
    });
});

fn run(bytes: &[u8], arena: &mut Vec<u128>) {
    let Ok(model) = Model::parse(bytes) else {
        return;
    };
    let header = model.palm().header();
    let within = |wanted: u32, max: u32| if max == 0 { wanted } else { wanted.min(max) };
    let limits = Limits {
        source: within(5, header.max_source),
        target: within(3, header.max_target),
        beams: 1,
    };
    let needed = model.arena_bytes(limits);
    if needed > MOST_ARENA {
        return;
    }
    arena.clear();
    arena.resize(needed.div_ceil(16), u128::MAX / 3);
    let arena = &mut bytemuck::cast_slice_mut(arena)[..needed];
    let mut session = Session::new(model, limits, arena).expect("limits and arena are right");
    let _ = black_box(session.self_test(&mut [0; 8]));
    if header.decoder_only {
        let mut decoder = session.decoder_only().expect("there is no encoder");
        return generate(&mut decoder, &model, limits);
    }
    let source = [0, header.vocab - 1, 1 % header.vocab, 0, header.vocab / 2];
    let mut encoded = session
        .encode(&source[..limits.source as usize])
        .expect("the source is within the limits");
    black_box(encoded.hidden());
    generate(&mut encoded.decoder(), &model, limits);
}

fn generate<S: WeightSource>(
    decoder: &mut Decoder<'_, '_, '_, S>,
    model: &Model<'_>,
    limits: Limits,
) {
    let header = model.palm().header();
    for _ in 0..limits.target {
        let logits = decoder
            .step(header.decoder_start)
            .expect("mapped weights are always there");
        assert_eq!(logits.len(), header.vocab as usize);
    }
    assert!(decoder.step(0).is_err());
}
