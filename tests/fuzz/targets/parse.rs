//! The parser, the accessors behind it, the CRCs of the body, the tokenizer and the memory plan.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palmtop::format::Palm;
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model};
use palmtop_fuzz::Image;
use std::cell::RefCell;
use std::hint::black_box;

thread_local! {
    static IMAGE: RefCell<Image> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    IMAGE.with_borrow_mut(|image| {
        if let Some(bytes) = image.read(input) {
            look(bytes);
        }
    });
});

fn look(bytes: &[u8]) {
    let _ = Palm::total_len(bytes);
    let model = match Model::parse(bytes) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let palm = model.palm();
    let header = palm.header();
    for index in 0..=header.tensors.count as u16 {
        black_box(palm.tensor(index).map(|tensor| tensor.matrix_bytes()));
    }
    for index in 0..header.layer_count() {
        black_box(palm.layer(index));
    }
    for index in 0..=header.experts.count {
        black_box(palm.expert_bytes(&palm.expert(index)).len());
    }
    let _ = black_box(palm.verify());
    for (source, target, beams) in [(1, 1, 1), (33, 7, 1), (u32::MAX, u32::MAX, u32::MAX)] {
        let limits = Limits {
            source,
            target,
            beams,
        };
        let plan = model.memory_plan(limits);
        assert_eq!(plan.total(), model.arena_bytes(limits));
        assert!(plan.total() > 0);
    }
    black_box(model.arena_bytes(model.default_limits()));
    if let Some(tokenizer) = Tokenizer::of(palm) {
        let mut ids = [0; 12];
        for text in ["abä", "d c", "\u{10FFFF}"] {
            if let Ok(count) = tokenizer.encode(text, &mut ids) {
                assert!(ids[..count].iter().all(|id| *id < header.vocab));
                tokenizer.decode(&ids[..count], |piece| {
                    black_box(piece);
                });
            }
        }
        for id in 0..header.vocab.min(300) + 1 {
            black_box(tokenizer.piece(id));
        }
        assert!(tokenizer.separator().len() <= 4);
    }
}
