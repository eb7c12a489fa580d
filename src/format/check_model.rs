//! The checks of what tensors are used for: roles, layers, experts. All in `const` context.

use super::bytes::{span, u8_at};
use super::check::{Checked, ensure, inside};
use super::{
    ALIGN, FeedForwardKind, FormatError, LAYER_RECORD_LEN, MAX_COLS, NONE16, Palm, Section,
    TensorFormat,
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
        if matches!(t.format, TensorFormat::I8)
            && !(inside(region, t.scales, t.rows as u64 * 4)
                && inside(region, t.sums, t.rows as u64 * 4))
        {
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
const fn linear(palm: &Palm<'_>, index: u16, rows: u32, cols: u32, expert: Option<u32>) -> bool {
    let fits = match format_of(palm, index) {
        Some(TensorFormat::I8) => palm.header().numeric == 1,
        Some(TensorFormat::F32 | TensorFormat::F16) => palm.header().numeric == 0,
        _ => false,
    };
    fits && serves(palm, index, rows, cols, rows, expert)
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
    role!(
        embedding,
        linear(palm, r.embedding, h.vocab, h.d_model, None)
    );
    role!(head, linear(palm, r.head, h.vocab, h.d_model, None));
    role!(
        encoder_positions,
        positions(palm, r.encoder_positions, h.max_source)
    );
    role!(
        decoder_positions,
        positions(palm, r.decoder_positions, h.max_target)
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

/// Learned positions need a limit, and rows for every position up to it.
const fn positions(palm: &Palm<'_>, index: u16, max: u32) -> bool {
    if index == NONE16 {
        return true;
    }
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    let h = palm.header();
    max >= 1
        && t.rows as u64 >= max as u64 + h.position_offset as u64
        && float(palm, index, t.rows, h.d_model)
}

/// A distance table exists exactly where there are buckets, and names only buckets there are.
const fn distances(palm: &Palm<'_>, index: u16, buckets: u16) -> bool {
    if buckets == 0 {
        return index == NONE16;
    }
    let Some(t) = palm.tensor(index) else {
        return false;
    };
    if !matches!(t.format, TensorFormat::U8) || !serves(palm, index, 1, t.cols, 0, None) {
        return false;
    }
    let Some(mut rest) = span(palm.bytes(), t.offset as usize, t.cols as usize) else {
        return false;
    };
    while let Some((bucket, more)) = rest.split_first() {
        if *bucket as u16 >= buckets {
            return false;
        }
        rest = more;
    }
    true
}

pub(super) const fn layer(palm: &Palm<'_>, index: u32) -> Checked {
    macro_rules! field {
        ($name:ident, $condition:expr) => {
            ensure!(
                $condition,
                FormatError::Layer {
                    index,
                    field: stringify!($name)
                }
            )
        };
    }
    let h = palm.header();
    let l = palm.layer(index);
    let at = h.layers.offset as usize + index as usize * LAYER_RECORD_LEN;
    let decoder = index >= h.encoder_layers as u32;
    let (heads, d_kv, buckets) = if decoder {
        (h.decoder_heads, h.decoder_d_kv, h.decoder_buckets)
    } else {
        (h.encoder_heads, h.encoder_d_kv, h.encoder_buckets)
    };
    let (d, inner) = (h.d_model, heads as u32 * d_kv as u32);

    field!(self_norm, norm(palm, l.self_norm));
    field!(q, linear(palm, l.q, inner, d, None));
    field!(k, linear(palm, l.k, inner, d, None));
    field!(v, linear(palm, l.v, inner, d, None));
    field!(o, linear(palm, l.o, d, inner, None));
    field!(
        rel_bias,
        l.rel_bias == NONE16
            || (buckets > 0 && float(palm, l.rel_bias, buckets as u32, heads as u32))
    );
    if decoder {
        field!(cross_norm, norm(palm, l.cross_norm));
        field!(cross_q, linear(palm, l.cross_q, inner, d, None));
        field!(cross_k, linear(palm, l.cross_k, inner, d, None));
        field!(cross_v, linear(palm, l.cross_v, inner, d, None));
        field!(cross_o, linear(palm, l.cross_o, d, inner, None));
    }
    field!(ff_norm, norm(palm, l.ff_norm));
    field!(ff_kind, u8_at(palm.bytes(), at + 24) <= 1);
    if matches!(l.ff_kind, FeedForwardKind::Dense) {
        field!(activation, l.activation <= 3);
        let Some(wi) = palm.tensor(l.wi) else {
            return Err(FormatError::Layer { index, field: "wi" });
        };
        field!(
            wi,
            wi.rows as usize <= MAX_COLS && linear(palm, l.wi, wi.rows, d, None)
        );
        field!(
            wi_linear,
            l.wi_linear == NONE16 || linear(palm, l.wi_linear, wi.rows, d, None)
        );
        field!(wo, linear(palm, l.wo, d, wi.rows, None));
    } else {
        field!(experts, l.experts >= 1);
        field!(router, float(palm, l.router, l.experts as u32, d));
        field!(
            first_expert,
            l.first_expert as u64 + l.experts as u64 <= h.experts.count as u64
        );
        field!(top_k, l.top_k == 1);
        field!(policy, l.policy == 0);
        field!(overflow, l.overflow == 0);
        field!(tie, l.tie == 0);
    }
    Ok(())
}

pub(super) const fn experts(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    let mut end = h.experts_section.offset as u64;
    let mut index = 0;
    while index < h.experts.count {
        macro_rules! field {
            ($name:ident, $condition:expr) => {
                ensure!(
                    $condition,
                    FormatError::Expert {
                        index,
                        field: stringify!($name)
                    }
                )
            };
        }
        let e = palm.expert(index);
        field!(offset, e.offset as u64 == end);
        field!(
            len,
            e.len >= ALIGN as u32 && (e.len as usize).is_multiple_of(ALIGN)
        );
        end += e.len as u64;
        let inside = end <= h.experts_section.offset as u64 + h.experts_section.len as u64;
        field!(len, inside);
        field!(activation, e.activation <= 3);
        let Some(wi) = palm.tensor(e.wi) else {
            return Err(FormatError::Expert { index, field: "wi" });
        };
        let d = h.d_model;
        field!(
            wi,
            wi.rows as usize <= MAX_COLS && linear(palm, e.wi, wi.rows, d, Some(e.len))
        );
        field!(
            wi_linear,
            e.wi_linear == NONE16 || linear(palm, e.wi_linear, wi.rows, d, Some(e.len))
        );
        field!(wo, linear(palm, e.wo, d, wi.rows, Some(e.len)));
        index += 1;
    }
    ensure!(
        end == h.experts_section.offset as u64 + h.experts_section.len as u64,
        FormatError::Section { index: 3 }
    );
    Ok(())
}
