//! Puts `memory.x` where the linker looks, and links with it and the runtime's and defmt's scripts.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    for argument in [
        "--nmagic",
        "-Tmemory.x",
        "-Tdevice.x",
        "-Tlink.x",
        "-Tdefmt.x",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=memory.x");
}
