//! Models with several experts a token, with a mixture block, and models that are only a decoder.

mod common;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use common::tensors::{distance, ids, values};
use common::{arg, converted, fixture, folder, palmtop};

const IDS: &str = "5 6 7 8 9 10 5 6 7 8";

/// The choices of a traced run of ids.
fn routes(name: &str, more: &[&str]) -> Vec<Value> {
    let checkpoint = fixture(name);
    let args = ["run", arg(&checkpoint), "--ids", IDS, "--max-tokens", "3"];
    let json = palmtop(&[&args[..], &["--trace", "--json"], more].concat())
        .ok()
        .json();
    json["routes"].as_array().expect("routes").clone()
}

/// Expert, weight, and whether the token was dropped, in the order of ranks.
type Choices = Vec<(u64, f64, bool)>;

/// The choices of each token of each layer.
fn tokens(routes: &[Value]) -> BTreeMap<(String, u64, u64), Choices> {
    let mut tokens: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for r in routes {
        let n = |key: &str| r[key].as_u64().expect(key);
        let stack = r["stack"].as_str().expect("stack").to_owned();
        let choice = (
            n("rank"),
            n("expert"),
            r["gate"].as_f64().expect("gate"),
            r["dropped"] == true,
        );
        tokens
            .entry((stack, n("layer"), n("token")))
            .or_default()
            .push(choice);
    }
    let sorted = |mut choices: Vec<(u64, u64, f64, bool)>| {
        choices.sort_by_key(|choice| choice.0);
        choices.into_iter().map(|(_, e, g, d)| (e, g, d)).collect()
    };
    tokens.into_iter().map(|(k, c)| (k, sorted(c))).collect()
}

#[test]
fn a_trace_has_every_choice() {
    let tokens = tokens(&routes("palm-block", &[]));
    let of = |stack: &str| tokens.keys().filter(|(s, ..)| s == stack).count();
    // Layers 0 and 2 of the encoder are sparse, and layer 1 of the decoder.
    assert_eq!((of("encoder"), of("block")), (20, 1));
    assert!((1..=3).contains(&of("decoder")));
    for (place, choices) in &tokens {
        assert_eq!(choices.len(), 2, "{place:?}");
        let sum: f64 = choices.iter().map(|(_, gate, _)| gate).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{place:?}: {choices:?}");
        assert!(choices[0].1 >= choices[1].1, "{place:?}: {choices:?}");
    }
}

#[test]
fn dropped_choices_have_no_weight() {
    let tokens = tokens(&routes("nllb-moe-25", &[]));
    let dropped: Vec<_> = tokens.values().flatten().filter(|(.., d)| *d).collect();
    assert!(!dropped.is_empty() && dropped.iter().all(|(_, gate, _)| *gate == 0.0));
}

#[test]
fn the_table_is_readable() {
    for (name, words) in [
        (
            "palm-block",
            &["enc 0", "enc 2", "mixture block, once", "dec 1", " + "][..],
        ),
        ("nllb-moe-25", &["enc 1", "enc 3", "dec 2", " dropped"]),
        ("switch-all", &["enc 0", "dec 0"]),
        ("mixtral", &["dec 0", "dec 2"]),
    ] {
        let checkpoint = fixture(name);
        let args = ["run", arg(&checkpoint), "--ids", IDS, "--max-tokens", "3"];
        let ran = palmtop(&[&args[..], &["--trace"]].concat())
            .ok()
            .says(words);
        let routes = ran
            .stderr
            .split_once("routes")
            .map_or("", |(_, table)| table);
        let widest = routes.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{routes}");
        assert_eq!(ran.stdout.lines().count(), 1, "the trace goes to stderr");
    }
}

