//! What the newer families become: header fields, records of every routing policy, tables of
//! positions, formats of single experts. Each file passes its own self-test.

mod common;

use common::made::{self, Tensors};
use common::{Folder, Result, self_test};
use palmtop::format::{FeedForwardKind, NONE16, Palm, Policy, TensorFormat};
use palmtop_convert::{ExpertWeights, Options, Weights, convert};
use serde_json::{Value, json};

fn options(weights: Weights, experts: Option<ExpertWeights>) -> Options {
    Options {
        weights,
        experts,
        ..Options::default()
    }
}

fn of(made: &(Value, Tensors)) -> Result<Folder> {
    made::folder(&made.0, &made.1)
}

fn bytes(folder: &Folder, options: &Options) -> Result<Vec<u8>> {
    Ok(convert(folder.path(), options, &mut ())?.bytes)
}

fn f32_of(folder: &Folder) -> Result<Vec<u8>> {
    bytes(folder, &options(Weights::F32, None))
}

/// A tensor's f32 values, of its first row.
fn row(palm: &Palm, index: u16, row: usize) -> Vec<f32> {
    let Some(t) = palm.tensor(index) else {
        return Vec::new();
    };
    let start = t.offset as usize + row * t.stride as usize;
    let bytes = &palm.bytes()[start..start + t.cols as usize * 4];
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[test]
fn every_family_passes_its_self_test_in_every_format() -> Result {
    let made = [
        made::palm("softmax", "layer"),
        made::palm("position", "feed_forward"),
        made::palm("hash", "layer"),
        made::mixtral(),
        made::m2m100(0),
        made::m2m100(4),
    ];
    for made in &made {
        let folder = of(made)?;
        for weights in [Weights::Int8, Weights::F16, Weights::F32] {
            for experts in [
                None,
                Some(ExpertWeights::Int4),
                Some(ExpertWeights::Int8),
                Some(ExpertWeights::F16),
            ] {
                let made = bytes(&folder, &options(weights, experts))?;
                self_test(&made)
                    .map_err(|error| format!("{} {weights} {experts:?}: {error}", made.len()))?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_header_of_a_palm() -> Result {
    let file = f32_of(&of(&made::palm("softmax", "layer"))?)?;
    let palm = Palm::parse(&file)?;
    let h = palm.header();
    assert_eq!((h.minor, h.family), (1, 7));
    assert!(h.rotary && h.parallel && h.mixture_block && !h.decoder_only);
    assert_eq!((h.encoder_heads, h.encoder_kv_heads), (4, 1));
    assert_eq!((h.max_source, h.max_target, h.position_offset), (64, 64, 0));
    assert_eq!((h.decoder_start, h.eos, h.pad), (2, 1, 0));
    assert_eq!(h.head_scale, 32f32.powf(-0.5));
    assert_eq!(h.encoder_score_scale, 8f32.powf(-0.5));
    // One table serves both stacks; sublayers side by side read one norm.
    assert_eq!(h.roles.encoder_positions, h.roles.decoder_positions);
    assert_eq!(h.roles.embedding, h.roles.head);
    let (encoder, decoder) = (palm.layer(0), palm.layer(2));
    assert_eq!(encoder.self_norm, encoder.ff_norm);
    assert_eq!(decoder.cross_norm, decoder.ff_norm);
    assert_ne!(decoder.self_norm, decoder.ff_norm);
    let table = palm.tensor(h.roles.encoder_positions).ok_or("no table")?;
    assert_eq!(
        (table.rows, table.cols, table.format),
        (64, 8, TensorFormat::F32)
    );
    let row = row(&palm, h.roles.encoder_positions, 3);
    assert!((row[0] - 3f32.cos()).abs() < 1e-6 && (row[4] - 3f32.sin()).abs() < 1e-6);
    assert!((row[1] - 0.3f32.cos()).abs() < 1e-6 && (row[5] - 0.3f32.sin()).abs() < 1e-6);
    Ok(())
}

#[test]
fn records_of_every_policy() -> Result {
    // (folder, policy, k, capacity of the encoder, of the decoder, fraction, factor)
    let mut switch_like = made::m2m100(4);
    switch_like.0["moe_eval_capacity_token_fraction"] = json!(0.0);
    switch_like.0["normalize_router_prob_before_dropping"] = json!(true);
    switch_like.0["moe_token_dropout"] = json!(0.0);
    for (made, policy, capacity, fraction, factor, first) in [
        (
            made::palm("softmax", "layer"),
            Policy::TopK,
            5,
            0.0,
            1.0,
            false,
        ),
        (
            made::palm("position", "layer"),
            Policy::Position,
            5,
            0.0,
            1.0,
            false,
        ),
        (
            made::palm("hash", "layer"),
            Policy::Hash,
            5,
            0.0,
            1.0,
            false,
        ),
        (made::m2m100(4), Policy::Nllb, 0, 0.5, 0.8, false),
        (switch_like, Policy::Nllb, 7, 0.0, 1.0, true),
    ] {
        let file = f32_of(&of(&made)?)?;
        let palm = Palm::parse(&file)?;
        let layer = palm.layer(1);
        assert_eq!(layer.ff_kind, FeedForwardKind::Mixture);
        assert_eq!((layer.policy, layer.top_k, layer.experts), (policy, 2, 4));
        assert_eq!(
            (layer.capacity, layer.capacity_fraction),
            (capacity, fraction)
        );
        assert_eq!(
            (layer.output_factor, layer.normalize_first),
            (factor, first)
        );
        assert_eq!((layer.overflow, layer.tie), (0, 0));
        let router = palm
            .tensor(layer.router)
            .map(|t| (t.rows, t.cols, t.format));
        assert_eq!(
            router,
            match policy {
                Policy::Position => None,
                Policy::Hash => Some((1, 40, TensorFormat::U8)),
                _ => Some((4, 32, TensorFormat::F32)),
            }
        );
        // The bytes, as the specification places them.
        let at = palm.header().layers.offset as usize + 64;
        assert_eq!(file[at + 24], 1);
        assert_eq!(file[at + 34..at + 36], 4u16.to_le_bytes());
        assert_eq!(file[at + 40..at + 44], capacity.to_le_bytes());
        assert_eq!(
            file[at + 44..at + 50],
            [2, 0, policy as u8, 0, 0, u8::from(first)]
        );
        assert_eq!(file[at + 52..at + 56], f32::to_le_bytes(fraction));
        let stored = if factor == 1.0 { 0.0 } else { factor };
        assert_eq!(file[at + 56..at + 60], f32::to_le_bytes(stored));
        // Fixed capacities hold in the encoder only, but NLLB's.
        let decoder = palm.layer(3);
        let in_decoder = if policy == Policy::Nllb { capacity } else { 0 };
        assert_eq!((decoder.policy, decoder.capacity), (policy, in_decoder));
    }
    Ok(())
}

#[test]
fn experts_keep_their_activations() -> Result {
    let file = f32_of(&of(&made::palm("softmax", "layer"))?)?;
    let palm = Palm::parse(&file)?;
    let kinds: Vec<(u8, bool)> = (0..4)
        .map(|index| {
            (
                palm.expert(index).activation,
                palm.expert(index).wi_linear != NONE16,
            )
        })
        .collect();
    assert_eq!(kinds, [(3, true), (1, false), (0, true), (0, false)]);
    Ok(())
}

#[test]
fn the_mixture_block() -> Result {
    for (kind, whole) in [("layer", true), ("feed_forward", false)] {
        let file = f32_of(&of(&made::palm("softmax", kind))?)?;
        let palm = Palm::parse(&file)?;
        let index = palm.header().block_index().ok_or("no block")?;
        assert_eq!((index, palm.header().layers.count), (4, 5));
        let block = palm.layer(index);
        assert_eq!(
            (block.policy, block.top_k, block.experts),
            (Policy::TopK, 2, 3)
        );
        assert_eq!(
            (block.first_expert, block.self_norm, block.q),
            (8, NONE16, NONE16)
        );
        let expert = palm.expert(8);
        assert_eq!(expert.has_attention(), whole);
        // Stored plus one, so that zero means none.
        let at = palm.header().experts.offset as usize + 8 * 32 + 20;
        let [q, ..] = expert.attention;
        assert_eq!(file[at..at + 2], q.wrapping_add(1).to_le_bytes());
        if whole {
            let shape = |index| palm.tensor(index).map(|t| (t.rows, t.cols));
            let [q, k, v, o] = expert.attention;
            assert_eq!([q, k].map(shape), [Some((32, 32)), Some((8, 32))]);
            assert_eq!([v, o].map(shape), [Some((8, 32)), Some((32, 32))]);
        }
    }
    Ok(())
}

#[test]
fn a_mixtral_has_no_encoder() -> Result {
    let file = f32_of(&of(&made::mixtral())?)?;
    let palm = Palm::parse(&file)?;
    let h = palm.header();
    assert_eq!(
        (h.minor, h.family, h.encoder_layers, h.decoder_layers),
        (1, 6, 0, 2)
    );
    assert!(h.decoder_only && h.rotary && !h.parallel);
    assert_eq!(
        (h.decoder_heads, h.decoder_kv_heads, h.decoder_d_kv),
        (4, 2, 8)
    );
    assert_eq!((h.decoder_start, h.eos), (1, 2));
    assert_eq!(
        (h.roles.encoder_positions, palm.layer(0).cross_norm),
        (NONE16, NONE16)
    );
    assert_ne!(h.roles.head, h.roles.embedding);
    let golden = palm.section(h.golden);
    assert_eq!(golden[..4], [0; 4], "no source");
    assert_eq!(golden[8..12], [0; 4], "no states");
    Ok(())
}

#[test]
fn sinusoids_begin_after_the_padding_row() -> Result {
    let file = f32_of(&of(&made::m2m100(0))?)?;
    let palm = Palm::parse(&file)?;
    let h = palm.header();
    // Nothing of version 1.1 is in it.
    assert_eq!((h.minor, h.family, h.position_offset), (0, 4, 0));
    assert_eq!(h.embed_scale, 32f32.sqrt());
    assert_eq!(h.roles.encoder_positions, h.roles.decoder_positions);
    let first = row(&palm, h.roles.encoder_positions, 0);
    assert!((first[0] - 2f32.sin()).abs() < 1e-6 && (first[16] - 2f32.cos()).abs() < 1e-6);
    // The slowest of 16 frequencies is 1/10000.
    assert!((first[15] - 2e-4f32.sin()).abs() < 1e-7);
    Ok(())
}

#[test]
fn position_tables_can_be_cut() -> Result {
    let mut made = made::mixtral();
    made.0["max_position_embeddings"] = json!(131_072);
    let folder = of(&made)?;
    let converted = convert(folder.path(), &options(Weights::F32, None), &mut ())?;
    let note = converted.notes.join("\n");
    assert!(
        note.contains("`max_position_embeddings` is 131072"),
        "{note}"
    );
    assert_eq!(Palm::parse(&converted.bytes)?.header().max_target, 4096);
    let short = Options {
        max_positions: Some(100),
        ..options(Weights::F32, None)
    };
    assert_eq!(
        Palm::parse(&bytes(&folder, &short)?)?.header().max_target,
        100
    );

    // Computed tables can be longer than config.json says, as in transformers.
    let folder = of(&made::m2m100(0))?;
    for (asked, limits, rows) in [
        (None, None, 64),
        (Some(7), Some(7), 7),
        (Some(100), None, 100),
        (None, Some(80), 80),
    ] {
        let options = Options {
            max_positions: asked,
            source: limits,
            target: limits,
            ..Options::default()
        };
        let file = bytes(&folder, &options)?;
        let palm = Palm::parse(&file)?;
        let table = palm.tensor(palm.header().roles.decoder_positions);
        assert_eq!(table.map(|t| t.rows), Some(rows));
        assert_eq!(palm.header().max_source, rows);
    }

    let bart = Folder::copy_of("bart")?;
    let few = Options {
        max_positions: Some(10),
        source: Some(10),
        target: Some(10),
        ..Options::default()
    };
    let file = bytes(&bart, &few)?;
    let palm = Palm::parse(&file)?;
    let table = palm
        .tensor(palm.header().roles.encoder_positions)
        .ok_or("no table")?;
    assert_eq!((palm.header().max_source, table.rows), (10, 12));
    Ok(())
}

/// The formats of all experts, in the order of the table.
fn formats(file: &[u8]) -> Result<Vec<TensorFormat>> {
    let palm = Palm::parse(file)?;
    let of = |index| palm.tensor(palm.expert(index).wi).map(|t| t.format);
    let all = (0..palm.header().experts.count).map(of);
    all.collect::<Option<_>>().ok_or("no tensor".into())
}

#[test]
fn rules_choose_formats_and_later_ones_win() -> Result {
    use TensorFormat::{F16, F32, I4, I8};
    let folder = of(&made::palm("softmax", "layer"))?;
    let with = |experts, rules: &[&str]| -> Result<Vec<u8>> {
        let rules = rules.iter().map(|rule| rule.parse());
        let options = Options {
            expert_rules: rules.collect::<std::result::Result<_, _>>()?,
            ..options(Weights::Int8, experts)
        };
        bytes(&folder, &options)
    };
    assert_eq!(formats(&with(None, &[])?)?, [I8; 11]);
    assert_eq!(formats(&with(Some(ExpertWeights::Int4), &[])?)?, [I4; 11]);
    let mixed = with(
        None,
        &[
            "*.*.*=int4",
            "encoder.1.*=f16",
            "encoder.1.2=f32",
            "block.0.1=int8",
        ],
    )?;
    let expected = [F16, F16, F32, F16, I4, I4, I4, I4, I4, I8, I4];
    assert_eq!(formats(&mixed)?, expected);
    self_test(&mixed)?;
    // Within an expert all matrices have its format.
    let palm = Palm::parse(&mixed)?;
    for (index, format) in (0u32..).zip(expected) {
        let e = palm.expert(index);
        let [q, k, v, o] = e.attention;
        for tensor in [e.wi, e.wi_linear, e.wo, q, k, v, o] {
            let found = palm.tensor(tensor).map_or(format, |t| t.format);
            assert_eq!(found, format);
        }
    }
    assert_eq!(palm.header().numeric, 1);
    Ok(())
}

#[test]
fn experts_of_the_other_kind_need_version_1_1() -> Result {
    let folder = Folder::copy_of("switch")?;
    for (weights, experts, minor) in [
        (Weights::Int8, None, 0),
        (Weights::F32, Some(ExpertWeights::F16), 0),
        (Weights::Int8, Some(ExpertWeights::F16), 1),
        (Weights::F32, Some(ExpertWeights::Int8), 1),
        (Weights::Int8, Some(ExpertWeights::Int4), 1),
    ] {
        let file = bytes(&folder, &options(weights, experts))?;
        assert_eq!(Palm::parse(&file)?.header().minor, minor);
        self_test(&file)?;
    }
    Ok(())
}

#[test]
fn int4_experts_lie_as_the_specification_says() -> Result {
    let file = bytes(
        &of(&made::palm("softmax", "layer"))?,
        &options(Weights::Int8, Some(ExpertWeights::Int4)),
    )?;
    let palm = Palm::parse(&file)?;
    for index in 0..palm.header().experts.count {
        let expert = palm.expert(index);
        // 36 columns: two groups, the second with 4 columns.
        let wo = palm.tensor(expert.wo).ok_or("no wo")?;
        if wo.cols != 36 {
            continue;
        }
        assert_eq!((wo.format, wo.stride, wo.sums), (TensorFormat::I4, 32, 0));
        assert_eq!(wo.scales % 4, 0);
        let blob = &file[expert.offset as usize..(expert.offset + expert.len) as usize];
        for row in 0..wo.rows as usize {
            let second = wo.offset as usize + row * 32 + 16;
            let group = &blob[second..second + 16];
            assert!(group.iter().all(|byte| byte >> 4 == 8));
            assert!(group[4..].iter().all(|byte| *byte == 0x88));
        }
    }
    Ok(())
}
