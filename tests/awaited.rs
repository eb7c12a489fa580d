//! Experts awaited from `async` storage: the bits of mapped ones, errors that can be repeated, and
//! work that can be dropped at any wait.

mod common;

use common::device::*;
use common::{Aligned, fixture};
use embedded_storage::ReadStorage;
use palmtop::storage::{AsyncStorage, StorageError};
use palmtop::{Error, Model, Session};
use palmtop_convert::Weights;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A device whose reads take their time: each is pending once.
struct Slow(Device);

impl AsyncStorage for Slow {
    type Error = Failure;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        ReadStorage::read(&mut self.0, BASE as u32 + offset, bytes)
    }
}

/// Polls a future to its end, or so many times; how often it was pending.
fn drive<T>(future: impl Future<Output = T>, most: usize) -> (Option<T>, usize) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for pending in 0..most {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return (Some(output), pending);
        }
    }
    (None, most)
}

#[test]
fn awaited_experts_give_the_bits_of_mapped_ones() {
    for name in ["switch-all", "palm", "palm-block", "nllb-moe-50"] {
        let (image, case) = (fixture(name, Weights::Int8), short(name));
        let (want, asked) = mapped(&image, &case);
        let prefix = resident(&image);
        let model = Model::parse_resident(prefix.as_ref()).unwrap();
        let limits = limits_of(&case);
        for slots in [1, 2, usize::MAX] {
            let mut arena = Aligned::filled(model.paged_arena_bytes(limits, slots), 0x5A);
            let device = Slow(Device::new(&image));
            let session = Session::awaited(model, limits, arena.as_mut(), device, slots);
            let mut session = session.unwrap();
            let (encoded, mut waits) = drive(session.encode_async(&case.source), usize::MAX);
            let mut encoded = encoded.unwrap().unwrap();
            let hidden = bits(encoded.hidden());
            let (mut decoder, mut logits) = (encoded.decoder(), Vec::new());
            for id in &case.target {
                let (step, more) = drive(decoder.step_async(*id), usize::MAX);
                logits.extend(bits(step.unwrap().unwrap()));
                waits += more;
            }
            assert_eq!([hidden, logits], want, "{name}, {slots} slots");
            let loads = least_recently_used(&asked, slots).len();
            assert_eq!(waits, loads, "{name}, {slots} slots");
            let counts = session.source().statistics();
            assert_eq!(counts.loads, loads as u64, "{name}, {slots} slots");
            assert_eq!(counts.hits + counts.loads, asked.len() as u64);
        }
    }
}

#[test]
fn bounded_units_give_way_and_give_the_same_bits() {
    for name in ["switch-all", "palm-block"] {
        let (image, case) = (fixture(name, Weights::Int8), short(name));
        let (want, asked) = mapped(&image, &case);
        let prefix = resident(&image);
        let model = Model::parse_resident(prefix.as_ref()).unwrap();
        let model = model.with_unit(3000);
        let limits = limits_of(&case);
        for slots in [1, usize::MAX] {
            let mut arena = Aligned::filled(model.paged_arena_bytes(limits, slots), 0x5A);
            let device = Slow(Device::new(&image));
            let session = Session::awaited(model, limits, arena.as_mut(), device, slots);
            let mut session = session.unwrap();
            let (encoded, mut waits) = drive(session.encode_async(&case.source), usize::MAX);
            let mut encoded = encoded.unwrap().unwrap();
            let hidden = bits(encoded.hidden());
            let (mut decoder, mut logits) = (encoded.decoder(), Vec::new());
            for id in &case.target {
                let (step, more) = drive(decoder.step_async(*id), usize::MAX);
                logits.extend(bits(step.unwrap().unwrap()));
                waits += more;
            }
            assert_eq!([hidden, logits], want, "{name}, {slots} slots");
            let loads = least_recently_used(&asked, slots).len();
            let counts = session.source().statistics();
            assert_eq!(counts.loads, loads as u64, "{name}, {slots} slots");
            assert_eq!(counts.hits + counts.loads, asked.len() as u64);
            assert!(waits > 2 * loads, "{name}: {waits} for {loads} loads");
        }
    }
}

#[test]
fn awaiting_can_fail_and_can_be_given_up() {
    let (image, case) = (fixture("palm", Weights::Int8), short("palm"));
    let (want, _) = mapped(&image, &case);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    for fault in FAULTS {
        let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 1), 0);
        let device = Slow(Device::with_fault(&image, Some((1, fault))));
        let session = Session::awaited(model, limits, arena.as_mut(), device, 1);
        let mut session = session.unwrap();
        let (encoded, _) = drive(session.encode_async(&case.source), usize::MAX);
        let error = encoded.unwrap().err();
        let why = reason(fault);
        assert!(matches!(error, Some(Error::Storage { reason, .. }) if reason == why));
        // Given up at every wait, and begun anew.
        let mut waits = 1;
        while drive(session.encode_async(&case.source), waits).0.is_none() {
            waits += 1;
        }
        assert!(waits > 2, "{waits}");
        let (encoded, _) = drive(session.encode_async(&case.source), usize::MAX);
        let mut encoded = encoded.unwrap().unwrap();
        assert_eq!(bits(encoded.hidden()), want[0], "{fault:?}");
        let (mut decoder, mut logits) = (encoded.decoder(), Vec::new());
        for id in &case.target {
            let (given_up, _) = drive(decoder.step_async(*id), 1);
            assert!(given_up.is_none(), "with one slot every layer waits");
            let (step, _) = drive(decoder.step_async(*id), usize::MAX);
            logits.extend(bits(step.unwrap().unwrap()));
        }
        assert_eq!(logits, want[1], "{fault:?}");
    }
}

#[test]
fn without_awaiting_an_absent_expert_is_an_error() {
    let (image, case) = (fixture("switch", Weights::Int8), short("switch"));
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 2), 0);
    let device = Slow(Device::new(&image));
    let mut session = Session::awaited(model, limits, arena.as_mut(), device, 2).unwrap();
    let nothing = drive(session.source_mut().load(), 9).0;
    assert_eq!(
        nothing,
        Some(Err(StorageError::Absent)),
        "nothing is missing"
    );
    let error = session.encode(&case.source).err();
    let Some(Error::Storage { expert, reason }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(reason, StorageError::Absent);
    // What is missing can be loaded by hand, and the call repeated.
    assert_eq!(drive(session.source_mut().load(), 9).0, Some(Ok(())));
    let next = session.encode(&case.source).err();
    assert!(!matches!(next, Some(Error::Storage { expert: e, .. }) if e == expert));
}
