//! The functions for C, called as C calls them: the same bits as from Rust, and every misuse that can
//! be seen is refused with a code.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;
use std::ptr::{null, null_mut};

use palmtop::{Limits, Model, Session};
use palmtop_capi::*;

use palmtop_status as S;

const LIMITS: palmtop_limits = palmtop_limits {
    source: 12,
    target: 9,
};

/// Memory at a multiple of 16.
struct Memory {
    words: Vec<u128>,
    length: usize,
}

impl Memory {
    fn new(length: usize) -> Self {
        let words = vec![0; length.div_ceil(16) + 1];
        Self { words, length }
    }

    fn image(folder: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let options = palmtop_convert::Options::default();
        let made = palmtop_convert::convert(&root.join(folder), &options, &mut ()).unwrap();
        let mut memory = Self::new(made.bytes.len());
        // SAFETY: the words hold more bytes than are copied, and nothing else uses them.
        unsafe {
            memory
                .start()
                .copy_from_nonoverlapping(made.bytes.as_ptr(), made.bytes.len());
        }
        memory
    }

    fn start(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the words hold more bytes than these, and any byte is one.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.length) }
    }
}

/// An opened model and session, with what they borrow.
struct Opened {
    image: Memory,
    model: Box<palmtop_model>,
    session: Box<palmtop_session>,
    _arena: Memory,
}

fn nothing() -> palmtop_detail {
    palmtop_detail {
        field: palmtop_text {
            start: c"".as_ptr(),
            length: 0,
        },
        index: 0,
        needed: 0,
        got: 0,
    }
}

fn fixture(name: &str) -> Memory {
    Memory::image(&format!("tests/fixtures/{name}"))
}

