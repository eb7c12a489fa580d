//! Writes the emulated machine's memory where the linker looks, and links with the runtime's script.

use std::path::PathBuf;
use std::{env, fs};

/// QEMU's microbit, started with 4 MB of flash and 256 KB of RAM.
const M0: &str =
    "MEMORY { FLASH : ORIGIN = 0, LENGTH = 4M RAM : ORIGIN = 0x20000000, LENGTH = 256K }";

/// QEMU's mps2-an386.
const M4F: &str =
    "MEMORY { FLASH : ORIGIN = 0, LENGTH = 4M RAM : ORIGIN = 0x20000000, LENGTH = 4M }";

fn main() {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let memory = if target.starts_with("thumbv6m") {
        M0
    } else {
        M4F
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), memory).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}
