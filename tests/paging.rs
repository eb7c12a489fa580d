//! Paged experts: the bits of mapped ones whatever the number of slots, an error for every fault of
//! the storage and the right answer after it, counts that add up, and arenas of exactly the bytes
//! that the plan states.

mod common;

use common::device::*;
use common::{Aligned, Case, Reference, fixture, names};
use embedded_storage::ReadStorage;
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
use palmtop::storage::{Embedded, Mapped, NorFlash, Paged, Storage, StorageError, WeightSource};
use palmtop::{Arena, Error, Limits, Model, Progress, Session, include_resident_model};
use palmtop_convert::{ExpertWeights, Options, Weights};

/// A NOR flash that reads words only.
struct Words(Device);

impl ErrorType for Words {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Words {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        if !offset.is_multiple_of(4) || !into.len().is_multiple_of(4) {
            return Err(NorFlashErrorKind::NotAligned);
        }
        ReadStorage::read(&mut self.0, offset, into).map_err(|_| NorFlashErrorKind::Other)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// Every fixture with experts.
fn sparse() -> Vec<String> {
    let mut names = names();
    names.retain(|name| {
        let image = fixture(name, Weights::Int8);
        let model = Model::parse(image.as_ref()).unwrap();
        model.palm().header().experts.count > 0
    });
    assert!(names.len() >= 6, "fixtures with experts are missing");
    names
}

#[test]
fn any_number_of_slots_gives_the_bits_of_mapped_experts() {
    for name in sparse() {
        for weights in [Weights::Int8, Weights::F16, Weights::F32] {
            let image = fixture(&name, weights);
            let prefix = resident(&image);
            let model = Model::parse_resident(prefix.as_ref()).unwrap();
            assert!(!model.palm().has_experts());
            model.palm().verify().unwrap();
            let experts = model.palm().header().experts.count as usize;
            for case in Reference::of(&name).cases() {
                let (want, asked) = mapped(&image, &case);
                for slots in [1, 2, experts, usize::MAX] {
                    let what = format!("{name}, case {}, {slots} slots", case.index);
                    let mut storage = Embedded::new(Device::new(&image), BASE as u32);
                    let limits = limits_of(&case);
                    let bytes = model.paged_arena_bytes(limits, slots);
                    let mut arena = Aligned::filled(bytes, 0x5A);
                    let session =
                        Session::paged(model, limits, arena.as_mut(), &mut storage, slots);
                    let mut session = session.unwrap();
                    assert_eq!(outputs(&mut session, &case), want, "{what}");
                    assert_eq!(session.source().slots(), slots.min(experts));
                    let counts = session.source().statistics();
                    assert_eq!(counts.hits + counts.loads, asked.len() as u64, "{what}");
                    assert_eq!(counts.failures, 0);
                    let loads = least_recently_used(&asked, slots);
                    assert_eq!(counts.loads, loads.len() as u64, "{what}");
                    let rate = (asked.len() - loads.len()) as f32 / asked.len() as f32;
                    assert_eq!(counts.hit_rate(), rate);
                    let expected: Vec<_> =
                        loads.iter().map(|index| place(&model, *index)).collect();
                    let reads = &storage.device.reads;
                    assert_eq!(reads, &expected, "{what}");
                    let total: usize = reads.iter().map(|(_, length)| length).sum();
                    assert_eq!(counts.bytes_read, total as u64, "{what}");
                }
            }
        }
    }
}

/// Experts of several formats in one model have blobs of several lengths: a slot fits the longest.
#[test]
fn experts_of_any_formats_share_the_slots() {
    let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
    for name in ["switch-all", "palm", "palm-block", "nllb-moe-50", "mixtral"] {
        for (experts, expert_rules) in [
            (Some(ExpertWeights::Int4), rules(&[])),
            (None, rules(&["*.*.0=f32", "*.*.1=int4", "*.*.2=f16"])),
        ] {
            let options = Options {
                experts,
                expert_rules,
                ..Options::default()
            };
            let folder = common::fixtures().join(name);
            let converted = palmtop_convert::convert(&folder, &options, &mut ()).unwrap();
            let image = Aligned::new(&converted.bytes);
            let prefix = resident(&image);
            let model = Model::parse_resident(prefix.as_ref()).unwrap();
            let case = short(name);
            let (want, _) = mapped(&image, &case);
            for slots in [1, 3] {
                let limits = limits_of(&case);
                let mut arena = Aligned::filled(model.paged_arena_bytes(limits, slots), 0x5A);
                let storage = Embedded::new(Device::new(&image), BASE as u32);
                let session = Session::paged(model, limits, arena.as_mut(), storage, slots);
                assert_eq!(outputs(&mut session.unwrap(), &case), want, "{name}");
            }
        }
    }
}

#[test]
fn every_read_may_fail_once_in_every_way() {
    // One expert and several of a token, in both stacks, between them, and in a decoder alone.
    for name in [
        "switch-all",
        "switch-overflow",
        "palm",
        "palm-block",
        "nllb-moe-50",
        "mixtral",
    ] {
        for slots in [1, 2, usize::MAX] {
            let (image, case) = (fixture(name, Weights::Int8), short(name));
            let (want, _) = mapped(&image, &case);
            for fault in FAULTS {
                let mut reads = 0;
                while polled(&image, &case, slots, (reads, fault), &want) {
                    reads += 1;
                }
                assert!(reads >= 2, "{name}: {reads} reads");
            }
        }
    }
}

/// Runs a case in which read `at` fails; whether there was such a read.
fn polled(
    image: &Aligned,
    case: &Case,
    slots: usize,
    (at, fault): (usize, Fault),
    want: &[Vec<u32>; 2],
) -> bool {
    let prefix = resident(image);
    let model = Model::parse_resident(prefix.as_ref()).unwrap();
    let limits = limits_of(case);
    let device = Device::with_fault(image, Some((at, fault)));
    let mut storage = Embedded::new(device, BASE as u32);
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, slots), 0xC3);
    let session = Session::paged(model, limits, arena.as_mut(), &mut storage, slots);
    let mut session = session.unwrap();
    let mut errors = Vec::new();
    let mut hidden = Vec::new();
    let mut decoder = if model.shape().decoder_only {
        session.decoder_only().unwrap()
    } else {
        let mut encoding = session.start(&case.source).unwrap();
        loop {
            match encoding.poll() {
                Ok(Progress::Ready) => break,
                Ok(Progress::Pending) => {}
                Err(error) => errors.push(error),
            }
        }
        let mut encoded = encoding.finish().unwrap();
        hidden = bits(encoded.hidden());
        encoded.decoder()
    };
    let mut logits = Vec::new();
    for id in &case.target {
        // `step` says what failed; `poll` goes on from there, `step` begins it anew.
        if let Err(error) = decoder.step(*id) {
            errors.push(error);
            if at % 2 == 0 {
                while decoder.poll().unwrap() == Progress::Pending {}
            } else {
                decoder.step(*id).unwrap();
            }
        }
        logits.extend(bits(decoder.logits()));
    }
    assert_eq!(&[hidden, logits], want, "read {at}: {fault:?}");
    let counts = session.source().statistics();
    let error = session.source_mut().take_error();
    let device = storage.device;
    let happened = device.reads.len() > at;
    if happened {
        let [
            Error::Storage {
                expert,
                reason: why,
            },
        ] = errors[..]
        else {
            panic!("read {at}: {fault:?} gave {errors:?}");
        };
        assert_eq!(place(&model, expert), device.reads[at]);
        assert!(device.reads[at + 1..].contains(&device.reads[at]));
        assert_eq!(why, reason(fault));
        let said = (why == StorageError::Read).then_some(Failure(at));
        assert_eq!(error, said);
    } else {
        assert_eq!(errors, []);
    }
    assert_eq!(counts.failures, u64::from(happened));
    let arrived = device.reads.len() as u64 - u64::from(happened);
    assert_eq!(counts.loads, arrived);
    happened
}