fn open(mut image: Memory) -> Opened {
    let mut model = Box::new(palmtop_model::ZERO);
    let mut session = Box::new(palmtop_session::ZERO);
    let length = image.length;
    // SAFETY: all of it lives as long as the `Opened` that has it.
    let arena = unsafe {
        let status = palmtop_model_open(
            &mut *model,
            image.start(),
            length,
            PALMTOP_CHECK_ALL,
            null_mut(),
        );
        assert_eq!(status, S::PALMTOP_OK);
        let bytes = palmtop_arena_bytes(&*model, LIMITS);
        let mut arena = Memory::new(bytes);
        let mut detail = nothing();
        let status = palmtop_session_open(
            &mut *session,
            &*model,
            LIMITS,
            arena.start(),
            bytes - 1,
            &mut detail,
        );
        assert_eq!(status, S::PALMTOP_ARENA_TOO_SMALL);
        assert_eq!((detail.needed, detail.got), (bytes, bytes - 1));
        let status = palmtop_session_open(
            &mut *session,
            &*model,
            LIMITS,
            arena.start(),
            bytes,
            null_mut(),
        );
        assert_eq!(status, S::PALMTOP_OK);
        arena
    };
    Opened {
        image,
        model,
        session,
        _arena: arena,
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// # Safety
/// The values are there while the result is used.
unsafe fn values<'v>(start: *const f32, count: usize) -> &'v [f32] {
    assert!(!start.is_null());
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(start, count) }
}

#[test]
fn the_bits_of_rust() {
    for name in ["switch", "bart", "palm-block", "nllb-moe-50"] {
        let mut opened = open(fixture(name));
        let model = Model::parse(opened.image.bytes()).unwrap();
        let limits = Limits {
            source: LIMITS.source,
            target: LIMITS.target,
            beams: 1,
        };
        let mut arena = Memory::new(model.arena_bytes(limits));
        let length = arena.length;
        // SAFETY: the memory is not used otherwise.
        let arena = unsafe { std::slice::from_raw_parts_mut(arena.start(), length) };
        let mut session = Session::new(model, limits, arena).unwrap();
        let source = [3, 7, 1, 12, 5];
        let mut encoded = session.encode(&source).unwrap();
        let hidden = bits(encoded.hidden());
        let mut decoder = encoded.decoder();

        let c: *mut palmtop_session = &mut *opened.session;
        // SAFETY: an opened session and memory that is there.
        unsafe {
            let mut count = 0;
            assert_eq!(palmtop_encode_poll(c), S::PALMTOP_ORDER);
            assert_eq!(palmtop_step(c, 0), S::PALMTOP_ORDER);
            assert_eq!(
                palmtop_encode_begin(c, source.as_ptr(), source.len()),
                S::PALMTOP_OK
            );
            assert!(palmtop_hidden(c, &mut count).is_null());
            assert_eq!(palmtop_step_begin(c, 0), S::PALMTOP_ORDER);
            let mut pieces = 0;
            while palmtop_encode_poll(c) == S::PALMTOP_PENDING {
                pieces += 1;
            }
            assert!(pieces > 3, "{pieces}");
            let start = palmtop_hidden(c, &mut count);
            assert_eq!(bits(values(start, count)), hidden, "{name}");
            assert!(palmtop_logits(c, &mut count).is_null());
            // Twice, the second time after a step that was given up and a restart.
            for round in 0..2 {
                for id in [2, 9, 4] {
                    let wanted = bits(decoder.step(id).unwrap());
                    assert_eq!(palmtop_step(c, id), S::PALMTOP_OK);
                    let start = palmtop_logits(c, &mut count);
                    assert_eq!(bits(values(start, count)), wanted, "{name} {round}");
                }
                assert_eq!(palmtop_step_begin(c, 1), S::PALMTOP_OK);
                assert!(palmtop_logits(c, &mut count).is_null());
                let mut id = 0;
                assert_eq!(palmtop_choose(c, 9, &mut id), S::PALMTOP_ORDER);
                assert_eq!(palmtop_restart(c), S::PALMTOP_OK);
                decoder.restart();
            }
        }
    }
}

#[test]
fn generating_at_once_and_step_by_step() {
    for name in ["t5", "bart", "m2m100", "palm-all"] {
        let mut opened = open(fixture(name));
        let m: *const palmtop_model = &*opened.model;
        let c: *mut palmtop_session = &mut *opened.session;
        let source = [5, 6, 7];
        // SAFETY: an opened model and session and memory that is there.
        unsafe {
            for most in [1, 4, 9, 100] {
                let mut ids = [0; 9];
                let mut count = 0;
                assert_eq!(palmtop_encode(c, source.as_ptr(), 3), S::PALMTOP_OK);
                let status = palmtop_generate(c, most, ids.as_mut_ptr(), ids.len(), &mut count);
                assert_eq!(status, S::PALMTOP_OK);
                assert!(count >= 1 && count <= most);
                let (mut id, mut stepped) = (palmtop_start_token(m), Vec::new());
                assert_eq!(palmtop_restart(c), S::PALMTOP_OK);
                while stepped.len() < most.min(9) {
                    assert_eq!(palmtop_step(c, id), S::PALMTOP_OK);
                    assert_eq!(palmtop_choose(c, most.min(9), &mut id), S::PALMTOP_OK);
                    stepped.push(id);
                    if id == palmtop_end_token(m) {
                        break;
                    }
                }
                assert_eq!(stepped, ids[..count], "{name} {most}");
            }
            assert_eq!(palmtop_cancel(c), S::PALMTOP_OK);
            assert_eq!(palmtop_step(c, 0), S::PALMTOP_ORDER);
            let mut room = [0; 12];
            let status = palmtop_self_test(c, room.as_mut_ptr(), room.len());
            assert!(
                [
                    S::PALMTOP_OK,
                    S::PALMTOP_TARGET_FULL,
                    S::PALMTOP_SOURCE_TOO_LONG
                ]
                .contains(&status),
                "{name}: {status:?}"
            );
        }
    }
}

#[test]
fn decoder_only_models_begin_with_a_step() {
    let mut opened = open(fixture("mixtral"));
    let c: *mut palmtop_session = &mut *opened.session;
    // SAFETY: an opened session and memory that is there.
    unsafe {
        let ids = [1u32];
        assert_eq!(palmtop_encode(c, ids.as_ptr(), 1), S::PALMTOP_NO_ENCODER);
        let mut count = 0;
        for id in 0..9 {
            assert_eq!(palmtop_step(c, id), S::PALMTOP_OK);
            assert!(!palmtop_logits(c, &mut count).is_null());
        }
        assert_eq!(palmtop_step(c, 0), S::PALMTOP_TARGET_FULL);
        assert_eq!(palmtop_step(c, 1 << 30), S::PALMTOP_TOKEN);
    }
}

#[test]
fn text_to_text() {
    let mut opened = open(Memory::image("tools/zoo/g2p"));
    let m: *const palmtop_model = &*opened.model;
    let c: *mut palmtop_session = &mut *opened.session;
    let (mut ids, mut text, mut count, mut length) = ([0u32; 12], [1u8; 32], 0, 0);
    let (i, t) = (ids.as_mut_ptr(), text.as_mut_ptr().cast());
    // SAFETY: an opened model and session and memory that is there.
    unsafe {
        let to_ids = |text: &str, room, count: *mut usize| {
            palmtop_text_to_ids(m, text.as_ptr().cast(), text.len(), i, room, count)
        };
        assert_eq!(to_ids("", 12, &mut count), S::PALMTOP_TEXT_EMPTY);
        assert_eq!(to_ids("hello", 3, &mut count), S::PALMTOP_TEXT_TOO_LONG);
        let status = palmtop_text_to_ids(m, [-1i8, 65].as_ptr().cast(), 2, i, 12, &mut count);
        assert_eq!(status, S::PALMTOP_NOT_UTF8);
        assert_eq!(to_ids("hello", 12, &mut count), S::PALMTOP_OK);
        assert_eq!(palmtop_encode(c, i, count), S::PALMTOP_OK);
        assert_eq!(palmtop_generate(c, 9, i, 12, &mut count), S::PALMTOP_OK);
        let told = |text| CStr::from_ptr(text).to_str().unwrap();
        let status = palmtop_ids_to_text(m, i, count, t, 32, &mut length);
        assert_eq!(status, S::PALMTOP_OK);
        assert_eq!(told(t), "HH EH1 L OW0");
        assert_eq!(length, 12);
        // The zero needs room too; what does not fit leaves no half a text.
        let status = palmtop_ids_to_text(m, i, count, t, 13, null_mut());
        assert_eq!(status, S::PALMTOP_OK);
        for room in 1..13 {
            let status = palmtop_ids_to_text(m, i, count, t, room, null_mut());
            assert_eq!(status, S::PALMTOP_TEXT_TOO_LONG);
            assert_eq!(told(t), "");
        }
        let status = palmtop_ids_to_text(m, i, count, t, 0, null_mut());
        assert_eq!(status, S::PALMTOP_TEXT_TOO_LONG);
        assert_eq!(palmtop_separator(m).length, 1);
        assert_eq!(palmtop_piece(m, ids[0]).length, 2);
        assert_eq!(palmtop_piece(m, u32::MAX).length, 0);
    }
}

#[test]
fn misuse_is_refused() {
    let mut image = fixture("switch");
    let length = image.length;
    let mut model = palmtop_model::ZERO;
    let mut session = palmtop_session::ZERO;
    let m: *mut palmtop_model = &mut model;
    let c: *mut palmtop_session = &mut session;
    let mut detail = nothing();
    let d: *mut palmtop_detail = &mut detail;
    // SAFETY: what is not null is memory that is there.
    unsafe {
        let start = image.start();
        // Not open.
        assert_eq!(palmtop_arena_bytes(m, LIMITS), 0);
        assert_eq!(palmtop_arena_bytes(null(), LIMITS), 0);
        assert_eq!(palmtop_start_token(m), PALMTOP_NO_TOKEN);
        assert_eq!(palmtop_model_verify(m, d), S::PALMTOP_NOT_OPEN);
        assert_eq!(palmtop_step(c, 0), S::PALMTOP_NOT_OPEN);
        assert_eq!(palmtop_step(null_mut(), 0), S::PALMTOP_NULL);
        assert_eq!(palmtop_cancel(c), S::PALMTOP_NOT_OPEN);
        let status = palmtop_session_open(c, m, LIMITS, start, length, d);
        assert_eq!(status, S::PALMTOP_NOT_OPEN);
        // Bad images.
        let open = |start, length, check| palmtop_model_open(m, start, length, check, d);
        assert_eq!(open(null(), length, 0), S::PALMTOP_NULL);
        assert_eq!(open(start, length - 1, 0), S::PALMTOP_TRUNCATED);
        assert_eq!((*d).got, length - 1);
        assert_eq!((*d).needed, length);
        assert_eq!(open(start, length, 7), S::PALMTOP_ARGUMENT);
        let status = palmtop_model_open(null_mut(), start, length, 0, d);
        assert_eq!(status, S::PALMTOP_NULL);
        // A damaged body is seen by who asks for it.
        let last = start.add(length - 1);
        *start.add(length / 2) ^= 1;
        assert_eq!(open(start, length, PALMTOP_CHECK_HEAD), S::PALMTOP_OK);
        let verified = palmtop_model_verify(m, d);
        assert_eq!(open(start, length, PALMTOP_CHECK_ALL), verified);
        assert!([S::PALMTOP_SECTION_CRC, S::PALMTOP_EXPERT_CRC].contains(&verified));
        // After a refusal the model is not open, though it was before.
        assert_eq!(palmtop_vocabulary(m), 0);
        *start.add(length / 2) ^= 1;
        let _ = last;
        assert_eq!(open(start, length, PALMTOP_CHECK_ALL), S::PALMTOP_OK);
        assert!(palmtop_vocabulary(m) > 0);
        // Length from the header.
        let mut stated = 0;
        assert_eq!(palmtop_image_length(start, 256, &mut stated), S::PALMTOP_OK);
        assert_eq!(stated, length);
        assert_eq!(
            palmtop_image_length(start, 255, &mut stated),
            S::PALMTOP_TRUNCATED
        );
        assert_eq!(
            palmtop_image_length(start, 256, null_mut()),
            S::PALMTOP_NULL
        );
        assert_eq!(
            palmtop_image_length(start.add(16), 256, &mut stated),
            S::PALMTOP_MAGIC
        );
        // Arenas and limits.
        let bytes = palmtop_arena_bytes(m, LIMITS);
        let mut arena = Memory::new(bytes + 1);
        let a = arena.start();
        let status = palmtop_session_open(c, m, LIMITS, a.add(1), bytes, d);
        assert_eq!(status, S::PALMTOP_ARENA_MISALIGNED);
        let status = palmtop_session_open(c, m, LIMITS, null_mut(), bytes, d);
        assert_eq!(status, S::PALMTOP_NULL);
        let none = palmtop_limits {
            source: 0,
            target: 1,
        };
        let status = palmtop_session_open(c, m, none, a, bytes, d);
        assert_eq!(status, S::PALMTOP_SOURCE_LIMIT);
        let status = palmtop_session_open(c, m, LIMITS, a, bytes, d);
        assert_eq!(status, S::PALMTOP_OK);
        // Sources.
        let ids = [1u32; 13];
        assert_eq!(palmtop_encode(c, ids.as_ptr(), 0), S::PALMTOP_EMPTY_SOURCE);
        assert_eq!(
            palmtop_encode(c, ids.as_ptr(), 13),
            S::PALMTOP_SOURCE_TOO_LONG
        );
        assert_eq!(palmtop_encode(c, null(), 3), S::PALMTOP_NULL);
        assert_eq!(
            palmtop_encode(c, ids.as_ptr(), usize::MAX),
            S::PALMTOP_MISALIGNED
        );
        assert_eq!(palmtop_encode(c, [1 << 20].as_ptr(), 1), S::PALMTOP_TOKEN);
        assert_eq!(palmtop_encode(c, ids.as_ptr(), 12), S::PALMTOP_OK);
        assert_eq!(palmtop_choose(c, 9, null_mut()), S::PALMTOP_ORDER);
        assert_eq!(palmtop_step(c, 1), S::PALMTOP_OK);
        assert_eq!(palmtop_choose(c, 9, null_mut()), S::PALMTOP_NULL);
        assert!(palmtop_logits(c, null_mut()).is_null());
        // No tokenizer in this fixture.
        let text = palmtop_text_to_ids(m, c"a".as_ptr(), 1, [0].as_mut_ptr(), 1, &mut stated);
        assert_eq!(text, S::PALMTOP_NO_TOKENIZER);
        assert_eq!(palmtop_piece(m, 0).length, 0);
    }
}

#[test]
fn every_status_has_its_name_and_a_value_of_its_own() {
    for (index, (status, name)) in PALMTOP_ALL.iter().enumerate() {
        assert_eq!(name.to_str().unwrap(), format!("{status:?}"));
        // SAFETY: a static string.
        let told = unsafe { CStr::from_ptr(palmtop_status_name(*status as i32)) };
        assert_eq!(told, *name);
        let others = &PALMTOP_ALL[index + 1..];
        assert!(others.iter().all(|(other, _)| other != status));
    }
    // SAFETY: a static string.
    let unknown = unsafe { CStr::from_ptr(palmtop_status_name(12345)) };
    assert_eq!(unknown, c"PALMTOP_?");
}
