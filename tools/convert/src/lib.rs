//! Turns a Hugging Face checkpoint folder into a `.palm` file.
//!
//! ```no_run
//! let options = palmtop_convert::Options::default();
//! let folder = std::path::Path::new("my-model");
//! let converted = palmtop_convert::convert(folder, &options, &mut ())?;
//! palmtop_convert::write_atomically(std::path::Path::new("my-model.palm"), &converted.bytes)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One idea per file, in the order of the work: `checkpoint` reads a folder and `config` its JSON,
//! `families` maps its tensors to the canonical `graph` (with `generation` for the ids that steer
//! search, `distances` and `positions` for tables of positions), `equalize` evens out channels for
//! integers without changing the function, `formats` resolves which expert has which format,
//! `quantize` makes bytes of matrices, `place` and `layout` give them places, `writer` makes the
//! image and `head` its tables. `tokenizer`, `golden` and `names` make the sections beside the
//! weights. [`random`] makes models without a checkpoint, for measurements of size and speed.

mod atomic;
mod checkpoint;
mod config;
mod distances;
mod equalize;
mod error;
mod families;
mod formats;
mod generation;
mod golden;
mod graph;
mod head;
mod layout;
mod map;
mod names;
mod place;
mod positions;
mod quantize;
pub mod random;
mod target;
mod tokenizer;
mod writer;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use palmtop::format::{Palm, TensorFormat};
use palmtop::kernels;

pub use atomic::write_atomically;
pub use error::ConvertError;
pub use formats::{ExpertRule, ExpertWeights};
pub use map::map_file;
pub use target::Target;

use checkpoint::Checkpoint;
use families::Limits;
use formats::Formats;
use graph::{FeedForward, Graph, Stack};
use writer::Extras;

/// The format of matrices: linear layers, embedding, head, and experts unless they have their own
/// ([`ExpertWeights`]). Norms, biases, routers, relative-position biases and
/// position tables are f32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// Signed bytes with a scale per row; integer arithmetic.
    #[default]
    Int8,
    /// IEEE half precision, widened for arithmetic.
    F16,
    /// IEEE single precision.
    F32,
}

impl Weights {
    pub(crate) fn format(self) -> TensorFormat {
        match self {
            Self::Int8 => TensorFormat::I8,
            Self::F16 => TensorFormat::F16,
            Self::F32 => TensorFormat::F32,
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "int8" => Ok(Self::Int8),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(format!(
                "`{text}` is not a weight format; int8, f16 and f32 are"
            )),
        }
    }
}

/// What can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Format of matrices.
    pub weights: Weights,
    /// Format of experts; `None`: that of `weights`.
    pub experts: Option<ExpertWeights>,
    /// Formats of single experts; later rules win.
    pub expert_rules: Vec<ExpertRule>,
    /// Rows of position tables, and so the most tokens of a source or target; `None`: what
    /// config.json says or a limit needs, at most 4096. Families without such tables ignore it.
    pub max_positions: Option<u32>,
    /// Default limit of source tokens; `None`: 64, or what the model can take.
    pub source: Option<u32>,
    /// Default limit of target tokens; `None`: 64, or what the model can take.
    pub target: Option<u32>,
    /// Token rows of a batch, 1 to 16; `None`: 16 where there are experts, so that an expert is read
    /// once for 16 tokens, else as many as fit a buffer of 16 KiB.
    pub tile: Option<u8>,
    /// Order of the bytes of int8 matrices: a target's own ([`Target::layout`]) is read fast there,
    /// and right everywhere.
    pub layout: kernels::Layout,
    /// Whether integer weights are equalized (same function, smaller rounding error).
    pub equalize: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            weights: Weights::Int8,
            experts: None,
            expert_rules: Vec::new(),
            max_positions: None,
            source: None,
            target: None,
            tile: None,
            layout: kernels::Layout::Rows,
            equalize: true,
        }
    }
}

/// Told how far a conversion is. All methods do nothing by default.
pub trait Progress {
    /// The conversion reads so many bytes of weights.
    fn start(&mut self, total_bytes: u64) {
        let _ = total_bytes;
    }
    /// `bytes` more have been read, of the tensor `what`.
    fn advance(&mut self, bytes: u64, what: &str) {
        let _ = (bytes, what);
    }
    /// Something the user should know.
    fn note(&mut self, note: &str) {
        let _ = note;
    }
}

impl Progress for () {}

/// A finished conversion.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The `.palm` file.
    pub bytes: Vec<u8>,
    /// What the user should know; also told to [`Progress::note`].
    pub notes: Vec<String>,
}

