//! The checks of what tensors are used for: roles, layers, experts. All in `const` context.

use super::bytes::{span, u8_at};
use super::check::{Checked, ensure, inside};
use super::{
    ALIGN, ExpertRecord, FeedForwardKind, FormatError, LAYER_RECORD_LEN, LayerRecord, MAX_COLS,
    NONE16, Palm, Policy, Section, TensorFormat,
};

/// Why a tensor does not serve: the caller adds where.
const fn serves(
    palm: &Palm<'_>,
    index: u16,
    rows: u32,
    cols: u32,
    bias_len: u32,
    expert_len: Option<u32>,
) -> bool {
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    if t.rows != rows || t.cols != cols {
        return false;
    }
    let region = match expert_len {
        Some(len) => Section {
            offset: 0,
            len,
            crc: 0,
        },
        None => palm.header().resident,
    };
    if t.in_expert != expert_len.is_some() {
        return false;
    }
    if expert_len.is_some() {
        if !inside(region, t.offset, t.matrix_bytes()) {
            return false;
        }
        if t.format.is_integer() && !inside(region, t.scales, t.scale_bytes()) {
            return false;
        }
        if matches!(t.format, TensorFormat::I8) && !inside(region, t.sums, t.rows as u64 * 4) {
            return false;
        }
    }
    t.bias == 0 || inside(region, t.bias, bias_len as u64 * 4)
}

const fn format_of(palm: &Palm<'_>, index: u16) -> Option<TensorFormat> {
    match palm.tensor(index) {
        Some(t) => Some(t.format),
        None => None,
    }
}

/// A matrix of a linear layer `[rows, cols]`, in a format that the numeric mode has.
const fn linear(palm: &Palm<'_>, index: u16, rows: u32, cols: u32) -> bool {
    let fits = match format_of(palm, index) {
        Some(TensorFormat::I8) => palm.header().numeric == 1,
        Some(TensorFormat::F32 | TensorFormat::F16) => palm.header().numeric == 0,
        _ => false,
    };
    fits && serves(palm, index, rows, cols, rows, None)
}

/// A matrix of an expert, whose formats are its own: all of them take quantized inputs, or none.
const fn of_expert(
    palm: &Palm<'_>,
    expert: &ExpertRecord,
    index: u16,
    rows: u32,
    cols: u32,
) -> bool {
    let (Some(format), Some(first)) = (format_of(palm, index), format_of(palm, expert.wi)) else {
        return false;
    };
    !matches!(format, TensorFormat::U8)
        && format.is_integer() == first.is_integer()
        && serves(palm, index, rows, cols, rows, Some(expert.len))
}

/// An f32 matrix.
const fn float(palm: &Palm<'_>, index: u16, rows: u32, cols: u32) -> bool {
    matches!(format_of(palm, index), Some(TensorFormat::F32))
        && serves(palm, index, rows, cols, rows, None)
}

/// A norm of width D: f32, one row; a layer norm has a bias.
const fn norm(palm: &Palm<'_>, index: u16) -> bool {
    let h = palm.header();
    if !matches!(format_of(palm, index), Some(TensorFormat::F32))
        || !serves(palm, index, 1, h.d_model, h.d_model, None)
    {
        return false;
    }
    match palm.tensor(index) {
        Some(t) => (t.bias != 0) == (h.norm == 1),
        None => false,
    }
}

pub(super) const fn roles(palm: &Palm<'_>) -> Checked {
    macro_rules! role {
        ($name:ident, $condition:expr) => {
            ensure!(
                $condition,
                FormatError::Header {
                    field: stringify!($name)
                }
            )
        };
    }
    let h = palm.header();
    let r = &h.roles;
    role!(embedding, linear(palm, r.embedding, h.vocab, h.d_model));
    role!(head, linear(palm, r.head, h.vocab, h.d_model));
    role!(
        encoder_positions,
        positions(palm, r.encoder_positions, h.max_source, h.encoder_d_kv)
            || (h.decoder_only && r.encoder_positions == NONE16)
    );
    role!(
        decoder_positions,
        positions(palm, r.decoder_positions, h.max_target, h.decoder_d_kv)
    );
    role!(
        encoder_embedding_norm,
        optional_norm(palm, r.encoder_embedding_norm)
    );
    role!(
        decoder_embedding_norm,
        optional_norm(palm, r.decoder_embedding_norm)
    );
    role!(
        encoder_final_norm,
        optional_norm(palm, r.encoder_final_norm)
    );
    role!(
        decoder_final_norm,
        optional_norm(palm, r.decoder_final_norm)
    );
    role!(
        encoder_distances,
        distances(palm, r.encoder_distances, h.encoder_buckets / 2)
    );
    role!(
        decoder_distances,
        distances(palm, r.decoder_distances, h.decoder_buckets)
    );
    Ok(())
}

const fn optional_norm(palm: &Palm<'_>, index: u16) -> bool {
    index == NONE16 || norm(palm, index)
}

