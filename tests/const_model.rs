//! A model inside the program: its sizes are constants, a file that is damaged does not compile
//! (`compile_fail.md`), and the committed image computes what it computed when it was made.
//!
//! `tests/fixtures/tiny/` holds four images of a few kilobytes, converted from the checkpoints that
//! `common/tiny.rs` writes. To make them anew:
//! `cargo test --release -p palmtop --test const_model -- --ignored remake`.

#[path = "common/tiny.rs"]
mod tiny;

#[test]
#[ignore = "writes into tests/fixtures/tiny"]
fn remake() {
    use palmtop_convert::{Options, Weights, convert};
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    std::fs::create_dir_all(&root).unwrap();
    let scratch = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("remake");
    let mut all = tiny::SMALLEST.to_vec();
    all.push(("tiny", tiny::COMMITTED));
    for (name, tiny) in all {
        tiny.write(&scratch);
        let options = Options {
            // An image of each kind of numbers is among the smallest.
            weights: match name {
                "t5" => Weights::F16,
                "bart" => Weights::F32,
                _ => Weights::Int8,
            },
            ..Options::default()
        };
        let image = convert(&scratch, &options, &mut ()).unwrap().bytes;
        palmtop_convert::write_atomically(&root.join(format!("{name}.palm")), &image).unwrap();
        println!("{name}: {} bytes", image.len());
    }
}
