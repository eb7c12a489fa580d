//! `palmtop inspect`, `eval` and `bench`: that their numbers add up.

mod common;

use std::fs;

use serde_json::Value;

use common::{arg, converted, fixture, folder, letters, palmtop, palmtop_on, with_letters};

fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{pointer} in {json}"))
}

#[test]
fn flash_parts_sum_to_the_file() {
    let folder = folder();
    for (name, weights) in [("switch", "int8"), ("bart", "f16"), ("t5-v1_1", "f32")] {
        let model = converted(&folder, name, weights);
        let json = palmtop(&["inspect", arg(&model), "--json"]).ok().json();
        let parts = json["flash"]["parts"].as_array().expect("parts");
        let sum: u64 = parts.iter().map(|part| number(part, "/bytes")).sum();
        let len = fs::metadata(&model).expect("the model is there").len();
        assert_eq!((sum, number(&json, "/flash/total")), (len, len), "{name}");
    }
}

#[test]
fn costs_are_what_the_shapes_say() {
    let folder = folder();
    let model = converted(&folder, "switch", "f32");
    let json = palmtop(&["inspect", arg(&model), "--json", "--source", "7"])
        .ok()
        .json();
    // d_model 24, inner 21, d_ff 29, 8 experts, 4 + 3 layers of which 2 + 1 sparse.
    let (attention, feed_forward, router, head) = (4 * 24 * 21, 2 * 24 * 29, 8 * 24, 79 * 24);
    let macs = |token: &str| number(&json, &format!("/cost/{token}/weight_macs"));
    let cross_kv = 3 * 2 * 24 * 21;
    let source = 4 * (attention + feed_forward) + 2 * router + cross_kv;
    assert_eq!(macs("source_token/chosen_expert"), source);
    assert_eq!(
        macs("source_token/all_experts"),
        source + 2 * 7 * feed_forward
    );
    let generated = 3 * (attention + 2 * 24 * 21 + feed_forward) + router + head;
    assert_eq!(macs("generated_token/chosen_expert"), generated);
    assert_eq!(
        macs("generated_token/all_experts"),
        generated + 7 * feed_forward
    );
    let attention = number(&json, "/cost/source_token/chosen_expert/attention_macs");
    assert_eq!(attention, 4 * 2 * 21 * 7);
}

#[test]
fn ram_is_what_a_run_takes() {
    let folder = folder();
    let model = converted(&folder, "t5", "int8");
    let args = [
        "inspect",
        arg(&model),
        "--json",
        "--source",
        "4",
        "--target",
        "3",
    ];
    let inspected = palmtop(&args).ok().json();
    let args = [
        "run",
        arg(&model),
        "--ids",
        "5 6 7 8",
        "--max-tokens",
        "3",
        "--json",
    ];
    let ran = palmtop(&args).ok().json();
    assert_eq!(
        number(&inspected, "/memory/arena_bytes"),
        number(&ran, "/arena_bytes")
    );
    let phases = inspected["memory"]["phases"].as_array().expect("phases");
    let greatest = phases.iter().map(|phase| number(phase, "/total")).max();
    assert_eq!(greatest, Some(number(&inspected, "/memory/arena_bytes")));
}

#[test]
fn inspect_is_for_people_too() {
    let model = fixture("switch");
    let ran = palmtop(&["inspect", arg(&model)]).ok();
    for word in [
        "Switch Transformers",
        "8 experts",
        "experts",
        "RP2040",
        "STM32F407",
        "ESP32-S3",
    ] {
        assert!(ran.stdout.contains(word), "{word} is not in {}", ran.stdout);
    }
    palmtop(&["inspect", arg(&model), "--beams", "2"]).refused(2);
    let bart = fixture("bart");
    palmtop(&["inspect", arg(&bart), "--source", "51"])
        .refused(1)
        .says(&["limit of 50"]);
}

#[test]
fn eval_counts_right_answers() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let ran = palmtop_on(&["run", arg(&model), "--max-tokens", "6"], b"abc\nhello\n").ok();
    let outputs: Vec<&str> = ran.stdout.lines().collect();
    let data = folder.path().join("data.tsv");
    let out = folder.path().join("out.tsv");
    let lines = format!("abc\tno such\t{}\n\nhello\tnever\n", outputs[0]);
    fs::write(&data, lines).expect("files can be written");
    let json = palmtop(&[
        "eval",
        arg(&model),
        "--data",
        arg(&data),
        "--max-tokens",
        "6",
        "--json",
        "--out",
        arg(&out),
        "--compare",
        arg(&model),
    ])
    .ok()
    .json();
    assert_eq!(number(&json, "/lines"), 2);
    assert_eq!(json["result"]["wer"]["percent"], 50.0);
    assert_eq!(json["result"]["wer"], json["compared"]["other"]["wer"]);
    assert_eq!(json["compared"]["same_output"]["percent"], 100.0);
    assert_eq!(number(&json, "/compared/wer_difference/wrong_only_here"), 0);
    let written = fs::read_to_string(&out).expect("outputs are written");
    assert_eq!(
        written.lines().next(),
        Some(&*format!("abc\t{0}\t{0}", outputs[0]))
    );
}