/// Position tables need a limit, and rows for every position up to it. Rotary ones must be there.
const fn positions(palm: &Palm<'_>, index: u16, max: u32, d_kv: u16) -> bool {
    let h = palm.header();
    if index == NONE16 {
        return !h.rotary;
    }
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    let (cols, even) = if h.rotary {
        (d_kv as u32, d_kv.is_multiple_of(2))
    } else {
        (h.d_model, true)
    };
    max >= 1
        && even
        && t.rows as u64 >= max as u64 + h.position_offset as u64
        && float(palm, index, t.rows, cols)
}

/// A table of experts by token: u8, one row, a value for every id.
const fn experts_by_token(palm: &Palm<'_>, index: u16, experts: u16) -> bool {
    let h = palm.header();
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    matches!(t.format, TensorFormat::U8)
        && serves(palm, index, 1, h.vocab, 0, None)
        && all_below(palm, t.offset, t.cols, experts)
}

/// Whether `len` bytes from `offset` are all less than `limit`.
const fn all_below(palm: &Palm<'_>, offset: u32, len: u32, limit: u16) -> bool {
    let Some(mut rest) = span(palm.bytes(), offset as usize, len as usize) else {
        return false;
    };
    while let Some((value, more)) = rest.split_first() {
        if *value as u16 >= limit {
            return false;
        }
        rest = more;
    }
    true
}

/// A distance table exists exactly where there are buckets, and names only buckets there are.
const fn distances(palm: &Palm<'_>, index: u16, buckets: u16) -> bool {
    if buckets == 0 {
        return index == NONE16;
    }
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    matches!(t.format, TensorFormat::U8)
        && serves(palm, index, 1, t.cols, 0, None)
        && all_below(palm, t.offset, t.cols, buckets)
}

macro_rules! field {
    ($variant:ident, $index:expr, $name:ident, $condition:expr) => {
        ensure!(
            $condition,
            FormatError::$variant {
                index: $index,
                field: stringify!($name)
            }
        )
    };
}

/// Sizes of a stack's attention.
#[derive(Clone, Copy)]
struct Heads {
    heads: u16,
    buckets: u16,
    /// Values of all query heads together.
    inner: u32,
    /// Values of all key heads together.
    kv_inner: u32,
}

const fn heads_of(palm: &Palm<'_>, decoder: bool) -> Heads {
    let h = palm.header();
    let (heads, kv_heads, d_kv, buckets) = if decoder {
        let (heads, kv_heads) = (h.decoder_heads, h.decoder_kv_heads);
        (heads, kv_heads, h.decoder_d_kv, h.decoder_buckets)
    } else {
        let (heads, kv_heads) = (h.encoder_heads, h.encoder_kv_heads);
        (heads, kv_heads, h.encoder_d_kv, h.encoder_buckets)
    };
    Heads {
        heads,
        buckets,
        inner: heads as u32 * d_kv as u32,
        kv_inner: kv_heads as u32 * d_kv as u32,
    }
}

pub(super) const fn layer(palm: &Palm<'_>, index: u32) -> Checked {
    let h = palm.header();
    let l = palm.layer(index);
    let at = h.layers.offset as usize + index as usize * LAYER_RECORD_LEN;
    let decoder = index >= h.encoder_layers as u32;
    let cross = decoder && !h.decoder_only;
    let Heads {
        heads,
        buckets,
        inner,
        kv_inner,
    } = heads_of(palm, decoder);
    let d = h.d_model;

    field!(Layer, index, self_norm, norm(palm, l.self_norm));
    field!(Layer, index, q, linear(palm, l.q, inner, d));
    field!(Layer, index, k, linear(palm, l.k, kv_inner, d));
    field!(Layer, index, v, linear(palm, l.v, kv_inner, d));
    field!(Layer, index, o, linear(palm, l.o, d, inner));
    field!(
        Layer,
        index,
        rel_bias,
        l.rel_bias == NONE16
            || (buckets > 0 && float(palm, l.rel_bias, buckets as u32, heads as u32))
    );
    if cross {
        field!(Layer, index, cross_norm, norm(palm, l.cross_norm));
        field!(Layer, index, cross_q, linear(palm, l.cross_q, inner, d));
        field!(Layer, index, cross_k, linear(palm, l.cross_k, kv_inner, d));
        field!(Layer, index, cross_v, linear(palm, l.cross_v, kv_inner, d));
        field!(Layer, index, cross_o, linear(palm, l.cross_o, d, inner));
    }
    field!(Layer, index, ff_norm, norm(palm, l.ff_norm));
    field!(Layer, index, ff_kind, u8_at(palm.bytes(), at + 24) <= 1);
    if matches!(l.ff_kind, FeedForwardKind::Mixture) {
        return mixture(palm, index, &l, at, false);
    }
    field!(Layer, index, activation, l.activation <= 3);
    let Some(wi) = palm.tensor(l.wi) else {
        return Err(FormatError::Layer { index, field: "wi" });
    };
    field!(
        Layer,
        index,
        wi,
        wi.rows as usize <= MAX_COLS && linear(palm, l.wi, wi.rows, d)
    );
    field!(
        Layer,
        index,
        wi_linear,
        l.wi_linear == NONE16 || linear(palm, l.wi_linear, wi.rows, d)
    );
    field!(Layer, index, wo, linear(palm, l.wo, d, wi.rows));
    Ok(())
}

