//! Public errors are errors as the language has them, and say what is wrong.

use core::error::Error;

use palmtop::format::FormatError;
use palmtop::mixture::Full;
use palmtop::storage::StorageError;
use palmtop::text::TextError;

/// The error's text, by way of the trait.
fn text(error: &dyn Error) -> String {
    error.to_string()
}

#[test]
fn every_public_error_implements_the_trait() {
    let reasons = [StorageError::Read, StorageError::Crc, StorageError::Absent];
    for reason in reasons {
        let whole = text(&palmtop::Error::Storage { expert: 3, reason });
        assert!(whole.contains("expert 3"), "{whole}");
        assert!(text(&reason).contains("expert"));
    }
    let format = FormatError::SectionCrc { index: 0 };
    assert_eq!(text(&format), "section RESIDENT is damaged (CRC)");
    assert_eq!(text(&TextError::Empty), "text is empty");
    let _: fn(&Full) -> &dyn Error = |error| error;
}
