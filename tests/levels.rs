//! Whole models give the same bits with every set of vector instructions that this machine has.

mod common;

use common::{Aligned, Reference, Run, fixtures, names, run_batches};
use palmtop::kernels::Layout;
use palmtop::kernels::host::{Level, force};
use palmtop_convert::{ExpertWeights, Options, Weights, convert};

fn bits(run: &Run) -> Vec<u32> {
    let values = run.hidden.iter().chain(&run.logits);
    values.map(|value| value.to_bits()).collect()
}

// One test: the level is the process's.
#[test]
fn every_level_gives_the_portable_bits() {
    let levels: Vec<Level> = Level::ALL
        .into_iter()
        .filter(|level| level.is_available())
        .collect();
    println!("{levels:?}");
    assert_eq!(levels.first(), Some(&Level::Portable));
    for name in names() {
        let cases = Reference::of(&name).cases();
        let case = cases.iter().max_by_key(|case| case.source.len()).unwrap();
        for (weights, experts, layout) in [
            (Weights::Int8, None, Layout::Rows),
            (Weights::Int8, None, Layout::Words16),
            (Weights::Int8, Some(ExpertWeights::Int4), Layout::Words16),
            (Weights::Int8, None, Layout::Bytes8),
            (Weights::F16, None, Layout::Rows),
        ] {
            let options = Options {
                weights,
                experts,
                layout,
                ..Options::default()
            };
            let converted = convert(&fixtures().join(&name), &options, &mut ()).unwrap();
            let image = Aligned::new(&converted.bytes);
            let mut wanted = None;
            for level in &levels {
                assert!(force(*level));
                for tile in [4, 64] {
                    let got = bits(&run_batches(&image, case, tile));
                    let wanted = wanted.get_or_insert_with(|| got.clone());
                    assert!(got == *wanted, "{name} {options:?} {level:?}, {tile} rows");
                }
            }
        }
    }
}
