//! Every fixture folder converts, in every weight format, to an image that parses and verifies.

use std::path::{Path, PathBuf};

use palmtop::format::Palm;
use palmtop_convert::{Options, Weights, convert};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Folders with a config.json under tests/fixtures.
fn fixtures() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let folder = entry?.path();
        if folder.join("config.json").exists() {
            folders.push(folder);
        }
    }
    folders.sort();
    assert!(!folders.is_empty());
    Ok(folders)
}

#[test]
fn every_fixture_converts_and_verifies() -> Result {
    for folder in fixtures()? {
        for weights in [Weights::Int8, Weights::F16, Weights::F32] {
            let options = Options {
                weights,
                ..Options::default()
            };
            let converted = match convert(&folder, &options, &mut ()) {
                Ok(converted) => converted,
                Err(error) => panic!("{} as {weights}: {error}", folder.display()),
            };
            let palm = Palm::parse(&converted.bytes)?;
            palm.verify()?;
            assert_eq!(palm.header().numeric, u8::from(weights == Weights::Int8));
        }
    }
    Ok(())
}
