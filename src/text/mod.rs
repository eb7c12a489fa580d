//! Tokenizers that read their tables in place: from text to ids and back.

mod tokenizer;

pub use tokenizer::{TextError, Tokenizer};
