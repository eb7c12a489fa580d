//! The `TOKENIZER` section, for tokenizers that work character by character or byte by byte.
//!
//! Supported: `grapheme_chars`/`phoneme_chars` in config.json, `ByT5Tokenizer`, and tokenizer.json
//! with a WordLevel model over single characters. Others give no section and a note: ids still work.

use std::collections::BTreeMap;

use palmtop::format::NONE32;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::place::pad;

/// Code point → id, and what each id prints.
#[derive(Debug, Default, PartialEq, Eq)]
struct Characters {
    unknown: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    separator: &'static str,
    inputs: BTreeMap<char, u32>,
    outputs: Vec<String>,
}

/// The section's bytes; empty if the folder has no tokenizer that is supported.
///
/// # Errors
/// If a file is not JSON, or an id is not below `vocab`.
pub(crate) fn section(
    checkpoint: &mut Checkpoint<'_>,
    vocab: usize,
) -> Result<Vec<u8>, ConvertError> {
    let config = checkpoint.config.clone();
    if config.get("grapheme_chars").is_some() && config.get("phoneme_chars").is_some() {
        return Ok(encode_characters(&from_strings(&config, vocab)?));
    }
    let json = checkpoint.folder.join("tokenizer.json");
    let settings = Config::read_optional(&checkpoint.folder.join("tokenizer_config.json"))?;
    // Older folders state the class in config.json.
    let class = match &settings {
        Some(settings) => settings.text("tokenizer_class")?,
        None => None,
    };
    let class = match class {
        Some(class) => class.to_owned(),
        None => config
            .text("tokenizer_class")?
            .unwrap_or_default()
            .to_owned(),
    };
    if class.starts_with("ByT5Tokenizer") {
        return bytes(checkpoint, vocab);
    }
    let problem = match Config::read_optional(&json)? {
        Some(json) => match from_word_level(&json, vocab)? {
            Ok(characters) => return Ok(encode_characters(&characters)),
            Err(problem) => format!("tokenizer.json: {problem}"),
        },
        None if class.is_empty() => "the folder has no tokenizer".to_owned(),
        None => format!("the folder has a {class} without tokenizer.json, which is not supported"),
    };
    checkpoint.note(format!(
        "{problem}; the file takes and gives ids, not text (character and byte tokenizers are \
         supported for now)"
    ));
    Ok(Vec::new())
}

/// ByT5: id = byte + 3 (pad 0, eos 1, unknown 2), eos appended.
fn bytes(checkpoint: &mut Checkpoint<'_>, vocab: usize) -> Result<Vec<u8>, ConvertError> {
    const OFFSET: u32 = 3;
    const EOS: u32 = 1;
    if vocab < 256 + OFFSET as usize {
        let remedy = "ByT5Tokenizer needs at least 259";
        return Err(checkpoint.config.refuse("vocab_size", remedy));
    }
    let mut out = Vec::new();
    words(&mut out, &[2, NONE32, NONE32, EOS, OFFSET, 0, 0, 0, 0, 0]);
    pad(&mut out);
    Ok(out)
}

/// Two strings in config.json: a character's index is its id; the first four are placeholders.
fn from_strings(config: &Config, vocab: usize) -> Result<Characters, ConvertError> {
    const SPECIALS: usize = 4;
    const UNKNOWN: u32 = 3;
    let text = |field: &str| config.text(field).map(Option::unwrap_or_default);
    let check = |field: &str, text: &str| match text.chars().count() <= vocab {
        true => Ok(()),
        false => Err(config.refuse(field, format!("at most vocab_size ({vocab}) characters"))),
    };
    let (graphemes, phonemes) = (text("grapheme_chars")?, text("phoneme_chars")?);
    check("grapheme_chars", graphemes)?;
    check("phoneme_chars", phonemes)?;
    let special = |field, default: u32| Ok(config.id(field, vocab)?.or(Some(default)));
    let mut inputs = BTreeMap::new();
    for (id, point) in graphemes.chars().enumerate().skip(SPECIALS) {
        inputs.entry(point).or_insert(id as u32);
    }
    let piece = |(id, point): (usize, char)| {
        if id < SPECIALS {
            String::new()
        } else {
            point.to_string()
        }
    };
    Ok(Characters {
        unknown: Some(UNKNOWN).filter(|id| (*id as usize) < vocab),
        bos: special("bos_token_id", 1)?,
        eos: special("eos_token_id", 2)?,
        separator: "",
        inputs,
        outputs: phonemes.chars().enumerate().map(piece).collect(),
    })
}

