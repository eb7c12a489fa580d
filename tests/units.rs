//! Bounded units of work: whatever their size, the bits of whole sublayers; paged experts come in
//! pieces, with the same counts and the same errors.

mod common;

use common::device::*;
use common::{Aligned, Case, Reference, fixture, names, run};
use palmtop::storage::Embedded;
use palmtop::{Error, Model, Progress, Session};
use palmtop_convert::Weights;

/// Multiply-accumulates of a unit: less than any part, some parts, most parts.
const UNITS: [u32; 3] = [1, 3000, 20_000];

/// Fixtures with experts in encoder, decoder and between, and whole layers as experts.
const SPARSE: [&str; 5] = [
    "switch-overflow",
    "palm",
    "palm-block",
    "nllb-moe-50",
    "mixtral",
];

fn short(name: &str) -> Case {
    Reference::of(name).cases().swap_remove(1)
}

#[test]
fn units_of_any_size_give_the_same_bits() {
    for name in names() {
        for weights in [Weights::Int8, Weights::F16] {
            let (image, case) = (fixture(&name, weights), short(&name));
            let whole = run(&image, &case);
            let want = [bits(&whole.hidden), bits(&whole.logits)];
            let limits = limits_of(&case);
            for unit in UNITS {
                let model = Model::parse(image.as_ref()).unwrap().with_unit(unit);
                let mut arena = Aligned::filled(model.arena_bytes(limits), 0xA7);
                let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
                assert!(outputs(&mut session, &case) == want, "{name}, {unit}");
            }
        }
    }
}

/// Polls of an encoding and of a step.
fn polls(image: &Aligned, case: &Case, unit: u32) -> [usize; 2] {
    let limits = limits_of(case);
    let model = Model::parse(image.as_ref()).unwrap().with_unit(unit);
    let mut arena = Aligned::filled(model.arena_bytes(limits), 0);
    let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
    let mut encoding = session.start(&case.source).unwrap();
    let mut counts = [1, 1];
    while encoding.poll().unwrap() == Progress::Pending {
        counts[0] += 1;
    }
    let mut decoder = encoding.finish().unwrap().decoder();
    decoder.begin(case.target[0]).unwrap();
    while decoder.poll().unwrap() == Progress::Pending {
        counts[1] += 1;
    }
    counts
}

#[test]
fn smaller_units_are_more() {
    let (image, case) = (fixture("switch-all", Weights::Int8), short("switch-all"));
    let counts = [1, 3000, 20_000, u32::MAX].map(|unit| polls(&image, &case, unit));
    for pair in counts.windows(2) {
        assert!(pair[0][0] > pair[1][0], "{counts:?}");
        assert!(pair[0][1] >= pair[1][1], "{counts:?}");
    }
    assert!(counts[0][1] > 2 * counts[3][1], "{counts:?}");
}

#[test]
fn experts_in_pieces_give_the_same_bits_and_counts() {
    for name in SPARSE {
        let (image, case) = (fixture(name, Weights::Int8), short(name));
        let (want, asked) = mapped(&image, &case);
        let prefix = resident(&image);
        for (unit, slots) in [(1, 1), (3000, 1), (3000, 2), (20_000, usize::MAX)] {
            let what = format!("{name}, {unit}, {slots} slots");
            let model = Model::parse_resident(prefix.as_ref()).unwrap();
            let model = model.with_unit(unit);
            let limits = limits_of(&case);
            let mut storage = Embedded::new(Device::new(&image), BASE as u32);
            let mut arena = Aligned::filled(model.paged_arena_bytes(limits, slots), 0x5A);
            let session = Session::paged(model, limits, arena.as_mut(), &mut storage, slots);
            let mut session = session.unwrap();
            assert!(outputs(&mut session, &case) == want, "{what}");
            let counts = session.source().statistics();
            let loads = least_recently_used(&asked, slots);
            assert_eq!(counts.loads, loads.len() as u64, "{what}");
            assert_eq!(counts.hits + counts.loads, asked.len() as u64, "{what}");
            assert_eq!(counts.failures, 0, "{what}");
            // Pieces of at most an eighth as many bytes, one after another.
            let most = (unit as usize / 8).max(16);
            let reads = &storage.device.reads;
            assert!(reads.iter().all(|(_, length)| *length <= most), "{what}");
            let mut whole: Vec<(u32, usize)> = Vec::new();
            for (offset, length) in reads {
                match whole.last_mut() {
                    Some((start, all)) if *start + *all as u32 == *offset => *all += length,
                    _ => whole.push((*offset, *length)),
                }
            }
            let bytes: usize = whole.iter().map(|(_, length)| length).sum();
            assert_eq!(counts.bytes_read, bytes as u64, "{what}");
        }
    }
}

