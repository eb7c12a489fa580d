//! Routing: the experts that `transformers` chooses and the tokens that it drops; ties; and traces
//! that watch routes or replace them.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use common::{Aligned, Case, Reference, convert, fixture, run, run_traced};
use palmtop::{Model, Route, RouteTrace, Stack};
use palmtop_convert::Weights;
use std::collections::BTreeMap;
use std::path::Path;

/// What the reference has for a token that found no room.
const DROPPED: i64 = -1;

/// A decision, as it was made.
#[derive(Debug, Clone, PartialEq)]
struct Decision {
    stack: Stack,
    layer: usize,
    token: usize,
    expert: usize,
    kept: bool,
    gate: f32,
    probabilities: Vec<f32>,
}

/// Writes decisions down; sends tokens where `wanted` says.
struct Notebook<F> {
    wanted: F,
    decisions: Vec<Decision>,
}

impl<F: FnMut(&Route<'_>) -> usize> RouteTrace for Notebook<F> {
    fn route(&mut self, route: &Route<'_>) -> usize {
        (self.wanted)(route)
    }

    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        self.decisions.push(Decision {
            stack: route.stack,
            layer: route.layer,
            token: route.token,
            expert: route.expert,
            kept,
            gate,
            probabilities: route.probabilities.to_vec(),
        });
    }
}

/// Runs a case with the routes that `wanted` gives; gives the logits' bits and the decisions.
fn routed(
    image: &Aligned,
    case: &Case,
    wanted: impl FnMut(&Route<'_>) -> usize,
) -> (Vec<u32>, Vec<Decision>) {
    let mut notebook = Notebook {
        wanted,
        decisions: Vec::new(),
    };
    let run = run_traced(image, case, &mut notebook);
    (bits(&run.logits), notebook.decisions)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The experts of a stack in the reference's order: layer after layer, token after token.
fn experts_of(decisions: &[Decision], stack: Stack) -> Vec<i64> {
    let mut sorted: BTreeMap<(usize, usize), i64> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| decision.stack == stack) {
        let expert = if decision.kept {
            decision.expert as i64
        } else {
            DROPPED
        };
        let twice = sorted.insert((decision.layer, decision.token), expert);
        assert_eq!(twice, None, "a token was routed twice");
    }
    sorted.into_values().collect()
}

#[test]
fn routes_are_those_of_transformers() {
    let mut dropped = 0;
    for name in [
        "switch",
        "switch-overflow",
        "switch-all",
        "switch-step",
        "switch-bias",
    ] {
        let image = fixture(name, Weights::F32);
        let reference = Reference::of(name);
        for case in reference.cases() {
            let (_, decisions) = routed(&image, &case, |route| route.expert);
            for (stack, side) in [(Stack::Encoder, "encoder"), (Stack::Decoder, "decoder")] {
                let what = format!("case{}.{side}_routes", case.index);
                let wanted = reference.integers(&what).unwrap();
                assert_eq!(experts_of(&decisions, stack), wanted, "{name} {what}");
                dropped += wanted.iter().filter(|expert| **expert == DROPPED).count();
            }
        }
    }
    // As the fixture's manifest has it: 2, 25 and 56 tokens.
    assert_eq!(dropped, 83);
}

#[test]
fn f16_routes_are_those_of_transformers_with_f16_matrices() {
    for name in ["switch", "switch-overflow"] {
        let image = fixture(name, Weights::F16);
        let reference = Reference::of(name);
        for case in reference.cases() {
            let (_, decisions) = routed(&image, &case, |route| route.expert);
            let wanted = format!("case{}.f16_encoder_routes", case.index);
            let wanted = reference.integers(&wanted).unwrap();
            assert_eq!(experts_of(&decisions, Stack::Encoder), wanted, "{name}");
        }
    }
}

#[test]
fn the_gate_is_the_probability_of_the_expert() {
    let image = fixture("switch-all", Weights::Int8);
    for case in Reference::of("switch-all").cases() {
        let (_, decisions) = routed(&image, &case, |route| route.expert);
        for decision in decisions {
            let sum: f32 = decision.probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6);
            assert_eq!(decision.gate, decision.probabilities[decision.expert]);
            let first = decision
                .probabilities
                .iter()
                .position(|p| *p == decision.probabilities.iter().copied().fold(0.0, f32::max));
            assert_eq!(
                Some(decision.expert),
                first,
                "the greatest, the first of them"
            );
        }
    }
}

#[test]
fn a_tie_goes_to_the_lower_index() {
    // Equal rows in every router: all probabilities are equal.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(tiny::unique());
    tiny::Tiny {
        tied_routers: true,
        ..tiny::COMMITTED
    }
    .write(&folder);
    for weights in [Weights::Int8, Weights::F32] {
        let image = convert(&folder, weights);
        let (_, decisions) = routed(&image, &case(&[3, 4, 5, 6, 7], &[0, 1, 2]), |r| r.expert);
        assert!(decisions.len() >= 8);
        for decision in decisions {
            assert!(
                decision
                    .probabilities
                    .windows(2)
                    .all(|pair| pair[0] == pair[1])
            );
            assert_eq!(decision.expert, 0);
            // In the encoder one expert takes four tokens, and all five ask for the same.
            let room = decision.stack == Stack::Decoder || decision.token < 4;
            assert_eq!(decision.kept, room);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn case(source: &[u32], target: &[u32]) -> Case {
    Case {
        index: 0,
        source: source.to_vec(),
        target: target.to_vec(),
    }
}

#[test]
fn replayed_routes_give_the_same_bits() {
    for name in ["switch-all", "switch-overflow"] {
        let image = fixture(name, Weights::Int8);
        for case in Reference::of(name).cases() {
            let (logits, decisions) = routed(&image, &case, |route| route.expert);
            assert_eq!(
                logits,
                bits(&run(&image, &case).logits),
                "watching changes nothing"
            );
            let mut recorded = decisions.iter();
            let (replayed, again) =
                routed(&image, &case, |_| recorded.next().map_or(0, |d| d.expert));
            assert_eq!(replayed, logits);
            assert_eq!(again, decisions);
        }
    }
}

#[test]
fn a_trace_replaces_routes_and_capacity_counts_them() {
    let image = fixture("switch-overflow", Weights::F32);
    let model = Model::parse(image.as_ref()).unwrap();
    let case = Reference::of("switch-overflow").cases().swap_remove(2);
    let (logits, natural) = routed(&image, &case, |route| route.expert);
    let (forced, decisions) = routed(&image, &case, |_| 2);
    assert_ne!(forced, logits);
    assert_eq!(decisions.len(), natural.len());
    for decision in &decisions {
        assert_eq!(decision.expert, 2);
        // Capacity 3, counted by the forced expert, in token order; never in the decoder.
        let room = decision.stack == Stack::Decoder || decision.token < 3;
        assert_eq!(decision.kept, room, "{decision:?}");
        let gate = if room { decision.probabilities[2] } else { 0.0 };
        assert_eq!(decision.gate, gate);
    }

    // An expert that does not exist is taken as the chosen one.
    let experts = model.shape().encoder.experts;
    for nowhere in [experts, usize::MAX] {
        let (same, decisions) = routed(&image, &case, |_| nowhere);
        assert_eq!(same, logits);
        assert_eq!(decisions, natural);
    }
}