#[test]
fn a_source_whose_encoding_failed_can_be_encoded_anew() {
    let (image, case) = (fixture("switch-all", Weights::F16), short("switch-all"));
    let (want, _) = mapped(&image, &case);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    for fault in FAULTS {
        for at in 0.. {
            let device = Device::with_fault(&image, Some((at, fault)));
            let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 1), 0);
            let storage = Embedded::new(device, BASE as u32);
            let mut session = Session::paged(model, limits, arena.as_mut(), storage, 1).unwrap();
            if session.encode(&case.source).is_ok() {
                assert!(at >= 2, "every expert of both layers is read");
                break;
            }
            assert_eq!(outputs(&mut session, &case), want, "read {at}: {fault:?}");
        }
    }
}

#[test]
fn a_failed_load_leaves_no_expert_behind() {
    let image = fixture("switch-all", Weights::Int8);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&short("switch-all"));
    for fault in FAULTS {
        let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 2), 0);
        let device = Device::with_fault(&image, Some((2, fault)));
        let storage = Embedded::new(device, BASE as u32);
        let mut session = Session::paged(model, limits, arena.as_mut(), storage, 2).unwrap();
        let palm = *model.palm();
        let source = session.source_mut();
        let mut ask = |index: u32| -> Result<bool, StorageError> {
            let record = palm.expert(index);
            let blob = source.expert(index, &record)?;
            assert_eq!(blob, palm.expert_bytes(&record), "expert {index}");
            let counts = source.statistics();
            source.reset_statistics();
            Ok(counts.hits == 1)
        };
        // Two slots: 0 and 1 lie there, 2 takes the place of 0 and fails.
        assert_eq!([ask(0), ask(1)], [Ok(false); 2]);
        assert_eq!(ask(2), Err(reason(fault)), "{fault:?}");
        assert_eq!(ask(1), Ok(true), "the other slot is not touched");
        assert_eq!(ask(0), Ok(false), "{fault:?}: what lay there is gone");
        assert_eq!(ask(2), Ok(false), "the slot of 1, which is the older one");
        assert_eq!([ask(0), ask(2)], [Ok(true); 2]);
        assert_eq!(ask(1), Ok(false));
    }
}

