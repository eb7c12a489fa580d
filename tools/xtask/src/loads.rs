//! How often an encoding loads each byte of each expert, counted in the emulator and not by our own
//! code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use palmtop::format::FeedForwardKind;
use palmtop::{Limits, Model, Route, RouteTrace, Stack};

use crate::board_tests;
use crate::boards::Board;
use crate::emulate::{self, Request, Weights, grouped};
use crate::host::Host;
use crate::models::{self, SWITCH};
use crate::toolchain::Toolchain;
use crate::watch::{self, Watched};

/// Tokens that one pass over an expert's weights serves.
const BATCH: u32 = 16;

/// Tokens of the source.
const TOKENS: u32 = 64;

/// The models that are watched: one expert per token and two, every format of experts.
pub fn models() -> Result<Vec<(&'static str, PathBuf)>> {
    let switch = |weights| models::switch("switch-loads", &SWITCH, weights);
    let two = |name, expert_weights| {
        let sizes = ["--d-model", "48", "--d-ff", "96", "--vocab", "64"];
        let routes = ["--experts", "24", "--top-k", "2", "--layers", "4"];
        let weights = ["--expert-weights", expert_weights];
        models::random(name, &[&sizes[..], &routes, &weights].concat())
    };
    Ok(vec![
        ("one of 16, int8", switch(Weights::Int8)?),
        ("one of 16, int8 as lanes", {
            let folder = models::checkpoint("switch-loads", &SWITCH)?;
            emulate::palm_file_for(&folder, Weights::Int8, Some(Board::M4f.layout_target()))?
        }),
        ("one of 16, f16", switch(Weights::F16)?),
        ("one of 16, f32", switch(Weights::F32)?),
        ("two of 24, int8", two("two-int8", "int8")?),
        ("two of 24, int4", two("two-int4", "int4")?),
    ])
}

/// Counts the tokens that each expert of the encoder takes.
struct Tokens<'m> {
    model: Model<'m>,
    counts: Vec<u32>,
}

impl RouteTrace for Tokens<'_> {
    fn placed(&mut self, route: &Route<'_>, kept: bool, _gate: f32) {
        if route.stack == Stack::Encoder && kept {
            let layer = self.model.palm().layer(route.layer as u32);
            self.counts[layer.first_expert as usize + route.expert] += 1;
        }
    }
}

/// An encoding over 64 tokens: a chosen expert's bytes are loaded at most ⌈tokens / 16⌉ times, and
/// those of an expert that no token chose never.
pub fn encoder(board: Board, toolchain: &Toolchain, models: &[(&str, PathBuf)]) -> Result<String> {
    let firmware = board.build(toolchain)?;
    let mut notes = Vec::new();
    for (name, path) in models {
        let note = encoder_of(board, &firmware, path).with_context(|| (*name).to_owned())?;
        notes.push(format!("\n    {name}: {note}"));
    }
    Ok(notes.concat())
}

fn encoder_of(board: Board, firmware: &Path, path: &Path) -> Result<String> {
    let host = Host::open(path)?;
    let model = host.model()?;
    let palm = *model.palm();
    let limits = Limits {
        source: TOKENS,
        target: 1,
        beams: 1,
    };
    let vocab = palm.header().vocab;
    let source: Vec<u32> = (0..TOKENS).map(|i| (i * i + 3 * i + 1) % vocab).collect();
    let counts = vec![0; palm.header().experts.count as usize];
    let mut tokens = Tokens { model, counts };
    host.encode(&source, limits, &mut tokens)?;
    let request = Request {
        inputs: vec![board_tests::input(&source, Some(vec![0]))],
        source: limits.source,
        target: limits.target,
        ..Request::default()
    };
    let phases = watch::run(board, firmware, path, &request, &Watched::Experts)?;
    let encoding = phases
        .get(watch::ENCODING)
        .context("no encoding was seen")?;
    let (mut chosen, mut passes, mut read, mut allowed) = (0, 0, 0, 0);
    for (index, (loads, tokens)) in encoding.loads.iter().zip(&tokens.counts).enumerate() {
        let length = u64::from(palm.expert(index as u32).len);
        let most = tokens.div_ceil(BATCH);
        if loads.most > most {
            bail!(
                "a byte of expert {index} is loaded {} times for {tokens} tokens, {most} are allowed; \
                 {} bytes of {length} in all",
                loads.most,
                loads.bytes
            );
        }
        // A counter that is blind would find nothing wrong.
        if *tokens > 0 && loads.bytes < u64::from(most) * length / 2 {
            bail!("only {} bytes of expert {index} were seen", loads.bytes);
        }
        chosen += u32::from(*tokens > 0);
        passes += most;
        read += loads.bytes;
        allowed += u64::from(most) * length;
    }
    let layers = (0..palm.header().encoder_layers.into()).map(|layer| palm.layer(layer));
    let sparse = layers.filter(|layer| layer.ff_kind == FeedForwardKind::Mixture);
    let all: u32 = sparse.map(|layer| u32::from(layer.experts)).sum();
    // Some expert must be left out, and some must have more tokens than one pass serves.
    if chosen == 0 || chosen == all || passes == chosen {
        bail!("{chosen} of {all} experts in {passes} passes: that shows too little");
    }
    Ok(format!(
        "{chosen} of {all} experts chosen, {passes} passes, {} bytes loaded of {} allowed",
        grouped(read),
        grouped(allowed)
    ))
}
