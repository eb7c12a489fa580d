//! Typed reads of a JSON configuration. Every refusal names the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::ConvertError;

/// A JSON object and the file it came from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    file: String,
    /// What comes before a field's name in messages: `mixture.` for an object inside.
    within: String,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads a file that must be there.
    pub fn read(path: &Path) -> Result<Self, ConvertError> {
        let file = path.display().to_string();
        let text = std::fs::read(path).map_err(|source| ConvertError::Read {
            file: file.clone(),
            source,
        })?;
        let json = |problem: String| ConvertError::Json {
            file: file.clone(),
            problem,
        };
        match serde_json::from_slice(&text).map_err(|error| json(error.to_string()))? {
            Value::Object(fields) => Ok(Self {
                file,
                within: String::new(),
                fields,
            }),
            _ => Err(json("the outermost value is not an object".to_owned())),
        }
    }

    /// Reads a file that may be absent.
    pub fn read_optional(path: &Path) -> Result<Option<Self>, ConvertError> {
        if path.exists() {
            Self::read(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The file's path, as messages name it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A field; JSON's null counts as absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Whether a field is there at all, null included.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The refusal of a field.
    pub fn refuse(&self, field: &str, remedy: impl Into<String>) -> ConvertError {
        let found = match self.get(field) {
            Some(value) => shorten(&value.to_string()),
            None => "absent".to_owned(),
        };
        let (file, field) = (self.file.clone(), self.full_name(field));
        ConvertError::Field {
            file,
            field,
            found,
            remedy: remedy.into(),
        }
    }

    fn full_name(&self, field: &str) -> String {
        format!("{}{field}", self.within)
    }

    /// An object inside, if it is there.
    pub fn object(&self, field: &str) -> Result<Option<Self>, ConvertError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                file: self.file.clone(),
                within: format!("{}.", self.full_name(field)),
                fields: fields.clone(),
            })),
            Some(_) => Err(self.refuse(field, "an object or null is wanted")),
        }
    }

    /// Refuses fields that are not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), ConvertError> {
        let other = self
            .fields
            .keys()
            .find(|field| !known.contains(&field.as_str()));
        match other {
            None => Ok(()),
            Some(other) => Err(self.refuse(other, format!("known here are {}", known.join(", ")))),
        }
    }

    /// A list of whole numbers that may be absent.
    pub fn counts(&self, field: &str) -> Result<Vec<usize>, ConvertError> {
        let refuse = || self.refuse(field, "a list of whole numbers is wanted");
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| value.as_u64().and_then(|value| usize::try_from(value).ok()))
                .collect::<Option<_>>()
                .ok_or_else(refuse),
            Some(_) => Err(refuse()),
        }
    }

    /// A list of strings that may be absent.
    pub fn texts(&self, field: &str) -> Result<Option<Vec<&str>>, ConvertError> {
        let refuse = || self.refuse(field, "a list of strings is wanted");
        match self.get(field) {
            None => Ok(None),
            Some(Value::Array(list)) => match list.iter().map(Value::as_str).collect() {
                Some(texts) => Ok(Some(texts)),
                None => Err(refuse()),
            },
            Some(_) => Err(refuse()),
        }
    }

    /// A whole number, or `default` where there is none.
    pub fn count(&self, field: &str, default: usize) -> Result<usize, ConvertError> {
        Ok(self.optional_count(field)?.unwrap_or(default))
    }

    /// A whole number that may be absent.
    pub fn optional_count(&self, field: &str) -> Result<Option<usize>, ConvertError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.refuse(field, "a whole number, at least 0, is wanted")),
        }
    }

    /// A whole number of at least 1 and at most `most`.
    pub fn size(&self, field: &str, default: usize, most: usize) -> Result<usize, ConvertError> {
        let value = self.count(field, default)?;
        if value == 0 || value > most {
            let remedy = format!("a whole number from 1 to {most} is wanted");
            return Err(ConvertError::Field {
                file: self.file.clone(),
                field: self.full_name(field),
                found: value.to_string(),
                remedy,
            });
        }
        Ok(value)
    }

    /// A finite number.
    pub fn number(&self, field: &str, default: f64) -> Result<f64, ConvertError> {
        let Some(value) = self.get(field) else {
            return Ok(default);
        };
        match value.as_f64().filter(|value| value.is_finite()) {
            Some(value) => Ok(value),
            None => Err(self.refuse(field, "a number is wanted")),
        }
    }

    /// True or false.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool, ConvertError> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.refuse(field, "true or false is wanted")),
        }
    }

    /// A string that may be absent.
    pub fn text(&self, field: &str) -> Result<Option<&str>, ConvertError> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(self.refuse(field, "a string is wanted")),
            },
        }
    }

    /// A token id that may be absent: below `vocab`.
    pub fn id(&self, field: &str, vocab: usize) -> Result<Option<u32>, ConvertError> {
        let Some(id) = self.optional_count(field)? else {
            return Ok(None);
        };
        match u32::try_from(id) {
            Ok(id) if (id as usize) < vocab => Ok(Some(id)),
            _ => Err(self.refuse(field, format!("an id below vocab_size ({vocab}) is wanted"))),
        }
    }

    /// Refuses a field that is there with any value but `allowed`.
    pub fn must_be(&self, field: &str, allowed: &Value, remedy: &str) -> Result<(), ConvertError> {
        match self.get(field) {
            Some(value) if value != allowed => Err(self.refuse(field, remedy)),
            _ => Ok(()),
        }
    }
}

/// At most 80 characters of a value, for a message.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        return text.to_owned();
    }
    text.chars().take(77).chain("...".chars()).collect()
}
