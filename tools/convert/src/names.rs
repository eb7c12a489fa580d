//! The `NAMES` section: where the file came from and how its tensors are called. For people and
//! host tools; a device never reads it.

use palmtop::format::TensorFormat;
use serde_json::{Map, Value, json};

use crate::Weights;
use crate::checkpoint::Checkpoint;
use crate::graph::Graph;
use crate::layout::{ExpertEntry, Layout};
use crate::place::TensorEntry;

/// The section's JSON.
pub(crate) fn json(
    checkpoint: &Checkpoint<'_>,
    graph: &Graph,
    layout: &Layout,
    architecture: &str,
    weights: Weights,
) -> String {
    // The folder's own name, not its path: a file must not tell where it was made.
    let folder = checkpoint
        .folder
        .canonicalize()
        .unwrap_or(checkpoint.folder.clone());
    let source = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let tensor = |(index, (name, entry)): (usize, (&String, &TensorEntry))| {
        let shape = [entry.rows, entry.cols];
        // Entries that lie in experts' blobs serve many experts; `experts` has the names.
        match entry.in_expert {
            true => json!({ "index": index, "expert": true, "shape": shape }),
            false => json!({ "index": index, "name": name, "shape": shape }),
        }
    };
    let tensors = layout.names.tensors.iter().zip(&layout.tensors).enumerate();
    let tensors: Vec<Value> = tensors.map(tensor).collect();
    let experts = layout.names.experts.iter().zip(&layout.experts).enumerate();
    let experts: Vec<Value> = experts
        .map(|(index, (parts, entry))| expert(index, parts, entry, weights))
        .collect();
    let model_type = checkpoint.config.get("model_type");
    let names = json!({
        "source": source,
        "architecture": architecture,
        "model_type": model_type,
        "d_model": graph.d_model,
        "weights": weights.to_string(),
        "tool": concat!("palmtop-convert ", env!("CARGO_PKG_VERSION")),
        "tensors": tensors,
        "experts": experts,
        "notes": checkpoint.notes.iter().map(|note| without_path(note, checkpoint)).collect::<Vec<_>>(),
    });
    names.to_string()
}

/// What is in an expert; its format, where it is not that of the model.
fn expert(
    index: usize,
    parts: &[(&'static str, String)],
    entry: &ExpertEntry,
    weights: Weights,
) -> Value {
    let mut fields = Map::new();
    fields.insert("index".to_owned(), json!(index));
    for (part, name) in parts {
        fields.insert((*part).to_owned(), json!(name));
    }
    if entry.format != weights.format() {
        let format = match entry.format {
            TensorFormat::I4 => "int4",
            TensorFormat::I8 => "int8",
            TensorFormat::F16 => "f16",
            TensorFormat::F32 | TensorFormat::U8 => "f32",
        };
        fields.insert("weights".to_owned(), json!(format));
    }
    Value::Object(fields)
}

/// A note with files named inside their folder only.
fn without_path(note: &str, checkpoint: &Checkpoint<'_>) -> String {
    let folder = checkpoint.folder.join("").display().to_string();
    note.replace(&folder, "")
}
