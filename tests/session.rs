//! The session's promises: bounded steps give the same bits as whole ones, work can be given up at
//! any point and begun anew, sources follow each other in any order, a read that fails can be
//! repeated, and what is not allowed is refused with the number that would do.

mod common;

use common::{Aligned, Case, Reference, Run, fixture, run};
use palmtop::format::ExpertRecord;
use palmtop::storage::{Mapped, StorageError, WeightSource};
use palmtop::{Decoder, Encoded, Error, Limits, Model, Progress, Session};
use palmtop_convert::Weights;

/// A fixture of each kind: dense, sparse in both stacks, after-norm with learned positions.
const KINDS: [(&str, Weights); 4] = [
    ("t5", Weights::Int8),
    ("switch-overflow", Weights::F16),
    ("switch-all", Weights::Int8),
    ("bart-relu", Weights::F32),
];

const fn limits(source: u32, target: u32) -> Limits {
    Limits {
        source,
        target,
        beams: 1,
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A case with a few tokens.
fn short(name: &str) -> Case {
    Reference::of(name).cases().swap_remove(1)
}

/// Steps through a target.
fn decode<S: WeightSource>(decoder: &mut Decoder<'_, '_, '_, S>, target: &[u32]) -> Vec<u32> {
    let mut all = Vec::new();
    for id in target {
        all.extend(bits(decoder.step(*id).unwrap()));
    }
    all
}

/// Both outputs of an encoded source.
fn outputs<S: WeightSource>(mut encoded: Encoded<'_, '_, '_, S>, target: &[u32]) -> [Vec<u32>; 2] {
    let hidden = bits(encoded.hidden());
    [hidden, decode(&mut encoded.decoder(), target)]
}

fn expected(run: &Run) -> [Vec<u32>; 2] {
    [bits(&run.hidden), bits(&run.logits)]
}

#[test]
fn polling_gives_the_same_bits() {
    for (name, weights) in KINDS {
        let (image, case) = (fixture(name, weights), short(name));
        let model = Model::parse(image.as_ref()).unwrap();
        let limits = limits(case.source.len() as u32, case.target.len() as u32);
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0xFF);
        let mut session = Session::new(model, limits, arena.as_mut()).unwrap();

        let mut encoding = session.start(&case.source).unwrap();
        let mut polls = 1;
        while encoding.poll().unwrap() == Progress::Pending {
            polls += 1;
        }
        assert_eq!(encoding.poll(), Ok(Progress::Ready), "ready stays ready");
        // Bounded work: at least a unit per sublayer and two for cross-attention.
        assert!(polls >= 3 * model.shape().encoder.layers, "{name}: {polls}");
        let mut encoded = encoding.finish().unwrap();
        let hidden = bits(encoded.hidden());

        let mut decoder = encoded.decoder();
        let mut logits = Vec::new();
        for (position, id) in case.target.iter().enumerate() {
            assert_eq!(decoder.position(), position);
            decoder.begin(*id).unwrap();
            let mut polls = 1;
            while decoder.poll().unwrap() == Progress::Pending {
                polls += 1;
            }
            // Three sublayers a layer and the head; a mixture has a unit for its routes and one for
            // each expert of the token.
            let layers = model.palm().header().layer_count();
            let own = model.palm().header().encoder_layers.into()..layers;
            let experts = own.filter_map(|layer| model.palm().mixture(layer));
            let experts: usize = experts.map(|layer| usize::from(layer.top_k)).sum();
            let units = 3 * model.shape().decoder.layers + 1 + experts;
            assert_eq!(polls, units, "{name}");
            assert_eq!(decoder.poll(), Ok(Progress::Ready));
            logits.extend(bits(decoder.logits()));
        }
        assert_eq!([hidden, logits], expected(&run(&image, &case)), "{name}");
    }
}

#[test]
fn encoding_can_be_dropped_after_any_poll() {
    for (name, weights) in KINDS {
        let (image, case) = (fixture(name, weights), short(name));
        let model = Model::parse(image.as_ref()).unwrap();
        let limits = limits(9, 9);
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0);
        let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
        let want = expected(&run(&image, &case));
        let other: Vec<u32> = case.target.iter().rev().copied().collect();
        let mut over = false;
        let mut polls = 0;
        while !over {
            let mut encoding = session.start(&other).unwrap();
            for _ in 0..polls {
                over = encoding.poll().unwrap() == Progress::Ready;
            }
            let got = outputs(session.encode(&case.source).unwrap(), &case.target);
            assert_eq!(got, want, "{name}, given up after {polls} polls");
            polls += 1;
        }
    }
}