#[test]
fn damage_that_stays_is_always_an_error() {
    let (image, case) = (fixture("switch-all", Weights::Int8), short("switch-all"));
    let (want, asked) = mapped(&image, &case);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    let (start, length) = place(&model, asked[0]);
    let mut device = Device::new(&image);
    let damaged = start as usize + length / 3;
    device.bytes[damaged] ^= 0x10;
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 3), 0);
    let storage = Embedded::new(device, BASE as u32);
    let mut session = Session::paged(model, limits, arena.as_mut(), storage, 3).unwrap();
    for _ in 0..3 {
        let error = session.encode(&case.source).err();
        let (expert, reason) = (asked[0], StorageError::Crc);
        assert_eq!(error, Some(Error::Storage { expert, reason }));
    }
    assert_eq!(session.source().statistics().failures, 3);
    // Repaired, the same session gives the right answer.
    session.source_mut().storage().device.bytes[damaged] ^= 0x10;
    assert_eq!(outputs(&mut session, &case), want);
}

#[test]
fn the_arena_has_exactly_the_bytes_of_the_plan() {
    for (name, weights) in [
        ("switch", Weights::Int8),
        ("switch-all", Weights::F16),
        ("t5", Weights::Int8),
    ] {
        let image = fixture(name, weights);
        let model = Model::parse(image.as_ref()).unwrap();
        let palm = model.palm();
        let experts = palm.header().experts.count as usize;
        let lengths = (0..experts as u32).map(|index| palm.expert(index).len as usize);
        assert_eq!(model.slot_bytes(), lengths.max().unwrap_or(0));
        for (source, target) in [(1, 1), (5, 3), (16, 16)] {
            let limits = Limits {
                source,
                target,
                beams: 1,
            };
            let mut plan = model.arena_bytes(limits);
            if experts > 0 {
                plan = plan.next_multiple_of(16);
            }
            for slots in [1, 2, experts.max(1), experts + 9] {
                let needed = model.paged_arena_bytes(limits, slots);
                let used = slots.min(experts);
                assert_eq!(needed, plan + used * (model.slot_bytes() + 8), "{name}");
                let mut arena = Aligned::filled(needed, 0);
                let mut open = |length: usize| {
                    let storage = Embedded::new(Device::new(&image), 0);
                    let arena = &mut arena.as_mut()[..length];
                    Session::paged(model, limits, arena, storage, slots).err()
                };
                assert_eq!(open(needed), None);
                for got in [0, 15, needed / 2, needed - 1] {
                    assert_eq!(open(got), Some(Error::ArenaTooSmall { needed, got }));
                }
            }
        }
    }
}

#[test]
fn what_is_not_allowed_is_refused() {
    let image = fixture("switch", Weights::Int8);
    let model = Model::parse(image.as_ref()).unwrap();
    let mut arena = Aligned::filled(1 << 20, 0);
    let mut open = |source: u32, target: u32, shift: usize, slots: usize| {
        let limits = Limits {
            source,
            target,
            beams: 1,
        };
        let storage = Embedded::new(Device::new(&image), 0);
        Session::paged(model, limits, &mut arena.as_mut()[shift..], storage, slots).err()
    };
    let max = u32::MAX;
    assert_eq!(open(0, 1, 0, 2), Some(Error::SourceLimit { max }));
    assert_eq!(open(1, 0, 0, 2), Some(Error::TargetLimit { max }));
    assert_eq!(open(1, 1, 8, 2), Some(Error::ArenaMisaligned));
    assert_eq!(open(1, 1, 16, 2), None);
    assert_eq!(open(1, 1, 16, 0), Some(Error::NoSlots));
    let refused = open(max, max, 0, 2);
    assert!(matches!(refused, Some(Error::ArenaTooSmall { .. })));
}

