//! The `GOLDEN` section: an input, the ids that greedy search feeds back for it, and CRCs of all
//! states and logits, computed by the library that runs on the device.

use palmtop::format::{ALIGN, NONE32, crc32};
use palmtop::generate::argmax;
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model, Session};

use crate::error::ConvertError;
use crate::place::pad;

/// Most target positions of the golden run.
const TARGET: u32 = 8;
/// Source tokens of the golden run, where there is no text.
const SOURCE: u32 = 6;
/// The source, where there is a tokenizer that takes it.
const WORD: &str = "golden";

/// What one run of a finished image yields.
pub(crate) struct Run {
    /// The section; empty if the model's values are not all finite.
    pub golden: Vec<u8>,
    /// Arena bytes at the default limits.
    pub plan_arena: u32,
}

/// Runs an image without a golden section.
///
/// # Errors
/// If the image does not parse or run, which is a fault of the converter.
pub(crate) fn run(image: &[u8]) -> Result<Run, ConvertError> {
    let mut memory = Vec::new();
    let image = if image.as_ptr().addr().is_multiple_of(ALIGN) {
        image
    } else {
        memory.resize(image.len().div_ceil(size_of::<u128>()), 0);
        let bytes = bytes_of(&mut memory, image.len());
        bytes.copy_from_slice(image);
        bytes
    };
    let model = Model::parse(image).map_err(ConvertError::SelfCheck)?;
    let default = model.default_limits();
    let plan_arena = u32::try_from(model.arena_bytes(default)).unwrap_or(u32::MAX);

    let source = match model.palm().header().decoder_only {
        true => Vec::new(),
        false => source(&model, default.source),
    };
    let limits = Limits {
        source: source.len() as u32,
        target: default.target.min(TARGET),
        ..default
    };
    let golden = compute(model, limits, &source)
        .map_err(|error| ConvertError::SelfRun(error.to_string()))?;
    Ok(Run { golden, plan_arena })
}

/// A word's ids, or fixed ones that scatter over the vocabulary.
fn source(model: &Model<'_>, limit: u32) -> Vec<u32> {
    let mut ids = [0; 2 * WORD.len()];
    let room = ids.len().min(limit as usize);
    if let (Some(tokenizer), Some(ids)) = (Tokenizer::of(model.palm()), ids.get_mut(..room))
        && let Ok(len) = tokenizer.encode(WORD, ids)
        && let Some(ids) = ids.get(..len)
    {
        return ids.to_vec();
    }
    // Multiples of the golden ratio, modulo the vocabulary.
    let scatter = |index: u32| index.wrapping_add(1).wrapping_mul(0x9E37_79B9) >> 8;
    (0..SOURCE.min(limit))
        .map(|index| scatter(index) % model.palm().header().vocab)
        .collect()
}

/// The section (specification, section 9).
fn compute(model: Model<'_>, limits: Limits, source: &[u32]) -> Result<Vec<u8>, palmtop::Error> {
    let len = model.arena_bytes(limits);
    let mut memory = aligned(len);
    let mut session = Session::new(model, limits, bytes_of(&mut memory, len))?;
    let header = *model.palm().header();
    let mut finite = true;
    let mut bits = |values: &[f32], out: &mut Vec<u8>| {
        finite &= values.iter().all(|value| value.is_finite());
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let (mut states, mut logits) = (Vec::new(), Vec::new());
    let mut decoder = if header.decoder_only {
        session.decoder_only()?
    } else {
        let mut encoded = session.encode(source)?;
        bits(encoded.hidden(), &mut states);
        encoded.decoder()
    };
    let mut target = Vec::new();
    let mut id = header.decoder_start;
    while (target.len() as u32) < limits.target && id != NONE32 {
        target.push(id);
        let step = decoder.step(id)?;
        bits(step, &mut logits);
        id = match argmax(step) {
            _ if target.len() == 1 && header.forced_bos != NONE32 => header.forced_bos,
            id if id == header.eos => NONE32,
            id => id,
        };
    }
    if !finite {
        return Ok(Vec::new());
    }
    let counts = [source.len() as u32, target.len() as u32];
    let words = counts.into_iter().chain([crc32(&states), crc32(&logits)]);
    let words = words.chain(source.iter().copied()).chain(target);
    let mut section: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    pad(&mut section);
    Ok(section)
}

/// Memory at a multiple of 16.
fn aligned(len: usize) -> Vec<u128> {
    vec![0; len.div_ceil(size_of::<u128>())]
}

fn bytes_of(memory: &mut [u128], len: usize) -> &mut [u8] {
    bytemuck::cast_slice_mut(memory)
        .get_mut(..len)
        .unwrap_or_default()
}
