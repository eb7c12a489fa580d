//! Models with random weights, without a checkpoint: for measurements of size, memory and speed.
//! They compute, deterministically, nothing of use.
//!
//! A model is written as it is made, one expert after another, so that a file of many hundreds of
//! megabytes needs no more memory than its resident part.

use std::path::Path;

use palmtop::format::{Palm, Policy};
use palmtop::kernels;

use crate::error::ConvertError;
use crate::formats::Formats;
use crate::graph::{
    Activation, Attention, Block, Expert, Family, FeedForward, Graph, Head, Ids, Layer, Matrix,
    Mixture, Norm, NormKind, NormPosition, Projections, Router, Rule, Stack,
};
use crate::map::map_path;
use crate::writer::{self, Extras};
use crate::{ExpertWeights, Options, Weights, golden, layout, place, positions};

/// Sizes of a random model: PaLM's layers (attention and gated feed-forward side by side, shared
/// key heads, rotary positions), each second one with a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Hidden width of dense blocks and of experts.
    pub d_ff: usize,
    /// Layers of the encoder, and of the decoder.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// Experts of a mixture.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Most source tokens, and most target positions.
    pub positions: usize,
    /// Whether every layer has a mixture, not only each second one.
    pub all_sparse: bool,
    /// Format of the resident matrices.
    pub weights: Weights,
    /// Format of experts; `None`: that of `weights`.
    pub expert_weights: Option<ExpertWeights>,
    /// Order of the bytes of int8 matrices.
    pub layout: kernels::Layout,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            d_model: 64,
            d_ff: 128,
            layers: 2,
            heads: 4,
            kv_heads: 1,
            experts: 8,
            top_k: 2,
            vocab: 64,
            positions: 64,
            all_sparse: false,
            weights: Weights::Int8,
            expert_weights: None,
            layout: kernels::Layout::Rows,
            seed: 1,
        }
    }
}

impl Spec {
    /// Refuses sizes that make no model.
    fn check(&self) -> Result<(), ConvertError> {
        let refuse = |option, found: usize, remedy: &str| {
            Err(ConvertError::Limit {
                option,
                found: u32::try_from(found).unwrap_or(u32::MAX),
                remedy: remedy.to_owned(),
            })
        };
        for (option, found) in [
            ("--d-model", self.d_model),
            ("--d-ff", self.d_ff),
            ("--layers", self.layers),
            ("--heads", self.heads),
            ("--kv-heads", self.kv_heads),
            ("--experts", self.experts),
            ("--vocab", self.vocab),
            ("--positions", self.positions),
        ] {
            if found == 0 || found > 1 << 16 {
                return refuse(option, found, "1 to 65536 is possible");
            }
        }
        if self.vocab < 4 {
            return refuse("--vocab", self.vocab, "at least 4 is wanted");
        }
        if self.layers > 1000 || self.experts > 4096 {
            return refuse(
                "--layers",
                self.layers,
                "1000 layers and 4096 experts are the most",
            );
        }
        if !self.d_model.is_multiple_of(2 * self.heads) {
            return refuse(
                "--heads",
                self.heads,
                "d-model must be a multiple of twice the heads",
            );
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(
                "--kv-heads",
                self.kv_heads,
                "a divisor of the heads is wanted",
            );
        }
        if self.top_k == 0 || self.top_k > self.experts {
            return refuse(
                "--top-k",
                self.top_k,
                "1 to the number of experts is possible",
            );
        }
        Ok(())
    }

    fn d_kv(&self) -> usize {
        self.d_model / self.heads
    }
}

