//! Tells the kernels which of them the target's processors run: Arm's extensions are no target
//! features that stable Rust knows, but the name of the target says enough.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-check-cfg=cfg(kernels, values(\"v6m\", \"v7m\", \"dsp\", \"mve\", \"rv32\"))"
    );
    let feature = |name: &str| env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    if feature("PORTABLE") {
        return;
    }
    let target = env::var("TARGET").unwrap_or_default();
    let kernels = match target.split('-').next().unwrap_or_default() {
        "thumbv6m" => "v6m",
        "thumbv7m" => "v7m",
        "thumbv8m.main" if feature("HELIUM") => "mve",
        "thumbv7em" | "thumbv8m.main" => "dsp",
        name if name.starts_with("riscv32") && name.contains('m') => "rv32",
        _ => return,
    };
    println!("cargo::rustc-cfg=kernels=\"{kernels}\"");
}
