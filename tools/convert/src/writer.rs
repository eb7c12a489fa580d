//! The image, byte by byte, as `src/format/SPEC.md` has it.

use palmtop::format::{
    ALIGN, EXPERT_RECORD_LEN, HEADER_LEN, LAYER_RECORD_LEN, MAGIC, MAJOR, NONE16, NONE32, PAGE,
    TENSOR_RECORD_LEN, crc32,
};

use crate::error::ConvertError;
use crate::graph::Graph;
use crate::layout::{
    BlockEntry, ExpertEntry, FeedForwardEntry, LayerEntry, Layout, TensorEntry, pad, to_u32,
};

/// What is not weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    pub tile: u8,
    pub int8: bool,
    /// The `TOKENIZER` section; empty: none.
    pub tokenizer: Vec<u8>,
    /// The `GOLDEN` section; empty: none.
    pub golden: Vec<u8>,
    /// The `NAMES` section's JSON.
    pub names: String,
    pub plan_arena: u32,
}

/// A part of the file: offset, length, CRC.
#[derive(Clone, Copy, Default)]
struct Section {
    offset: u32,
    len: u32,
    crc: u32,
}

/// The whole file.
///
/// # Errors
/// If it does not fit in 32-bit offsets.
pub(crate) fn write(
    graph: &Graph,
    layout: &Layout,
    extras: &Extras,
) -> Result<Vec<u8>, ConvertError> {
    let tables = Tables::of(layout);
    let experts_len = layout
        .experts
        .iter()
        .map(|expert| expert.blob.len())
        .sum::<usize>();
    let mut sections = [Section::default(); 5];
    let mut body = Vec::new();

    let before: [&[u8]; 3] = [&layout.resident, &extras.tokenizer, &extras.golden];
    let last = before
        .iter()
        .rposition(|section| !section.is_empty())
        .unwrap_or(0);
    for (index, bytes) in before.into_iter().enumerate() {
        let start = tables.head_len + body.len();
        body.extend_from_slice(bytes);
        let unit = if index == last && experts_len > 0 {
            PAGE
        } else {
            ALIGN
        };
        let end = (tables.head_len + body.len()).next_multiple_of(unit);
        body.resize(end - tables.head_len, 0);
        sections[index] = section(&body, tables.head_len, start, true)?;
    }
    let start = tables.head_len + body.len();
    layout
        .experts
        .iter()
        .for_each(|expert| body.extend_from_slice(&expert.blob));
    sections[3] = section(&body, tables.head_len, start, false)?;
    let start = tables.head_len + body.len();
    body.extend_from_slice(extras.names.as_bytes());
    pad(&mut body);
    sections[4] = section(&body, tables.head_len, start, true)?;

    let total = to_u32("size of the file", tables.head_len + body.len())?;
    let mut head = header(graph, layout, extras, &tables, sections, total)?;
    let resident = sections[0].offset;
    layout
        .tensors
        .iter()
        .for_each(|tensor| tensor_record(&mut head, tensor, resident));
    layout
        .layers
        .iter()
        .for_each(|layer| layer_record(&mut head, layer));
    let mut offset = sections[3].offset;
    for expert in &layout.experts {
        expert_record(&mut head, expert, offset);
        offset += expert.blob.len() as u32;
    }
    head.resize(tables.head_len - 4, 0);
    let crc = crc32(&head);
    put32(&mut head, crc);
    head.extend_from_slice(&body);
    Ok(head)
}

fn section(
    body: &[u8],
    base: usize,
    start: usize,
    with_crc: bool,
) -> Result<Section, ConvertError> {
    let bytes = body.get(start - base..).unwrap_or_default();
    Ok(Section {
        offset: to_u32("size of the file", start)?,
        len: to_u32("size of a section", bytes.len())?,
        crc: if with_crc && !bytes.is_empty() {
            crc32(bytes)
        } else {
            0
        },
    })
}

/// Where the tables lie in the head.
struct Tables {
    tensors: usize,
    layers: usize,
    experts: usize,
    head_len: usize,
}

impl Tables {
    fn of(layout: &Layout) -> Self {
        let tensors = HEADER_LEN;
        let layers = tensors + layout.tensors.len() * TENSOR_RECORD_LEN;
        let experts = layers + layout.layers.len() * LAYER_RECORD_LEN;
        let end = experts + layout.experts.len() * EXPERT_RECORD_LEN;
        Self {
            tensors,
            layers,
            experts,
            head_len: (end + 4).next_multiple_of(ALIGN),
        }
    }
}

