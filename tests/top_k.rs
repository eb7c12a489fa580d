//! Several experts a token: choices, drops and gates are the reference's; a rule that is read
//! wrongly shows; and the tables with sizes that the compiler knows compute what sessions compute.

mod common;

use common::{Aligned, Case, Reference, convert, distance, fixture, fixtures, run, run_traced};
use palmtop::mixture::{Choice, Dispatch, ExpertTable, Router};
use palmtop::{Model, Route, RouteTrace, Stack, kernels};
use palmtop_convert::Weights;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// max |Δ| in standard deviations that parity allows.
const PARITY: f64 = 2e-4;
/// What a rule that is read wrongly must cost at least.
const WRONG: f64 = 100.0 * PARITY;

const FAMILIES: [&str; 19] = [
    "mixtral",
    "mixtral-3of8",
    "nllb-moe-100",
    "nllb-moe-100-before",
    "nllb-moe-25",
    "nllb-moe-25-before",
    "nllb-moe-50",
    "nllb-moe-50-before",
    "nllb-moe-55",
    "nllb-moe-capacity",
    "palm",
    "palm-all",
    "palm-block",
    "palm-capacity",
    "palm-hash",
    "palm-kinds",
    "palm-layers",
    "palm-position",
    "switch",
];

/// Where a decision is made: layer, token, rank.
type Place = (usize, usize, usize);

/// Choices and gates of each stack.
#[derive(Default)]
struct Notebook {
    chosen: [BTreeMap<Place, i64>; 3],
    /// The expert, or −1, and the gate.
    placed: [BTreeMap<Place, (i64, f32)>; 3],
}

fn index(stack: Stack) -> usize {
    match stack {
        Stack::Encoder => 0,
        Stack::Decoder => 1,
        Stack::Block => 2,
    }
}

impl RouteTrace for Notebook {
    fn route(&mut self, route: &Route<'_>) -> usize {
        let place = (route.layer, route.token, route.rank);
        let chosen = &mut self.chosen[index(route.stack)];
        assert_eq!(chosen.insert(place, route.expert as i64), None);
        route.expert
    }

    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        let place = (route.layer, route.token, route.rank);
        let expert = if kept { route.expert as i64 } else { -1 };
        let placed = &mut self.placed[index(route.stack)];
        assert_eq!(placed.insert(place, (expert, gate)), None);
    }
}

#[test]
fn choices_drops_and_gates_are_those_of_the_reference() {
    let mut dropped = BTreeMap::new();
    for name in FAMILIES {
        let image = fixture(name, Weights::F32);
        let reference = Reference::of(name);
        for case in reference.cases() {
            let mut notebook = Notebook::default();
            run_traced(&image, &case, &mut notebook);
            for (stack, side) in ["encoder", "decoder", "mixture"].into_iter().enumerate() {
                let tensor = |kind: &str| format!("case{}.{side}_{kind}", case.index);
                let chosen: Vec<i64> = notebook.chosen[stack].values().copied().collect();
                let (experts, gates): (Vec<i64>, Vec<f32>) =
                    notebook.placed[stack].values().copied().unzip();
                if !reference.has(&tensor("routes")) {
                    assert!(chosen.is_empty() || name == "switch", "{name} {side}");
                    continue;
                }
                let routes = reference.integers(&tensor("routes")).unwrap();
                assert_eq!(experts, routes, "{name} {}", tensor("routes"));
                let drops = routes.iter().filter(|expert| **expert < 0).count();
                *dropped.entry(name).or_insert(0) += drops;
                if name == "switch" {
                    continue;
                }
                let choices = reference.integers(&tensor("choices")).unwrap();
                assert_eq!(chosen, choices, "{name} {}", tensor("choices"));
                for (ours, theirs) in gates.iter().zip(reference.floats(&tensor("gates"))) {
                    assert!((ours - theirs).abs() < 1e-5, "{name}: {ours} {theirs}");
                }
            }
        }
    }
    println!("dropped: {dropped:?}");
    for (name, some) in [
        ("nllb-moe-100", false),
        ("nllb-moe-50", true),
        ("nllb-moe-25", true),
        ("nllb-moe-50-before", true),
        ("nllb-moe-25-before", true),
        ("nllb-moe-capacity", true),
        ("palm-capacity", true),
    ] {
        assert_eq!(dropped[name] > 0, some, "{name}");
    }
}

/// A copy of a fixture whose configuration says something else.
fn changed(
    name: &str,
    change: impl Fn(&mut serde_json::Map<String, serde_json::Value>),
) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("top-k-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(fixtures().join(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let path = folder.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(config.as_object_mut().unwrap());
    std::fs::write(&path, config.to_string()).unwrap();
    folder
}

/// The greatest distance of a model's outputs from the fixture's, over all cases.
fn farthest(image: &Aligned, name: &str) -> f64 {
    let reference = Reference::of(name);
    let distances = reference.cases().into_iter().map(|case| {
        let run = run(image, &case);
        let states = reference.states(case.index, "", "");
        let logits = reference.floats(&format!("case{}.logits", case.index));
        distance(&run.hidden, &states).max(distance(&run.logits, &logits))
    });
    distances.fold(0.0, f64::max)
}

