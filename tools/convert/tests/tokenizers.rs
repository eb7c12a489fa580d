//! Tokenizers in the folder become the file's TOKENIZER section; the ids are those that the
//! `tokenizers` library 0.22 gives for the same files.

mod common;

use common::{Folder, Result};
use palmtop::format::Palm;
use palmtop::text::{TextError, Tokenizer};
use palmtop_convert::{Options, convert};
use serde_json::{Value, json};

/// A WordLevel tokenizer over single characters, as tools/zoo/g2p-switch has it.
fn word_level() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            { "id": 0, "content": "<pad>", "special": true },
            { "id": 1, "content": "</s>", "special": true },
            { "id": 2, "content": "<unk>", "special": true },
        ],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": {
            "type": "Split", "pattern": { "Regex": "." }, "behavior": "Isolated", "invert": false,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "</s>", "type_id": 0 } },
            ],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
        },
        "decoder": null,
        "model": {
            "type": "WordLevel",
            "vocab": {
                "<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "é": 5, "AH0": 6, "B": 7,
            },
            "unk_token": "<unk>",
        },
    })
}

/// The t5 fixture with a tokenizer.json.
fn with(tokenizer: &Value) -> Result<(Vec<u8>, Vec<String>)> {
    let folder = Folder::copy_of("t5")?;
    folder.write("tokenizer.json", &tokenizer.to_string())?;
    let converted = convert(folder.path(), &Options::default(), &mut ())?;
    Ok((converted.bytes, converted.notes))
}

fn ids(bytes: &[u8], text: &str) -> Result<Vec<u32>> {
    let palm = Palm::parse(bytes)?;
    let mut ids = [0; 64];
    let len = Tokenizer::of(&palm)
        .ok_or("no tokenizer")?
        .encode(text, &mut ids)?;
    Ok(ids[..len].to_vec())
}

fn text(bytes: &[u8], ids: &[u32]) -> Result<String> {
    let palm = Palm::parse(bytes)?;
    let mut out = Vec::new();
    let tokenizer = Tokenizer::of(&palm).ok_or("no tokenizer")?;
    tokenizer.decode(ids, |piece| out.extend_from_slice(piece));
    Ok(String::from_utf8(out)?)
}

#[test]
fn word_level_over_characters() -> Result {
    let (bytes, _) = with(&word_level())?;
    assert_eq!(ids(&bytes, "aB?")?, [3, 4, 2, 1]);
    assert_eq!(ids(&bytes, "ÉÀ")?, [5, 2, 1]);
    assert_eq!(text(&bytes, &[6, 2, 7, 1, 0])?, "AH0 B");
    Ok(())
}

#[test]
fn word_level_in_other_forms() -> Result {
    let mut json = word_level();
    json["normalizer"] = Value::Null;
    json["post_processor"] = Value::Null;
    json["decoder"] = json!({ "type": "Fuse" });
    json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "String": "" }, "behavior": "Isolated", "invert": false },
    ] });
    let (bytes, _) = with(&json)?;
    assert_eq!(ids(&bytes, "aBA")?, [3, 7, 2]);
    assert_eq!(text(&bytes, &[6, 3, 7])?, "AH0aB");

    json["model"]
        .as_object_mut()
        .ok_or("no model")?
        .remove("unk_token");
    let (bytes, _) = with(&json)?;
    let palm = Palm::parse(&bytes)?;
    let tokenizer = Tokenizer::of(&palm).ok_or("no tokenizer")?;
    let error = tokenizer.encode("a?", &mut [0; 9]).err();
    assert_eq!(error, Some(TextError::UnknownCharacter { character: '?' }));
    Ok(())
}

#[test]
fn what_is_not_supported_gives_a_note_and_no_section() -> Result {
    let edits: [(&str, Value); 6] = [
        ("model", json!({ "type": "Unigram", "vocab": [] })),
        ("normalizer", json!({ "type": "NFKC" })),
        ("pre_tokenizer", json!({ "type": "WhitespaceSplit" })),
        ("pre_tokenizer", Value::Null),
        ("post_processor", json!({ "type": "RobertaProcessing" })),
        ("decoder", json!({ "type": "WordPiece" })),
    ];
    for (field, value) in edits {
        let mut json = word_level();
        json[field] = value;
        let (bytes, notes) = with(&json)?;
        assert_eq!(Palm::parse(&bytes)?.header().tokenizer.len, 0, "{field}");
        let told = notes.iter().any(|note| note.contains("tokenizer.json: "));
        assert!(told, "{field}: {notes:?}");
    }
    Ok(())
}

#[test]
fn ids_that_the_model_does_not_have_are_refused() -> Result {
    let mut json = word_level();
    json["model"]["vocab"]["z"] = json!(100_000);
    let error = with(&json)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    for part in [
        "tokenizer.json",
        "`model.vocab`",
        "`z` has id 100000",
        "same model",
    ] {
        assert!(error.contains(part), "{error}");
    }
    Ok(())
}

#[test]
fn two_strings_in_config_json() -> Result {
    let folder = Folder::copy_of("bart")?;
    folder.edit_json("config.json", |config| {
        config.insert("grapheme_chars".to_owned(), json!("____ab_a"));
        config.insert("phoneme_chars".to_owned(), json!("____ɪx"));
        config.insert("bos_token_id".to_owned(), json!(1));
        config.insert("eos_token_id".to_owned(), json!(2));
    })?;
    let bytes = convert(folder.path(), &Options::default(), &mut ())?.bytes;
    // The first `a` wins; `_` is a placeholder among the first four ids only.
    assert_eq!(ids(&bytes, "ab_?")?, [1, 4, 5, 6, 3, 2]);
    assert_eq!(text(&bytes, &[1, 4, 3, 5, 2])?, "ɪx");
    Ok(())
}

#[test]
fn bytes_of_byt5() -> Result {
    let folder = Folder::copy_of("t5")?;
    folder.write(
        "tokenizer_config.json",
        "{\"tokenizer_class\": \"ByT5Tokenizer\"}",
    )?;
    let error = convert(folder.path(), &Options::default(), &mut ()).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(
        error.contains("config.json: field `vocab_size`") && error.contains("259"),
        "{error}"
    );

    // As many rows as ByT5 has: the fixture's own, again and again.
    let rows = 384;
    folder.edit_tensors("model.safetensors", |header, data| {
        let width = header["shared.weight"]["shape"][1].as_u64().unwrap_or(1);
        let (start, end) = (data.len(), data.len() + (rows * width * 4) as usize);
        let row = common::start_of(header, "shared.weight");
        let row = data[row..row + (width * 4) as usize].to_vec();
        data.extend(row.iter().cycle().take(end - start));
        // Data without a tensor are refused, so the old embedding gets a name that is skipped.
        let old = header["shared.weight"]["data_offsets"].clone();
        let shape = header["shared.weight"]["shape"].clone();
        header["shared.weight"] =
            json!({ "dtype": "F32", "shape": [rows, width], "data_offsets": [start, end] });
        header.insert(
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight".to_owned(),
            json!({ "dtype": "F32", "shape": shape, "data_offsets": old }),
        );
    })?;
    folder.set("vocab_size", json!(rows))?;
    let bytes = convert(folder.path(), &Options::default(), &mut ())?.bytes;
    assert_eq!(ids(&bytes, "aé")?, [97 + 3, 0xC3 + 3, 0xA9 + 3, 1]);
    assert_eq!(text(&bytes, &[100, 0, 0xC3 + 3, 0xA9 + 3, 1])?, "aé");
    Ok(())
}