/// Writes a random model, with a golden section. The file appears once it is complete.
///
/// # Errors
/// [`ConvertError`] if sizes make no model, do not fit in the file, or it cannot be written.
pub fn write(path: &Path, spec: &Spec) -> Result<(), ConvertError> {
    spec.check()?;
    let failed = |source| ConvertError::Write {
        file: path.display().to_string(),
        source,
    };
    let graph = graph(spec);
    let options = Options {
        weights: spec.weights,
        experts: spec.expert_weights,
        ..Options::default()
    };
    let formats = Formats::resolve(&graph, &options)?;
    let layout = layout::lay_out(&graph, spec.weights, &formats, spec.layout)?;
    let mut extras = Extras {
        tile: crate::tile(&graph, None)?,
        int8: spec.weights == Weights::Int8,
        layout: spec.layout,
        names: r#"{"source":"random weights"}"#.to_owned(),
        ..Extras::default()
    };
    // Once to have something to run, and once more with what it gave.
    let name = path.display().to_string();
    let pass = |extras: &Extras, blobs: writer::Blobs<'_>| {
        let file = crate::atomic::beside(path).map_err(failed)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file.as_file());
        writer::write(&mut out, &name, &graph, &layout, extras, blobs)?;
        drop(out);
        Ok::<_, ConvertError>(file)
    };
    let first = pass(&extras, &mut |index| {
        let format = layout.experts.get(index).map(|entry| entry.format);
        let format = format.unwrap_or(spec.weights.format());
        place::blob(&expert(spec, Some(index)), format, spec.layout)
    })?;
    let image = map_path(first.path()).map_err(failed)?;
    let run = golden::run(&image)?;
    (extras.golden, extras.plan_arena) = (run.golden, run.plan_arena);
    let palm = Palm::parse(&image).map_err(ConvertError::SelfCheck)?;
    let last = pass(&extras, &mut |index| Ok(writer::blob_of(&palm, index)))?;
    let image = map_path(last.path()).map_err(failed)?;
    let palm = Palm::parse(&image).map_err(ConvertError::SelfCheck)?;
    palm.verify_with(crc32fast::hash)
        .map_err(ConvertError::SelfCheck)?;
    crate::atomic::publish(last, path).map_err(failed)
}

/// Numbers that scatter, from a counter (splitmix64).
struct Scatter(u64);

impl Scatter {
    /// The `stream`-th sequence of a seed.
    fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed.wrapping_mul(0xA076_1D64_78BD_642F) ^ stream);
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A matrix whose outputs are about as large as its inputs: values over ±√(3 / cols).
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Matrix {
        let unit = (3.0 / cols as f32).sqrt() / (1u32 << 23) as f32;
        let mut values = Vec::with_capacity(rows * cols + 1);
        while values.len() < rows * cols {
            let bits = self.next();
            // Two values of 24 bits, each exact in f32.
            let halves = [bits as u32 >> 8, (bits >> 32) as u32 >> 8];
            values.extend(halves.map(|half| (half as f32 - (1u32 << 23) as f32) * unit));
        }
        values.truncate(rows * cols);
        Matrix::table(name, rows, cols, values)
    }

    fn projections(&mut self, name: &str, spec: &Spec) -> Projections {
        let (d, inner) = (spec.d_model, spec.heads * spec.d_kv());
        let kv_inner = spec.kv_heads * spec.d_kv();
        Projections {
            q: self.matrix(&format!("{name}.q"), inner, d),
            k: self.matrix(&format!("{name}.k"), kv_inner, d),
            v: self.matrix(&format!("{name}.v"), kv_inner, d),
            o: self.matrix(&format!("{name}.o"), d, inner),
        }
    }

    fn block(&mut self, name: &str, spec: &Spec) -> Block {
        let (d, d_ff) = (spec.d_model, spec.d_ff);
        Block {
            activation: Activation::Silu,
            wi: self.matrix(&format!("{name}.wi"), d_ff, d),
            wi_linear: Some(self.matrix(&format!("{name}.wi_linear"), d_ff, d)),
            wo: self.matrix(&format!("{name}.wo"), d, d_ff),
        }
    }
}

/// An expert by its index in the expert table; without an index, its shape only.
fn expert(spec: &Spec, index: Option<usize>) -> Expert {
    let Some(index) = index else {
        let (d, d_ff) = (spec.d_model, spec.d_ff);
        let empty = |rows, cols| Matrix::table("expert", rows, cols, Vec::new());
        return Expert::from(Block {
            activation: Activation::Silu,
            wi: empty(d_ff, d),
            wi_linear: Some(empty(d_ff, d)),
            wo: empty(d, d_ff),
        });
    };
    let stream = 1 + index as u64;
    Expert::from(Scatter::new(spec.seed, stream).block("expert", spec))
}

fn norm(spec: &Spec) -> Norm {
    Norm {
        name: "norm".to_owned(),
        gain: vec![1.0; spec.d_model],
        bias: None,
    }
}