/// Why a tokenizer.json is not supported, or what it is.
type Supported<T> = Result<T, String>;

/// tokenizer.json with a WordLevel model that sees one character at a time.
fn from_word_level(json: &Config, vocab: usize) -> Result<Supported<Characters>, ConvertError> {
    let model = json.get("model").unwrap_or(&Value::Null);
    let kind = model
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("of unknown type");
    if kind != "WordLevel" {
        return Ok(Err(format!("a {kind} model is not supported")));
    }
    let lower = match normalizer(json.get("normalizer")) {
        Ok(lower) => lower,
        Err(problem) => return Ok(Err(problem)),
    };
    if !splits_characters(json.get("pre_tokenizer")) {
        return Ok(Err(
            "a pre_tokenizer that does not split into characters".to_owned()
        ));
    }
    let separator = match json.get("decoder") {
        None => " ",
        Some(decoder) if decoder.get("type").and_then(Value::as_str) == Some("Fuse") => "",
        Some(_) => return Ok(Err("a decoder other than Fuse is not supported".to_owned())),
    };
    let (bos, eos) = match template(json.get("post_processor")) {
        Ok(ends) => ends,
        Err(problem) => return Ok(Err(problem)),
    };

    let id_of = |name: &str, id: &Value| {
        match id.as_u64() {
        Some(id) if id < vocab as u64 => Ok(id as u32),
        _ => Err(json.refuse(
            "model.vocab",
            format!("`{name}` has id {id}, config.json has vocab_size {vocab}: take both from the same model"),
        )),
    }
    };
    let mut pieces = BTreeMap::new();
    if let Some(Value::Object(entries)) = model.get("vocab") {
        for (piece, id) in entries {
            pieces.insert(piece.clone(), id_of(piece, id)?);
        }
    }
    let mut specials = Vec::new();
    if let Some(Value::Array(added)) = json.get("added_tokens") {
        for token in added {
            let content = token
                .get("content")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let id = id_of(content, token.get("id").unwrap_or(&Value::Null))?;
            pieces.insert(content.to_owned(), id);
            if token.get("special").and_then(Value::as_bool) == Some(true) {
                specials.push(id);
            }
        }
    }
    for id in [bos, eos].into_iter().flatten() {
        id_of("post_processor", &Value::from(id))?;
    }
    let unknown = model.get("unk_token").and_then(Value::as_str);
    Ok(Ok(Characters {
        unknown: unknown.and_then(|piece| pieces.get(piece)).copied(),
        bos,
        eos,
        separator,
        inputs: inputs(&pieces, &specials, lower),
        outputs: outputs(&pieces, &specials),
    }))
}

/// Whether the normalizer lower-cases; an error if it does anything that a table of characters
/// cannot do.
fn normalizer(value: Option<&Value>) -> Supported<bool> {
    let Some(value) = value else { return Ok(false) };
    match value.get("type").and_then(Value::as_str) {
        Some("Lowercase") => Ok(true),
        // Composed characters stay as they are; text in decomposed form is not looked up composed.
        Some("NFC") => Ok(false),
        Some("Sequence") => {
            let parts = value.get("normalizers").and_then(Value::as_array);
            parts.into_iter().flatten().try_fold(false, |lower, part| {
                normalizer(Some(part)).map(|this| lower || this)
            })
        }
        Some(other) => Err(format!("a {other} normalizer is not supported")),
        None => Err("a normalizer without a type".to_owned()),
    }
}

