//! `palmtop logits`: shapes, defaults, parity with the reference, refusals.

mod common;

use std::fs;
use std::path::Path;

use common::tensors::{distance, ids, values};
use common::{arg, converted, fixture, folder, palmtop};

#[test]
fn f32_agrees_with_the_reference() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    for name in ["t5", "switch", "bart"] {
        let reference = fs::read(fixture(name).join("reference.safetensors")).expect("readable");
        let model = converted(&folder, name, "f32");
        palmtop(&[
            "logits",
            arg(&model),
            "--input-ids",
            &ids(&reference, "case1.input_ids"),
            "--decoder-input-ids",
            &ids(&reference, "case1.decoder_input_ids"),
            "-o",
            arg(&out),
        ])
        .ok();
        let bytes = fs::read(&out).expect("the output is there");
        for tensor in ["encoder_last_hidden_state", "logits"] {
            let (shape, got) = values(&bytes, tensor);
            let (expected, reference) = values(&reference, &format!("case1.{tensor}"));
            assert_eq!(shape, [&[1], &expected[..]].concat(), "{name}: {tensor}");
            let distance = distance(&got, &reference);
            assert!(distance <= 2e-4, "{name}: {tensor} is {distance} away");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    let long = (5..60).map(|id| id.to_string()).collect::<Vec<_>>();
    let long = long.join(",");
    let logits = |out: &Path, threads: &str| {
        let ids = ["--input-ids", &long, "--threads", threads];
        palmtop(&[&["logits", arg(&model), "-o", arg(out)], &ids[..]].concat())
    };
    logits(&one, "1").ok();
    logits(&three, "3").ok();
    let read = |path| fs::read(path).expect("the output is there");
    assert!(read(&one) == read(&three), "other bits");
    logits(&one, "0").refused(2);
}

#[test]
fn the_decoder_starts_by_itself() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let out = folder.path().join("out.safetensors");
    palmtop(&[
        "logits",
        arg(&model),
        "--input-ids",
        "5, 6,7",
        "-o",
        arg(&out),
        "--trace",
    ])
    .ok();
    let bytes = fs::read(&out).expect("the output is there");
    assert_eq!(values(&bytes, "encoder_last_hidden_state").0, [1, 3, 24]);
    assert_eq!(values(&bytes, "logits").0, [1, 1, 79]);
    assert_eq!(values(&bytes, "routes.encoder.1").0, [1, 3]);
    assert_eq!(values(&bytes, "routes.decoder.1").0, [1, 1]);
}

#[test]
fn bad_ids_and_paths_are_refused() {
    let folder = folder();
    let model = converted(&folder, "bart", "int8");
    let model = arg(&model);
    let out = folder.path().join("out.safetensors");
    let out = arg(&out);
    let logits = |input: &str, decoder: &str, out: &str| {
        palmtop(&[
            "logits",
            model,
            "--input-ids",
            input,
            "--decoder-input-ids",
            decoder,
            "-o",
            out,
        ])
    };
    logits("5,83", "2", out)
        .refused(1)
        .says(&["--input-ids", "id 83", "vocabulary of 83"]);
    logits("5", "2,4000000000", out)
        .refused(1)
        .says(&["--decoder-input-ids", "4000000000"]);
    logits("5,x", "2", out).refused(2).says(&["`x`"]);
    logits("", "2", out).refused(2);
    logits(&["5"; 51].join(","), "2", out)
        .refused(1)
        .says(&["51 tokens", "limit of 50"]);
    logits("5", &["2"; 51].join(","), out)
        .refused(1)
        .says(&["51", "limit of 50"]);
    logits("5", "2", arg(folder.path()))
        .refused(1)
        .says(&["folder"]);
    let nowhere = folder.path().join("nowhere/out.safetensors");
    logits("5", "2", arg(&nowhere))
        .refused(1)
        .says(&["nowhere"]);
    let under_a_file = format!("{model}/out.safetensors");
    logits("5", "2", &under_a_file).refused(1);
    assert!(!Path::new(out).exists(), "nothing is written");
    logits("5", "2", out).ok();
}
