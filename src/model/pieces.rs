//! What both stacks' units of work are put together from.

use super::{Error, Model};
use crate::format::{ExpertRecord, LayerRecord};
use crate::kernels::Single;
use crate::kernels::product::Source;
use crate::layers::kv_cache::{KvCache, KvShape, KvSide};
use crate::layers::mixture::Stack;
use crate::layers::norm::NormKind;
use crate::layers::position::{RelativeBias, Rotary};
use crate::layers::tile::Tile;
use crate::storage::WeightSource;
use crate::tensor::arena::Carver;
use crate::tensor::turn::{NORM, QUANTIZE, Turn};
use crate::tensor::{NormWeights, Op, Output, Region, Table, bytes};

/// The relative bias of a layer's self-attention, if it has one.
pub(super) fn relative_bias<'m>(
    model: &Model<'m>,
    record: &LayerRecord,
    stack: Stack,
) -> Option<RelativeBias<'m>> {
    let palm = model.palm();
    palm.tensor(record.rel_bias)?;
    let (header, roles) = (palm.header(), palm.header().roles);
    let (index, right) = match stack {
        Stack::Decoder => (roles.decoder_distances, 0),
        _ => (
            roles.encoder_distances,
            usize::from(header.encoder_buckets / 2),
        ),
    };
    Some(RelativeBias {
        table: Table::resident(palm, record.rel_bias),
        distances: bytes(palm, index),
        right,
    })
}

/// The part of `caches` that belongs to `layer`.
pub(super) fn nth(caches: &mut [u8], shape: KvShape, layer: u32) -> Carver<'_> {
    let bytes = shape.bytes() as usize;
    let start = bytes.saturating_mul(layer as usize);
    Carver::new(
        caches
            .get_mut(start..start.saturating_add(bytes))
            .unwrap_or_default(),
    )
}

/// The rows from `token` on.
pub(super) fn rows_from(states: &mut [f32], token: usize, d_model: usize) -> &mut [f32] {
    states
        .get_mut(token.saturating_mul(d_model)..)
        .unwrap_or_default()
}

pub(super) fn copy(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Sets a tile's row to a state, normalized if there is a norm; `scratch` holds D values.
pub(super) fn set_row(
    tile: &mut Tile<'_>,
    row: usize,
    scratch: &mut [f32],
    state: &[f32],
    norm: Option<&(NormKind, NormWeights<'_>)>,
) {
    let one = Source {
        values: state,
        width: state.len(),
        picks: None,
    };
    if tile.set_all(row, one, 1, norm.map(|(kind, weights)| (*kind, weights))) {
        return;
    }
    let Some((kind, weights)) = norm else {
        tile.set(row, state);
        return;
    };
    if let Some(scratch) = scratch.get_mut(..state.len()) {
        copy(scratch, state);
        kind.apply(weights, scratch);
        tile.set(row, scratch);
    }
}

/// Fills a tile with those of `count` states that `turn` has.
pub(super) fn fill(
    tile: &mut Tile<'_>,
    scratch: &mut [f32],
    states: Source<'_>,
    count: usize,
    norm: Option<(NormKind, NormWeights<'_>)>,
    turn: &mut Turn,
) {
    let of_all = norm.as_ref().map(|(kind, weights)| (*kind, weights));
    let some = turn.take(count, states.width.saturating_mul(NORM + QUANTIZE), 1);
    if tile.set_all(some.start, states.after(some.start), some.len(), of_all) {
        return;
    }
    for row in some {
        let state = states.row(row).unwrap_or_default();
        set_row(tile, row, scratch, state, norm.as_ref());
    }
}

/// The states from `token` on, as rows.
pub(super) fn states_from(states: &[f32], token: usize, d_model: usize) -> Source<'_> {
    let all = Source {
        values: states,
        width: d_model,
        picks: None,
    };
    all.after(token)
}

/// Projects the `count` rows of a tile to keys and values, and stores them from `position` on; what
/// of it `turn` has.
#[inline(never)]
pub(super) fn store_keys_values(
    (region, [k, v]): (Region<'_, '_>, [u16; 2]),
    rotary: Option<Rotary<'_>>,
    (tile, count): (&Tile<'_>, usize),
    wide: &mut [f32],
    (cache, position): (&mut KvCache<'_>, usize),
    turn: &mut Turn,
) {
    let inner = cache.heads.saturating_mul(cache.d_kv);
    for (side, matrix) in [(KvSide::Key, k), (KvSide::Value, v)] {
        let mut output = Output {
            rows: wide,
            stride: inner,
            op: Op::Store,
            gated: None,
        };
        region.apply(matrix, tile.input(), count, &mut output, turn);
        let some = turn.take(count, inner.saturating_mul(QUANTIZE), 1);
        let rows = wide.get_mut(some.start.saturating_mul(inner)..some.end.saturating_mul(inner));
        let rows = rows.unwrap_or_default();
        let position = position.saturating_add(some.start);
        if let (KvSide::Key, Some(rotary)) = (side, &rotary) {
            for (row, values) in rows.chunks_exact_mut(inner.max(1)).enumerate() {
                rotary.apply(values, position.saturating_add(row));
            }
        }
        cache.store(side, position, rows);
    }
}

/// Sorts a token's choices by expert, so that outputs are added up in the same order everywhere.
pub(super) fn sort_by_expert(chosen: &mut [u16], gates: &mut [f32]) {
    for end in (1..chosen.len()).rev() {
        for at in 0..end {
            let next = at.saturating_add(1);
            let unordered = match (chosen.get(at), chosen.get(next)) {
                (Some(a), Some(b)) => a > b,
                _ => false,
            };
            if unordered {
                swap_with_next(chosen, at);
                swap_with_next(gates, at);
            }
        }
    }
}

fn swap_with_next<T>(values: &mut [T], at: usize) {
    if let Some([a, b]) = values.get_mut(at..at.saturating_add(2)) {
        core::mem::swap(a, b);
    }
}

/// The blob of expert `index`, or the error that names it; nothing while `turn` leaves some of it to
/// be read by a later one.
pub(super) fn fetch<'s>(
    source: &'s mut impl WeightSource,
    index: u32,
    expert: &ExpertRecord,
    turn: &mut Turn,
) -> Result<&'s [u8], Error> {
    let named = |reason| Error::Storage {
        expert: index,
        reason,
    };
    if turn.is_due() {
        if !source.prepare(index, expert, turn.bytes()).map_err(named)? {
            turn.stop();
            return Ok(&[]);
        }
        turn.pass();
    }
    source.expert(index, expert).map_err(named)
}

/// Adds values to values.
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = (Single(*to) + Single(*from)).0;
    }
}

/// The factor of a layer's expert outputs, if it is one that changes them.
pub(super) fn factor(record: &LayerRecord) -> Option<f32> {
    (record.output_factor != 1.0).then_some(record.output_factor)
}

/// Normalizes those of `count` rows of D values that `turn` has, in place, if there is a norm.
pub(super) fn normalize(
    rows: &mut [f32],
    d_model: usize,
    count: usize,
    norm: Option<(NormKind, NormWeights<'_>)>,
    turn: &mut Turn,
) {
    if let Some((kind, weights)) = norm {
        let some = turn.take(count, d_model.saturating_mul(NORM), 1);
        let rows =
            rows.get_mut(some.start.saturating_mul(d_model)..some.end.saturating_mul(d_model));
        kind.apply_all(&weights, rows.unwrap_or_default(), d_model);
    }
}
