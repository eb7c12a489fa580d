//! Runs whose experts are read from the file: the same answers, less memory, damage found.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use palmtop::format::Palm;
use palmtop_convert::random::{Spec, write};

use common::{arg, converted, fixture, folder, letters, palmtop, with_letters};

const IDS: [&str; 4] = ["--ids", "5 6 7 8 9 10", "--max-tokens", "6"];

#[test]
fn the_answers_are_the_same() {
    let folder = folder();
    for name in [
        "switch",
        "palm-block",
        "palm-layers",
        "mixtral",
        "nllb-moe-50",
    ] {
        let model = converted(&folder, name, "int8");
        let args = [&["run", arg(&model), "--json"], &IDS[..]].concat();
        let whole = palmtop(&args).ok().json();
        for slots in ["1", "2", "100"] {
            let json = palmtop(&[&args[..], &["--slots", slots]].concat())
                .ok()
                .says(&["paged:", "a token", "hit rate"])
                .json();
            assert_eq!(json["output"], whole["output"], "{name}, {slots} slots");
            let paging = &json["paging"];
            let n = |key: &str| paging[key].as_u64().expect(key);
            assert!(n("bytes_read") > 0 && n("loads") > 0, "{json}");
            let tokens = n("tokens");
            assert_eq!(n("bytes_per_token"), n("bytes_read") / tokens);
            assert!((0.0..=1.0).contains(&paging["hit_rate"].as_f64().expect("a rate")));
        }
        assert!(whole["paging"].is_null());
    }
}

#[test]
fn logits_eval_and_bench_page_too() {
    let folder = folder();
    let model = with_letters(&folder, "switch", &letters());
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let logits = ["logits", arg(&model), "--input-ids", "5,6,7", "-o"];
    palmtop(&[&logits[..], &[arg(&one)]].concat()).ok();
    palmtop(&[&logits[..], &[arg(&two), "--slots", "1"]].concat())
        .ok()
        .says(&["paged:"]);
    let read = |path| fs::read(path).expect("the output is there");
    assert!(read(&one) == read(&two), "other bits");
    let data = folder.path().join("data.tsv");
    fs::write(&data, "abc\tX\nabc\tX\n").expect("files can be written");
    let eval = [
        "eval",
        arg(&model),
        "--data",
        arg(&data),
        "--json",
        "--slots",
        "100",
    ];
    let json = palmtop(&eval).ok().says(&["paged:"]).json();
    // The cache stays warm: what the second line needs was read for the first.
    assert!(json["paging"]["hit_rate"].as_f64() >= Some(0.5), "{json}");
    let bench = ["bench", arg(&model), "1", "--json", "--slots", "2"];
    let lines = palmtop(&bench).ok().lines();
    let json = lines.last().expect("lines");
    assert!(json["paging"]["bytes_per_token"].as_u64() > Some(0));
    assert_eq!(json["golden_bits"], true);
}

#[test]
fn damage_is_found_where_it_matters() {
    let folder = folder();
    let model = converted(&folder, "switch", "int8");
    let bytes = fs::read(&model).expect("the model can be read");
    let experts = Palm::resident_len(&bytes).expect("a header") as usize;
    let damaged = folder.path().join("damaged.palm");
    let run = |bytes: &[u8]| {
        fs::write(&damaged, bytes).expect("files can be written");
        palmtop(&[&["run", arg(&damaged), "--slots", "2"], &IDS[..]].concat())
    };
    let flipped = |at: usize| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        flipped
    };
    for at in [10, 300, experts / 2, experts - 4096 - 20] {
        run(&flipped(at)).refused(1).says(&["damaged.palm"]);
    }
    // All experts are damaged: nothing of them is looked at before one is needed.
    let mut all = bytes.clone();
    let end = experts
        + Palm::parse(&bytes)
            .expect("a file")
            .header()
            .experts_section
            .len as usize;
    all[experts..end].fill(0x55);
    run(&all)
        .refused(1)
        .says(&["damaged.palm", "weights of expert", "convert"]);
    palmtop(&["run", arg(&damaged), "--slots", "2", "--ids", ""])
        .refused(1)
        .says(&["empty"]);
    // A look at the tables needs no expert either, and tells the same.
    let inspect = |path: &Path, more: &[&str]| palmtop(&[&["inspect", arg(path)], more].concat());
    let slots = ["--slots", "2"];
    let told = |path| inspect(path, &slots).ok().stdout;
    let (damaged_tells, whole_tells) = (told(&damaged), told(&model));
    assert!(
        whole_tells
            .lines()
            .skip(1)
            .eq(damaged_tells.lines().skip(1))
    );
    inspect(&damaged, &[]).refused(1).says(&["expert"]);
    run(&flipped(300)).refused(1);
    inspect(&damaged, &slots).refused(1);
    // Names are not read at all.
    run(&flipped(bytes.len() - 1)).ok();
    run(&bytes[..bytes.len() - 1])
        .refused(1)
        .says(&["truncated"]);
    run(&bytes[..100]).refused(1).says(&["damaged.palm"]);
    let mut longer = bytes.clone();
    longer.push(0);
    run(&longer).refused(1).says(&["damaged.palm"]);
}

#[test]
fn slots_are_for_files_with_experts() {
    let folder = folder();
    let checkpoint = fixture("switch");
    palmtop(&[&["run", arg(&checkpoint), "--slots", "2"], &IDS[..]].concat())
        .refused(2)
        .says(&["folder", "convert"]);
    let dense = converted(&folder, "t5", "int8");
    palmtop(&[&["run", arg(&dense), "--slots", "2"], &IDS[..]].concat())
        .ok()
        .says(&["no experts"]);
    palmtop(&[&["run", arg(&dense), "--slots", "0"], &IDS[..]].concat()).refused(2);
}

/// The most memory that a process has used, in bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn memory_stays_within_resident_part_and_slots() {
    const MIB: u64 = 1024 * 1024;
    let folder = folder();
    let model = folder.path().join("random.palm");
    let spec = Spec {
        d_model: 256,
        d_ff: 512,
        layers: 2,
        experts: 64,
        all_sparse: true,
        ..Spec::default()
    };
    write(&model, &spec).expect("a random model");
    let len = fs::metadata(&model).expect("a file").len();
    let inspect = ["inspect", arg(&model), "--json", "--slots", "4"];
    let json = palmtop(&inspect).ok().json();
    let n = |key: &str| json["memory"]["paged"][key].as_u64().expect(key);
    let most = n("resident_bytes") + 4 * n("slot_bytes") + 16 * MIB;
    assert!(len > most + 40 * MIB, "{len} bytes would prove nothing");

    let mut child = Command::new(env!("CARGO_BIN_EXE_palmtop"))
        .args(["run", arg(&model), "--ids", "--slots", "4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    for line in ["5 6 7 8 9 10 11 12\n", "20 21 22 23\n"] {
        stdin.write_all(line.as_bytes()).expect("a line goes in");
        let mut answer = String::new();
        stdout.read_line(&mut answer).expect("a line comes out");
        assert!(answer.ends_with('\n'));
    }
    let peak = peak(child.id());
    drop(stdin);
    assert!(child.wait().expect("the command ends").success());
    match peak {
        Some(peak) => assert!(peak <= most, "{peak} bytes, {most} are allowed"),
        None => println!("skipped: this system does not tell how much memory a process has used"),
    }
}
