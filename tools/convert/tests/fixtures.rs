//! Every fixture folder converts, in every weight format, to an image that parses, verifies and
//! passes its own self-test.

mod common;

use common::{Folder, Result, fixtures, root, self_test};
use palmtop::format::{Palm, TensorFormat};
use palmtop_convert::{Options, Weights, convert};
use serde_json::{Value, json};

fn options(weights: Weights) -> Options {
    Options {
        weights,
        ..Options::default()
    }
}

#[test]
fn every_fixture_converts_and_passes_its_self_test() -> Result {
    for folder in fixtures()? {
        for weights in [Weights::Int8, Weights::F16, Weights::F32] {
            let converted = match convert(&folder, &options(weights), &mut ()) {
                Ok(converted) => converted,
                Err(error) => panic!("{} as {weights}: {error}", folder.display()),
            };
            let palm = Palm::parse(&converted.bytes)?;
            assert_eq!(palm.header().numeric, u8::from(weights == Weights::Int8));
            self_test(&converted.bytes)?;
        }
    }
    Ok(())
}

#[test]
fn conversion_is_repeatable_and_names_no_machine() -> Result {
    let folder = root().join("t5-extra");
    let first = convert(&folder, &options(Weights::Int8), &mut ())?.bytes;
    assert_eq!(
        first,
        convert(&folder, &options(Weights::Int8), &mut ())?.bytes
    );
    let palm = Palm::parse(&first)?;
    let names = palm.section(palm.header().names);
    let text = std::str::from_utf8(names)?.trim_end_matches('\0');
    let json: Value = serde_json::from_str(text)?;
    assert_eq!(json["source"], "t5-extra");
    assert_eq!(json["notes"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["weights"], "int8");
    for path in [folder.canonicalize()?, root()] {
        assert!(!text.contains(&*path.to_string_lossy()));
    }
    Ok(())
}

#[test]
fn experts_are_whole_blobs_on_a_page() -> Result {
    let bytes = convert(&root().join("switch"), &options(Weights::Int8), &mut ())?.bytes;
    let palm = Palm::parse(&bytes)?;
    let header = palm.header();
    assert_eq!(header.experts.count, 3 * 8);
    assert_eq!(header.experts_section.offset % 4096, 0);
    let (first, last) = (palm.expert(0), palm.expert(23));
    // Experts of one shape share their entries of the tensor table.
    assert_eq!((first.wi, first.wo), (last.wi, last.wo));
    let wi = palm.tensor(first.wi).ok_or("no wi")?;
    assert!(wi.in_expert && wi.format == TensorFormat::I8);
    Ok(())
}

#[test]
fn a_tied_head_shares_its_matrix() -> Result {
    for (fixture, own_entry) in [("t5", false), ("bart", true)] {
        let bytes = convert(&root().join(fixture), &options(Weights::F16), &mut ())?.bytes;
        let palm = Palm::parse(&bytes)?;
        let roles = palm.header().roles;
        let matrix = |index| palm.tensor(index).map(|tensor| tensor.offset);
        assert_eq!(matrix(roles.embedding), matrix(roles.head));
        // BART's has final_logits_bias.
        assert_eq!(roles.embedding != roles.head, own_entry);
    }
    let bytes = convert(&root().join("t5-v1_1"), &options(Weights::F16), &mut ())?.bytes;
    let palm = Palm::parse(&bytes)?;
    let matrix = |index| palm.tensor(index).map(|tensor| tensor.offset);
    let roles = palm.header().roles;
    assert_ne!(matrix(roles.embedding), matrix(roles.head));
    assert_eq!(palm.header().head_scale, 1.0);
    Ok(())
}

#[test]
fn what_transformers_ignores_is_noted() -> Result {
    let notes = |folder: &Folder| -> Result<String> {
        Ok(convert(folder.path(), &Options::default(), &mut ())?
            .notes
            .join("\n"))
    };
    let extra = notes(&Folder::copy_of("t5-extra")?)?;
    assert!(
        extra.contains("EncDecAttention.relative_attention_bias.weight"),
        "{extra}"
    );

    let folder = Folder::copy_of("t5-copies")?;
    let plain = convert(folder.path(), &Options::default(), &mut ())?;
    assert!(!plain.notes.join("\n").contains("differs"));
    folder.edit_tensors("model.safetensors", |header, data| {
        let at = common::start_of(header, "lm_head.weight");
        data[at..at + 4].copy_from_slice(&7.0f32.to_le_bytes());
    })?;
    let head = notes(&folder)?;
    assert!(
        head.contains("`lm_head.weight` differs from the embedding"),
        "{head}"
    );

    folder.edit_json("generation_config.json", |config| {
        config.insert("num_beams".to_owned(), json!(4));
        config.insert("eos_token_id".to_owned(), json!([1, 2]));
        config.insert("suppress_tokens".to_owned(), json!([3]));
    })?;
    let settings = notes(&folder)?;
    for part in [
        "`num_beams` = 4",
        "`eos_token_id` has several",
        "`suppress_tokens`",
    ] {
        assert!(settings.contains(part), "{settings}");
    }
    Ok(())
}

/// A matrix's signed bytes, padding included.
fn signed_bytes(palm: &Palm, tensor: u32) -> Vec<i8> {
    let Some(record) = palm.tensor(tensor as u16) else {
        return Vec::new();
    };
    if record.format != TensorFormat::I8 || record.in_expert {
        return Vec::new();
    }
    let start = record.offset as usize;
    let bytes = &palm.bytes()[start..start + record.matrix_bytes() as usize];
    bytes.iter().map(|byte| *byte as i8).collect()
}

/// Channels times 50 (and divided behind) are evened out: the same int8 model comes out, but for
/// values that lie on the edge between two steps.
#[test]
fn outlier_channels_leave_no_trace() -> Result {
    for (plain, scaled) in [
        ("t5", "t5-x50"),
        ("t5-v1_1", "t5v11-x50"),
        ("switch", "switch-x50"),
    ] {
        let convert = |name: &str| convert(&root().join(name), &options(Weights::Int8), &mut ());
        let (plain, scaled) = (convert(plain)?.bytes, convert(scaled)?.bytes);
        let (plain, scaled) = (Palm::parse(&plain)?, Palm::parse(&scaled)?);
        let (mut values, mut moved) = (0, 0);
        for tensor in 0..plain.header().tensors.count {
            let (a, b) = (signed_bytes(&plain, tensor), signed_bytes(&scaled, tensor));
            assert_eq!(a.len(), b.len());
            values += a.len();
            let apart = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b));
            moved += apart.clone().filter(|apart| *apart > 0).count();
            assert!(apart.max() <= Some(1));
        }
        assert!(values > 0 && moved * 1000 < values, "{moved} of {values}");
    }
    Ok(())
}

#[test]
fn default_limits_follow_options_and_generation_settings() -> Result {
    let folder = Folder::copy_of("t5")?;
    let limits = |options: &Options| -> Result<(u32, u32)> {
        let bytes = convert(folder.path(), options, &mut ())?.bytes;
        let header = *Palm::parse(&bytes)?.header();
        Ok((header.default_source, header.default_target))
    };
    assert_eq!(limits(&Options::default())?, (64, 64));
    folder.edit_json("generation_config.json", |json| {
        json.insert("max_length".to_owned(), json!(21));
    })?;
    assert_eq!(limits(&Options::default())?, (64, 20));
    folder.edit_json("generation_config.json", |json| {
        json.insert("max_new_tokens".to_owned(), json!(1000));
    })?;
    assert_eq!(limits(&Options::default())?, (64, 64));
    let asked = Options {
        source: Some(7),
        target: Some(100),
        ..Options::default()
    };
    assert_eq!(limits(&asked)?, (7, 100));
    Ok(())
}