#[test]
fn mapped_memory_without_its_experts_is_an_error() {
    let (image, case) = (fixture("switch-all", Weights::Int8), short("switch-all"));
    let (want, asked) = mapped(&image, &case);
    let limits = limits_of(&case);
    // Without any expert, and cut off inside the first that is asked for.
    let record = Model::parse(image.as_ref())
        .unwrap()
        .palm()
        .expert(asked[0]);
    let cut = (record.offset + record.len - 1) as usize;
    for length in [resident(&image).as_ref().len(), cut] {
        let part = Aligned::new(&image.as_ref()[..length]);
        let model = Model::parse_resident(part.as_ref()).unwrap();
        let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 1), 0);
        let refused = Session::new(model, limits, arena.as_mut()).err();
        assert_eq!(refused, Some(Error::ExpertsAbsent));
        let blob = Mapped::new(*model.palm()).expert(asked[0], &record).err();
        assert_eq!(blob, Some(StorageError::Absent));
        // Paged, the same part is enough.
        let storage = Embedded::new(Device::new(&image), BASE as u32);
        let session = Session::paged(model, limits, arena.as_mut(), storage, 1);
        assert_eq!(outputs(&mut session.unwrap(), &case), want);
    }
}

#[test]
fn nor_flash_is_read_in_its_own_units() {
    let (image, case) = (fixture("switch-bias", Weights::F16), short("switch-bias"));
    let (want, _) = mapped(&image, &case);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    assert!(NorFlash::new(Words(Device::new(&image)), BASE as u32 + 2).is_none());
    let mut storage = NorFlash::new(Words(Device::new(&image)), BASE as u32).unwrap();
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 2), 0);
    let session = Session::paged(model, limits, arena.as_mut(), &mut storage, 2);
    assert_eq!(outputs(&mut session.unwrap(), &case), want);
    assert!(!storage.device().0.reads.is_empty());
}

/// The committed image without its experts, and an arena for it: constants of the compiler.
#[test]
fn a_resident_part_in_the_program() {
    const TINY: Model<'static> = include_resident_model!("fixtures/tiny/tiny.palm");
    const LIMITS: Limits = Limits {
        source: 5,
        target: 3,
        beams: 1,
    };
    const BYTES: usize = TINY.paged_arena_bytes(LIMITS, 2);
    const { assert!(BYTES > TINY.arena_bytes(LIMITS) + 2 * TINY.slot_bytes()) };
    let file = std::fs::read(common::fixtures().join("tiny/tiny.palm")).unwrap();
    let image = Aligned::new(&file);
    let length = TINY.palm().bytes().len();
    assert_eq!(length, resident(&image).as_ref().len());
    assert!(!TINY.palm().has_experts());
    let case = Case {
        index: 0,
        source: vec![3, 9, 4, 1, 7],
        target: vec![0, 8, 2],
    };
    let mut arena = Arena::<BYTES>::new();
    let storage = Embedded::new(Device::new(&image), BASE as u32);
    let mut session = Session::paged(TINY, LIMITS, arena.as_mut_slice(), storage, 2).unwrap();
    assert_eq!(outputs(&mut session, &case), mapped(&image, &case).0);
}

/// A paged source is a value like another: it may be moved, and given any storage.
#[test]
fn any_storage_serves() {
    struct Slice<'b>(&'b [u8]);
    impl Storage for Slice<'_> {
        type Error = ();
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
            let start = offset as usize;
            let wanted = self.0.get(start..start + bytes.len()).ok_or(())?;
            bytes.copy_from_slice(wanted);
            Ok(())
        }
    }
    fn boxed<'m, 'a>(
        session: Session<'m, 'a, Paged<'a, Slice<'m>>>,
    ) -> Box<Session<'m, 'a, Paged<'a, Slice<'m>>>> {
        Box::new(session)
    }
    let (image, case) = (fixture("switch", Weights::F32), short("switch"));
    let (want, _) = mapped(&image, &case);
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(&case);
    let mut arena = Aligned::filled(model.paged_arena_bytes(limits, 2), 0);
    let storage = Slice(image.as_ref());
    let session = Session::paged(model, limits, arena.as_mut(), storage, 2).unwrap();
    assert_eq!(outputs(&mut boxed(session), &case), want);
}
