//! The header that is checked in is the one that cbindgen makes of this source.
//!
//! `PALMTOP_BLESS=1 cargo test -p palmtop-capi --test header` writes it anew.

use std::path::Path;
use std::{env, fs};

#[test]
fn header_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.join("../../boards/c/include/palmtop.h");
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config);
    let builder = builder.with_src(folder.join("src/lib.rs"));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if env::var_os("PALMTOP_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap();
    assert!(
        there == made,
        "boards/c/include/palmtop.h is not up to date: \
         PALMTOP_BLESS=1 cargo test -p palmtop-capi --test header"
    );
}