fn stack(numbers: &mut Scatter, spec: &Spec, name: &str, table: Matrix) -> Stack {
    let decoder = name == "decoder";
    let layer = |index: usize| {
        let name = format!("{name}.{index}");
        let mut attention = |kind: &str| Attention {
            norm: norm(spec),
            projections: numbers.projections(&format!("{name}.{kind}"), spec),
        };
        let (own, cross) = (attention("self"), decoder.then(|| attention("cross")));
        let feed_forward = if spec.all_sparse || index % 2 == 1 {
            FeedForward::Mixture(Mixture {
                router: Router::Learned(numbers.matrix(
                    &format!("{name}.router"),
                    spec.experts,
                    spec.d_model,
                )),
                rule: Rule::new(Policy::TopK, spec.top_k as u16),
                experts: vec![expert(spec, None); spec.experts],
            })
        } else {
            FeedForward::Dense(numbers.block(&format!("{name}.dense"), spec))
        };
        Layer {
            attention: own,
            relative_bias: None,
            cross,
            ff_norm: norm(spec),
            feed_forward,
        }
    };
    Stack {
        layers: (0..spec.layers).map(layer).collect(),
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        d_kv: spec.d_kv(),
        score_scale: (spec.d_kv() as f64).powf(-0.5) as f32,
        buckets: 0,
        distances: Vec::new(),
        relative_biases: Vec::new(),
        positions: Some(table),
        embedding_norm: None,
        final_norm: Some(norm(spec)),
    }
}

/// The model; its experts have shapes, but no values.
fn graph(spec: &Spec) -> Graph {
    let mut numbers = Scatter::new(spec.seed, 0);
    let table = positions::rotary(spec.positions, spec.d_kv(), 10_000.0);
    let table = Matrix::table("rotary positions", spec.positions, spec.d_kv(), table);
    let default = spec.positions.min(64) as u32;
    Graph {
        family: Family::Palm,
        d_model: spec.d_model,
        vocab: spec.vocab,
        norm: NormKind::Rms,
        norm_position: NormPosition::Pre,
        norm_eps: 1e-6,
        embed_scale: 1.0,
        head_scale: (spec.d_model as f64).powf(-0.5) as f32,
        max_source: spec.positions as u32,
        max_target: spec.positions as u32,
        position_offset: 0,
        rotary: true,
        parallel: true,
        decoder_only: false,
        ids: Ids {
            decoder_start: 0,
            eos: Some(1),
            pad: Some(0),
            forced_bos: None,
            forced_eos: None,
        },
        default_source: default,
        default_target: default,
        embedding: numbers.matrix("embedding", spec.vocab, spec.d_model),
        head: Head::Tied { bias: None },
        encoder: stack(&mut numbers, spec, "encoder", table.clone()),
        mixture_block: None,
        decoder: stack(&mut numbers, spec, "decoder", table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_file() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let bytes = |seed| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
            let path = folder.path().join("random.palm");
            let spec = Spec {
                seed,
                expert_weights: Some(ExpertWeights::Int4),
                ..Spec::default()
            };
            write(&path, &spec)?;
            Ok(std::fs::read(path)?)
        };
        let first = bytes(1)?;
        assert_eq!(first, bytes(1)?);
        assert_ne!(first, bytes(2)?);
        let palm = Palm::parse(&first)?;
        assert_eq!(palm.header().minor, 1);
        // The second layer of each stack has 8 experts.
        assert_eq!(palm.header().experts.count, 16);
        assert!(palm.header().golden.len > 0);
        Ok(())
    }

    #[test]
    fn sizes_that_make_no_model_are_refused() {
        let path = Path::new("never-written.palm");
        for (spec, option) in [
            (
                Spec {
                    heads: 3,
                    ..Spec::default()
                },
                "--heads",
            ),
            (
                Spec {
                    kv_heads: 3,
                    ..Spec::default()
                },
                "--kv-heads",
            ),
            (
                Spec {
                    top_k: 9,
                    ..Spec::default()
                },
                "--top-k",
            ),
            (
                Spec {
                    d_ff: 0,
                    ..Spec::default()
                },
                "--d-ff",
            ),
        ] {
            let error = write(path, &spec).err().map(|error| error.to_string());
            assert!(error.unwrap_or_default().contains(option));
        }
    }
}
