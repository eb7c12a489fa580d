//! `palmtop run`: a line of answer for each line of input.

mod common;

use common::{arg, converted, fixture, folder, letters, palmtop, palmtop_on, with_letters};

#[test]
fn text_gives_one_line() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let ran = palmtop(&["run", arg(&model), "abc", "--max-tokens", "5"]).ok();
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(ran.stdout.ends_with('\n'));
}

#[test]
fn a_pipe_gives_a_line_for_each_line() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let args = ["run", arg(&model), "--max-tokens", "5"];
    let ran = palmtop_on(&args, b"abc\r\n\nxyz\nw\xff\nno").refused(1);
    let ran = ran.says(&["line 2", "empty", "line 4", "UTF-8"]);
    let lines: Vec<&str> = ran.stdout.split('\n').collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(
        lines[1].is_empty() && lines[3].is_empty() && lines[5].is_empty(),
        "{lines:?}"
    );

    let alone = palmtop(&["run", arg(&model), "abc", "--max-tokens", "5"]).ok();
    assert_eq!(
        alone.stdout.trim_end(),
        lines[0],
        "a carriage return is not part of the text"
    );
    assert_eq!(
        palmtop_on(&args, b"abc\nxyz\n").ok().stdout.lines().count(),
        2
    );
    assert_eq!(palmtop_on(&args, b"").ok().stdout, "");
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let args = ["run", arg(&model), "--max-tokens", "5"];
    let plain = palmtop_on(&args, b"abc\nno\n").ok();
    let marked = palmtop_on(&args, b"\xEF\xBB\xBFabc\r\nno").ok();
    assert_eq!(marked.stdout, plain.stdout);
}

#[test]
fn line_breaks_in_the_output_are_escaped() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &"\n".repeat(60));
    let ran = palmtop(&["run", arg(&model), "abc", "--max-tokens", "4"]).ok();
    assert_eq!(ran.stdout.matches('\n').count(), 1, "{:?}", ran.stdout);
    assert!(ran.stdout.contains("\\n"), "{:?}", ran.stdout);
}

#[test]
fn empty_text_is_refused() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    palmtop(&["run", arg(&model), ""])
        .refused(1)
        .says(&["empty"]);
}

#[test]
fn long_text_is_refused_by_its_limit() {
    let folder = folder();
    // BART has 50 learned positions.
    let model = with_letters(&folder, "bart", &letters());
    let long = "a".repeat(60);
    palmtop(&["run", arg(&model), &long])
        .refused(1)
        .says(&["limit of 50"]);
    palmtop(&["run", arg(&model), "abcdef", "--max-source", "4"])
        .refused(1)
        .says(&["--max-source"]);
    let ran = palmtop_on(&["run", arg(&model)], format!("{long}\nab\n").as_bytes()).refused(1);
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[test]
fn limits_follow_the_text() {
    let folder = folder();
    // Switch has no limit of its own: the host makes as much room as the text needs.
    let model = with_letters(&folder, "switch", &letters());
    palmtop(&["run", arg(&model), &"a".repeat(300), "--max-tokens", "2"]).ok();
}

#[test]
fn json_tells_everything() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let args = [
        "run",
        arg(&model),
        "abc",
        "--max-tokens",
        "3",
        "--json",
        "--trace",
    ];
    let json = palmtop(&args).ok().json();
    assert_eq!(json["text"], "abc");
    let source = json["ids"].as_array().map_or(0, Vec::len);
    let target = json["output_ids"].as_array().map_or(0, Vec::len);
    assert!(source >= 3 && (1..=3).contains(&target), "{json}");
    assert!(json["arena_bytes"].as_u64() > Some(0) && json["timings"]["encode_ms"].is_number());
    // Layers 1 and 3 of the encoder are sparse, and layer 1 of the decoder.
    let routes = json["routes"].as_array().map_or(0, Vec::len);
    assert_eq!(routes, 2 * source + target, "{json}");

    let ran = palmtop_on(
        &["run", arg(&model), "--json", "--max-tokens", "2"],
        b"ab\n\n",
    )
    .refused(1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("\"error\":"), "{lines:?}");
}

#[test]
fn the_trace_names_experts_and_drops() {
    let overflow = fixture("switch-overflow");
    let ids = "5 6 7 5 6 7 5 6 7 5 6 7 5 6 7 5 6 7 5 6 7 5 6 7";
    let args = [
        "run",
        arg(&overflow),
        "--ids",
        ids,
        "--trace",
        "--max-tokens",
        "2",
    ];
    let ran = palmtop(&args)
        .ok()
        .says(&["encoder routes", "shares of the experts", "dropped"]);
    assert_eq!(ran.stdout.lines().count(), 1, "the trace goes to stderr");
}

#[test]
fn a_model_without_tokenizer_runs_ids() {
    let folder = folder();
    let model = converted(&folder, "t5", "f32");
    palmtop(&["run", arg(&model), "abc"])
        .refused(1)
        .says(&["no tokenizer", "--ids"]);
    let ran = palmtop(&["run", arg(&model), "--ids", "5,6 7", "--max-tokens", "3"]).ok();
    assert!(
        ran.stdout
            .split_whitespace()
            .all(|id| id.parse::<u32>().is_ok()),
        "{}",
        ran.stdout
    );
    palmtop(&["run", arg(&model), "--ids", "5 71"])
        .refused(1)
        .says(&["id 71", "vocabulary of 71"]);
    palmtop(&["run", arg(&model), "--ids", "5 six"])
        .refused(1)
        .says(&["`six`"]);
}

#[test]
fn a_folder_runs_as_its_file_does() {
    let folder = folder();
    let ids = ["--ids", "5 6 7 8", "--max-tokens", "6"];
    for weights in ["int8", "f16", "f32"] {
        let file = converted(&folder, "switch", weights);
        let checkpoint = fixture("switch");
        let file = palmtop(&[&["run", arg(&file)], &ids[..]].concat()).ok();
        let args = [&["run", arg(&checkpoint), "--weights", weights], &ids[..]].concat();
        assert_eq!(file.stdout, palmtop(&args).ok().stdout);
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = folder();
    let model = converted(&folder, "t5", "int8");
    let model = arg(&model);
    palmtop(&["run", model, "--ids", "5", "--beams", "4"])
        .refused(2)
        .says(&["not supported yet"]);
    palmtop(&["run", model, "--ids", "5", "--weights", "f16"])
        .refused(2)
        .says(&["--weights"]);
    palmtop(&["run"]).refused(2);
    palmtop(&["run", model, "--max-tokens", "0"]).refused(2);
    palmtop(&["frobnicate"]).refused(2);
    palmtop(&["--help"]).ok();
    assert!(palmtop(&["--version"]).ok().stdout.starts_with("palmtop "));
}
