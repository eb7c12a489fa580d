//! Files that are damaged: every one is refused with an error, or does no harm.
//!
//! Two lines of defence are tested. The CRCs find any damage that happens by itself: every bit of
//! header and tables is flipped here, and a sample of the rest. What a CRC cannot find is a file
//! that was written wrong. So the CRC of the head is made right after each change, and the checks
//! behind it must refuse the file or leave a model that can be run: wrong numbers may come out,
//! but no size may be wrong and nothing may panic. `cargo test` without `--release` runs this with
//! checks for overflow, too; `tests/fuzz` goes on where this ends.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use common::{Aligned, convert};
use palmtop::format::{FormatError, HEADER_LEN, NONE32, Palm, crc32};
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model, Session};
use palmtop_convert::{ExpertWeights, Options, Weights};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Small images of every family and every kind of numbers.
fn images() -> Vec<(String, Vec<u8>)> {
    let mut images = Vec::new();
    for (name, tiny) in tiny::SMALLEST {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(tiny::unique());
        tiny.write(&folder);
        for weights in [Weights::Int8, Weights::F16, Weights::F32] {
            let image = convert(&folder, weights).as_ref().to_vec();
            images.push((format!("{name} {weights}"), image));
        }
        if tiny.family == tiny::Family::Palm {
            let options = Options {
                experts: Some(ExpertWeights::Int4),
                ..Options::default()
            };
            let image = palmtop_convert::convert(&folder, &options, &mut ()).unwrap();
            images.push((format!("{name} int4"), image.bytes));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    images
}

fn head_len(image: &[u8]) -> usize {
    u32_at(image, 12) as usize
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}

/// Makes the CRC of the head right, wherever the header now says that the head ends.
fn repair(image: &mut [u8]) {
    let end = head_len(image);
    if end >= HEADER_LEN + 4 && end <= image.len() {
        let crc = crc32(&image[..end - 4]);
        image[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A generator that gives the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }
}

/// Parses and checks every CRC, as the command does before it computes with a file.
fn open(image: &[u8]) -> Result<(), FormatError> {
    Palm::parse(image)?.verify()
}

#[test]
fn truncated_at_any_length() {
    for (name, image) in images() {
        for len in 0..image.len() {
            let error = Palm::parse(&image[..len]).err();
            let needed = if len < HEADER_LEN {
                HEADER_LEN
            } else {
                image.len()
            };
            let wanted = FormatError::Truncated {
                needed: needed as u32,
                got: len as u32,
            };
            assert_eq!(error, Some(wanted), "{name}, {len} bytes");
        }
    }
}

#[test]
fn truncated_with_a_length_that_fits() {
    for (name, image) in images() {
        for len in (0..image.len())
            .step_by(7)
            .chain([HEADER_LEN, head_len(&image)])
        {
            let mut short = image[..len].to_vec();
            if len >= 20 {
                short[16..20].copy_from_slice(&(len as u32).to_le_bytes());
                repair(&mut short);
            }
            assert!(Palm::parse(&short).is_err(), "{name}, {len} bytes");
        }
    }
}

#[test]
fn every_bit_of_header_and_tables() {
    for (name, mut image) in images() {
        assert_eq!(open(&image), Ok(()), "{name}");
        for bit in 0..head_len(&image) * 8 {
            image[bit / 8] ^= 1 << (bit % 8);
            let refused = Palm::parse(&image).err();
            assert!(
                refused.is_some(),
                "{name}: bit {} of byte {}",
                bit % 8,
                bit / 8
            );
            image[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(open(&image), Ok(()), "{name}");
    }
}

#[test]
fn every_bit_of_the_body() {
    // Every third bit of one image, a sample of the others: each costs the CRCs of a whole file.
    for (index, (name, mut image)) in images().into_iter().enumerate() {
        let head = head_len(&image) * 8;
        let step = if index == 0 { 3 } else { 61 };
        for bit in (head..image.len() * 8).step_by(step) {
            image[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open(&image).is_err(),
                "{name}: bit {} of byte {}",
                bit % 8,
                bit / 8
            );
            image[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn damage_names_its_section() {
    for (name, mut image) in images() {
        let header = *Palm::parse(&image).unwrap().header();
        let names = ["RESIDENT", "TOKENIZER", "GOLDEN", "expert 0", "NAMES"];
        let sections = [
            header.resident,
            header.tokenizer,
            header.golden,
            header.experts_section,
            header.names,
        ];
        for (what, section) in names.iter().zip(sections) {
            if section.len == 0 {
                continue;
            }
            let last = (section.offset + section.len - 1) as usize;
            // The last byte of a section is padding, or the end of its last part.
            let at = if *what == "expert 0" {
                section.offset as usize
            } else {
                last
            };
            image[at] ^= 0x40;
            let text = match open(&image) {
                Err(error) => error.to_string(),
                Ok(()) => panic!("{name}: {what} is damaged, and nobody saw it"),
            };
            assert!(text.contains(what), "{name}: {what}: {text}");
            image[at] ^= 0x40;
        }
    }
}

#[test]
fn wrong_versions() {
    for (_, image) in images() {
        for (major, minor) in [(0, 0), (2, 0), (1, 3), (1, 9), (0xFFFF, 0), (1, 0xFFFF)] {
            let mut image = image.clone();
            image[8..10].copy_from_slice(&u16::to_le_bytes(major));
            image[10..12].copy_from_slice(&u16::to_le_bytes(minor));
            let error = Palm::parse(&image).err();
            // The version is told even though the CRC no longer fits, and when it does again.
            assert_eq!(error, Some(FormatError::Version { major, minor }));
            repair(&mut image);
            assert_eq!(Palm::parse(&image).err(), error);
        }
    }
}

#[test]
fn not_a_palm_file_at_all() {
    let (needed, mut random) = (HEADER_LEN as u32, Random(7));
    assert_eq!(
        Palm::parse(&[]).err(),
        Some(FormatError::Truncated { needed, got: 0 })
    );
    for len in [1, 8, 255, 256, 257, 4096, 100_000] {
        for _ in 0..50 {
            let mut file: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            assert!(Palm::parse(&file).is_err());
            if len >= HEADER_LEN {
                assert_eq!(Palm::parse(&file).err(), Some(FormatError::Magic));
                // Behind a good beginning, too.
                file[..8].copy_from_slice(b"\x89PALM\r\n\x1a");
                file[8..12].copy_from_slice(&[1, 0, 0, 0]);
                file[12..16].copy_from_slice(&(len as u32 & !15).to_le_bytes());
                file[16..20].copy_from_slice(&(len as u32).to_le_bytes());
                repair(&mut file);
                assert!(Palm::parse(&file).is_err());
            }
        }
    }
    for text in ["", "{}", "version https://git-lfs.github.com/spec/v1\n"] {
        assert!(Palm::parse(text.repeat(20).as_bytes()).is_err());
    }
}

#[test]
fn trailing_bytes() {
    for (name, mut image) in images() {
        let total = image.len() as u32;
        for _ in 0..40 {
            image.push(0);
            let error = Palm::parse(&image).err();
            assert_eq!(error, Some(FormatError::TrailingBytes { total }), "{name}");
        }
    }
}

/// What became of files whose CRC was made right.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    ran: usize,
    too_large: usize,
    panics: Vec<String>,
}

impl Tally {
    /// Whatever the image is: no panic, and sizes that hold.
    fn look(&mut self, buffer: &mut Aligned, image: &[u8], what: impl Fn() -> String) {
        buffer.as_mut().copy_from_slice(image);
        repair(buffer.as_mut());
        let outcome = catch_unwind(AssertUnwindSafe(|| use_image(buffer.as_ref())));
        match outcome {
            Ok(Used::Refused) => self.refused += 1,
            Ok(Used::Ran) => self.ran += 1,
            Ok(Used::TooLarge) => self.too_large += 1,
            Err(_) => self.panics.push(what()),
        }
    }
}

enum Used {
    Refused,
    Ran,
    TooLarge,
}

/// Everything that can be done with an image: verify, read the text, plan, encode, decode.
fn use_image(image: &[u8]) -> Used {
    let Ok(model) = Model::parse(image) else {
        return Used::Refused;
    };
    let palm = model.palm();
    let _ = palm.verify();
    let header = palm.header();
    if let Some(tokenizer) = Tokenizer::of(palm) {
        let mut ids = [0; 9];
        if let Ok(count) = tokenizer.encode("abä", &mut ids) {
            assert!(ids[..count].iter().all(|id| *id < header.vocab));
        }
        let all: Vec<u32> = (0..header.vocab + 1).collect();
        tokenizer.decode(&all, |piece| assert!(piece.len() <= palm.bytes().len()));
    }
    let within = |wanted: u32, max: u32| if max == 0 { wanted } else { wanted.min(max) };
    let limits = Limits {
        source: within(4, header.max_source),
        target: within(2, header.max_target),
        beams: 1,
    };
    let _ = model.arena_bytes(model.default_limits());
    let needed = model.arena_bytes(limits);
    if needed > 64 << 20 {
        return Used::TooLarge;
    }
    let mut arena = Aligned::filled(needed, 0xA5);
    let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
    let source: Vec<u32> = (0..limits.source).map(|id| id * 3 % header.vocab).collect();
    let mut decoder = if header.decoder_only {
        session.decoder_only().unwrap()
    } else {
        let mut encoded = session.encode(&source).unwrap();
        assert_eq!(
            encoded.hidden().len(),
            source.len() * header.d_model as usize
        );
        encoded.decoder()
    };
    for _ in 0..limits.target {
        let logits = decoder.step(header.decoder_start).unwrap();
        assert_eq!(logits.len(), header.vocab as usize);
    }
    let _ = session.self_test(&mut [0; 16]);
    Used::Ran
}

/// Applies `change` to many images in turn and reports.
fn tally(change: impl Fn(&str, &[u8], &mut Tally, &mut Aligned)) {
    let mut tally = Tally::default();
    for (name, image) in images() {
        let mut buffer = Aligned::new(&image);
        change(&name, &image, &mut tally, &mut buffer);
    }
    let Tally {
        refused,
        ran,
        too_large,
        panics,
    } = tally;
    println!("refused {refused}, ran {ran}, too large to run {too_large}");
    assert!(
        panics.is_empty(),
        "{} panics, the first: {:?}",
        panics.len(),
        panics.first()
    );
    assert!(refused > 0 && ran > 0);
}

#[test]
fn bytes_of_the_head_behind_a_good_crc() {
    tally(|name, image, tally, buffer| {
        for at in 0..head_len(image) - 4 {
            let old = image[at];
            let flips = (0..8).map(|bit| old ^ (1 << bit));
            for new in flips.chain([old.wrapping_add(1), old.wrapping_sub(1), 0, 0x7F, 0xFF]) {
                let mut image = image.to_vec();
                image[at] = new;
                tally.look(buffer, &image, || format!("{name}: byte {at} = {new:#x}"));
            }
        }
    });
}

#[test]
fn words_of_the_head_behind_a_good_crc() {
    tally(|name, image, tally, buffer| {
        let total = image.len() as u32;
        for at in (0..head_len(image) - 4).step_by(4) {
            let old = u32_at(image, at);
            for new in [
                0,
                1,
                0x7FFF_FFFF,
                0x8000_0000,
                NONE32,
                NONE32 - 15,
                total,
                total - 16,
                old.wrapping_add(16),
                old.wrapping_sub(16),
                old.wrapping_mul(2),
                old.wrapping_mul(1 << 20),
                f32::NAN.to_bits(),
                f32::MAX.to_bits(),
            ] {
                let mut image = image.to_vec();
                image[at..at + 4].copy_from_slice(&new.to_le_bytes());
                tally.look(buffer, &image, || format!("{name}: word {at} = {new:#x}"));
            }
        }
    });
}

#[test]
fn several_fields_behind_a_good_crc() {
    let mut random = Random(2026);
    let mut pairs = Vec::new();
    for _ in 0..4000 {
        pairs.push([random.next(), random.next(), random.next()]);
    }
    tally(|name, image, tally, buffer| {
        let mut random = Random(11);
        let words = head_len(image) / 4 - 1;
        for pair in &pairs {
            let mut image = image.to_vec();
            for seed in pair {
                // Entries of a table are copied over others of it: fields that fit elsewhere.
                let (to, from) = (random.below(words) * 4, (*seed as usize % words) * 4);
                let value = u32_at(&image, from).to_le_bytes();
                image[to..to + 4].copy_from_slice(&value);
            }
            tally.look(buffer, &image, || format!("{name}: {pair:?}"));
        }
    });
}

#[test]
fn sections_behind_good_crcs() {
    // Tokenizer and golden pair are checked when a file is parsed, whatever their CRC.
    tally(|name, image, tally, buffer| {
        let header = *Palm::parse(image).unwrap().header();
        for section in [header.tokenizer, header.golden] {
            let start = section.offset as usize;
            for at in start..start + section.len as usize {
                for new in [
                    0,
                    1,
                    4,
                    9,
                    0x7F,
                    0x80,
                    0xFF,
                    image[at] ^ 1,
                    image[at] ^ 0x20,
                ] {
                    let mut image = image.to_vec();
                    image[at] = new;
                    tally.look(buffer, &image, || format!("{name}: byte {at} = {new:#x}"));
                }
            }
        }
        // And weights: any bits are numbers.
        let mut random = Random(3);
        for _ in 0..300 {
            let mut image = image.to_vec();
            for _ in 0..64 {
                let at = header.head_len as usize
                    + random.below((header.names.offset - header.head_len) as usize);
                image[at] = random.next() as u8;
            }
            tally.look(buffer, &image, || format!("{name}: random weights"));
        }
    });
}
