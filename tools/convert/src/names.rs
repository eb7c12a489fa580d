//! The `NAMES` section: where the file came from and how its tensors are called. For people and
//! host tools; a device never reads it.

use serde_json::{Value, json};

use crate::Weights;
use crate::checkpoint::Checkpoint;
use crate::graph::Graph;
use crate::layout::{Layout, TensorEntry};

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
    let experts: Vec<Value> = layout
        .names
        .experts
        .iter()
        .enumerate()
        .map(|(index, [wi, wi_linear, wo])| match wi_linear.is_empty() {
            true => json!({ "index": index, "wi": wi, "wo": wo }),
            false => json!({ "index": index, "wi": wi, "wi_linear": wi_linear, "wo": wo }),
        })
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

/// A note with files named inside their folder only.
fn without_path(note: &str, checkpoint: &Checkpoint<'_>) -> String {
    let folder = checkpoint.folder.join("").display().to_string();
    note.replace(&folder, "")
}
