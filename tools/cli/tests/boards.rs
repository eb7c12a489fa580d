//! `palmtop inspect --board`: that what it says holds.

mod common;

use std::path::Path;

use serde_json::Value;

use common::{arg, converted, folder, palmtop};

fn zoo(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/zoo");
    root.join(name).display().to_string()
}

fn on_board(arguments: &[&str]) -> Value {
    let mut all = vec!["inspect"];
    all.extend(arguments);
    all.push("--json");
    palmtop(&all).ok().json()[0].clone()
}

#[test]
fn flash_and_ram_are_those_of_the_file_and_the_plan() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let limits = ["--source", "9", "--target", "7"];
    let plain = {
        let mut all = vec!["inspect", arg(&model), "--json"];
        all.extend(limits);
        palmtop(&all).ok().json()
    };
    let mut all = vec![arg(&model), "--board", "nrf52840-dk"];
    all.extend(limits);
    let json = on_board(&all);
    assert_eq!(json["arena_bytes"], plain["memory"]["arena_bytes"]);
    assert_eq!(json["model_bytes"], plain["flash"]["total"]);
    assert_eq!(json["fits"], true);
    let number = |name: &str| json[name].as_i64().expect(name);
    assert_eq!(
        number("flash_left"),
        (1 << 20) - number("model_bytes") - number("firmware_bytes")
    );
    assert_eq!(
        number("ram_left"),
        (256 << 10) - number("arena_bytes") - number("stack_bytes")
    );
    let speed = &json["tokens_per_second"];
    assert!(speed["from"].as_f64() > Some(0.0) && speed["to"].as_f64() > speed["from"].as_f64());
}

/// What was counted on the emulated M4F for the README: 1.41 M instructions for a phoneme.
#[test]
fn instructions_are_near_those_that_were_counted() {
    let json = on_board(&[
        &zoo("g2p"),
        "--board",
        "stm32f407",
        "--source",
        "17",
        "--target",
        "8",
    ]);
    let range = &json["generated_token"]["instructions"];
    let (from, to) = (
        range["from"].as_f64().unwrap(),
        range["to"].as_f64().unwrap(),
    );
    // Kernels get faster, and the table with them; the order stays.
    assert!(0.2e6 < from && from <= to && to < 2.0e6, "{json}");
    let [least, most] = [0, 1].map(|at| json["generated_token"]["weight_bytes"][at].as_u64());
    assert_eq!(least, most);
}

#[test]
fn remedies_help() {
    // Too large for 1 MB in int8; the remedy is int4, and it fits then.
    let json = on_board(&[&zoo("g2p"), "--board", "nrf52840-dk"]);
    assert_eq!(json["fits"], false);
    let remedy = json["remedies"][0].as_str().unwrap();
    assert!(remedy.contains("--experts int4"), "{remedy}");
    let paged = json["remedies"][1].as_str().unwrap();
    assert!(paged.contains("MX25R6435F"), "{paged}");
    let folder = folder();
    let small = folder.path().join("int4.palm");
    palmtop(&[
        "convert",
        &zoo("g2p"),
        "-o",
        arg(&small),
        "--experts",
        "int4",
    ])
    .ok();
    let json = on_board(&[arg(&small), "--board", "nrf52840-dk"]);
    assert_eq!(json["fits"], true, "{json}");

    // Too long for the RAM: the limits that are proposed do fit, and none is left where it fits.
    let model = converted(&folder, "t5", "int8");
    let long = ["--source", "3000", "--target", "3000"];
    let mut all = vec![arg(&model), "--board", "pico"];
    all.extend(long);
    let json = on_board(&all);
    assert_eq!(json["fits"], false);
    let remedy = json["remedies"][0].as_str().unwrap();
    let words: Vec<&str> = remedy.split(' ').collect();
    let after = |option: &str| words[words.iter().position(|word| *word == option).unwrap() + 1];
    let (source, target) = (after("--source"), after("--target"));
    let json = on_board(&[
        arg(&model),
        "--board",
        "pico",
        "--source",
        source,
        "--target",
        target,
    ]);
    assert_eq!(json["fits"], true, "{json}");
    assert_eq!(json["remedies"], Value::Null);
}

#[test]
fn all_boards_in_one_table() {
    let folder = folder();
    let model = converted(&folder, "bart", "f16");
    let ran = palmtop(&["inspect", arg(&model), "--boards"]).ok();
    for word in ["pico2", "stm32h743-nucleo", "tokens/s", "Cortex-M33"] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
    let json = palmtop(&["inspect", arg(&model), "--boards", "--json"])
        .ok()
        .json();
    assert!(json.as_array().is_some_and(|boards| boards.len() >= 6));
    let one = palmtop(&["inspect", arg(&model), "--board", "RP2350"]).ok();
    for word in [
        "Raspberry Pi Pico 2",
        "How: ",
        "MB/s",
        "Nothing was measured",
    ] {
        assert!(one.stdout.contains(word), "{}", one.stdout);
    }
    palmtop(&["inspect", arg(&model), "--board", "abacus"])
        .refused(2)
        .says(&["`abacus` is no board", "pico2"]);
}
