//! Errors in words, without `core::fmt`, which would cost 12 KB of flash.

use palmtop::Error;
use palmtop::format::FormatError;
use palmtop::storage::StorageError;
use palmtop::text::TextError;

use crate::host::Console;

/// Reports why a model file is refused.
pub fn format(out: &mut Console, error: FormatError) {
    use FormatError as E;
    out.text("error model: ");
    match error {
        E::Truncated { needed, got } => out.text("truncated: needs").n(needed).text(", has").n(got),
        E::TrailingBytes { total } => out.text("longer than its total_len of").n(total),
        E::Misaligned => out.text("misaligned"),
        E::Magic => out.text("no .palm file lies at the model's address"),
        E::Version { major, minor } => out.text("version").n(major.into()).n(minor.into()),
        E::HeadCrc => out.text("head is damaged"),
        E::Section { index } => out.text("section").n(index).text(" is misplaced"),
        E::SectionCrc { index } => out.text("section").n(index).text(" is damaged"),
        E::Table { name } => out.text("table ").text(name),
        E::Header { field } => out.text("header field ").text(field),
        E::Tensor { index, field } => out.text("tensor").n(index).text(", field ").text(field),
        E::Layer { index, field } => out.text("layer").n(index).text(", field ").text(field),
        E::Expert { index, field } => out.text("expert").n(index).text(", field ").text(field),
        E::ExpertCrc { index } => out.text("expert").n(index).text(" is damaged"),
        E::Tokenizer { field } => out.text("tokenizer field ").text(field),
        E::Golden => out.text("golden section"),
        E::LeftOut { feature } => out.text("needs the feature ").text(feature),
        _ => out.text("refused"),
    };
    out.end();
}

/// Reports why a run is refused.
pub fn run(out: &mut Console, error: Error) {
    use Error as E;
    out.text("error run: ");
    match error {
        E::ArenaTooSmall { needed, got } => out
            .text("arena needs")
            .n(needed as u32)
            .text(" bytes, has")
            .n(got as u32),
        E::ArenaMisaligned => out.text("arena is misaligned"),
        E::ModelMisaligned => out.text("model is misaligned"),
        E::SourceLimit { max } => out.text("source limit must be from 1 to").n(max),
        E::TargetLimit { max } => out.text("target limit must be from 1 to").n(max),
        E::Beams => out.text("beams must be 1"),
        E::EmptySource => out.text("source is empty"),
        E::SourceTooLong { limit, got } => out
            .text("source has")
            .n(got as u32)
            .text(" tokens, the limit is")
            .n(limit as u32),
        E::TargetFull { limit } => out.text("target is full at").n(limit as u32),
        E::TokenOutOfVocabulary { id, vocab } => out
            .text("token")
            .n(id)
            .text(" is out of the vocabulary of")
            .n(vocab),
        E::Storage { expert, reason } => out
            .text(match reason {
                StorageError::Crc => "damaged: expert",
                _ => "cannot read expert",
            })
            .n(expert),
        E::ExpertsAbsent => out.text("the image does not hold the experts"),
        E::NoSlots => out.text("no slot for experts"),
        E::NoEncoder => out.text("the model has no encoder"),
        E::HasEncoder => out.text("the model has an encoder"),
        E::NoGolden => out.text("no golden section to test against"),
        E::GoldenMismatch => out.text("self-test gives other bits"),
        _ => out.text("refused"),
    };
    out.end();
}

/// Reports why a text has no ids.
pub fn text(out: &mut Console, error: TextError) {
    out.text("error text: ");
    match error {
        TextError::Empty => out.text("empty"),
        TextError::TooLong { limit } => out.text("more tokens than").n(limit as u32),
        TextError::UnknownCharacter { character } => out
            .text("the vocabulary does not have code point")
            .n(character.into()),
        _ => out.text("refused"),
    };
    out.end();
}