#[test]
fn a_decoder_gives_logits_alone() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    let reference = fs::read(fixture("mixtral").join("reference.safetensors")).expect("readable");
    let model = converted(&folder, "mixtral", "f32");
    let ids = ids(&reference, "case1.decoder_input_ids");
    let args = ["logits", arg(&model), "--input-ids", &ids, "-o", arg(&out)];
    palmtop(&args).ok();
    let bytes = fs::read(&out).expect("the output is there");
    let (shape, got) = values(&bytes, "logits");
    let (expected, reference) = values(&reference, "case1.logits");
    assert_eq!(shape, [&[1], &expected[..]].concat());
    assert!(distance(&got, &reference) <= 2e-4);
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(file.names(), ["logits"]);

    palmtop(&[&args[..], &["--decoder-input-ids", "1"]].concat())
        .refused(2)
        .says(&["only a decoder", "--input-ids"]);
}

#[test]
fn a_decoder_goes_on_from_its_prompt() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    let model = converted(&folder, "mixtral", "int8");
    let run = |ids: &str, most: &str| {
        palmtop(&["run", arg(&model), "--ids", ids, "--max-tokens", most]).ok()
    };
    let ran = run("5 6 7", "4");
    let generated: Vec<usize> = ran
        .stdout
        .split_whitespace()
        .map(|id| id.parse().expect("an id"))
        .collect();
    assert_eq!(generated.len(), 4);
    // The same step by step: the greatest logit after the prompt, and after each generated id.
    let fed = format!("5,6,7,{},{},{}", generated[0], generated[1], generated[2]);
    palmtop(&[
        "logits",
        arg(&model),
        "--input-ids",
        &fed,
        "-o",
        arg(&out),
        "--trace",
    ])
    .ok();
    let bytes = fs::read(&out).expect("the output is there");
    let (shape, logits) = values(&bytes, "logits");
    assert_eq!(shape, [1, 6, 67]);
    let greatest = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        row.iter().position(|x| *x == max)
    };
    let wanted: Vec<_> = logits.chunks(67).skip(2).filter_map(greatest).collect();
    assert_eq!(generated, wanted);
    assert_eq!(values(&bytes, "routes.decoder.1").0, [1, 6, 2]);

    // 64 positions: after a prompt of 63 ids two more can be generated, the last of them not fed.
    let long = ["5"; 63].join(" ");
    let ran = run(&long, "10").says(&["after 2 tokens", "no more positions"]);
    assert_eq!(ran.stdout.split_whitespace().count(), 2);
    palmtop(&["run", arg(&model), "--ids", &["5"; 65].join(" ")])
        .refused(1)
        .says(&["65 tokens", "limit of 64"]);
    palmtop(&["run", arg(&model), "abc"])
        .refused(1)
        .says(&["no tokenizer", "--ids"]);
    let lines = palmtop(&["bench", arg(&model), "1", "--json"]).ok().lines();
    let names: Vec<_> = lines.iter().map(|line| line["case"].as_str()).collect();
    assert_eq!(names, ["load", "dec64", "all"].map(Some));
    assert_eq!(lines[2]["golden_bits"], true);
}

#[test]
fn traced_experts_and_weights_are_those_of_the_reference() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    let reference =
        fs::read(fixture("palm-block").join("reference.safetensors")).expect("readable");
    let model = converted(&folder, "palm-block", "f32");
    palmtop(&[
        "logits",
        arg(&model),
        "--input-ids",
        &ids(&reference, "case1.input_ids"),
        "--decoder-input-ids",
        &ids(&reference, "case1.decoder_input_ids"),
        "-o",
        arg(&out),
        "--trace",
    ])
    .ok()
    .says(&["mixture block"]);
    let bytes = fs::read(&out).expect("the output is there");
    for (here, there, from) in [
        ("encoder.0", "encoder", 0),
        ("encoder.2", "encoder", 1),
        ("block.0", "mixture", 0),
        ("decoder.1", "decoder", 0),
    ] {
        let (_, experts) = values(&bytes, &format!("routes.{here}"));
        let (_, gates) = values(&bytes, &format!("gates.{here}"));
        let (_, wanted) = values(&reference, &format!("case1.{there}_routes"));
        let (_, weights) = values(&reference, &format!("case1.{there}_gates"));
        let part = from * experts.len()..(from + 1) * experts.len();
        assert_eq!(experts, wanted[part.clone()], "{here}");
        for (got, wanted) in gates.iter().zip(&weights[part]) {
            assert!((got - wanted).abs() < 1e-5, "{here}: {got} and {wanted}");
        }
    }
}

