//! What the integration tests share: fixtures, converted models, runs, distances.
#![allow(dead_code)]

pub mod device;

use palmtop::storage::WeightSource;
use palmtop::{Limits, Model, NoTrace, RouteTrace, Session};
use palmtop_convert::{Options, Weights};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// A buffer at a multiple of 16.
pub struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Self {
        let mut aligned = Self::filled(bytes.len(), 0);
        aligned.as_mut().copy_from_slice(bytes);
        aligned
    }

    pub fn filled(len: usize, value: u8) -> Self {
        let mut aligned = Self {
            words: vec![0; len.div_ceil(16)],
            len,
        };
        aligned.as_mut().fill(value);
        aligned
    }

    pub fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Names of all fixtures.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("reference.safetensors").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "fixtures are missing");
    names
}

pub fn convert(folder: &Path, weights: Weights) -> Aligned {
    let options = Options {
        weights,
        ..Options::default()
    };
    let converted = palmtop_convert::convert(folder, &options, &mut ()).unwrap();
    Aligned::new(&converted.bytes)
}

pub fn fixture(name: &str, weights: Weights) -> Aligned {
    convert(&fixtures().join(name), weights)
}

/// One case of a fixture's reference.
pub struct Case {
    pub index: usize,
    pub source: Vec<u32>,
    pub target: Vec<u32>,
}

/// The reference outputs of a fixture.
pub struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    pub fn of(name: &str) -> Self {
        Self {
            bytes: std::fs::read(fixtures().join(name).join("reference.safetensors")).unwrap(),
        }
    }

    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        loop {
            let index = cases.len();
            let Some(target) = self.ids(&format!("case{index}.decoder_input_ids")) else {
                break;
            };
            // A decoder-only model has no source.
            let source = self.ids(&format!("case{index}.input_ids"));
            let source = source.unwrap_or_default();
            cases.push(Case {
                index,
                source,
                target,
            });
        }
        assert!(!cases.is_empty());
        cases
    }

    pub fn integers(&self, tensor: &str) -> Option<Vec<i64>> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(tensor).ok()?;
        let data = view.data();
        Some(match view.dtype() {
            safetensors::Dtype::I64 => data
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            safetensors::Dtype::I32 => data
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            other => panic!("{tensor} is {other:?}"),
        })
    }

    fn ids(&self, tensor: &str) -> Option<Vec<u32>> {
        Some(
            self.integers(tensor)?
                .into_iter()
                .map(|id| id.try_into().unwrap())
                .collect(),
        )
    }

    /// Whether a tensor is there.
    pub fn has(&self, tensor: &str) -> bool {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.tensor(tensor).is_ok()
    }

    /// Encoder states of a case, with a prefix to the name; none of a decoder-only model.
    pub fn states(&self, case: usize, prefix: &str, suffix: &str) -> Vec<f32> {
        let name = format!("case{case}.{prefix}encoder_last_hidden_state{suffix}");
        match self.has(&format!("case{case}.input_ids")) {
            true => self.floats(&name),
            false => Vec::new(),
        }
    }

    pub fn floats(&self, tensor: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors
            .tensor(tensor)
            .unwrap_or_else(|_| panic!("{tensor} is missing"));
        view.data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }
}

/// What a run gives.
#[derive(Default)]
pub struct Run {
    pub hidden: Vec<f32>,
    pub logits: Vec<f32>,
}

pub fn run(image: &Aligned, case: &Case) -> Run {
    run_traced(image, case, &mut NoTrace)
}

/// Runs a case at the tightest limits.
pub fn run_traced(image: &Aligned, case: &Case, trace: &mut impl RouteTrace) -> Run {
    run_model(Model::parse(image.as_ref()).unwrap(), case, trace)
}

/// Runs a case with batches of so many token rows.
pub fn run_batches(image: &Aligned, case: &Case, rows: usize) -> Run {
    let model = Model::parse(image.as_ref()).unwrap().with_tile(rows);
    run_model(model, case, &mut NoTrace)
}

fn run_model(model: Model<'_>, case: &Case, trace: &mut impl RouteTrace) -> Run {
    let limits = Limits {
        source: case.source.len() as u32,
        target: case.target.len() as u32,
        beams: 1,
    };
    let mut arena = Aligned::filled(model.arena_bytes(limits), 0xA5);
    let mut session = Session::new(model, limits, arena.as_mut()).unwrap();
    run_session(&mut session, case, trace)
}

/// Runs a case in a session.
pub fn run_session<S: WeightSource>(
    session: &mut Session<'_, '_, S>,
    case: &Case,
    trace: &mut impl RouteTrace,
) -> Run {
    let mut run = Run::default();
    let mut decoder = if session.model().shape().decoder_only {
        session.decoder_only().unwrap()
    } else {
        let mut encoded = session.encode_traced(&case.source, trace).unwrap();
        run.hidden = encoded.hidden().to_vec();
        encoded.decoder()
    };
    for id in &case.target {
        run.logits
            .extend_from_slice(decoder.step_traced(*id, trace).unwrap());
    }
    run
}

/// max |a − b| in units of b's standard deviation.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    if b.is_empty() {
        return 0.0;
    }
    let n = b.len() as f64;
    let mean = b.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let variance = b
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>()
        / n;
    let greatest = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .fold(0.0, f64::max);
    assert!(a.iter().all(|x| x.is_finite()));
    greatest / variance.sqrt()
}

/// Accumulates 1 − cosine over several pieces.
#[derive(Default)]
pub struct Cosine {
    ab: f64,
    aa: f64,
    bb: f64,
}

impl Cosine {
    pub fn add(&mut self, a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            self.ab += a * b;
            self.aa += a * a;
            self.bb += b * b;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bb == 0.0
    }

    pub fn distance(&self) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        1.0 - self.ab / (self.aa.sqrt() * self.bb.sqrt())
    }
}