#[test]
fn a_rule_that_is_read_wrongly_shows() {
    const NORMALIZE: &str = "normalize_router_prob_before_dropping";
    for name in ["50", "25", "50-before", "25-before"].map(|kind| format!("nllb-moe-{kind}")) {
        let right = farthest(&fixture(&name, Weights::F32), &name);
        assert!(right <= PARITY, "{name}: {right:e}");
        let folder = changed(&name, |config| {
            let before = config[NORMALIZE].as_bool().unwrap();
            config[NORMALIZE] = (!before).into();
        });
        let swapped = farthest(&convert(&folder, Weights::F32), &name);
        let folder = changed(&name, |config| {
            assert!(config["moe_token_dropout"].as_f64().unwrap() > 0.0);
            config["moe_token_dropout"] = 0.0.into();
        });
        let without = farthest(&convert(&folder, Weights::F32), &name);
        println!("{name:20} {right:.1e}; flag swapped {swapped:.2}, no factor {without:.2}");
        assert!(swapped >= WRONG, "{name}, flag swapped: {swapped:e}");
        assert!(without >= WRONG, "{name}, factor left out: {without:e}");
    }
}

/// Notes the states before and after the mixture block.
#[derive(Default)]
struct AroundTheBlock {
    before: Vec<f32>,
    after: Vec<f32>,
    gates: Vec<(usize, f32)>,
}

impl RouteTrace for AroundTheBlock {
    fn placed(&mut self, route: &Route<'_>, _kept: bool, gate: f32) {
        if route.stack == Stack::Block {
            self.gates.push((route.expert, gate));
        }
    }

    fn layer(&mut self, stack: Stack, _layer: usize, states: &[f32]) {
        match stack {
            Stack::Encoder => self.before = states.to_vec(),
            Stack::Block => self.after = states.to_vec(),
            Stack::Decoder => {}
        }
    }
}

#[test]
fn tables_of_known_sizes_compute_what_sessions_compute() {
    for weights in [Weights::Int8, Weights::F16, Weights::F32] {
        let image = fixture("palm-block", weights);
        let model = Model::parse(image.as_ref()).unwrap();
        let palm = model.palm();
        let block = palm.header().block_index().unwrap();
        let record = palm.mixture(block).unwrap();
        assert_eq!(
            (record.experts, record.top_k),
            (5, 2),
            "the fixture's sizes"
        );
        let (router, experts) = (
            Router::<5, 2>::of(palm, block),
            ExpertTable::<5>::of(palm, block),
        );
        assert!(Router::<5, 1>::try_of(palm, block).is_none());
        assert!(Router::<4, 2>::try_of(palm, block).is_none());
        assert!(ExpertTable::<3>::try_of(palm, block).is_none());

        // With one token the mean is the token.
        let case = Case {
            index: 0,
            source: vec![7],
            target: vec![palm.header().decoder_start],
        };
        let mut seen = AroundTheBlock::default();
        run_traced(&image, &case, &mut seen);

        let norm = palm.tensor(record.ff_norm).unwrap();
        let d_model = palm.header().d_model as usize;
        let gain = &image.as_ref()[norm.offset as usize..][..d_model * 4];
        let gain: &[f32] = bytemuck::cast_slice(gain);
        let mut h = seen.before.clone();
        kernels::float::rms_norm(&mut h, gain, palm.header().norm_eps);

        let mut gate = router.gate(&h);
        let chosen: Vec<_> = gate
            .chosen
            .map(|c| (usize::from(c.expert), c.weight))
            .to_vec();
        assert_eq!(chosen, seen.gates);
        gate.chosen.sort_by_key(|choice| choice.expert);
        let mut sum = vec![0.0; d_model];
        let mut scratch = Aligned::filled(experts.scratch_bytes(), 0xA5);
        for choice in gate.chosen {
            experts.add(choice, &h, &mut sum, scratch.as_mut());
        }
        for ((before, sum), after) in seen.before.iter().zip(&sum).zip(&seen.after) {
            assert_eq!((before + sum).to_bits(), after.to_bits(), "{weights}");
        }
        let nobody = Choice {
            expert: 5,
            weight: 1.0,
        };
        let same = sum.clone();
        experts.add(nobody, &h, &mut sum, scratch.as_mut());
        assert_eq!(sum, same, "an expert that is not there adds nothing");
    }
}

#[test]
fn places_are_those_of_a_session_with_capacity() {
    let image = fixture("palm-capacity", Weights::F32);
    let model = Model::parse(image.as_ref()).unwrap();
    const CAPACITY: usize = 7;
    let mut compared = 0;
    for case in Reference::of("palm-capacity").cases() {
        let mut notebook = Notebook::default();
        run_traced(&image, &case, &mut notebook);
        let layers: Vec<usize> = notebook.chosen[0]
            .keys()
            .map(|(layer, ..)| *layer)
            .collect();
        let Some(layer) = layers.first() else {
            continue;
        };
        let record = model.palm().mixture(*layer as u32).unwrap();
        assert_eq!((record.experts, record.capacity as usize), (4, CAPACITY));
        let mut dispatch = Dispatch::<4, CAPACITY>::new();
        for ((at, token, rank), expert) in &notebook.chosen[0] {
            if at != layer {
                continue;
            }
            let (placed, weight) = notebook.placed[0][&(*at, *token, *rank)];
            let choice = Choice {
                expert: *expert as u16,
                weight,
            };
            let kept = dispatch.place(*token as u32, choice).is_ok();
            assert_eq!(kept, placed >= 0);
            compared += 1;
        }
        for expert in 0..4 {
            let tokens = dispatch.tokens_of(expert);
            assert!(tokens.len() <= CAPACITY);
            assert!(tokens.is_sorted_by_key(|place| place.token));
        }
    }
    assert!(compared > 20, "{compared}");
}
