//! Keeps what the check's entry point reaches, and nothing else.

fn main() {
    println!("cargo:rustc-link-arg-bins=--entry=palmtop_panic_free");
}
