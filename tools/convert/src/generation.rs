//! Generation settings: the ids that steer greedy search, and notes about what is not applied.

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::graph::Ids;

/// What a family's configuration class fills in where config.json is silent.
pub(crate) struct Defaults {
    pub decoder_start: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub forced_eos: Option<u32>,
}

/// Settings that change what `generate` returns and that this library does not apply, with the
/// value that changes nothing.
const NOT_APPLIED: [(&str, f64); 10] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("length_penalty", 1.0),
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("diversity_penalty", 0.0),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
];

/// As before, for settings that count as soon as they are there.
const NOT_APPLIED_LISTS: [&str; 6] = [
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_decoder_ids",
    "sequence_bias",
    "exponential_decay_length_penalty",
];

/// The ids of generation_config.json, else of config.json, else `defaults`.
///
/// The forced ids come from generation_config.json alone where there is one, as in transformers.
pub(crate) fn ids(
    checkpoint: &mut Checkpoint<'_>,
    vocab: usize,
    defaults: &Defaults,
) -> Result<Ids, ConvertError> {
    let config = checkpoint.config.clone();
    let generation = checkpoint.generation.clone();
    let mut notes = Vec::new();
    let first = generation.as_ref().unwrap_or(&config);

    let id = |field: &str| -> Result<Option<u32>, ConvertError> {
        match &generation {
            Some(generation) if generation.get(field).is_some() => generation.id(field, vocab),
            _ => config.id(field, vocab),
        }
    };
    let below = |id: Option<u32>| id.filter(|id| (*id as usize) < vocab);
    let forced_default = if generation.is_some() {
        None
    } else {
        below(defaults.forced_eos)
    };
    let eos_config = if first.get("eos_token_id").is_some() {
        first
    } else {
        &config
    };
    let eos = match one_of_list(eos_config, "eos_token_id", vocab, &mut notes)? {
        Some(eos) => Some(eos),
        None => below(defaults.eos),
    };
    let pad = id("pad_token_id")?.or(below(defaults.pad));
    // As in transformers, bos starts a target where generation_config.json names no start.
    let start = match &generation {
        Some(settings) if settings.get("decoder_start_token_id").is_none() => {
            settings.id("bos_token_id", vocab)?
        }
        _ => None,
    };
    let start = start.or(id("decoder_start_token_id")?);
    let Some(decoder_start) = start.or(below(defaults.decoder_start)) else {
        return Err(config.refuse(
            "decoder_start_token_id",
            "the id that starts a target is wanted, here or in generation_config.json",
        ));
    };
    let forced_eos = one_of_list(first, "forced_eos_token_id", vocab, &mut notes)?;
    let ids = Ids {
        decoder_start,
        eos,
        pad,
        forced_bos: first.id("forced_bos_token_id", vocab)?,
        forced_eos: forced_eos.or(forced_default),
    };
    not_applied(first, &mut notes);
    for note in notes {
        checkpoint.note(note);
    }
    Ok(ids)
}

/// Target positions that generation is configured for, if it is: `max_new_tokens`, or `max_length`,
/// which counts the start token and thus one token that is never fed back.
pub(crate) fn usual_target(checkpoint: &Checkpoint<'_>) -> Result<Option<u32>, ConvertError> {
    let config = checkpoint.generation.as_ref().unwrap_or(&checkpoint.config);
    let positions = match config.optional_count("max_new_tokens")? {
        Some(tokens) => Some(tokens),
        None => config
            .optional_count("max_length")?
            .map(|length| length.saturating_sub(1)),
    };
    Ok(positions.map(|positions| u32::try_from(positions).unwrap_or(u32::MAX)))
}

/// An id, or the first of a list of ids.
fn one_of_list(
    config: &Config,
    field: &str,
    vocab: usize,
    notes: &mut Vec<String>,
) -> Result<Option<u32>, ConvertError> {
    let Some(Value::Array(list)) = config.get(field) else {
        return config.id(field, vocab);
    };
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.filter(|id| (*id as usize) < vocab)
    };
    let remedy = format!("an id below vocab_size ({vocab}) is wanted");
    let Some(first) = list.first() else {
        return Ok(None);
    };
    let Some(first) = id(first) else {
        return Err(config.refuse(field, remedy));
    };
    if list.len() > 1 {
        let file = config.file();
        notes.push(format!(
            "{file}: field `{field}` has several ids; only {first} is used"
        ));
    }
    Ok(Some(first))
}

fn not_applied(config: &Config, notes: &mut Vec<String>) {
    let file = config.file();
    for (field, neutral) in NOT_APPLIED {
        if let Some(value) = config.get(field)
            && value.as_f64() != Some(neutral)
        {
            notes.push(format!(
                "{file}: `{field}` = {value} is not applied: search is greedy"
            ));
        }
    }
    for field in NOT_APPLIED_LISTS {
        if let Some(value) = config.get(field)
            && value.as_array().is_none_or(|list| !list.is_empty())
        {
            notes.push(format!(
                "{file}: `{field}` is not applied: search is greedy"
            ));
        }
    }
    if config.get("do_sample").and_then(Value::as_bool) == Some(true) {
        notes.push(format!(
            "{file}: `do_sample` is not applied: search is greedy"
        ));
    }
}