/// `Split` with a pattern that matches every single character, or between all of them.
fn splits_characters(value: Option<&Value>) -> bool {
    let Some(value) = value else { return false };
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match text(value, "type").as_str() {
        "Sequence" => match value.get("pretokenizers").and_then(Value::as_array) {
            Some(parts) => parts.len() == 1 && splits_characters(parts.first()),
            None => false,
        },
        "Split" => {
            let Some(pattern) = value.get("pattern") else {
                return false;
            };
            let (behavior, regex) = (text(value, "behavior"), text(pattern, "Regex"));
            let invert = value.get("invert").and_then(Value::as_bool) == Some(true);
            let empty = pattern.get("String").and_then(Value::as_str) == Some("")
                || pattern.get("Regex").and_then(Value::as_str) == Some("");
            let each = [".", "(?m:.)", "[\\s\\S]", "[\\S\\s]"].contains(&regex.as_str());
            match behavior.as_str() {
                "Isolated" | "MergedWithPrevious" | "MergedWithNext" => empty || each,
                "Contiguous" => empty,
                // "Removed" drops what matches; inverted, it drops what lies between the matches.
                "Removed" => each == invert && (empty || each),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Ids that the post-processor puts in front and behind.
fn template(value: Option<&Value>) -> Supported<(Option<u32>, Option<u32>)> {
    let Some(value) = value else {
        return Ok((None, None));
    };
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if kind != "TemplateProcessing" {
        return Err(format!("a {kind} post_processor is not supported"));
    }
    let id_of = |part: &Value| {
        let name = part.get("id").and_then(Value::as_str)?;
        let ids = value
            .get("special_tokens")?
            .get(name)?
            .get("ids")?
            .as_array()?;
        match ids.as_slice() {
            [id] => id.as_u64().and_then(|id| u32::try_from(id).ok()),
            _ => None,
        }
    };
    let mut ends = [None, None];
    let mut behind = 0;
    for part in value
        .get("single")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if part.get("Sequence").is_some() {
            behind += 1;
            continue;
        }
        let id = part.get("SpecialToken").and_then(id_of);
        match (id, ends.get_mut(behind)) {
            (Some(id), Some(end @ None)) => *end = Some(id),
            _ => return Err("a post_processor with more than one token at an end".to_owned()),
        }
    }
    match behind {
        1 => Ok((ends[0], ends[1])),
        _ => Err("a post_processor that does not place the text once".to_owned()),
    }
}

/// Single characters of the vocabulary; if the tokenizer lower-cases, upper-case letters too.
fn inputs(pieces: &BTreeMap<String, u32>, specials: &[u32], lower: bool) -> BTreeMap<char, u32> {
    let mut inputs = BTreeMap::new();
    for (piece, id) in pieces {
        let mut points = piece.chars();
        if let (Some(point), None) = (points.next(), points.next())
            && !specials.contains(id)
        {
            inputs.insert(point, *id);
        }
    }
    if !lower {
        return inputs;
    }
    let lowered = |point: char| {
        let mut points = point.to_lowercase();
        match (points.next(), points.next()) {
            (Some(lower), None) => inputs.get(&lower).map(|id| (point, *id)),
            _ => None,
        }
    };
    // All characters that become one of the vocabulary, itself included.
    ('\0'..=char::MAX).filter_map(lowered).collect()
}

/// What each id prints; special ones print nothing.
fn outputs(pieces: &BTreeMap<String, u32>, specials: &[u32]) -> Vec<String> {
    let len = pieces.values().max().map_or(0, |id| *id as usize + 1);
    let mut outputs = vec![String::new(); len];
    for (piece, id) in pieces {
        if let Some(output) = outputs.get_mut(*id as usize)
            && !specials.contains(id)
        {
            output.clone_from(piece);
        }
    }
    outputs
}

/// Specification, section 8, kind 1.
fn encode_characters(characters: &Characters) -> Vec<u8> {
    let mut out = Vec::new();
    let text_len = characters.outputs.iter().map(String::len).sum::<usize>() as u32;
    let mut separator = [0; 4];
    for (place, byte) in separator.iter_mut().zip(characters.separator.bytes()) {
        *place = byte;
    }
    let id = |id: Option<u32>| id.unwrap_or(NONE32);
    let ends = [
        id(characters.unknown),
        id(characters.bos),
        id(characters.eos),
    ];
    let separator_len = characters.separator.len() as u32;
    words(&mut out, &[1, ends[0], ends[1], ends[2], 0, separator_len]);
    out.extend(separator);
    words(
        &mut out,
        &[
            characters.inputs.len() as u32,
            characters.outputs.len() as u32,
            text_len,
        ],
    );
    for (point, id) in &characters.inputs {
        words(&mut out, &[u32::from(*point), *id]);
    }
    let mut offset = 0;
    if !characters.outputs.is_empty() {
        words(&mut out, &[offset]);
    }
    for piece in &characters.outputs {
        offset += piece.len() as u32;
        words(&mut out, &[offset]);
    }
    characters
        .outputs
        .iter()
        .for_each(|piece| out.extend(piece.bytes()));
    pad(&mut out);
    out
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
