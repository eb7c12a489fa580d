//! Links with the board's scripts, and asks the linker what the program takes.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    // Where there is none, the memory is in the script of the chip's own crate.
    if fs::exists("memory.x").is_ok_and(|there| there) {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        fs::copy("memory.x", out.join("memory.x")).expect("OUT_DIR can be written");
        println!("cargo:rustc-link-search={}", out.display());
    }
    for argument in [{{link_args}}] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    // LLVM's linker from version 20 on, as Rust's own; PALMTOP_NO_SIZES=1 for an older one.
    if env::var_os("PALMTOP_NO_SIZES").is_none() {
        println!("cargo:rustc-link-arg-bins=--print-memory-usage");
    }
    println!("cargo:rerun-if-env-changed=PALMTOP_NO_SIZES");
    println!("cargo:rerun-if-changed=memory.x");
}
