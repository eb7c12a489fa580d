//! Models with random weights that are made for one check: more experts than any shipped model has,
//! in the shapes that the check asks for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use palmtop::format::{FeedForwardKind, Palm, crc32};

use crate::emulate::{self, Weights};
use crate::process::{capture, host_cargo};
use crate::workspace;

#[path = "../../../tests/common/tiny.rs"]
mod tiny;

pub use tiny::{Family, Tiny};

/// A small Switch Transformer with a mixture in each second layer.
pub const SWITCH: Tiny = Tiny {
    family: Family::Switch,
    d_model: 48,
    heads: 2,
    d_kv: 24,
    d_ff: 96,
    vocab: 64,
    encoder_layers: 4,
    decoder_layers: 2,
    experts: 16,
    capacity: 20,
    text: false,
    tied_routers: false,
};

/// The .palm file of a checkpoint of these sizes, made anew when they have changed.
pub fn switch(name: &str, sizes: &Tiny, weights: Weights) -> Result<PathBuf> {
    emulate::palm_file(&checkpoint(name, sizes)?, weights)
}

/// The folder of a checkpoint of these sizes, made anew when they have changed.
pub fn checkpoint(name: &str, sizes: &Tiny) -> Result<PathBuf> {
    let folder = folder().join("checkpoints").join(name);
    let (stamp, made) = (folder.join("sizes.txt"), format!("{sizes:?}"));
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&made) {
        sizes.write(&folder);
        fs::write(&stamp, made)?;
    }
    Ok(folder)
}

/// The .palm file that the converter's example `random_experts` makes with these arguments.
pub fn random(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let file = folder().join(format!("{name}.palm"));
    let mut command = host_cargo();
    command.args(["run", "--release", "-p", "palmtop-convert"]);
    command.args(["--example", "random_experts", "--"]);
    command.args(arguments).arg("-o").arg(&file);
    let output = capture(&mut command, Duration::from_secs(900))?;
    if !output.status.success() {
        bail!("{name} cannot be made:\n{}", output.tail(20));
    }
    Ok(file)
}

/// A copy of a model whose routers are zeros, so that each token is a tie and takes the first
/// experts: what it computes does not depend on how many experts there are.
pub fn with_tied_routers(path: &Path) -> Result<PathBuf> {
    let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let palm = Palm::parse(&bytes).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let header = *palm.header();
    let mut routers = Vec::new();
    for layer in (0..header.layer_count()).map(|index| palm.layer(index)) {
        let router = palm.tensor(layer.router);
        if let (FeedForwardKind::Mixture, Some(tensor)) = (layer.ff_kind, router) {
            let start = tensor.offset as usize;
            routers.push(start..start + (tensor.rows * tensor.stride) as usize);
        }
    }
    for router in routers {
        bytes[router].fill(0);
    }
    // The CRCs of the resident part, which is the first section, and of the head.
    let (start, length) = (
        header.resident.offset as usize,
        header.resident.len as usize,
    );
    let crc = crc32(&bytes[start..start + length]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    let end = header.head_len as usize - 4;
    let crc = crc32(&bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    let tied = path.with_extension("tied.palm");
    fs::write(&tied, bytes)?;
    Ok(tied)
}

/// Where made models lie.
fn folder() -> PathBuf {
    let folder = workspace::target().join("palm");
    // If it cannot be made, writing into it says so.
    let _ = fs::create_dir_all(&folder);
    folder
}