#[test]
fn steps_can_be_given_up_and_the_decoder_dropped() {
    for (name, weights) in KINDS {
        let (image, case) = (fixture(name, weights), short(name));
        let model = Model::parse(image.as_ref()).unwrap();
        let limits = limits(7, case.target.len() as u32);
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0);
        let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
        let [_, want] = expected(&run(&image, &case));
        let units = 3 * model.shape().decoder.layers + 1;

        // Another token is begun at each position and given up, after each number of units.
        for given_up in 0..units {
            let mut decoder = session.encode(&case.source).unwrap().decoder();
            let mut got = Vec::new();
            for id in &case.target {
                decoder
                    .begin((id + 1) % model.palm().header().vocab)
                    .unwrap();
                for _ in 0..given_up {
                    assert_eq!(decoder.poll(), Ok(Progress::Pending));
                }
                got.extend(bits(decoder.step(*id).unwrap()));
            }
            assert_eq!(got, want, "{name}, given up after {given_up} units");
        }

        // Dropped in the middle of a step, and the source encoded anew.
        let mut decoder = session.encode(&case.source).unwrap().decoder();
        decoder.begin(case.target[0]).unwrap();
        decoder.poll().unwrap();
        let mut decoder = session.encode(&case.source).unwrap().decoder();
        assert_eq!(decode(&mut decoder, &case.target), want, "{name}");
    }
}

#[test]
fn restart_keeps_the_source() {
    for (name, weights) in KINDS {
        let (image, case) = (fixture(name, weights), short(name));
        let model = Model::parse(image.as_ref()).unwrap();
        let limits = limits(20, case.target.len() as u32);
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0);
        let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
        let mut decoder = session.encode(&case.source).unwrap().decoder();
        let want = decode(&mut decoder, &case.target);
        assert_eq!(want, expected(&run(&image, &case))[1], "{name}");
        for fed in 0..case.target.len() {
            decoder.restart();
            assert_eq!(decoder.position(), 0);
            for id in case.target.iter().rev().take(fed) {
                decoder.step(*id).unwrap();
            }
            decoder.begin(case.target[0]).unwrap();
            decoder.poll().unwrap();
            decoder.restart();
            assert_eq!(decode(&mut decoder, &case.target), want, "{name} {fed}");
        }
    }
}

#[test]
fn sources_may_follow_in_any_order() {
    for (name, weights) in KINDS {
        let image = fixture(name, weights);
        let model = Model::parse(image.as_ref()).unwrap();
        let cases = Reference::of(name).cases();
        let want: Vec<_> = cases
            .iter()
            .map(|case| expected(&run(&image, case)))
            .collect();
        let most = |length: fn(&Case) -> usize| cases.iter().map(length).max().unwrap() as u32;
        let limits = limits(
            most(|case| case.source.len()),
            most(|case| case.target.len()),
        );
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0x33);
        let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
        for index in [3, 0, 2, 1, 1, 0, 3, 2, 0] {
            let case = &cases[index];
            let encoded = session.encode(&case.source).unwrap();
            assert_eq!(
                outputs(encoded, &case.target),
                want[index],
                "{name} {index}"
            );
        }
    }
}