#[test]
fn eval_has_a_row_for_each_file_and_task() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let ran = palmtop_on(&["run", arg(&model), "--max-tokens", "6"], b"abc\n").ok();
    let output = ran.stdout.trim_end();
    let tasks = folder.path().join("tasks");
    fs::create_dir(&tasks).expect("a folder can be made");
    let write = |name: &str, text: &str| {
        fs::write(tasks.join(name), text).expect("files can be written");
    };
    write("b.tsv", &format!("abc\t{output}\nhello there\tnever\n"));
    write(
        "a.tsv",
        "#task slots\nabc\tname=value; other=1\n#task words\nhello\tnever\n",
    );
    write("notes.txt", "no data");
    let args = [
        "eval",
        arg(&model),
        "--data",
        arg(&tasks),
        "--max-tokens",
        "6",
    ];
    let json = palmtop(&[&args[..], &["--json", "--slot-f1"]].concat())
        .ok()
        .json();
    let groups = json["groups"].as_array().expect("groups");
    let rows: Vec<_> = groups
        .iter()
        .map(|g| (g["name"].as_str().unwrap_or(""), number(g, "/lines")))
        .collect();
    assert_eq!(rows, [("slots", 1), ("words", 1), ("b", 2)]);
    assert_eq!(groups[2]["result"]["exact_match"]["percent"], 50.0);
    assert_eq!(json["result"]["exact_match"]["percent"], 25.0);
    assert_eq!(groups[0]["result"]["slots"]["expected"], 2);
    assert_eq!(groups[0]["result"]["slots"]["f1"]["percent"], 0.0);
    assert!(groups[1]["result"]["slots"].is_null() && json["result"]["slots"].is_null());
    let ran = palmtop(&args).ok();
    for word in ["by file or task", "words", "all"] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
    palmtop(&["eval", arg(&model), "--data", arg(folder.path())])
        .refused(1)
        .says(&["no .tsv files"]);
}

#[test]
fn eval_can_change_routes() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let data = folder.path().join("data.tsv");
    fs::write(&data, "abcdefgh\tX\nhello\tY\n").expect("files can be written");
    let out = |more: &[&str]| {
        let out = folder.path().join("out.tsv");
        let args = [
            "eval",
            arg(&model),
            "--data",
            arg(&data),
            "--out",
            arg(&out),
        ];
        palmtop(&[&args[..], more].concat()).ok();
        fs::read_to_string(&out).expect("outputs are written")
    };
    let free = out(&[]);
    let forced = out(&["--force-expert", "0"]);
    let others = out(&["--force-expert", "7"]);
    assert!(free != forced || free != others, "{free}");
}

#[test]
fn eval_names_malformed_lines() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let data = folder.path().join("data.tsv");
    let eval = || {
        palmtop(&[
            "eval",
            arg(&model),
            "--data",
            arg(&data),
            "--max-tokens",
            "2",
        ])
    };
    eval().refused(1).says(&["data.tsv"]);
    fs::write(&data, "abc\tX\nno tab here\n\tX\nxyz\t\n").expect("files can be written");
    eval().refused(1).says(&["line 2", "line 3", "line 4"]);
    fs::write(&data, "\n\n").expect("files can be written");
    eval().refused(1).says(&["no lines"]);
    fs::write(&data, "abc\tX\nxyz\tY\n").expect("files can be written");
    let ran = eval().ok();
    assert!(
        ran.stdout.contains("WER") && ran.stdout.contains("2 lines"),
        "{}",
        ran.stdout
    );
}

#[test]
fn bench_measures() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let lines = palmtop(&["bench", arg(&model), "2", "--json"]).ok().lines();
    let names: Vec<_> = lines.iter().map(|line| line["case"].as_str()).collect();
    let cases = ["load", "enc32", "enc128", "enc512", "dec64@32", "dec64@512"];
    let wanted: Vec<_> = cases.into_iter().chain(["all"]).map(Some).collect();
    assert_eq!(names, wanted);
    for line in &lines {
        let ms = line["ms"].as_array().expect("every line has times");
        let rounds = match line["case"].as_str() {
            Some("load" | "all") => 1,
            _ => 2,
        };
        assert_eq!(ms.len(), rounds, "{line}");
        assert!(ms.iter().all(|ms| ms.as_f64() > Some(0.0)), "{line}");
    }
    let all = lines.last().expect("lines");
    assert_eq!(all["golden_bits"], true);
    assert_eq!(all["notes"].as_array().map(Vec::len), Some(1), "{all}");
    let ran = palmtop(&["bench", arg(&model), "1"]).ok();
    assert!(ran.stdout.contains("dec64@512"), "{}", ran.stdout);
    assert!(ran.stdout.contains("the same bits"), "{}", ran.stdout);
}

#[test]
fn bench_keeps_to_the_models_limits() {
    let folder = folder();
    // BART has 50 learned positions.
    let model = converted(&folder, "bart", "int8");
    let lines = palmtop(&["bench", arg(&model), "1", "--json"]).ok().lines();
    let names: Vec<_> = lines.iter().map(|line| line["case"].as_str()).collect();
    let cases = ["load", "enc32", "enc50", "dec50@32", "dec50@50", "all"];
    assert_eq!(names, cases.map(Some));
    let notes = lines.last().expect("lines")["notes"].to_string();
    assert!(notes.contains("50 source tokens") && notes.contains("50 target"));
}
