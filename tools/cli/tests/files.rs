//! Files that must be refused, and outputs that cannot be written.

mod common;

use std::fs;
use std::path::Path;

use common::{arg, converted, fixture, folder, palmtop};

/// Bytes of the fixed header.
const HEADER: usize = 256;

/// Writes a file beside the model and runs it; what a damaged file must never do is succeed.
fn run(path: &Path, bytes: &[u8]) -> common::Ran {
    fs::write(path, bytes).expect("files can be written");
    palmtop(&["run", arg(path), "--ids", "5", "--max-tokens", "1"])
}

#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let bytes = fs::read(&model).expect("the model can be read");
    let head = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let damaged = folder.path().join("damaged.palm");
    run(&damaged, &bytes).ok();
    // Sparse here, since each is a process; the parser's own tests flip every bit of the head.
    let places = (0..HEADER)
        .step_by(5)
        .chain((HEADER..head).step_by(97))
        .chain((head..bytes.len()).step_by(2503))
        .chain([bytes.len() - 1]);
    for (turn, at) in places.enumerate() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (turn % 8);
        run(&damaged, &flipped).refused(1).says(&["damaged.palm"]);
    }
}

#[test]
fn a_cut_or_longer_file_is_refused() {
    let folder = folder();
    let model = converted(&folder, "t5", "int8");
    let bytes = fs::read(&model).expect("the model can be read");
    let damaged = folder.path().join("damaged.palm");
    for len in [
        0,
        1,
        15,
        16,
        255,
        256,
        1000,
        bytes.len() / 2,
        bytes.len() - 1,
    ] {
        run(&damaged, &bytes[..len])
            .refused(1)
            .says(&["damaged.palm", "truncated"]);
    }
    run(&damaged, &[&bytes[..], &[0]].concat())
        .refused(1)
        .says(&["longer"]);
}

#[test]
fn other_files_are_refused() {
    let folder = folder();
    let model = converted(&folder, "t5", "int8");
    let mut bytes = fs::read(&model).expect("the model can be read");
    let damaged = folder.path().join("damaged.palm");

    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let noise: Vec<u8> = (0..5000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    run(&damaged, &noise).refused(1).says(&["not a .palm file"]);
    let noise = [&bytes[..8], &noise[..]].concat();
    run(&damaged, &noise).refused(1).says(&["damaged.palm"]);

    bytes[8] = 2;
    run(&damaged, &bytes).refused(1).says(&["version 2.0"]);

    let missing = folder.path().join("missing.palm");
    palmtop(&["run", arg(&missing), "a"])
        .refused(1)
        .says(&["missing.palm"]);
    let weights = fixture("t5").join("model.safetensors");
    palmtop(&["inspect", arg(&weights)])
        .refused(1)
        .says(&["give its folder"]);
    palmtop(&["inspect", arg(folder.path())])
        .refused(1)
        .says(&["config.json"]);
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing() {
    let folder = folder();
    let checkpoint = fixture("t5");
    let convert = |out: &Path| palmtop(&["convert", arg(&checkpoint), "-o", arg(out)]);

    convert(folder.path()).refused(1).says(&["folder"]);
    convert(&folder.path().join("nowhere/model.palm"))
        .refused(1)
        .says(&["nowhere"]);
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("files can be written");
    convert(&file.join("model.palm")).refused(1);
    assert_eq!(fs::read(&file).expect("the file is still there"), b"x");
    assert_eq!(
        fs::read_dir(folder.path())
            .expect("the folder can be read")
            .count(),
        1
    );

    palmtop(&[
        "convert",
        arg(&file),
        "-o",
        arg(&folder.path().join("m.palm")),
    ])
    .refused(2);
    palmtop(&["convert", arg(&checkpoint)]).refused(2);
    let ran = convert(&file).ok();
    assert!(
        ran.stdout.contains("arena"),
        "an ordinary file is replaced: {}",
        ran.stdout
    );
    assert_eq!(
        fs::read_dir(folder.path())
            .expect("the folder can be read")
            .count(),
        1
    );
}

#[cfg(unix)]
#[test]
fn a_device_is_not_replaced_by_a_file() {
    use std::os::unix::fs::FileTypeExt;
    let checkpoint = fixture("t5");
    palmtop(&["convert", arg(&checkpoint), "-o", "/dev/null"]).refused(1);
    let null = fs::metadata("/dev/null").expect("there is a null device");
    assert!(null.file_type().is_char_device());
}