/// Converts a checkpoint folder.
///
/// # Errors
/// [`ConvertError`] names the file, the field or tensor in it, and what to do about it.
pub fn convert(
    folder: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Converted, ConvertError> {
    let mut checkpoint = Checkpoint::open(folder, progress)?;
    let (mut graph, architecture) = families::build(&mut checkpoint, &Limits::of(options))?;
    let formats = Formats::resolve(&graph, options)?;
    if let (Some(experts), true) = (options.experts, graph.mixtures().next().is_none()) {
        checkpoint.note(format!(
            "the model has no experts: --experts {experts} changes nothing"
        ));
    }
    let int8 = options.weights == Weights::Int8;
    if (int8 || formats.any_integer()) && options.equalize {
        equalize::graph(&mut graph);
    }
    let in_file = |error: ConvertError| error.in_file(checkpoint.list_file());
    let layout =
        layout::lay_out(&graph, options.weights, &formats, options.layout).map_err(in_file)?;
    let tile = tile(&graph, options.tile)?;
    let tokenizer = tokenizer::section(&mut checkpoint, graph.vocab)?;
    let names = names::json(&checkpoint, &graph, &layout, architecture, options.weights);
    let mut extras = Extras {
        tile,
        int8,
        layout: options.layout,
        tokenizer,
        names,
        ..Extras::default()
    };
    // Each expert's f32 values go as soon as its blob is made; the second image takes the blobs
    // from the first.
    let mut experts = graph.take_experts();
    let mut make = |index: usize| match (experts.get_mut(index), layout.experts.get(index)) {
        (Some(expert), Some(entry)) => place::take_blob(expert, entry.format, options.layout),
        _ => Ok(Vec::new()),
    };
    let in_file = |error: ConvertError| error.in_file(checkpoint.list_file());
    let first = writer::to_vec(&graph, &layout, &extras, &mut make).map_err(in_file)?;
    let run = golden::run(&first)?;
    if run.golden.is_empty() {
        checkpoint.note("the model gives NaN or infinities: no self-test in the file".to_owned());
    }
    (extras.golden, extras.plan_arena) = (run.golden, run.plan_arena);
    let palm = Palm::parse(&first).map_err(ConvertError::SelfCheck)?;
    let mut again = |index| Ok(writer::blob_of(&palm, index));
    let bytes = writer::to_vec(&graph, &layout, &extras, &mut again)?;
    let palm = Palm::parse(&bytes).map_err(ConvertError::SelfCheck)?;
    palm.verify().map_err(ConvertError::SelfCheck)?;
    Ok(Converted {
        bytes,
        notes: checkpoint.notes,
    })
}

/// Rows of a batch: 16 with experts, so that one is read once for 16 tokens; else as many as make a
/// buffer of the widest activation at most 16 KiB, up to 16.
fn tile(graph: &Graph, asked: Option<u8>) -> Result<u8, ConvertError> {
    const BUFFER: usize = 16 * 1024;
    match asked {
        Some(tile @ 1..=16) => Ok(tile),
        Some(tile) => Err(ConvertError::Limit {
            option: "--tile",
            found: u32::from(tile),
            remedy: "1 to 16 rows are possible".to_owned(),
        }),
        None if has_experts(graph) => Ok(16),
        None => Ok((BUFFER / (widest(graph).max(1) * size_of::<f32>())).clamp(1, 16) as u8),
    }
}

/// Whether any layer, or the space between the stacks, has experts.
fn has_experts(graph: &Graph) -> bool {
    let mut layers = graph.encoder.layers.iter().chain(&graph.decoder.layers);
    let is_mixture = |layer: &graph::Layer| matches!(layer.feed_forward, FeedForward::Mixture(_));
    graph.mixture_block.is_some() || layers.any(is_mixture)
}

/// The widest activation inside a sublayer.
fn widest(graph: &Graph) -> usize {
    let stacks = [&graph.encoder, &graph.decoder];
    let of_layers = |stack: &Stack| {
        let layers = stack.layers.iter().map(|layer| &layer.feed_forward);
        let dense = layers.flat_map(FeedForward::widths).max().unwrap_or(0);
        dense.max(stack.heads * stack.d_kv)
    };
    let block = graph.mixture_block.iter();
    let block = block.flat_map(|block| block.mixture.experts.iter());
    let block = block.map(|expert| expert.block.d_ff());
    stacks
        .into_iter()
        .map(of_layers)
        .chain(block)
        .max()
        .unwrap_or(0)
}
