//! A model inside the program: its sizes are constants, a file that is damaged does not compile
//! (`compile_fail.md`), and the committed image computes what it computed when it was made.
//!
//! `tests/fixtures/tiny/` holds images of a few kilobytes, converted from the checkpoints that
//! `common/tiny.rs` writes. To make them anew, knowing why they change:
//! `cargo test --release -p palmtop --test const_model -- --ignored remake`.

#[path = "common/known_plans.rs"]
mod known_plans;
#[path = "common/lifetimes.rs"]
mod lifetimes;
#[path = "common/tiny.rs"]
mod tiny;

use known_plans::{KNOWN, TINY};
use lifetimes::Timeline;
use palmtop::generate::greedy;
use palmtop::text::Tokenizer;
use palmtop::{Aligned, Arena, Error, Limits, Model, NoTrace, Session};

/// Room for the golden pair of the image.
const LIMITS: Limits = TINY.default_limits();
const BYTES: usize = TINY.arena_bytes(LIMITS);

#[test]
fn sizes_are_constants() {
    static ARENA: Arena<BYTES> = Arena::new();
    assert_eq!(size_of_val(&ARENA), BYTES.next_multiple_of(16));
    // Other constants of the program may follow from the model's.
    const LOGITS: usize = TINY.shape().vocab;
    const IDS: [u32; LOGITS] = [0; LOGITS];
    assert_eq!(IDS.len(), 32);
    assert_eq!(TINY.palm().verify(), Ok(()));
}

#[test]
fn known_plans_are_the_peaks_of_lifetimes() {
    let found = KNOWN.map(|(source, target, _)| {
        let limits = Limits {
            source,
            target,
            beams: 1,
        };
        let (peak, _) = Timeline::new(TINY.palm(), limits).peak();
        (source, target, peak as usize)
    });
    assert_eq!(found, KNOWN);
}

#[test]
fn exactly_enough_runs_the_golden_pair() {
    let mut arena = Arena::<BYTES>::new();
    let mut session = Session::new(TINY, LIMITS, arena.as_mut_slice()).unwrap();
    let mut ids = [0; LIMITS.source as usize];
    assert_eq!(session.self_test(&mut ids), Ok(()));
    // Again, in an arena full of what was left.
    assert_eq!(session.self_test(&mut ids), Ok(()));
    assert_eq!(arena.as_mut_slice().len(), BYTES);
}

#[test]
fn text_to_text() {
    let mut arena = Arena::<BYTES>::new();
    let mut session = Session::new(TINY, LIMITS, arena.as_mut_slice()).unwrap();
    let tokenizer = Tokenizer::of(TINY.palm()).unwrap();
    let mut ids = [0; 8];
    let count = tokenizer.encode("abcdä", &mut ids).unwrap();
    // bos, five letters, eos
    assert_eq!(ids[..count], [1, 4, 5, 6, 7, 8, 1]);
    let mut decoder = session.encode(&ids[..count]).unwrap().decoder();
    let mut generated = Vec::new();
    let emit = |id| generated.push(id);
    let count = greedy(&mut decoder, 6, &mut NoTrace, emit).unwrap();
    assert_eq!(generated.len(), count);
    let mut text = Vec::new();
    tokenizer.decode(&generated, |piece| text.extend_from_slice(piece));
    assert!(String::from_utf8(text).is_ok());
}

#[test]
fn self_test_needs_room_and_finds_wrong_bits() {
    let (source, target) = golden_lengths();
    let self_test = |model: Model<'_>, source: u32, target: u32| {
        let limits = Limits {
            source,
            target,
            beams: 1,
        };
        let mut arena = vec![0u128; model.arena_bytes(limits).div_ceil(16)];
        let arena = bytemuck::cast_slice_mut(&mut arena);
        let mut session = Session::new(model, limits, arena).unwrap();
        session.self_test(&mut [0; 64]).err()
    };
    assert_eq!(self_test(TINY, source, target), None);
    let limit = source as usize - 1;
    let got = source as usize;
    let short = Some(Error::SourceTooLong { limit, got });
    assert_eq!(self_test(TINY, source - 1, target), short);
    let limit = target as usize - 1;
    assert_eq!(
        self_test(TINY, source, target - 1),
        Some(Error::TargetFull { limit })
    );

    // One bit of one weight, or of a CRC in the golden section.
    let header = TINY.palm().header();
    let weight = TINY.palm().tensor(header.roles.embedding).unwrap();
    let golden = header.golden.offset as usize;
    let first_id = u32::from_le_bytes(golden_bytes(16));
    let row = weight.offset + first_id * weight.stride;
    for at in [golden + 8, golden + 12, row as usize] {
        let mut image = Aligned([0; TINY.palm().bytes().len()]);
        image.0.copy_from_slice(TINY.palm().bytes());
        image.0[at] ^= 0x10;
        let damaged = Model::parse(&image.0).unwrap();
        assert_eq!(
            self_test(damaged, source, target),
            Some(Error::GoldenMismatch)
        );
    }
}

fn golden_bytes(at: usize) -> [u8; 4] {
    let golden = TINY.palm().section(TINY.palm().header().golden);
    golden[at..at + 4].try_into().unwrap()
}

fn golden_lengths() -> (u32, u32) {
    let word = |at| u32::from_le_bytes(golden_bytes(at));
    (word(0), word(4))
}

#[test]
#[ignore = "writes into tests/fixtures/tiny"]
fn remake() {
    use palmtop_convert::{Options, Weights, convert};
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    std::fs::create_dir_all(&root).unwrap();
    let scratch = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("remake");
    let mut all = tiny::SMALLEST.to_vec();
    all.push(("tiny", tiny::COMMITTED));
    for (name, tiny) in all {
        tiny.write(&scratch);
        let options = Options {
            // An image of each kind of numbers is among the smallest.
            weights: match name {
                "t5" => Weights::F16,
                "bart" => Weights::F32,
                _ => Weights::Int8,
            },
            ..Options::default()
        };
        let image = convert(&scratch, &options, &mut ()).unwrap().bytes;
        palmtop_convert::write_atomically(&root.join(format!("{name}.palm")), &image).unwrap();
        println!("{name}: {} bytes", image.len());
        if name == "tiny" {
            let mut damaged = image;
            damaged[1000] ^= 4;
            palmtop_convert::write_atomically(&root.join("damaged.palm"), &damaged).unwrap();
        }
    }
}