fn header(
    graph: &Graph,
    layout: &Layout,
    extras: &Extras,
    tables: &Tables,
    sections: [Section; 5],
    total: u32,
) -> Result<Vec<u8>, ConvertError> {
    let mut out = Vec::with_capacity(tables.head_len);
    let h = &mut out;
    h.extend_from_slice(&MAGIC);
    put16(h, MAJOR);
    put16(h, 0);
    put32(h, to_u32("size of the tables", tables.head_len)?);
    put32(h, total);
    put32(h, graph.family as u32);
    for section in sections {
        put32s(h, [section.offset, section.len, section.crc]);
    }
    for (offset, count) in [
        (tables.tensors, layout.tensors.len()),
        (tables.layers, layout.layers.len()),
        (tables.experts, layout.experts.len()),
    ] {
        put32s(
            h,
            [
                to_u32("size of the tables", offset)?,
                to_u32("entries", count)?,
            ],
        );
    }
    put32s(
        h,
        [
            to_u32("d_model", graph.d_model)?,
            to_u32("vocab_size", graph.vocab)?,
        ],
    );
    put16(h, to_u16("encoder layers", graph.encoder.layers.len())?);
    put16(h, to_u16("decoder layers", graph.decoder.layers.len())?);
    for stack in [&graph.encoder, &graph.decoder] {
        put16(h, to_u16("heads", stack.heads)?);
        put16(h, to_u16("d_kv", stack.d_kv)?);
    }
    h.extend([
        u8::from(extras.int8),
        graph.norm as u8,
        graph.norm_position as u8,
        extras.tile,
    ]);
    for value in [
        graph.norm_eps,
        graph.encoder.score_scale,
        graph.decoder.score_scale,
        graph.embed_scale,
        graph.head_scale,
    ] {
        h.extend(value.to_le_bytes());
    }
    put16(h, to_u16("buckets", graph.encoder.buckets)?);
    put16(h, to_u16("buckets", graph.decoder.buckets)?);
    put32s(
        h,
        [graph.max_source, graph.max_target, graph.position_offset],
    );
    let ids = &graph.ids;
    put32(h, ids.decoder_start);
    for id in [ids.eos, ids.pad, ids.forced_bos, ids.forced_eos] {
        put32(h, id.unwrap_or(NONE32));
    }
    put32s(
        h,
        [
            graph.default_source,
            graph.default_target,
            extras.plan_arena,
        ],
    );
    layout.roles.iter().for_each(|role| put16(h, *role));
    h.resize(HEADER_LEN, 0);
    Ok(out)
}

fn tensor_record(out: &mut Vec<u8>, tensor: &TensorEntry, resident: u32) {
    let base = if tensor.in_expert { 0 } else { resident };
    let place = |offset: Option<u32>| offset.map_or(0, |offset| offset + base);
    put32s(
        out,
        [
            tensor.offset + base,
            tensor.rows,
            tensor.cols,
            tensor.stride,
        ],
    );
    out.extend([tensor.format as u8, 0]);
    put16(out, u16::from(tensor.in_expert));
    put32s(
        out,
        [place(tensor.scales), place(tensor.sums), place(tensor.bias)],
    );
}

fn layer_record(out: &mut Vec<u8>, layer: &LayerEntry) {
    let end = out.len() + LAYER_RECORD_LEN;
    put16(out, layer.attention.norm);
    layer
        .attention
        .projections
        .iter()
        .for_each(|index| put16(out, *index));
    put16(out, layer.relative_bias);
    put16(out, layer.cross.map_or(NONE16, |cross| cross.norm));
    let cross = layer.cross.map_or([NONE16; 4], |cross| cross.projections);
    cross.iter().for_each(|index| put16(out, *index));
    put16(out, layer.ff_norm);
    match layer.feed_forward {
        FeedForwardEntry::Dense(BlockEntry {
            activation,
            wi,
            wi_linear,
            wo,
        }) => {
            out.extend([0, activation]);
            [wi, wi_linear, wo, NONE16, 0]
                .iter()
                .for_each(|value| put16(out, *value));
        }
        FeedForwardEntry::Mixture {
            router,
            experts,
            first_expert,
            capacity,
        } => {
            out.extend([1, 0]);
            let indices = [NONE16, NONE16, NONE16, router, experts];
            indices.iter().for_each(|value| put16(out, *value));
            put32s(out, [first_expert, capacity]);
            // Top-1, Switch policy, overflow gives zero, the lower index wins a tie: all 0 but k.
            put16(out, 1);
        }
    }
    out.resize(end, 0);
}

fn expert_record(out: &mut Vec<u8>, expert: &ExpertEntry, offset: u32) {
    let end = out.len() + EXPERT_RECORD_LEN;
    put32s(out, [offset, expert.blob.len() as u32, crc32(&expert.blob)]);
    let BlockEntry {
        activation,
        wi,
        wi_linear,
        wo,
    } = expert.block;
    [wi, wi_linear, wo]
        .iter()
        .for_each(|index| put16(out, *index));
    out.push(activation);
    out.resize(end, 0);
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put32s<const N: usize>(out: &mut Vec<u8>, values: [u32; N]) {
    values.into_iter().for_each(|value| put32(out, value));
}

fn to_u16(what: &str, value: usize) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| ConvertError::TooLarge {
        what: what.to_owned(),
        found: value as u64,
        most: u64::from(u16::MAX),
    })
}