/// The mixture block between encoder and decoder: its own norm, router and experts.
pub(super) const fn block(palm: &Palm<'_>, index: u32) -> Checked {
    let h = palm.header();
    let l = palm.layer(index);
    let at = h.layers.offset as usize + index as usize * LAYER_RECORD_LEN;
    field!(Layer, index, ff_norm, norm(palm, l.ff_norm));
    field!(Layer, index, ff_kind, u8_at(palm.bytes(), at + 24) == 1);
    field!(Layer, index, policy, matches!(l.policy, Policy::TopK));
    field!(Layer, index, capacity, l.capacity == 0);
    field!(
        Layer,
        index,
        capacity_fraction,
        l.capacity_fraction.to_bits() == 0
    );
    mixture(palm, index, &l, at, true)
}

/// The router, the rule and the experts of a layer, or of the mixture block.
const fn mixture(
    palm: &Palm<'_>,
    index: u32,
    l: &LayerRecord,
    at: usize,
    is_block: bool,
) -> Checked {
    let h = palm.header();
    let b = palm.bytes();
    let experts = l.experts as u32;
    field!(Layer, index, experts, experts >= 1);
    let policy = Policy::from_code(u8_at(b, at + 46));
    field!(Layer, index, policy, policy.is_some());
    field!(
        Layer,
        index,
        router,
        match l.policy {
            Policy::Position => l.router == NONE16,
            Policy::Hash => experts_by_token(palm, l.router, l.experts),
            _ => float(palm, l.router, experts, h.d_model),
        }
    );
    field!(
        Layer,
        index,
        first_expert,
        l.first_expert as u64 + experts as u64 <= h.experts.count as u64
    );
    field!(
        Layer,
        index,
        top_k,
        match l.policy {
            Policy::Switch => l.top_k == 1,
            Policy::Nllb => l.top_k == 2 && experts >= 2,
            _ => l.top_k >= 1 && l.top_k as u32 <= experts,
        }
    );
    field!(Layer, index, overflow, l.overflow == 0);
    field!(Layer, index, tie, l.tie == 0);
    let flags = u8_at(b, at + 49);
    field!(
        Layer,
        index,
        flags,
        flags == 0 || (flags == 1 && matches!(l.policy, Policy::Nllb))
    );
    field!(
        Layer,
        index,
        capacity_fraction,
        l.capacity_fraction.is_finite() && l.capacity_fraction >= 0.0
    );
    field!(Layer, index, output_factor, l.output_factor.is_finite());
    // Experts that are whole layers stand in the block only, all of them or none.
    let mut expert = l.first_expert;
    let whole = palm.expert(expert).has_attention();
    field!(Layer, index, first_expert, is_block || !whole);
    while expert < l.first_expert + experts {
        field!(
            Layer,
            index,
            first_expert,
            palm.expert(expert).has_attention() == whole
        );
        expert += 1;
    }
    Ok(())
}

pub(super) const fn experts(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    let d = h.d_model;
    let mut end = h.experts_section.offset as u64;
    let mut index = 0;
    while index < h.experts.count {
        let e = palm.expert(index);
        field!(Expert, index, offset, e.offset as u64 == end);
        field!(
            Expert,
            index,
            len,
            e.len >= ALIGN as u32 && (e.len as usize).is_multiple_of(ALIGN)
        );
        end += e.len as u64;
        let inside = end <= h.experts_section.offset as u64 + h.experts_section.len as u64;
        field!(Expert, index, len, inside);
        field!(Expert, index, activation, e.activation <= 3);
        let Some(wi) = palm.tensor(e.wi) else {
            return Err(FormatError::Expert { index, field: "wi" });
        };
        field!(
            Expert,
            index,
            wi,
            wi.rows as usize <= MAX_COLS && of_expert(palm, &e, e.wi, wi.rows, d)
        );
        field!(
            Expert,
            index,
            wi_linear,
            e.wi_linear == NONE16 || of_expert(palm, &e, e.wi_linear, wi.rows, d)
        );
        field!(Expert, index, wo, of_expert(palm, &e, e.wo, d, wi.rows));
        if e.has_attention() {
            let Heads {
                inner, kv_inner, ..
            } = heads_of(palm, false);
            let [q, k, v, o] = e.attention;
            field!(Expert, index, q, of_expert(palm, &e, q, inner, d));
            field!(Expert, index, k, of_expert(palm, &e, k, kv_inner, d));
            field!(Expert, index, v, of_expert(palm, &e, v, kv_inner, d));
            field!(Expert, index, o, of_expert(palm, &e, o, d, inner));
        }
        index += 1;
    }
    ensure!(
        end == h.experts_section.offset as u64 + h.experts_section.len as u64,
        FormatError::Section { index: 3 }
    );
    Ok(())
}
