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
        self.states.add(
            states,
            &reference.floats(&format!("case{case}.encoder_last_hidden_state")),
        );
        self.logits
            .add(logits, &reference.floats(&format!("case{case}.logits")));
    }
}

/// Replays routes, and counts those that would have been others.
struct Replay {
    encoder: Vec<i64>,
    decoder: Vec<i64>,
    sparse: [Vec<usize>; 2],
    lengths: [usize; 2],
    flips: usize,
    total: usize,
}

impl Replay {
    fn new(reference: &Reference, case: &Case, sparse: [Vec<usize>; 2]) -> Self {
        let routes = |stack: &str| {
            reference
                .integers(&format!("case{}.{stack}_routes", case.index))
                .unwrap()
        };
        Self {
            encoder: routes("encoder"),
            decoder: routes("decoder"),
            sparse,
            lengths: [case.source.len(), case.target.len()],
            flips: 0,
            total: 0,
        }
    }
}

impl RouteTrace for Replay {
    fn route(&mut self, route: &Route<'_>) -> usize {
        let (routes, stack) = match route.stack {
            Stack::Encoder => (&self.encoder, 0),
            Stack::Decoder | Stack::Block => (&self.decoder, 1),
        };
        let layer = self.sparse[stack]
            .iter()
            .position(|l| *l == route.layer)
            .unwrap();
        let wanted = routes[layer * self.lengths[stack] + route.token];
        if wanted < 0 {
            // Dropped: an expert is full, so the one that earlier tokens took most often is.
            let earlier = &routes[layer * self.lengths[stack]..][..route.token];
            let taken = |expert: &usize| earlier.iter().filter(|r| **r == *expert as i64).count();
            return (0..route.probabilities.len()).max_by_key(taken).unwrap();
        }
        self.total += 1;
        self.flips += usize::from(wanted as usize != route.expert);
        wanted as usize
    }
}

/// Indices of the sparse layers of both stacks.
fn sparse_layers(image: &common::Aligned) -> [Vec<usize>; 2] {
    let model = palmtop::Model::parse(image.as_ref()).unwrap();
    let header = model.palm().header();
    let of = |first: u32, count: u16| {
        (0..u32::from(count))
            .filter(|i| model.palm().layer(first + i).experts > 0)
            .map(|i| i as usize)
            .filter(|i| {
                model.palm().layer(first + *i as u32).ff_kind
                    == palmtop::format::FeedForwardKind::Mixture
            })
            .collect()
    };
    [
        of(0, header.encoder_layers),
        of(header.encoder_layers.into(), header.decoder_layers),
    ]
}

#[test]
fn int8_is_as_near_as_a_plain_simulation() {
    let mut failures = Vec::new();
    for name in names() {
        let image = fixture(&name, Weights::Int8);
        let reference = Reference::of(&name);
        let sparse = sparse_layers(&image);
        let replay = !sparse[0].is_empty() || !sparse[1].is_empty();
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
                &reference.floats(&format!("case{k}.w8a8_encoder_last_hidden_state{suffix}")),
                &reference.floats(&format!("case{k}.w8a8_logits{suffix}")),
                &reference,
                k,
            );
        }
        let ratio = |a: &Cosine, b: &Cosine| a.distance() / b.distance();
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
