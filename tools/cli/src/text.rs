//! Text to ids and back, by the tokenizer in the file.

use anyhow::Result;
use palmtop::format::Palm;
use palmtop::text::Tokenizer;

use crate::failure::failed;

/// How `run` reads its input and prints its output.
#[derive(Debug)]
pub enum Codec<'m> {
    /// Text, by the file's tokenizer.
    Text(Tokenizer<'m>),
    /// Token ids as decimal numbers.
    Ids,
}

impl<'m> Codec<'m> {
    /// The file's tokenizer; an error that says what to do if it has none.
    pub fn text(palm: &Palm<'m>) -> Result<Self> {
        match Tokenizer::of(palm) {
            Some(tokenizer) => Ok(Self::Text(tokenizer)),
            None => Err(failed("the model has no tokenizer: it takes ids, not text")
                .help("`palmtop run MODEL --ids \"5 6 7\"` runs ids, `palmtop logits` gives logits")
                .into()),
        }
    }

    /// The ids of a text, never none.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Text(tokenizer) => {
                if text.is_empty() {
                    return Err(empty());
                }
                // A piece has at least a byte; the tokenizer may add an id in front and one behind.
                let mut ids = vec![0; text.len() + 2];
                let len = tokenizer.encode(text, &mut ids)?;
                ids.truncate(len);
                Ok(ids)
            }
            Self::Ids => {
                if text.trim().is_empty() {
                    return Err(empty());
                }
                let crate::args::Ids(ids) = text.parse().map_err(|e: String| failed(e))?;
                Ok(ids)
            }
        }
    }

    /// What an id prints, on its own.
    pub fn piece(&self, id: u32) -> String {
        match self {
            Self::Text(tokenizer) => String::from_utf8_lossy(tokenizer.piece(id)).into_owned(),
            Self::Ids => id.to_string(),
        }
    }

    /// The character behind each id of a text, as far as there is one: tokens of several characters
    /// stand for their first.
    pub fn letters(&self, text: &str, ids: &[u32]) -> Vec<Option<char>> {
        let Self::Text(_) = self else {
            return vec![None; ids.len()];
        };
        let first = |id: &u32| {
            self.piece(*id)
                .trim_start_matches(['▁', 'Ġ', ' '])
                .chars()
                .next()
        };
        let per_letter: Vec<char> = text.chars().collect();
        let per_byte: Vec<char> = text
            .chars()
            .flat_map(|c| std::iter::repeat_n(c, c.len_utf8()))
            .collect();
        // Besides a token for each character or each byte there may be one in front and one behind.
        for letters in [per_letter, per_byte] {
            let more = ids.len().wrapping_sub(letters.len());
            if more > 2 {
                continue;
            }
            let before = usize::from(more == 2);
            let after = more - before;
            let none = |n| std::iter::repeat_n(None, n);
            let letters = letters.into_iter().map(Some);
            return none(before).chain(letters).chain(none(after)).collect();
        }
        ids.iter().map(first).collect()
    }

    /// The text of the generated ids. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        match self {
            Self::Text(tokenizer) => {
                let mut text = Vec::new();
                tokenizer.decode(ids, |bytes| text.extend_from_slice(bytes));
                String::from_utf8_lossy(&text).into_owned()
            }
            Self::Ids => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                ids.join(" ")
            }
        }
    }
}

fn empty() -> anyhow::Error {
    failed("the text is empty: there is nothing to run")
        .help("give at least one character")
        .into()
}

/// Keeps a text on one line: whatever a reader may take for a line break is escaped.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push(c),
            '\u{2028}' | '\u{2029}' => line.extend(c.escape_unicode()),
            _ if c.is_control() => line.extend(c.escape_unicode()),
            _ => line.push(c),
        }
    }
    line
}

/// Checks ids against the vocabulary, before the core does, to say where they came from.
pub fn check_ids(ids: &[u32], vocab: u32, place: &str) -> Result<()> {
    match ids.iter().position(|id| *id >= vocab) {
        None => Ok(()),
        Some(at) => Err(failed(format!(
            "{place}: id {} at position {at} is out of the vocabulary of {vocab}",
            ids[at]
        ))
        .help(format!("ids go from 0 to {}", vocab - 1))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_are_escaped() {
        assert_eq!(one_line("a\nb\r\u{b}ˈ"), "a\\nb\\r\\u{b}ˈ");
    }

    #[test]
    fn ids_out_of_the_vocabulary_are_named() {
        assert!(check_ids(&[1, 2], 3, "input").is_ok());
        let error = check_ids(&[1, 3], 3, "input").unwrap_err().to_string();
        assert!(error.contains("id 3 at position 1") && error.contains("vocabulary of 3"));
    }
}