#[test]
fn experts_can_be_forced_and_dropped() {
    let forced = tokens(&routes("palm-block", &["--force-expert", "enc0:3"]));
    let free = tokens(&routes("palm-block", &[]));
    for ((stack, layer, token), choices) in &forced {
        if (stack.as_str(), *layer) == ("encoder", 0) {
            assert_eq!(choices[0].0, 3, "token {token}");
            assert_ne!(choices[1].0, 3, "token {token}");
        }
    }
    assert_ne!(forced, free);
    let dropped = tokens(&routes("palm-block", &["--drop-expert", "1"]));
    assert!(dropped.values().flatten().all(|(expert, ..)| *expert != 1));

    let checkpoint = fixture("palm-block");
    let refused = |option: &[&str], words: &[&str]| {
        let args = ["run", arg(&checkpoint), "--ids", "5"];
        palmtop(&[&args[..], option].concat())
            .refused(2)
            .says(words);
    };
    refused(
        &["--force-expert", "enc1:0"],
        &["enc 1", "enc 0, enc 2, block, dec 1"],
    );
    refused(
        &["--force-expert", "4"],
        &["enc 0 has no expert 4", "0 to 3"],
    );
    refused(&["--force-expert", "x"], &["not the number of an expert"]);
    let three = [
        "--drop-expert",
        "0",
        "--drop-expert",
        "1",
        "--drop-expert",
        "2",
    ];
    refused(&three, &["needs 2 experts", "1 are left"]);
    let dense = fixture("t5");
    palmtop(&["run", arg(&dense), "--ids", "5", "--drop-expert", "0"])
        .refused(2)
        .says(&["no sparse layers"]);
}

#[test]
fn inspect_tells_what_is_new() {
    let inspect = |name: &str| palmtop(&["inspect", arg(&fixture(name))]).ok().stdout;
    for (name, words) in [
        (
            "mixtral",
            &[
                "Mixtral",
                "decoder only",
                "2 of keys and values",
                "rotary",
                "5 experts, 2 a token",
            ][..],
        ),
        (
            "palm-block",
            &["side by side", "mixture block", "once an input"],
        ),
        ("nllb-moe-25", &["NLLB", "25 % of the tokens"]),
        ("palm-kinds", &["1 × gated SiLU", "1 × ReLU"]),
        ("palm-layers", &["whole layer"]),
        ("palm-hash", &["by token, equal weights"]),
    ] {
        let text = inspect(name);
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    let folder = folder();
    let model = converted(&folder, "mixtral", "f32");
    let args = ["inspect", arg(&model), "--json", "--slots", "3"];
    let json = palmtop(&args).ok().json();
    // d_model 34, 6 heads over 2 of 10, 2 of 5 experts of 3 · 34 · 29, 67 ids, 3 layers.
    let attention = 2 * 34 * 60 + 2 * 34 * 20;
    let expert = 3 * 34 * 29;
    let macs = 3 * (attention + 5 * 34 + 2 * expert) + 67 * 34;
    let token = &json["cost"]["generated_token"]["chosen_expert"];
    assert_eq!(token["weight_macs"], macs);
    let paged = &json["memory"]["paged"];
    assert_eq!(paged["slots"], 3);
    let n = |key: &str| paged[key].as_u64().expect(key);
    assert_eq!(n("total_bytes"), n("arena_bytes") + n("resident_bytes"));
    assert!(n("resident_bytes") < fs::metadata(&model).expect("a file").len());
}
