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
//! search and `distances` for relative positions), `equalize` evens out channels for int8 without
//! changing the function, `quantize` makes bytes of matrices, `layout` gives them places, `writer`
//! makes the image. `tokenizer`, `golden` and `names` make the sections beside the weights.

mod atomic;
mod checkpoint;
mod config;
mod distances;
mod equalize;
mod error;
mod families;
mod generation;
mod golden;
mod graph;
mod layout;
mod names;
mod quantize;
mod tokenizer;
mod writer;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use palmtop::format::Palm;

pub use atomic::write_atomically;
pub use error::ConvertError;

use checkpoint::Checkpoint;
use families::Limits;
use graph::{Graph, Stack};
use writer::Extras;

/// The format of matrices: linear layers, embedding, head and experts. Norms, biases, routers,
/// relative-position biases and position tables are f32 in all of them.
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
    /// Default limit of source tokens; `None`: 64, or what the model can take.
    pub source: Option<u32>,
    /// Default limit of target tokens; `None`: 64, or what the model can take.
    pub target: Option<u32>,
    /// Token rows of a batch, 1 to 16; `None`: as many as fit a buffer of 16 KiB.
    pub tile: Option<u8>,
    /// Whether int8 weights are equalized (same function, smaller rounding error).
    pub equalize: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            weights: Weights::Int8,
            source: None,
            target: None,
            tile: None,
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
    let int8 = options.weights == Weights::Int8;
    if int8 && options.equalize {
        equalize::graph(&mut graph);
    }
    let layout = layout::lay_out(&graph, options.weights)
        .map_err(|error| error.in_file(checkpoint.list_file()))?;
    let tokenizer = tokenizer::section(&mut checkpoint, graph.vocab)?;
    let names = names::json(&checkpoint, &graph, &layout, architecture, options.weights);
    let tile = tile(&graph, options.tile)?;
    let mut extras = Extras {
        tile,
        int8,
        tokenizer,
        names,
        ..Extras::default()
    };
    let run = golden::run(&writer::write(&graph, &layout, &extras)?)?;
    if run.golden.is_empty() {
        checkpoint.note("the model gives NaN or infinities: no self-test in the file".to_owned());
    }
    (extras.golden, extras.plan_arena) = (run.golden, run.plan_arena);
    let bytes = writer::write(&graph, &layout, &extras)?;
    let palm = Palm::parse(&bytes).map_err(ConvertError::SelfCheck)?;
    palm.verify().map_err(ConvertError::SelfCheck)?;
    Ok(Converted {
        bytes,
        notes: checkpoint.notes,
    })
}

/// Rows of a batch: as many as make a buffer of the widest activation at most 16 KiB, up to 16.
fn tile(graph: &Graph, asked: Option<u8>) -> Result<u8, ConvertError> {
    const BUFFER: usize = 16 * 1024;
    match asked {
        Some(tile @ 1..=16) => Ok(tile),
        Some(tile) => Err(ConvertError::Limit {
            option: "--tile",
            found: u32::from(tile),
            remedy: "1 to 16 rows are possible".to_owned(),
        }),
        None => {
            let widest = widest(&graph.encoder).max(widest(&graph.decoder)).max(1);
            Ok((BUFFER / (widest * size_of::<f32>())).clamp(1, 16) as u8)
        }
    }
}

/// The widest activation inside a sublayer.
fn widest(stack: &Stack) -> usize {
    let blocks = stack
        .layers
        .iter()
        .flat_map(|layer| layer.feed_forward.blocks());
    let d_ff = blocks.map(|block| block.d_ff()).max().unwrap_or(0);
    d_ff.max(stack.heads * stack.d_kv)
}
