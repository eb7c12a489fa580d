//! Bad folders: each is refused with a message that names the file, the tensor or field, and what
//! to do; nothing panics.

mod common;

use common::{Folder, Result, start_of};
use palmtop_convert::{Options, Weights, convert};
use serde_json::{Value, json};

const MODEL: &str = "model.safetensors";
const WI: &str = "encoder.block.0.layer.1.DenseReluDense.wi.weight";

/// The message says all of this.
#[track_caller]
fn refused(folder: &Folder, parts: &[&str]) {
    refused_with(folder, &Options::default(), parts);
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

#[test]
fn a_folder_without_anything() -> Result {
    let folder = Folder::copy_of("t5")?;
    std::fs::remove_file(folder.file("config.json"))?;
    refused(&folder, &["config.json", "save_pretrained"]);
    let folder = Folder::copy_of("t5")?;
    std::fs::remove_file(folder.file(MODEL))?;
    refused(
        &folder,
        &["neither model.safetensors nor", "safe_serialization=True"],
    );
    Ok(())
}

#[test]
fn pickled_weights() -> Result {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let folder = Folder::copy_of("t5")?;
        std::fs::rename(folder.file(MODEL), folder.file(name))?;
        refused(&folder, &[name, "pickled", "safe_serialization=True"]);
    }
    Ok(())
}

#[test]
fn broken_json() -> Result {
    let folder = Folder::copy_of("t5")?;
    folder.write("config.json", "{\"d_model\": 44,")?;
    refused(
        &folder,
        &[
            "config.json",
            "not valid JSON",
            "line 1",
            "save the file again",
        ],
    );
    folder.write("config.json", "[1]")?;
    refused(&folder, &["config.json", "not an object"]);
    let folder = Folder::copy_of("t5")?;
    folder.write("generation_config.json", "nonsense")?;
    refused(&folder, &["generation_config.json", "not valid JSON"]);
    Ok(())
}

#[test]
fn other_architectures() -> Result {
    let folder = Folder::copy_of("t5")?;
    folder.set("architectures", json!(["MarianMTModel"]))?;
    let supported = "T5ForConditionalGeneration, MT5ForConditionalGeneration";
    refused(
        &folder,
        &["config.json", "`architectures`", "MarianMTModel", supported],
    );
    folder.set("architectures", Value::Null)?;
    folder.set("model_type", json!("marian"))?;
    refused(
        &folder,
        &[
            "config.json",
            "`model_type`",
            "marian",
            "BartForConditionalGeneration",
        ],
    );
    folder.set("model_type", Value::Null)?;
    refused(&folder, &["config.json", "`model_type`", "absent"]);
    folder.set("architectures", json!(["T5ForConditionalGeneration"]))?;
    folder.set("model_type", json!("bart"))?;
    refused(&folder, &["config.json", "`model_type`", "bart"]);
    Ok(())
}

#[test]
fn missing_misshaped_and_unknown_tensors() -> Result {
    let folder = Folder::copy_of("t5")?;
    folder.edit_tensors(MODEL, |header, _| {
        if let Some(entry) = header.remove(WI) {
            header.insert("surplus.weight".to_owned(), entry);
        }
    })?;
    refused(&folder, &[MODEL, WI, "is missing", "config.json", "["]);

    let folder = Folder::copy_of("t5")?;
    folder.set("d_ff", json!(77))?;
    refused(&folder, &[MODEL, WI, "77", "same model"]);

    let folder = Folder::copy_of("t5")?;
    folder.edit_tensors(MODEL, |header, data| {
        let end = data.len();
        let entry = json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
        header.insert("adapter.lora_A.weight".to_owned(), entry);
        data.extend([0; 4]);
    })?;
    refused(
        &folder,
        &[
            MODEL,
            "`adapter.lora_A.weight`",
            "T5ForConditionalGeneration",
            "merge",
        ],
    );
    Ok(())
}

#[test]
fn nan_and_infinity() -> Result {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let folder = Folder::copy_of("t5")?;
        folder.edit_tensors(MODEL, |header, data| {
            let at = start_of(header, WI) + 5 * 4;
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })?;
        refused(
            &folder,
            &[MODEL, WI, shown, "element 5", "earlier checkpoint"],
        );
    }
    Ok(())
}

#[test]
fn other_dtypes() -> Result {
    for dtype in ["I32", "U32"] {
        let folder = Folder::copy_of("t5")?;
        folder.edit_tensors(MODEL, |header, _| header[WI]["dtype"] = json!(dtype))?;
        refused(&folder, &[MODEL, WI, dtype, "torch_dtype=torch.float32"]);
    }
    Ok(())
}

#[test]
fn damaged_safetensors() -> Result {
    let whole = std::fs::read(Folder::copy_of("t5")?.file(MODEL))?;
    for len in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        let folder = Folder::copy_of("t5")?;
        std::fs::write(folder.file(MODEL), &whole[..len])?;
        refused(
            &folder,
            &[
                MODEL,
                "not a whole safetensors file",
                "download or save it again",
            ],
        );
    }
    Ok(())
}

