//! Links with esp-hal's script, which has the chip's memory.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
}
