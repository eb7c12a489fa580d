//! Packed layouts change where a weight lies and how much RAM a batch takes, never a result.

mod common;
#[path = "common/lifetimes.rs"]
mod lifetimes;

use common::{Aligned, Reference, Run, fixtures, names, run};
use lifetimes::Timeline;
use palmtop::kernels::Layout;
use palmtop::{Limits, Model};
use palmtop_convert::{ExpertWeights, Options, Target};

fn converted(name: &str, options: &Options) -> Aligned {
    let converted = palmtop_convert::convert(&fixtures().join(name), options, &mut ());
    Aligned::new(&converted.unwrap().bytes)
}

fn bits(run: &Run) -> Vec<u32> {
    let values = run.hidden.iter().chain(&run.logits);
    values.map(|value| value.to_bits()).collect()
}

#[test]
fn every_layout_gives_the_bits_of_rows() {
    for name in names() {
        let cases = Reference::of(&name).cases();
        let case = cases.last().unwrap();
        for experts in [None, Some(ExpertWeights::Int4)] {
            let mut rows = None;
            for layout in Layout::ALL {
                let options = Options {
                    layout,
                    experts,
                    ..Options::default()
                };
                let image = converted(&name, &options);
                let header = *Model::parse(image.as_ref()).unwrap().palm().header();
                assert_eq!(header.layout, layout);
                assert_eq!(header.minor == 2, layout != Layout::Rows);
                let got = bits(&run(&image, case));
                assert_eq!(&got, rows.get_or_insert(got.clone()), "{name} {layout:?}");
            }
        }
    }
}

#[test]
fn the_arena_follows_the_layout() {
    for name in ["switch", "palm", "bart-relu"] {
        for layout in Layout::ALL {
            let options = Options {
                layout,
                ..Options::default()
            };
            let image = converted(name, &options);
            let model = Model::parse(image.as_ref()).unwrap();
            for (source, target) in [(1, 1), (5, 9), (33, 7)] {
                let limits = Limits {
                    source,
                    target,
                    beams: 1,
                };
                let (peak, _) = Timeline::new(model.palm(), limits).peak();
                assert_eq!(model.arena_bytes(limits) as u128, peak, "{name} {layout:?}");
            }
        }
    }
}

#[test]
fn a_larger_batch_gives_the_same_bits() {
    for name in ["switch", "palm", "t5v11-x50", "nllb-moe-50"] {
        let image = converted(name, &Options::default());
        let cases = Reference::of(name).cases();
        let case = cases.iter().max_by_key(|case| case.source.len()).unwrap();
        let wanted = bits(&run(&image, case));
        for tile in [1, 16, 40, 1000] {
            let got = common::run_batches(&image, case, tile);
            assert_eq!(bits(&got), wanted, "{name}, {tile} rows");
        }
    }
}

#[test]
fn targets_have_the_layouts_that_their_kernels_read() {
    for (target, layout) in [
        ("any", Layout::Rows),
        ("x86_64", Layout::Words16),
        ("thumbv7em-none-eabihf", Layout::Lanes4),
        ("thumbv6m", Layout::Bytes4),
        ("riscv32imac", Layout::Bytes8),
    ] {
        assert_eq!(target.parse::<Target>().unwrap().layout(), layout);
    }
}
