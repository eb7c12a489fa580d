//! The image, byte by byte, as `src/format/SPEC.md` has it. The experts' blobs are asked for one
//! after another, so that they need not all be in memory; the head, which has their CRCs, is
//! written last.

use std::io::{Seek, SeekFrom, Write};

use palmtop::format::{ALIGN, PAGE, Palm, TensorFormat};

use crate::error::ConvertError;
use palmtop::kernels;

use crate::graph::Graph;
use crate::head::{Head, Section};
use crate::layout::{FeedForwardEntry, Layout};
use crate::place::{pad, to_u32};

/// What is not weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    pub tile: u8,
    pub int8: bool,
    /// Order of the bytes of int8 matrices.
    pub layout: kernels::Layout,
    /// The `TOKENIZER` section; empty: none.
    pub tokenizer: Vec<u8>,
    /// The `GOLDEN` section; empty: none.
    pub golden: Vec<u8>,
    /// The `NAMES` section's JSON.
    pub names: String,
    pub plan_arena: u32,
}

/// Gives the blob of the expert with this index.
pub(crate) type Blobs<'b> = &'b mut dyn FnMut(usize) -> Result<Vec<u8>, ConvertError>;

/// An expert's blob from a file that was written before.
pub(crate) fn blob_of(palm: &Palm<'_>, index: usize) -> Vec<u8> {
    let record = palm.expert(index as u32);
    let (start, len) = (record.offset as usize, record.len as usize);
    let blob = palm.bytes().get(start..start.saturating_add(len));
    blob.unwrap_or_default().to_vec()
}

/// The whole file in memory.
///
/// # Errors
/// If it does not fit in 32-bit offsets, or a blob cannot be made.
pub(crate) fn to_vec(
    graph: &Graph,
    layout: &Layout,
    extras: &Extras,
    blobs: Blobs<'_>,
) -> Result<Vec<u8>, ConvertError> {
    let experts: u64 = layout.experts.iter().map(|e| u64::from(e.len)).sum();
    let about = layout.resident.len() as u64 + experts + (1 << 16);
    let mut out = std::io::Cursor::new(Vec::with_capacity(usize::try_from(about).unwrap_or(0)));
    write(&mut out, "the image", graph, layout, extras, blobs)?;
    Ok(out.into_inner())
}

/// The whole file, to `out`, which `name` stands for in messages.
///
/// # Errors
/// If it does not fit in 32-bit offsets, a blob cannot be made, or `out` cannot be written.
pub(crate) fn write<W: Write + Seek>(
    out: &mut W,
    name: &str,
    graph: &Graph,
    layout: &Layout,
    extras: &Extras,
    blobs: Blobs<'_>,
) -> Result<(), ConvertError> {
    let failed = |source| ConvertError::Write {
        file: name.to_owned(),
        source,
    };
    let mut head = Head::new(layout)?;
    head.minor = minor(graph, layout, extras);
    out.write_all(&vec![0; head.len]).map_err(failed)?;
    let mut end = head.len;
    let section = |end: &mut usize, bytes: &[u8]| -> Result<Section, ConvertError> {
        let offset = to_u32("size of the file", *end)?;
        *end = end.saturating_add(bytes.len());
        to_u32("size of the file", *end)?;
        Ok(Section {
            offset,
            len: bytes.len() as u32,
            crc: if bytes.is_empty() {
                0
            } else {
                crc32fast::hash(bytes)
            },
        })
    };

    let before: [&[u8]; 3] = [&layout.resident, &extras.tokenizer, &extras.golden];
    let last = before.iter().rposition(|bytes| !bytes.is_empty());
    for (index, bytes) in before.into_iter().enumerate() {
        let on_page = Some(index) == last && !layout.experts.is_empty();
        let unit = if on_page { PAGE } else { ALIGN };
        let len = (end + bytes.len()).next_multiple_of(unit) - end;
        let mut bytes = std::borrow::Cow::Borrowed(bytes);
        if len > bytes.len() {
            bytes.to_mut().resize(len, 0);
        }
        head.sections[index] = section(&mut end, &bytes)?;
        out.write_all(&bytes).map_err(failed)?;
    }
    let start = to_u32("size of the file", end)?;
    for (index, entry) in layout.experts.iter().enumerate() {
        let blob = blobs(index)?;
        if blob.len() != entry.len as usize {
            let what = format!("expert {index} has {} bytes, not {}", blob.len(), entry.len);
            return Err(ConvertError::SelfRun(what));
        }
        let place = section(&mut end, &blob)?;
        head.experts.push(place);
        out.write_all(&blob).map_err(failed)?;
    }
    head.sections[3] = Section {
        offset: start,
        len: to_u32("size of the file", end)? - start,
        crc: 0,
    };
    let mut names = extras.names.clone().into_bytes();
    pad(&mut names);
    head.sections[4] = section(&mut end, &names)?;
    out.write_all(&names).map_err(failed)?;

    head.total = to_u32("size of the file", end)?;
    let bytes = head.bytes(graph, layout, extras)?;
    out.seek(SeekFrom::Start(0)).map_err(failed)?;
    out.write_all(&bytes).map_err(failed)?;
    out.flush().map_err(failed)
}

/// The least minor version that has all the file uses.
fn minor(graph: &Graph, layout: &Layout, extras: &Extras) -> u16 {
    let shared = |stack: &crate::graph::Stack| stack.kv_heads != stack.heads;
    let model = graph.rotary
        || graph.parallel
        || graph.decoder_only
        || graph.mixture_block.is_some()
        || shared(&graph.encoder)
        || shared(&graph.decoder);
    let rules = layout.layers.iter().any(|layer| match layer.feed_forward {
        FeedForwardEntry::Mixture(entry) => !entry.rule.is_plain(),
        FeedForwardEntry::Dense(_) => false,
    });
    let experts = layout.experts.iter().any(|expert| {
        expert.format == TensorFormat::I4
            || expert.format.is_integer() != extras.int8
            || expert.attention.is_some()
    });
    if extras.layout != kernels::Layout::Rows {
        return 2;
    }
    u16::from(model || rules || experts)
}