#[test]
fn what_is_not_allowed_is_refused() {
    let image = fixture("switch", Weights::Int8);
    let model = Model::parse(image.as_ref()).unwrap();
    let vocab = model.palm().header().vocab;
    let room = limits(4, 2);
    let mut arena = Aligned::filled(model.arena_bytes(room), 0);
    let mut session = Session::new(model, room, arena.as_mut()).unwrap();
    assert_eq!(session.limits(), room);

    let encode = |session: &mut Session<'_, '_>, source: &[u32]| session.encode(source).err();
    assert_eq!(encode(&mut session, &[]), Some(Error::EmptySource));
    let too_long = Some(Error::SourceTooLong { limit: 4, got: 5 });
    assert_eq!(encode(&mut session, &[1; 5]), too_long);
    for id in [vocab, u32::MAX] {
        let refused = Some(Error::TokenOutOfVocabulary { id, vocab });
        assert_eq!(encode(&mut session, &[0, 1, id]), refused);
        assert_eq!(session.start(&[id]).err(), refused);
    }

    let mut decoder = session.encode(&[vocab - 1, 0, 3, 2]).unwrap().decoder();
    let id = vocab;
    let refused = Some(Error::TokenOutOfVocabulary { id, vocab });
    assert_eq!(decoder.step(id).err(), refused);
    assert_eq!(decoder.begin(id).err(), refused);
    assert_eq!(decoder.position(), 0, "a refused token takes no position");
    let first = bits(decoder.step(0).unwrap());
    decoder.step(vocab - 1).unwrap();
    let full = Some(Error::TargetFull { limit: 2 });
    assert_eq!(decoder.step(0).err(), full);
    assert_eq!(decoder.begin(0).err(), full);
    decoder.restart();
    assert_eq!(bits(decoder.step(0).unwrap()), first);
    // The test needs room for its source ids, in the buffer and in the limits.
    let golden = model.palm().section(model.palm().header().golden);
    let refused = session.self_test(&mut []).err();
    match golden.first_chunk() {
        None => assert_eq!(refused, Some(Error::NoGolden)),
        Some(source) => {
            let got = u32::from_le_bytes(*source) as usize;
            assert_eq!(refused, Some(Error::SourceTooLong { limit: 0, got }));
        }
    }
}

#[test]
fn limits_of_session_and_model() {
    let switch = fixture("switch", Weights::Int8);
    let bart = fixture("bart-relu", Weights::Int8);
    let refused = |image: &Aligned, limits: Limits| {
        let model = Model::parse(image.as_ref()).unwrap();
        let mut arena = Aligned::filled(1 << 20, 0);
        Session::new(model, limits, arena.as_mut()).err()
    };
    let none = u32::MAX;
    let header = *Model::parse(bart.as_ref()).unwrap().palm().header();
    let (source, target) = (header.max_source, header.max_target);
    assert!(source > 1 && target > 1);
    assert_eq!(
        refused(&switch, limits(0, 1)),
        Some(Error::SourceLimit { max: none })
    );
    assert_eq!(
        refused(&switch, limits(1, 0)),
        Some(Error::TargetLimit { max: none })
    );
    assert_eq!(refused(&bart, limits(source, target)), None);
    let too_long = Some(Error::SourceLimit { max: source });
    assert_eq!(refused(&bart, limits(source + 1, 1)), too_long);
    assert_eq!(refused(&bart, limits(0, 1)), too_long);
    let too_long = Some(Error::TargetLimit { max: target });
    assert_eq!(refused(&bart, limits(1, target + 1)), too_long);
    for beams in [0, 2, u32::MAX] {
        let limits = Limits {
            beams,
            ..limits(1, 1)
        };
        assert_eq!(refused(&switch, limits), Some(Error::Beams));
    }
    // More than any memory: the plan saturates, the error says so.
    let refused = refused(&switch, limits(u32::MAX, u32::MAX));
    assert!(matches!(
        refused,
        Some(Error::ArenaTooSmall { got: 1_048_576, .. })
    ));
}

