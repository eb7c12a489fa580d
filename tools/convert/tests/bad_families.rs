//! Bad checkpoints of the newer families: each is refused with a message that names the file, the
//! tensor or field, and what to do; nothing panics.

mod common;

use common::made::{self, Tensors};
use common::{Folder, Result, start_of};
use palmtop_convert::{Options, convert};
use serde_json::{Value, json};

const MODEL: &str = "model.safetensors";

/// The message says all of this.
#[track_caller]
fn refused(made: &(Value, Tensors), parts: &[&str]) {
    match made::folder(&made.0, &made.1) {
        Ok(folder) => refused_with(&folder, &Options::default(), parts),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused_with(folder: &Folder, options: &Options, parts: &[&str]) {
    let text = match convert(folder.path(), options, &mut ()) {
        Ok(_) => panic!("converted, although {parts:?} should be wrong"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

fn families() -> [(Value, Tensors); 4] {
    [
        made::palm("softmax", "layer"),
        made::mixtral(),
        made::m2m100(0),
        made::m2m100(4),
    ]
}

#[test]
fn missing_misshaped_and_unknown_tensors() {
    for made in families() {
        // Every third tensor in turn is absent, or has a row more.
        for index in (0..made.1.len()).step_by(3) {
            let mut short = made.clone();
            let (name, _) = short.1.remove(index);
            refused(
                &short,
                &[MODEL, &format!("`{name}`"), "is missing", "config.json"],
            );
            let mut long = made.clone();
            long.1[index].1[0] += 1;
            refused(
                &long,
                &[
                    MODEL,
                    &format!("`{name}`"),
                    "config.json asks for",
                    "same model",
                ],
            );
        }
        let mut more = made.clone();
        more.1.push(("encoder.adapter.weight".to_owned(), vec![3]));
        let architecture = made.0["architectures"][0].as_str().unwrap_or("?");
        refused(
            &more,
            &[MODEL, "`encoder.adapter.weight`", architecture, "merge"],
        );
    }
}

#[test]
fn fields_of_a_palm() {
    for (field, value, remedy) in [
        ("tie_word_embeddings", json!(false), "true is wanted"),
        ("num_heads", json!(0), "from 1 to"),
        ("num_kv_heads", json!(3), "divisor of num_heads (4)"),
        ("head_dim", json!(7), "even width"),
        ("head_dim", json!(65_000), "is above 65536"),
        ("num_experts", json!(0), "from 1 to"),
        ("num_experts_per_tok", json!(5), "from 1 to 4"),
        ("expert_d_ff", json!(0), "from 1 to"),
        ("encoder_sparse_layers", json!([2]), "layers from 0 to 1"),
        ("decoder_sparse_layers", json!([1, 1]), "twice"),
        (
            "encoder_sparse_layers",
            json!("all"),
            "a list of whole numbers",
        ),
        (
            "router",
            json!("sinkhorn"),
            "`softmax`, `position` or `hash`",
        ),
        ("expert_capacity", json!(1u64 << 40), "smaller"),
        (
            "expert_activations",
            json!(["swiglu"]),
            "4 names are wanted",
        ),
        (
            "expert_activations",
            json!(["swiglu", "mish", "relu", "relu"]),
            "`mish` is not known",
        ),
        (
            "expert_activations",
            json!([1, 2, 3, 4]),
            "a list of strings",
        ),
        ("rope_theta", json!(0), "at least 1"),
        ("rms_norm_eps", json!(0), "above 0"),
        ("max_positions", json!(0), "from 1 to"),
        ("decoder_start_token_id", json!(40), "below vocab_size"),
        ("mixture", json!(true), "an object or null"),
        ("is_encoder_decoder", json!(false), "only encoder-decoders"),
    ] {
        let mut made = made::palm("softmax", "layer");
        made.0[field] = value;
        refused(&made, &["config.json", &format!("`{field}`"), remedy]);
    }
    for (field, value, remedy) in [
        ("kind", json!("token"), "`feed_forward` or `layer`"),
        ("num_experts", json!(0), "from 1 to"),
        ("num_experts_per_tok", json!(4), "from 1 to 3"),
        ("d_ff", json!(null), "from 1 to"),
        ("capacity", json!(3), "known here are num_experts"),
    ] {
        let mut made = made::palm("softmax", "layer");
        made.0["mixture"][field] = value;
        refused(
            &made,
            &["config.json", &format!("`mixture.{field}`"), remedy],
        );
    }
}

#[test]
fn the_table_of_a_hash_router() -> Result {
    const TABLE: &str = "encoder.layers.1.moe.router.table";
    let (config, tensors) = made::palm("hash", "layer");
    let folder = made::folder(&config, &tensors)?;
    folder.edit_tensors(MODEL, |header, data| {
        let at = start_of(header, TABLE);
        data[at + 7] = 4;
    })?;
    refused_with(
        &folder,
        &Options::default(),
        &[MODEL, TABLE, "holds 4 at element 7", "from 0 to 3"],
    );
    folder.edit_tensors(MODEL, |header, _| header[TABLE]["dtype"] = json!("I8"))?;
    refused_with(
        &folder,
        &Options::default(),
        &[MODEL, TABLE, "is I8", "U8, I32 or I64"],
    );

    // 64-bit numbers are read as well.
    let plain = made::folder(&config, &tensors)?;
    let wide = made::folder(&config, &tensors)?;
    wide.edit_tensors(MODEL, |header, data| {
        let at = data.len();
        data.extend((0..40u64).flat_map(|id| (id % 4).to_le_bytes()));
        let entry = json!({ "dtype": "I64", "shape": [40], "data_offsets": [at, data.len()] });
        let old = header.insert(TABLE.to_owned(), entry);
        // What the old entry covered must still be covered: by a tensor that is not asked for.
        header.insert("spare".to_owned(), old.unwrap_or_default());
    })?;
    refused_with(&wide, &Options::default(), &["`spare`", "unknown"]);
    assert!(convert(plain.path(), &Options::default(), &mut ()).is_ok());
    Ok(())
}

#[test]
fn fields_of_a_mixtral() {
    for (field, value, remedy) in [
        (
            "num_key_value_heads",
            json!(3),
            "divisor of num_attention_heads (4)",
        ),
        ("head_dim", json!(5), "even width"),
        ("num_experts_per_tok", json!(5), "from 1 to 4"),
        ("hidden_act", json!("mish"), "relu, gelu"),
        (
            "rope_scaling",
            json!({ "type": "linear", "factor": 2.0 }),
            "null is wanted",
        ),
        ("partial_rotary_factor", json!(0.5), "whole heads"),
        ("attention_bias", json!(true), "not supported"),
        ("sliding_window", json!(32), "--max-positions 32"),
        ("is_encoder_decoder", json!(true), "no encoder"),
        ("bos_token_id", json!(40), "below vocab_size"),
        ("rope_theta", json!("fast"), "a number is wanted"),
    ] {
        let mut made = made::mixtral();
        made.0[field] = value;
        refused(&made, &["config.json", &format!("`{field}`"), remedy]);
    }
    // No start at all.
    let mut made = made::mixtral();
    made.0["bos_token_id"] = json!(null);
    refused(
        &made,
        &[
            "config.json",
            "`decoder_start_token_id`",
            "generation_config.json",
        ],
    );
}

#[test]
fn a_window_that_all_positions_fit_into() -> Result {
    let mut made = made::mixtral();
    made.0["sliding_window"] = json!(32);
    let folder = made::folder(&made.0, &made.1)?;
    let short = Options {
        max_positions: Some(32),
        ..Options::default()
    };
    assert!(convert(folder.path(), &short, &mut ()).is_ok());
    made.0["sliding_window"] = json!(64);
    let folder = made::folder(&made.0, &made.1)?;
    assert!(convert(folder.path(), &Options::default(), &mut ()).is_ok());
    Ok(())
}

#[test]
fn fields_of_an_nllb_moe() {
    for (field, value, remedy) in [
        ("second_expert_policy", json!("sampling"), "only `all`"),
        ("second_expert_policy", json!("random"), "only `all`"),
        ("batch_prioritized_routing", json!(true), "only false"),
        ("router_dtype", json!("bfloat16"), "float32"),
        ("moe_token_dropout", json!(1.0), "below 1"),
        ("moe_token_dropout", json!(-0.1), "from 0"),
        (
            "moe_eval_capacity_token_fraction",
            json!(1e300),
            "share of the tokens",
        ),
        ("num_experts", json!(1), "at least 2"),
        (
            "decoder_start_token_id",
            json!(1),
            "other than pad_token_id",
        ),
        ("d_model", json!(3), "at least 4"),
        (
            "encoder_attention_heads",
            json!(5),
            "a divisor of d_model (32)",
        ),
        ("activation_function", json!("mish"), "relu, gelu"),
    ] {
        let mut made = made::m2m100(4);
        made.0[field] = value;
        refused(&made, &["config.json", &format!("`{field}`"), remedy]);
    }
    for (value, remedy) in [
        (json!(null), "whole number is wanted"),
        (json!(0), "from 1 to"),
    ] {
        let mut made = made::m2m100(4);
        made.0["moe_eval_capacity_token_fraction"] = json!(-1.0);
        made.0["expert_capacity"] = value;
        refused(&made, &["config.json", "`expert_capacity`", remedy]);
    }
}

#[test]
fn options_that_fit_no_model() -> Result {
    let palm = made::palm("softmax", "layer");
    let folder = made::folder(&palm.0, &palm.1)?;
    for (rule, exists) in [
        (
            "encoder.0.*=f16",
            "encoder.1.0 to encoder.1.3, decoder.1.0 to decoder.1.3",
        ),
        ("encoder.1.4=int4", "block.0.0 to block.0.2"),
        ("block.1.*=int4", "block.0.0 to block.0.2"),
    ] {
        let options = Options {
            expert_rules: vec![rule.parse()?],
            ..Options::default()
        };
        refused_with(
            &folder,
            &options,
            &["--expert", rule, "no such expert", exists],
        );
    }
    let options = Options {
        expert_rules: vec!["*.*.*=int4".parse()?],
        ..Options::default()
    };
    refused_with(
        &Folder::copy_of("t5")?,
        &options,
        &["has no experts", "leave --expert out"],
    );
    for found in [0, 65] {
        let options = Options {
            max_positions: Some(found),
            ..Options::default()
        };
        refused_with(&folder, &options, &["--max-positions", "1 to 64 positions"]);
    }
    let options = Options {
        experts: Some(palmtop_convert::ExpertWeights::Int4),
        ..Options::default()
    };
    let notes = convert(Folder::copy_of("t5")?.path(), &options, &mut ())?.notes;
    assert!(notes.join("\n").contains("--experts int4 changes nothing"));
    Ok(())
}

#[test]
fn values_that_int4_cannot_hold() -> Result {
    const UP: &str = "encoder.layers.1.moe.experts.2.up_proj.weight";
    let palm = made::palm("softmax", "layer");
    let folder = made::folder(&palm.0, &palm.1)?;
    folder.edit_tensors(MODEL, |header, data| {
        let at = start_of(header, UP);
        data[at..at + 4].copy_from_slice(&1e6f32.to_le_bytes());
    })?;
    let options = Options {
        experts: Some(palmtop_convert::ExpertWeights::Int4),
        equalize: false,
        ..Options::default()
    };
    refused_with(
        &folder,
        &options,
        &[MODEL, UP, "1000000", "--expert STACK.LAYER.EXPERT=int8"],
    );
    Ok(())
}

/// Every field of a configuration, set to every kind of nonsense, is either refused or harmless.
#[test]
fn nonsense_in_any_field_panics_nowhere() -> Result {
    let nonsense = [
        json!(-1),
        json!(0),
        json!(1),
        json!(65_537),
        json!(u64::MAX),
        json!(1e300),
        json!("x"),
        json!([]),
        json!({ "a": 1 }),
        json!(true),
        Value::Null,
    ];
    for made in families() {
        let folder = made::folder(&made.0, &made.1)?;
        for field in made.0.as_object().ok_or("not an object")?.keys() {
            for value in &nonsense {
                let mut config = made.0.clone();
                config[field] = value.clone();
                folder.write("config.json", &config.to_string())?;
                if let Err(error) = convert(folder.path(), &Options::default(), &mut ()) {
                    let path = folder.path().to_str().ok_or("?")?;
                    assert!(
                        error.to_string().contains(path),
                        "{field} = {value}: {error}"
                    );
                }
            }
        }
    }
    Ok(())
}
