//! Any number of threads gives the same bits.

mod common;

use common::{Reference, Run, fixtures, names, run, run_batches};
use palmtop::kernels::{Layout, pool};
use palmtop_convert::{ExpertWeights, Options, Weights};

fn bits(run: &Run) -> Vec<u32> {
    let values = run.hidden.iter().chain(&run.logits);
    values.map(|value| value.to_bits()).collect()
}

#[test]
fn threads_change_no_bit() {
    pool::cut_finely();
    for name in names() {
        let cases = Reference::of(&name).cases();
        let case = cases.iter().max_by_key(|case| case.source.len()).unwrap();
        for (weights, layout, experts) in [
            (Weights::Int8, Layout::Rows, None),
            (Weights::Int8, Layout::Words16, None),
            // Read by the portable kernels.
            (Weights::Int8, Layout::Lanes4, None),
            (Weights::F16, Layout::Rows, None),
            (Weights::F32, Layout::Rows, None),
            (Weights::Int8, Layout::Words16, Some(ExpertWeights::Int4)),
        ] {
            let options = Options {
                weights,
                layout,
                experts,
                ..Options::default()
            };
            let converted = palmtop_convert::convert(&fixtures().join(&name), &options, &mut ());
            let image = common::Aligned::new(&converted.unwrap().bytes);
            assert_eq!(pool::set_threads(1), 1);
            let wanted = bits(&run(&image, case));
            for (threads, rows) in [(2, 64), (3, 16), (7, 64)] {
                assert_eq!(pool::set_threads(threads), threads);
                let got = bits(&run_batches(&image, case, rows));
                assert!(
                    got == wanted,
                    "{name} {weights:?} {layout:?}, {threads} threads, batches of {rows}"
                );
            }
        }
    }
}
