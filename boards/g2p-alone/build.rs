//! Keeps what the entry point reaches, and nothing else.

fn main() {
    println!("cargo:rustc-link-arg-bins=--entry=palmtop_answer");
    println!("cargo:rerun-if-env-changed=PALMTOP_MODEL");
}
