//! Which embedding counts where a folder holds several, or not the one that is asked for; and
//! which id starts a target.

mod common;

use common::{Folder, Result, start_of};
use palmtop::format::Palm;
use palmtop_convert::{Options, Weights, convert};
use serde_json::json;

const MODEL: &str = "model.safetensors";
const ENCODER: &str = "encoder.embed_tokens.weight";
const DECODER: &str = "decoder.embed_tokens.weight";

/// Adds a tensor of the shape of `shared`, all of whose values are `value`; none: `shared`'s.
fn add(folder: &Folder, shared: &str, name: &str, value: Option<f32>) -> Result {
    folder.edit_tensors(MODEL, |header, data| {
        let mut entry = header[shared].clone();
        let start = start_of(header, shared);
        let end = entry["data_offsets"][1].as_u64().unwrap_or(0) as usize;
        let mut bytes = data[start..end].to_vec();
        if let Some(value) = value {
            bytes
                .chunks_exact_mut(4)
                .for_each(|chunk| chunk.copy_from_slice(&value.to_le_bytes()));
        }
        let at = data.len();
        data.extend(bytes);
        entry["data_offsets"] = json!([at, data.len()]);
        header.insert(name.to_owned(), entry);
    })
}

/// Converts to f32: the file, and the notes.
fn f32_of(folder: &Folder) -> Result<(Vec<u8>, String)> {
    let options = Options {
        weights: Weights::F32,
        ..Options::default()
    };
    let converted = convert(folder.path(), &options, &mut ())?;
    Ok((converted.bytes, converted.notes.join("\n")))
}

/// A Switch or BART whose head is its own, not yet with embeddings of its stacks.
fn untied(fixture: &str, prefix: &str) -> Result<Folder> {
    let folder = Folder::copy_of(fixture)?;
    folder.set("tie_word_embeddings", json!(false))?;
    add(
        &folder,
        &format!("{prefix}shared.weight"),
        "lm_head.weight",
        None,
    )?;
    Ok(folder)
}

#[test]
fn untied_stacks_take_their_own_embedding() -> Result {
    for (fixture, prefix) in [("switch", ""), ("bart", "model.")] {
        let shared = format!("{prefix}shared.weight");
        let [encoder, decoder] = [ENCODER, DECODER].map(|name| format!("{prefix}{name}"));
        let folder = untied(fixture, prefix)?;
        let (of_shared, notes) = f32_of(&folder)?;
        assert!(notes.contains("both stacks take"), "{notes}");

        add(&folder, &shared, &encoder, Some(0.5))?;
        let text = f32_of(&folder).err().ok_or("one is missing")?.to_string();
        assert!(text.contains(&format!("`{decoder}`")), "{text}");

        add(&folder, &shared, &decoder, Some(0.5))?;
        let (of_stacks, notes) = f32_of(&folder)?;
        assert_ne!(of_shared, of_stacks);
        assert!(
            notes.contains(&format!(
                "`{shared}` differs from `{decoder}`; it is not used"
            )),
            "{notes}"
        );

        let folder = untied(fixture, prefix)?;
        add(&folder, &shared, &encoder, Some(0.5))?;
        add(&folder, &shared, &decoder, Some(0.25))?;
        let text = f32_of(&folder).err().ok_or("they differ")?.to_string();
        for part in [encoder, decoder, "tie them".to_owned()] {
            assert!(text.contains(&part), "`{part}` is not in: {text}");
        }
    }
    Ok(())
}

#[test]
fn tied_stacks_take_the_shared_one() -> Result {
    for (fixture, prefix) in [("switch", ""), ("t5", ""), ("bart", "model.")] {
        let folder = Folder::copy_of(fixture)?;
        let encoder = format!("{prefix}{ENCODER}");
        add(
            &folder,
            &format!("{prefix}shared.weight"),
            &encoder,
            Some(0.5),
        )?;
        let (_, notes) = f32_of(&folder)?;
        assert!(
            notes.contains("it is not used, as in transformers"),
            "{notes}"
        );
    }
    Ok(())
}

#[test]
fn the_start_is_bos_where_none_is_named() -> Result {
    let start = |folder: &Folder| -> Result<u32> {
        let (bytes, _) = f32_of(folder)?;
        Ok(Palm::parse(&bytes)?.header().decoder_start)
    };
    let folder = Folder::copy_of("t5")?;
    let generation = "generation_config.json";
    folder.write(
        generation,
        r#"{"decoder_start_token_id": 3, "bos_token_id": 4}"#,
    )?;
    assert_eq!(start(&folder)?, 3);
    folder.write(generation, r#"{"bos_token_id": 4}"#)?;
    assert_eq!(start(&folder)?, 4);
    folder.write(generation, "{}")?;
    folder.set("decoder_start_token_id", json!(5))?;
    assert_eq!(start(&folder)?, 5);
    std::fs::remove_file(folder.file(generation))?;
    folder.set("bos_token_id", json!(6))?;
    assert_eq!(start(&folder)?, 5);
    folder.set("decoder_start_token_id", json!(null))?;
    assert_eq!(start(&folder)?, 6);
    folder.set("bos_token_id", json!(null))?;
    assert_eq!(start(&folder)?, 0);
    Ok(())
}