#[test]
fn every_piece_may_fail_once_in_every_way() {
    let (image, case) = (fixture("palm", Weights::Int8), short("palm"));
    let (want, _) = mapped(&image, &case);
    let prefix = resident(&image);
    let limits = limits_of(&case);
    for fault in FAULTS {
        for at in (0..).step_by(3) {
            let model = Model::parse_resident(prefix.as_ref()).unwrap();
            let model = model.with_unit(8000);
            let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 2), 0x3C);
            let device = Device::with_fault(&image, Some((at, fault)));
            let mut storage = Embedded::new(device, BASE as u32);
            let session = Session::paged(model, limits, arena.as_mut(), &mut storage, 2);
            let mut session = session.unwrap();
            let mut errors = Vec::new();
            let mut encoding = session.start(&case.source).unwrap();
            loop {
                match encoding.poll() {
                    Ok(Progress::Ready) => break,
                    Ok(Progress::Pending) => {}
                    Err(error) => errors.push(error),
                }
            }
            let mut encoded = encoding.finish().unwrap();
            let hidden = bits(encoded.hidden());
            let (mut decoder, mut logits) = (encoded.decoder(), Vec::new());
            for id in &case.target {
                decoder.begin(*id).unwrap();
                loop {
                    match decoder.poll() {
                        Ok(Progress::Ready) => break,
                        Ok(Progress::Pending) => {}
                        Err(error) => errors.push(error),
                    }
                }
                logits.extend(bits(decoder.logits()));
            }
            assert!([hidden, logits] == want, "read {at}: {fault:?}");
            let counts = session.source().statistics();
            let happened = storage.device.reads.len() > at;
            assert_eq!(counts.failures, u64::from(happened), "read {at}: {fault:?}");
            assert_eq!(errors.len(), usize::from(happened), "read {at}: {fault:?}");
            if !happened {
                break;
            }
            let why = reason(fault);
            assert!(matches!(errors[0], Error::Storage { reason, .. } if reason == why));
        }
    }
}

/// A load that was given up, then another expert in its slot, then the first one again.
#[test]
fn a_load_that_was_given_up_leaves_no_bytes_behind() {
    let (image, case) = (fixture("palm", Weights::Int8), short("palm"));
    let (want, _) = mapped(&image, &case);
    let prefix = resident(&image);
    let limits = limits_of(&case);
    let model = Model::parse_resident(prefix.as_ref()).unwrap();
    let model = model.with_unit(400);
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 1), 0x3C);
    let storage = Embedded::new(Device::new(&image), BASE as u32);
    let mut session = Session::paged(model, limits, arena.as_mut(), storage, 1).unwrap();
    let other: Vec<u32> = case.source.iter().rev().copied().collect();
    for given_up in (1..).step_by(17) {
        let mut encoding = session.start(&other).unwrap();
        let mut over = false;
        for _ in 0..given_up {
            over = encoding.poll().unwrap() == Progress::Ready;
        }
        assert!(
            outputs(&mut session, &case) == want,
            "given up after {given_up}"
        );
        if over {
            return;
        }
    }
}