#[test]
fn shards() -> Result {
    const INDEX: &str = "model.safetensors.index.json";
    let first = |map: &Value| map.as_object().and_then(|map| map.keys().next().cloned());
    let folder = Folder::copy_of("t5-sharded")?;
    let shard = std::fs::read_dir(folder.path())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("model-") && name.ends_with(".safetensors"))
        .ok_or("no shard")?;
    std::fs::remove_file(folder.file(&shard))?;
    refused(&folder, &[INDEX, &shard, "missing", "all shards again"]);

    for outside in [
        "../model.safetensors",
        "/tmp/x.safetensors",
        "..",
        "a/b.safetensors",
        "",
    ] {
        let folder = Folder::copy_of("t5-sharded")?;
        folder.edit_json(INDEX, |index| {
            if let Some(name) = first(&index["weight_map"]) {
                index["weight_map"][name] = json!(outside);
            }
        })?;
        refused(
            &folder,
            &[INDEX, "not a plain file name", "beside the index"],
        );
    }

    let folder = Folder::copy_of("t5-sharded")?;
    folder.edit_json(INDEX, |index| {
        index["weight_map"]["ghost.weight"] = json!(shard)
    })?;
    refused(
        &folder,
        &[INDEX, "`ghost.weight`", &shard, "all shards again"],
    );

    let folder = Folder::copy_of("t5-sharded")?;
    folder.edit_json(INDEX, |index| index["weight_map"] = json!(7))?;
    refused(&folder, &[INDEX, "`weight_map`", "an object"]);
    Ok(())
}

#[test]
fn unsupported_settings_are_named() -> Result {
    for (fixture, field, value, remedy) in [
        ("t5", "dense_act_fn", json!("quick_gelu"), "gelu_new"),
        ("t5", "is_encoder_decoder", json!(false), "encoder-decoders"),
        (
            "t5",
            "quantization_config",
            json!({ "bits": 4 }),
            "f32, f16 or bf16",
        ),
        ("t5", "tie_encoder_decoder", json!(true), "not supported"),
        ("t5", "d_model", json!("wide"), "whole number"),
        ("t5", "d_model", json!(0), "from 1 to"),
        ("t5", "num_layers", json!(-1), "whole number"),
        ("t5", "eos_token_id", json!(1_000_000), "below vocab_size"),
        ("t5", "layer_norm_epsilon", json!(0), "above 0"),
        (
            "t5",
            "relative_attention_num_buckets",
            json!(3),
            "at least 4",
        ),
        (
            "t5",
            "relative_attention_max_distance",
            json!(16),
            "half of the 32 buckets",
        ),
        ("switch", "router_type", json!("tokens_choose"), "top-1"),
        ("switch", "router_dtype", json!("bfloat16"), "float32"),
        ("switch", "expert_capacity", json!(0), "from 1 to"),
        ("bart", "activation_function", json!("mish"), "relu, gelu"),
        ("bart", "normalize_before", json!(true), "not supported"),
        (
            "bart",
            "encoder_attention_heads",
            json!(7),
            "a divisor of d_model",
        ),
    ] {
        let folder = Folder::copy_of(fixture)?;
        if field.ends_with("_token_id") {
            std::fs::remove_file(folder.file("generation_config.json"))?;
        }
        folder.set(field, value)?;
        refused(&folder, &["config.json", &format!("`{field}`"), remedy]);
    }
    let folder = Folder::copy_of("t5")?;
    folder.edit_json("config.json", |config| {
        config.remove("dense_act_fn");
        config.remove("is_gated_act");
        config.insert("feed_forward_proj".to_owned(), json!("glu-relu-x"));
    })?;
    refused(
        &folder,
        &["config.json", "`feed_forward_proj`", "`gated-gelu`"],
    );
    Ok(())
}

#[test]
fn limits_that_the_model_cannot_take() -> Result {
    let folder = Folder::copy_of("bart")?;
    let asked = |source| Options {
        source: Some(source),
        ..Options::default()
    };
    refused_with(
        &folder,
        &asked(100_000),
        &["--source", "100000", "takes 1 to"],
    );
    refused_with(&folder, &asked(0), &["--source", "takes 1 to"]);
    let options = Options {
        tile: Some(17),
        ..Options::default()
    };
    refused_with(&folder, &options, &["--tile", "17", "1 to 16"]);
    Ok(())
}

#[test]
fn values_that_f16_cannot_hold() -> Result {
    let folder = Folder::copy_of("t5")?;
    folder.edit_tensors(MODEL, |header, data| {
        let at = start_of(header, WI);
        data[at..at + 4].copy_from_slice(&1e6f32.to_le_bytes());
    })?;
    let options = Options {
        weights: Weights::F16,
        ..Options::default()
    };
    refused_with(&folder, &options, &[MODEL, WI, "1000000", "--weights f32"]);
    let options = Options {
        weights: Weights::F32,
        ..Options::default()
    };
    assert!(convert(folder.path(), &options, &mut ()).is_ok());
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
    for fixture in ["umt5", "switch", "bart"] {
        for name in ["config.json", "generation_config.json"] {
            let folder = Folder::copy_of(fixture)?;
            let text = std::fs::read(folder.file(name))?;
            let fields: Value = serde_json::from_slice(&text)?;
            for field in fields.as_object().ok_or("not an object")?.keys() {
                for value in &nonsense {
                    folder.edit_json(name, |json| {
                        json.insert(field.clone(), value.clone());
                    })?;
                    if let Err(error) = convert(folder.path(), &Options::default(), &mut ()) {
                        assert!(
                            error
                                .to_string()
                                .contains(folder.path().to_str().ok_or("?")?)
                        );
                    }
                    std::fs::write(folder.file(name), &text)?;
                }
            }
        }
    }
    Ok(())
}
