//! int8 against f32, measured beside a plain W8A8 simulation (rows of int8 weights, per-token int8
//! activations, everything else f32): the numbers are in each fixture's reference.

mod common;

use common::{Case, Cosine, Reference, Run, fixture, names, run, run_traced};
use palmtop::{Route, RouteTrace, Stack};
use palmtop_convert::Weights;

/// How much farther from f32 than the simulation int8 may be.
const FACTOR: f64 = 1.3;
/// Cosine with f32 that int8 Switch models reach when they take f32's routes.
const REPLAYED: f64 = 0.995;

/// 1 − cosine of encoder states and logits, over all cases of a fixture.
#[derive(Default)]
struct Distances {
    states: Cosine,
    logits: Cosine,
}

impl Distances {
    fn add(&mut self, states: &[f32], logits: &[f32], reference: &Reference, case: usize) {
        self.states.add(states, &reference.states(case, "", ""));
        self.logits
            .add(logits, &reference.floats(&format!("case{case}.logits")));
    }
}

/// Replays routes, and counts those that would have been others.
struct Replay {
    /// Of the encoder, the decoder and the mixture block: experts, layer after layer, token after
    /// token, and for families with several experts a token choice after choice.
    routes: [Vec<i64>; 3],
    sparse: [Vec<usize>; 3],
    lengths: [usize; 3],
    flips: usize,
    total: usize,
}

impl Replay {
    fn new(reference: &Reference, case: &Case, sparse: [Vec<usize>; 3]) -> Self {
        let of = |side: &str, kind: &str| {
            let name = format!("case{}.{side}_{kind}", case.index);
            reference
                .has(&name)
                .then(|| reference.integers(&name).unwrap())
        };
        let routes = ["encoder", "decoder", "mixture"].map(|side| {
            let choices = of(side, "choices").or_else(|| of(side, "routes"));
            choices.unwrap_or_default()
        });
        let lengths = [case.source.len(), case.target.len(), 1];
        Self {
            routes,
            sparse,
            lengths,
            flips: 0,
            total: 0,
        }
    }
}

impl RouteTrace for Replay {
    fn route(&mut self, route: &Route<'_>) -> usize {
        let stack = match route.stack {
            Stack::Encoder => 0,
            Stack::Decoder => 1,
            Stack::Block => 2,
        };
        let routes = &self.routes[stack];
        let layer = self.sparse[stack]
            .iter()
            .position(|l| *l == route.layer)
            .unwrap();
        let top_k = routes.len() / (self.sparse[stack].len() * self.lengths[stack]);
        let place = layer * self.lengths[stack] + route.token;
        let wanted = routes[place * top_k + route.rank];
        if wanted < 0 {
            // Switch's routes say where a token was dropped: an expert is full, so the one that
            // earlier tokens took most often is.
            assert_eq!(top_k, 1);
            let earlier = &routes[layer * self.lengths[stack]..][..route.token];
            let taken = |expert: &usize| earlier.iter().filter(|r| **r == *expert as i64).count();
            return (0..route.probabilities.len()).max_by_key(taken).unwrap();
        }
        self.total += 1;
        self.flips += usize::from(wanted as usize != route.expert);
        wanted as usize
    }
}

/// Indices of the sparse layers of both stacks, and of the mixture block.
fn sparse_layers(image: &common::Aligned) -> [Vec<usize>; 3] {
    let model = palmtop::Model::parse(image.as_ref()).unwrap();
    let palm = model.palm();
    let header = palm.header();
    let of = |first: u32, count: u16| {
        (0..u32::from(count))
            .filter(|i| palm.mixture(first + i).is_some())
            .map(|i| i as usize)
            .collect()
    };
    [
        of(0, header.encoder_layers),
        of(header.encoder_layers.into(), header.decoder_layers),
        header.block_index().map(|_| 0).into_iter().collect(),
    ]
}

#[test]
fn int8_is_as_near_as_a_plain_simulation() {
    let mut failures = Vec::new();
    for name in names() {
        let image = fixture(&name, Weights::Int8);
        let reference = Reference::of(&name);
        let sparse = sparse_layers(&image);
        let replay = sparse.iter().any(|layers| !layers.is_empty());
        let (mut ours, mut simulated) = (Distances::default(), Distances::default());
        let (mut free, mut flips, mut total) = (Distances::default(), 0, 0);
        for case in reference.cases() {
            let k = case.index;
            let Run { hidden, logits } = run(&image, &case);
            free.add(&hidden, &logits, &reference, k);
            let suffix = if replay { "_replayed" } else { "" };
            if replay {
                let mut trace = Replay::new(&reference, &case, sparse.clone());
                let Run { hidden, logits } = run_traced(&image, &case, &mut trace);
                ours.add(&hidden, &logits, &reference, k);
                (flips, total) = (flips + trace.flips, total + trace.total);
            } else {
                ours.add(&hidden, &logits, &reference, k);
            }
            simulated.add(
                &reference.states(k, "w8a8_", suffix),
                &reference.floats(&format!("case{k}.w8a8_logits{suffix}")),
                &reference,
                k,
            );
        }
        // Without an encoder there are no states to compare.
        let ratio = |a: &Cosine, b: &Cosine| match b.is_empty() {
            true => 0.0,
            false => a.distance() / b.distance(),
        };
        let (states, logits) = (
            ratio(&ours.states, &simulated.states),
            ratio(&ours.logits, &simulated.logits),
        );
        println!(
            "{name:16} states {:.2e} ({states:.2} x), logits {:.2e} ({logits:.2} x){}",
            ours.states.distance(),
            ours.logits.distance(),
            if replay {
                format!(
                    ", free {:.2e} {:.2e}, {flips} of {total} routes flip",
                    free.states.distance(),
                    free.logits.distance()
                )
            } else {
                String::new()
            }
        );
        let near = states <= FACTOR && logits <= FACTOR;
        let enough = !replay
            || (1.0 - ours.states.distance() >= REPLAYED
                && 1.0 - ours.logits.distance() >= REPLAYED);
        if !near || !enough {
            failures.push(format!(
                "{name}: states {states:.2} x, logits {logits:.2} x"
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "farther than {FACTOR} x the simulation: {failures:#?}"
    );
}

/// The same function with three hidden channels × 50: equalization must find it again.
#[test]
fn scaled_channels_cost_nothing() {
    for (scaled, plain) in [
        ("t5-x50", "t5"),
        ("t5v11-x50", "t5-v1_1"),
        ("switch-x50", "switch"),
    ] {
        let [scaled, plain] = [scaled, plain].map(|name| {
            let image = fixture(name, Weights::Int8);
            let reference = Reference::of(name);
            let sparse = sparse_layers(&image);
            let mut distances = Distances::default();
            for case in reference.cases() {
                let run = if sparse[0].is_empty() {
                    run(&image, &case)
                } else {
                    run_traced(
                        &image,
                        &case,
                        &mut Replay::new(&reference, &case, sparse.clone()),
                    )
                };
                distances.add(&run.hidden, &run.logits, &reference, case.index);
            }
            (distances.states.distance(), distances.logits.distance())
        });
        println!("scaled {scaled:?}, plain {plain:?}");
        // "No worse" up to the rounding of the scaled checkpoint itself.
        assert!(
            scaled.0 <= plain.0 * 1.02 && scaled.1 <= plain.1 * 1.02,
            "{scaled:?} {plain:?}"
        );
    }
}
