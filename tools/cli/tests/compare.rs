//! `palmtop compare`: nothing between equals, and the right order of magnitude between others.

mod common;

use std::fs;

use common::{arg, converted, fixture, folder, letters, palmtop, with_letters};

#[test]
fn a_model_does_not_differ_from_itself() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let data = folder.path().join("data.tsv");
    fs::write(&data, "abc\tX\nhello\tY\n").expect("files can be written");
    let args = ["compare", arg(&model), arg(&model), "--data", arg(&data)];
    let json = palmtop(&[&args[..], &["--json", "--max-tokens", "5"]].concat())
        .ok()
        .json();
    assert_eq!(
        (&json["lines"], &json["changed_outputs"]),
        (&2.into(), &0.into())
    );
    let states = json["states"].as_array().expect("states");
    let names: Vec<_> = states.iter().filter_map(|s| s["state"].as_str()).collect();
    let wanted = "enc 0,enc 1,enc 2,enc 3,encoder output,dec 0,dec 1,dec 2,logits";
    assert_eq!(names.join(","), wanted);
    for state in states {
        for error in ["relative", "one_minus_cosine", "forced_relative"] {
            assert!(state[error].as_f64() < Some(1e-12), "{state}");
        }
    }
    let routes = json["routes"].as_array().expect("routes");
    assert_eq!(routes.len(), 3);
    assert!(
        routes
            .iter()
            .all(|r| r["flips"] == 0 && r["decisions"].as_u64() > Some(0))
    );
}

#[test]
fn int8_is_near_f32() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let checkpoint = folder.path().join("switch-letters");
    let data = folder.path().join("data.tsv");
    let lines: String = ["abc", "hello", "pqrstuv", "zzzz"]
        .map(|w| format!("{w}\tX\n"))
        .concat();
    fs::write(&data, lines).expect("files can be written");
    let args = [
        "compare",
        arg(&model),
        arg(&checkpoint),
        "--data",
        arg(&data),
    ];
    let json = palmtop(&[&args[..], &["--json"]].concat()).ok().json();
    for state in json["states"].as_array().expect("states") {
        let forced = state["forced_relative"].as_f64().expect("a number");
        assert!(forced > 1e-4 && forced < 0.1, "{state}");
        assert!(state["relative"].as_f64() >= Some(forced * 0.5), "{state}");
    }
    let ran = palmtop(&args).ok();
    for word in [
        "error by layer",
        "forced: relative",
        "routes that differ",
        "changed",
    ] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 110));
}

#[test]
fn decoders_are_compared_by_ids() {
    let folder = folder();
    let model = converted(&folder, "mixtral", "int8");
    let data = folder.path().join("data.tsv");
    fs::write(&data, "5 6 7\tx\n8 9\tx\n99\tx\n").expect("files can be written");
    let checkpoint = fixture("mixtral");
    let ran = palmtop(&[
        "compare",
        arg(&model),
        arg(&checkpoint),
        "--data",
        arg(&data),
        "--ids",
        "--max-tokens",
        "4",
        "--json",
    ])
    .ok()
    .says(&["line 3 is left out"]);
    let json = ran.json();
    assert_eq!((&json["lines"], &json["not_run"]), (&2.into(), &1.into()));
    assert_eq!(
        json["states"].as_array().map(Vec::len),
        Some(4),
        "3 layers and the logits"
    );
    assert_eq!(json["source_tokens"], 5);
    assert_eq!(json["target_tokens"], 5 + 2 * 3);
}

#[test]
fn other_shapes_are_refused() {
    let folder = folder();
    let data = folder.path().join("data.tsv");
    fs::write(&data, "abc\tX\n").expect("files can be written");
    let (here, there) = (fixture("switch"), fixture("t5"));
    palmtop(&[
        "compare",
        arg(&here),
        arg(&there),
        "--data",
        arg(&data),
        "--ids",
    ])
    .refused(1)
    .says(&["differ"]);
}
