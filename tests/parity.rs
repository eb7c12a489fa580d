//! f32 and f16 weights against `transformers`: encoder states and stepwise logits.

mod common;

use common::{Reference, distance, fixture, names, run};
use palmtop_convert::Weights;

/// max |Δ| in standard deviations that f32 may differ by.
const F32: f64 = 2e-4;
/// The same for f16, against the reference with f16-rounded matrices.
const F16: f64 = 1e-3;

#[test]
fn f32_is_transformers() {
    let mut greatest = 0.0f64;
    for name in names() {
        let image = fixture(&name, Weights::F32);
        let reference = Reference::of(&name);
        for case in reference.cases() {
            let k = case.index;
            let run = run(&image, &case);
            let states = reference.states(k, "", "");
            let logits = reference.floats(&format!("case{k}.logits"));
            let (states, logits) = (
                distance(&run.hidden, &states),
                distance(&run.logits, &logits),
            );
            println!("{name:16} case {k}: states {states:.1e}, logits {logits:.1e}");
            assert!(
                states <= F32 && logits <= F32,
                "{name} case {k}: {states:e} {logits:e}"
            );
            greatest = greatest.max(states).max(logits);
        }
    }
    println!("greatest: {greatest:.2e}");
}

#[test]
fn f16_is_transformers_with_f16_matrices() {
    for name in names() {
        let image = fixture(&name, Weights::F16);
        let reference = Reference::of(&name);
        for case in reference.cases() {
            let k = case.index;
            let run = run(&image, &case);
            let states = reference.states(k, "f16_", "");
            let logits = reference.floats(&format!("case{k}.f16_logits"));
            let from_f32 = distance(&run.logits, &reference.floats(&format!("case{k}.logits")));
            let (states, logits) = (
                distance(&run.hidden, &states),
                distance(&run.logits, &logits),
            );
            println!(
                "{name:16} case {k}: states {states:.1e}, logits {logits:.1e}, from f32 {from_f32:.1e}"
            );
            assert!(
                states <= F16 && logits <= F16,
                "{name} case {k}: {states:e} {logits:e}"
            );
        }
    }
}
