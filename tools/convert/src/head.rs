//! The head of the file: header, then the tensor, layer and expert tables, then its CRC.

use palmtop::format::{
    ALIGN, EXPERT_RECORD_LEN, HEADER_LEN, LAYER_RECORD_LEN, MAGIC, MAJOR, NONE16, NONE32, Policy,
    TENSOR_RECORD_LEN, crc32,
};

use crate::error::ConvertError;
use crate::graph::{Graph, Rule, Stack};
use crate::layout::{BlockEntry, ExpertEntry, FeedForwardEntry, LayerEntry, Layout, MixtureEntry};
use crate::place::unit;
use crate::place::{TensorEntry, to_u32};
use crate::writer::Extras;

/// A part of the file: offset, length, CRC.
#[derive(Clone, Copy, Default)]
pub(crate) struct Section {
    pub offset: u32,
    pub len: u32,
    pub crc: u32,
}

/// What the head says besides what graph and layout do.
pub(crate) struct Head {
    /// Bytes of the head.
    pub len: usize,
    pub minor: u16,
    pub sections: [Section; 5],
    /// Where each expert's blob lies.
    pub experts: Vec<Section>,
    /// Bytes of the file.
    pub total: u32,
    /// Offsets of the tables.
    tables: [u32; 3],
}

impl Head {
    /// The head of a file whose parts are not yet written.
    ///
    /// # Errors
    /// If the tables are larger than the file can state.
    pub fn new(layout: &Layout) -> Result<Self, ConvertError> {
        let tensors = HEADER_LEN;
        let layers = tensors + layout.tensors.len() * TENSOR_RECORD_LEN;
        let experts = layers + layout.layers.len() * LAYER_RECORD_LEN;
        let end = experts + layout.experts.len() * EXPERT_RECORD_LEN;
        let offset = |value| to_u32("size of the tables", value);
        let units = layout.tensors.iter().map(|tensor| unit(tensor.layout));
        let unit = units.max().unwrap_or(ALIGN);
        Ok(Self {
            len: (end + 4).next_multiple_of(unit),
            minor: 0,
            sections: [Section::default(); 5],
            experts: Vec::with_capacity(layout.experts.len()),
            total: 0,
            tables: [offset(tensors)?, offset(layers)?, offset(experts)?],
        })
    }

    /// The head's bytes.
    ///
    /// # Errors
    /// If a size does not fit its field.
    pub fn bytes(
        &self,
        graph: &Graph,
        layout: &Layout,
        extras: &Extras,
    ) -> Result<Vec<u8>, ConvertError> {
        let mut out = self.header(graph, layout, extras)?;
        let [resident, ..] = self.sections;
        for tensor in &layout.tensors {
            tensor_record(&mut out, tensor, resident.offset);
        }
        for layer in &layout.layers {
            layer_record(&mut out, layer);
        }
        for (expert, place) in layout.experts.iter().zip(&self.experts) {
            expert_record(&mut out, expert, *place);
        }
        out.resize(self.len - 4, 0);
        let crc = crc32(&out);
        put32(&mut out, crc);
        Ok(out)
    }

    fn header(
        &self,
        graph: &Graph,
        layout: &Layout,
        extras: &Extras,
    ) -> Result<Vec<u8>, ConvertError> {
        let mut out = Vec::with_capacity(self.len);
        let h = &mut out;
        h.extend_from_slice(&MAGIC);
        put16(h, MAJOR);
        put16(h, self.minor);
        put32(h, to_u32("size of the tables", self.len)?);
        put32(h, self.total);
        put32(h, graph.family as u32);
        for section in self.sections {
            put32s(h, [section.offset, section.len, section.crc]);
        }
        let counts = [
            layout.tensors.len(),
            layout.layers.len(),
            layout.experts.len(),
        ];
        for (offset, count) in self.tables.into_iter().zip(counts) {
            put32s(h, [offset, to_u32("entries", count)?]);
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
        // As many key heads as heads is what version 1.0 has: 0 says so.
        let kv_heads = |stack: &Stack| {
            if stack.kv_heads == stack.heads {
                0
            } else {
                stack.kv_heads
            }
        };
        for stack in [&graph.encoder, &graph.decoder] {
            put16(h, to_u16("heads of keys and values", kv_heads(stack))?);
        }
        h.extend([
            u8::from(graph.rotary),
            u8::from(graph.parallel),
            u8::from(graph.decoder_only),
            u8::from(graph.mixture_block.is_some()),
            extras.layout as u8,
        ]);
        h.resize(HEADER_LEN, 0);
        Ok(out)
    }
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
    out.extend([tensor.format as u8, tensor.layout as u8]);
    put16(out, u16::from(tensor.in_expert));
    put32s(
        out,
        [place(tensor.scales), place(tensor.sums), place(tensor.bias)],
    );
}

fn layer_record(out: &mut Vec<u8>, layer: &LayerEntry) {
    let end = out.len() + LAYER_RECORD_LEN;
    put16(out, layer.attention.map_or(NONE16, |own| own.norm));
    let own = layer.attention.map_or([NONE16; 4], |own| own.projections);
    own.iter().for_each(|index| put16(out, *index));
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
        FeedForwardEntry::Mixture(MixtureEntry {
            router,
            experts,
            first_expert,
            rule,
        }) => {
            out.extend([1, 0]);
            let indices = [NONE16, NONE16, NONE16, router, experts];
            indices.iter().for_each(|value| put16(out, *value));
            put32(out, first_expert);
            rule_fields(out, &rule);
        }
    }
    out.resize(end, 0);
}

/// The part of a layer's entry from `capacity` on.
fn rule_fields(out: &mut Vec<u8>, rule: &Rule) {
    put32(out, rule.capacity);
    put16(out, rule.top_k);
    // Overflow gives zero, the lower index wins a tie: both 0.
    let before_dropping = rule.policy == Policy::Nllb && rule.normalize_first;
    out.extend([rule.policy as u8, 0, 0, u8::from(before_dropping)]);
    put16(out, 0);
    out.extend(rule.capacity_fraction.to_le_bytes());
    let factor = if rule.output_factor == 1.0 {
        0.0
    } else {
        rule.output_factor
    };
    out.extend(factor.to_le_bytes());
}

fn expert_record(out: &mut Vec<u8>, expert: &ExpertEntry, place: Section) {
    let end = out.len() + EXPERT_RECORD_LEN;
    put32s(out, [place.offset, place.len, place.crc]);
    let BlockEntry {
        activation,
        wi,
        wi_linear,
        wo,
    } = expert.block;
    [wi, wi_linear, wo]
        .iter()
        .for_each(|index| put16(out, *index));
    out.extend([activation, 0]);
    for index in expert.attention.iter().flatten() {
        put16(out, index + 1);
    }
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
