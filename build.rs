//! Tells the kernels which of them the target's processors run: Arm's extensions are no target
//! features that stable Rust knows, but the name of the target says enough.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-check-cfg=cfg(kernels, values(\"v6m\", \"v7m\", \"dsp\", \"mve\", \"rv32\"))"
    );
    println!("cargo::rustc-check-cfg=cfg(soft_floats)");
    println!("cargo::rustc-check-cfg=cfg(outputs)");
    println!("cargo::rustc-check-cfg=cfg(fpu)");
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    let feature = |name: &str| env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    let target = env::var("TARGET").unwrap_or_default();
    if feature("SOFT_FLOATS") || is_without_fpu(&target) {
        println!("cargo::rustc-cfg=soft_floats");
    }
    if feature("PORTABLE") {
        return;
    }
    if target.starts_with("thumb") && target.ends_with("hf") {
        println!("cargo::rustc-cfg=fpu");
    }
    let kernels = match target.split('-').next().unwrap_or_default() {
        "thumbv6m" => "v6m",
        "thumbv7m" => "v7m",
        "thumbv8m.main" if feature("HELIUM") => "mve",
        "thumbv7em" | "thumbv8m.main" => "dsp",
        name if name.starts_with("riscv32") && name.contains('m') => "rv32",
        _ => return,
    };
    // Kernels that make a layer's outputs by integer instructions.
    if is_without_fpu(&target) && matches!(kernels, "v6m" | "v7m" | "rv32") {
        println!("cargo::rustc-cfg=outputs");
    }
    if target.starts_with("thumbv8m.main") {
        println!("cargo::rustc-cfg=armv8m");
    }
    println!("cargo::rustc-cfg=kernels=\"{kernels}\"");
}

/// Whether floats are emulated on the target.
fn is_without_fpu(target: &str) -> bool {
    let name = target.split('-').next().unwrap_or_default();
    let extensions = name.strip_prefix("riscv32");
    name.starts_with("thumb") && !target.ends_with("hf")
        || extensions.is_some_and(|letters| !letters.contains(['f', 'g']))
}
