//! Any number of threads gives the same bits.

mod common;

use common::{Reference, Run, fixtures, names, run};
use palmtop::kernels::{Layout, pool};
use palmtop_convert::Options;

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
        for layout in [Layout::Rows, Layout::Words16] {
            let options = Options {
                layout,
                ..Options::default()
            };
            let converted = palmtop_convert::convert(&fixtures().join(&name), &options, &mut ());
            let image = common::Aligned::new(&converted.unwrap().bytes);
            assert_eq!(pool::set_threads(1), 1);
            let wanted = bits(&run(&image, case));
            for threads in [2, 3, 7] {
                assert_eq!(pool::set_threads(threads), threads);
                let got = bits(&run(&image, case));
                assert!(got == wanted, "{name} {layout:?}, {threads} threads");
            }
        }
    }
}