#[test]
fn misaligned_memory_is_refused() {
    let image = fixture("t5", Weights::Int8);
    let model = Model::parse(image.as_ref()).unwrap();
    let room = limits(3, 3);
    for shift in [1, 2, 4, 8, 15] {
        let mut arena = Aligned::filled(model.arena_bytes(room) + 16, 0);
        let refused = Session::new(model, room, &mut arena.as_mut()[shift..]).err();
        assert_eq!(refused, Some(Error::ArenaMisaligned), "{shift}");

        let mut moved = Aligned::filled(image.as_ref().len() + shift, 0);
        moved.as_mut()[shift..].copy_from_slice(image.as_ref());
        let moved = Model::parse(&moved.as_ref()[shift..]).unwrap();
        let refused = Session::new(moved, room, arena.as_mut()).err();
        assert_eq!(refused, Some(Error::ModelMisaligned), "{shift}");
    }
}

/// Mapped memory whose `fails`-th read fails, once.
struct Flaky<'m> {
    mapped: Mapped<'m>,
    reads: usize,
    fails: usize,
    failed: Option<u32>,
}

impl WeightSource for &mut Flaky<'_> {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        self.reads += 1;
        if self.reads - 1 == self.fails {
            self.failed = Some(index);
            return Err(StorageError::Read);
        }
        self.mapped.expert(index, expert)
    }
}

#[test]
fn a_read_that_fails_can_be_repeated() {
    for name in ["switch-all", "switch-overflow", "switch-step"] {
        let (image, case) = (fixture(name, Weights::Int8), short(name));
        let model = Model::parse(image.as_ref()).unwrap();
        let limits = limits(case.source.len() as u32, case.target.len() as u32);
        let want = expected(&run(&image, &case));
        let mut fails = 0;
        loop {
            let mut source = Flaky {
                mapped: Mapped::new(*model.palm()),
                reads: 0,
                fails,
                failed: None,
            };
            let mut arena = Aligned::filled(model.arena_bytes(limits), 0xC3);
            let session = Session::with_source(model, limits, arena.as_mut(), &mut source);
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
            let mut decoder = encoded.decoder();
            let mut logits = Vec::new();
            for id in &case.target {
                // `step` says what failed; `poll` goes on from there, `step` begins it anew.
                if let Err(error) = decoder.step(*id) {
                    errors.push(error);
                    if fails % 2 == 0 {
                        while decoder.poll().unwrap() == Progress::Pending {}
                    } else {
                        decoder.step(*id).unwrap();
                    }
                }
                logits.extend(bits(decoder.logits()));
            }
            assert_eq!([hidden, logits], want, "{name}, read {fails} failed");
            let wanted = source.failed.map(|expert| Error::Storage {
                expert,
                reason: StorageError::Read,
            });
            assert_eq!(errors, Vec::from_iter(wanted), "{name}, read {fails}");
            if errors.is_empty() {
                break;
            }
            fails += 1;
        }
        println!("{name}: each of {fails} reads failed once");
        assert!(fails > case.target.len());
    }
}

#[test]
fn a_source_whose_encoding_failed_can_be_encoded_anew() {
    let (image, case) = (fixture("switch-all", Weights::F16), short("switch-all"));
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits(case.source.len() as u32, case.target.len() as u32);
    let want = expected(&run(&image, &case));
    for fails in 0.. {
        let mut source = Flaky {
            mapped: Mapped::new(*model.palm()),
            reads: 0,
            fails,
            failed: None,
        };
        let mut arena = Aligned::filled(model.arena_bytes(limits), 0);
        let session = Session::with_source(model, limits, arena.as_mut(), &mut source);
        let mut session = session.unwrap();
        let Some(error) = session.encode(&case.source).err() else {
            assert!(fails >= 2, "every expert of both layers is read");
            break;
        };
        let got = outputs(session.encode(&case.source).unwrap(), &case.target);
        assert_eq!(got, want, "read {fails} failed");
        let expert = source.failed.unwrap();
        let reason = StorageError::Read;
        assert_eq!(error, Error::Storage { expert, reason });
    }
}
