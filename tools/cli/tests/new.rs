//! `palmtop new`: the project that it writes, and what it refuses. That projects build and answer
//! is tested by `cargo xtask test`, which has the compilers.

mod common;

use std::fs;
use std::path::Path;

use common::{Ran, arg, converted, folder, palmtop};

fn g2p() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/zoo/g2p");
    root.display().to_string()
}

fn new(name: &Path, board: &str, more: &[&str]) -> Ran {
    let mut all = vec!["new", arg(name), "--board", board];
    all.extend(more);
    palmtop(&all)
}

#[test]
fn a_project_is_written() {
    let folder = folder();
    let project = folder.path().join("my-firmware");
    let model = g2p();
    let options = ["--model", &model, "--source", "32", "--target", "48"];
    let ran = new(&project, "rp2350", &options).ok();
    assert!(ran.stdout.contains("Raspberry Pi Pico 2"), "{}", ran.stdout);
    let read = |path: &str| fs::read_to_string(project.join(path)).expect(path);
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("name = \"my-firmware\""), "{manifest}");
    // The library's folder is the checkout's, which is there.
    assert!(manifest.contains("palmtop = { path = "), "{manifest}");
    assert!(read(".cargo/config.toml").contains("thumbv8m.main-none-eabihf"));
    let main = read("src/main.rs");
    assert!(main.contains("source: 32,") && main.contains("SELF_TEST: bool = true"));
    assert!(read("memory.x").contains("0x10000000"));
    assert!(read("src/board.rs").contains("embassy_rp"));
    for file in [
        "Cargo.toml",
        "src/main.rs",
        "src/board.rs",
        "build.rs",
        "README.md",
    ] {
        assert!(!read(file).contains("{{"), "{file} is not filled in");
    }
    let palm = project.join("model.palm");
    palmtop(&["run", arg(&palm), "cat"]).ok();
    // Once more into the same place.
    new(&project, "rp2350", &options)
        .refused(1)
        .says(&["exists already"]);
}

#[test]
fn every_template_is_written() {
    let folder = folder();
    let palm = folder.path().join("g2p.palm");
    palmtop(&["convert", &g2p(), "-o", arg(&palm), "--experts", "int4"]).ok();
    for board in [
        "m3",
        "m4f",
        "rv32",
        "pico",
        "pico2",
        "nrf52840-dk",
        "stm32f4-discovery",
        "stm32h743-nucleo",
    ] {
        let project = folder.path().join(board);
        new(&project, board, &["--model", arg(&palm)]).ok();
        assert!(project.join("src/board.rs").exists());
    }
}

#[test]
fn names_that_are_none_are_refused() {
    let folder = folder();
    let model = g2p();
    for name in ["1abc", "a b", "fn", "palmtop", "core", "ä", "a.b"] {
        let project = folder.path().join(name);
        new(&project, "m4f", &["--model", &model])
            .refused(2)
            .says(&["cannot be the name of a crate"]);
        assert!(!project.exists());
    }
}

#[test]
fn what_does_not_fit_is_refused_with_figures() {
    let folder = folder();
    let project = folder.path().join("firmware");
    let model = g2p();
    new(&project, "nrf52840", &["--model", &model])
        .refused(1)
        .says(&[
            "does not fit nRF52840-DK",
            " bytes of model",
            "65,536",
            "1,048,576",
            "--experts int4",
        ]);
    assert!(!project.exists());
    // And with the remedy it fits.
    new(
        &project,
        "nrf52840",
        &["--model", &model, "--experts", "int4"],
    )
    .ok();
}

#[test]
fn other_things_are_refused_by_name() {
    let folder = folder();
    let project = folder.path().join("firmware");
    let model = g2p();
    new(&project, "abacus", &["--model", &model])
        .refused(2)
        .says(&["`abacus` is no board", "pico2"]);
    new(
        &project,
        "m4f",
        &["--model", &model, "--palmtop", arg(folder.path())],
    )
    .refused(2)
    .says(&["is not palmtop's folder"]);
    new(&project, "m4f", &["--model", &model, "--source", "65"])
        .refused(1)
        .says(&["takes 1 to 64 tokens"]);
    let ids_only = converted(&folder, "t5", "int8");
    new(&project, "m4f", &["--model", arg(&ids_only)])
        .refused(1)
        .says(&["has no tokenizer"]);
    new(
        &project,
        "m4f",
        &["--model", arg(&ids_only), "--experts", "int4"],
    )
    .refused(2)
    .says(&["is a file"]);
    assert!(!project.exists());
}
