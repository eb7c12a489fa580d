//! What emulated boards must show with paged experts: a model several times as large as all of the
//! board's flash runs from storage, with the bits of a run in which everything is mapped.

use std::fs;

use anyhow::{Context, Result, bail};
use palmtop::Limits;

use crate::board_tests::{compare, input, limit};
use crate::boards::Board;
use crate::emulate::{self, Request, Weights, grouped};
use crate::host::Host;
use crate::models::{self, SWITCH, Tiny};
use crate::toolchain::Toolchain;
use crate::workspace;

/// Bytes of mapped flash of the emulated Cortex-M4F.
const FLASH: u64 = 4 << 20;

/// How many times that the model must be larger at least.
const TIMES: u64 = 4;

/// 512 experts of 35 KB: 18 MB.
const LARGE: Tiny = Tiny {
    d_model: 64,
    d_kv: 32,
    d_ff: 256,
    encoder_layers: 4,
    decoder_layers: 4,
    experts: 128,
    capacity: 64,
    ..SWITCH
};

/// A model at least four times as large as the board's flash, of which the resident part lies in
/// flash and two experts at a time in the arena.
pub fn large(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build_paged(toolchain)?;
    let path = models::switch("switch-large", &LARGE, Weights::Int8)?;
    let host = Host::open(&path)?;
    let model = host.model()?;
    let length = fs::metadata(&path)?.len();
    if length < TIMES * FLASH {
        bail!("the model has {length} bytes only");
    }
    let limits = Limits {
        source: 12,
        target: 6,
        beams: 1,
    };
    let vocab = LARGE.vocab as u32;
    let source: Vec<u32> = (0..limits.source).map(|i| (7 * i + 3) % vocab).collect();
    let wanted = host.greedy_logits(&source, limits)?;
    let slots = 2;
    let request = Request {
        inputs: vec![input(&source, Some(wanted.fed.clone()))],
        source: limits.source,
        target: limits.target,
        slots: Some(slots),
        ..Request::default()
    };
    let report = compare(board, &firmware, &path, &request, &[wanted])?;
    let arena = model.paged_arena_bytes(limits, slots as usize) as u64;
    if report.arena_bytes != arena {
        bail!("arena of {} bytes, on the host {arena}", report.arena_bytes);
    }
    let run = &report.runs[0];
    let (encoder, decoder) = (run.encoder_storage, run.decoder_storage);
    if encoder.loads == 0 || decoder.loads == 0 {
        bail!("no expert was read from storage");
    }
    Ok(format!(
        "model {} bytes, mapped {}, arena {}; {} bytes read in the encoder, {} per token, hit rate {:.2}",
        grouped(length),
        grouped(report.model_bytes),
        grouped(arena),
        grouped(encoder.bytes),
        grouped(decoder.bytes / run.tokens.len().max(1) as u64),
        decoder.hit_rate(),
    ))
}

/// A fixture with one slot and with several: the host's bits, its golden input among them.
pub fn tiny(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build_paged(toolchain)?;
    let folder = workspace::root().join("tests/fixtures/switch");
    let mut steps = 0;
    for weights in [Weights::Int8, Weights::F16] {
        let path = emulate::palm_file(&folder, weights)?;
        let host = Host::open(&path)?;
        let vocab = host.model()?.palm().header().vocab;
        let limits = Limits {
            source: 9,
            target: 7,
            beams: 1,
        };
        let source: Vec<u32> = (0..9).map(|i| (7 * i + 3) % vocab).collect();
        for slots in [1, 3] {
            let wanted = host.logits(&source, vec![0, 5, 9, 3], limits)?;
            steps += wanted.tokens.len();
            let request = Request {
                inputs: vec![input(&source, Some(wanted.fed.clone()))],
                source: limits.source,
                target: limits.target,
                slots: Some(slots),
                ..Request::default()
            };
            compare(board, &firmware, &path, &request, &[wanted])
                .with_context(|| format!("{}, {slots} slots", weights.name()))?;
        }
    }
    Ok(format!("{steps} steps equal"))
}

/// A damaged expert is an error with the expert's name, and not an output.
pub fn damaged(board: Board, toolchain: &Toolchain) -> Result<String> {
    let firmware = board.build_paged(toolchain)?;
    let folder = workspace::root().join("tests/fixtures/switch");
    let path = emulate::palm_file(&folder, Weights::Int8)?;
    let host = Host::open(&path)?;
    let experts = host.model()?.palm().header().experts_section;
    let (start, end) = (
        experts.offset as usize,
        (experts.offset + experts.len) as usize,
    );
    let good = fs::read(&path)?;
    let mut bad = good.clone();
    for byte in bad[start..end].iter_mut().step_by(64) {
        *byte ^= 4;
    }
    let cases = [
        ("damaged: expert", bad),
        ("cannot read expert", good[..start].to_vec()),
    ];
    let file = workspace::target().join(format!("palm/damaged-{}.palm", board.name()));
    let count = cases.len();
    for (wanted, bytes) in cases {
        fs::write(&file, bytes)?;
        let request = Request {
            inputs: vec![input(&[1, 2, 3], None)],
            source: 4,
            target: 4,
            slots: Some(1),
            ..Request::default()
        };
        let result = emulate::start(board, &firmware, &file, &request, limit(1));
        fs::remove_file(&file)?;
        match result {
            Ok(_) => bail!("accepted what should be refused with `{wanted}`"),
            Err(error) if format!("{error:#}").contains(wanted) => {}
            Err(error) => return Err(error.context(format!("expected `{wanted}`"))),
        }
    }
    Ok(format!("{count} cases"))
}
