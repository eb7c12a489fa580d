//! Positions in attention: relative-position biases (Raffel et al. 2020, section 2.1;
//! `T5Attention.compute_bias`) and rotary embeddings (Su et al. 2021; `apply_rotary_pos_emb`).

use crate::format::{NONE16, Palm};
use crate::kernels::Single;
use crate::tensor::Table;

/// Rotates the vectors of q and k by angles that grow with the position.
#[derive(Clone, Copy)]
pub(crate) struct Rotary<'m> {
    /// `[rows, d_kv]`: cosines, then sines.
    table: Table<'m>,
    offset: usize,
}

impl<'m> Rotary<'m> {
    /// The rotation by table `index`, if the model has rotary positions.
    pub fn of(palm: &Palm<'m>, index: u16) -> Option<Self> {
        let header = palm.header();
        (header.rotary && index != NONE16).then(|| Self {
            table: Table::resident(palm, index),
            offset: header.position_offset as usize,
        })
    }

    /// Rotates each vector of `row` at `position`: value j with value j + d_kv / 2.
    pub fn apply(&self, row: &mut [f32], position: usize) {
        let angles = self.table.row(position.saturating_add(self.offset));
        let half = angles.len() / 2;
        let (cosines, sines) = angles.split_at_checked(half).unwrap_or_default();
        for vector in row.chunks_exact_mut(angles.len().max(1)) {
            let (low, high) = vector.split_at_mut_checked(half).unwrap_or_default();
            let pairs = low.iter_mut().zip(high);
            for ((x, y), (cos, sin)) in pairs.zip(cosines.iter().zip(sines)) {
                let [a, b, cos, sin] = [*x, *y, *cos, *sin].map(Single);
                *x = (a * cos - b * sin).0;
                *y = (b * cos + a * sin).0;
            }
        }
    }
}

/// The bias of a stack's self-attention.
#[derive(Clone, Copy)]
pub(crate) struct RelativeBias<'m> {
    /// `[buckets, heads]`.
    pub table: Table<'m>,
    /// Bucket of each distance.
    pub distances: &'m [u8],
    /// What keys to the right of the query add; 0 where attention looks back only.
    pub right: usize,
}

impl RelativeBias<'_> {
    /// What `head`'s score of the key at `key` gets from the query at `query`.
    pub fn at(&self, query: usize, key: usize, head: usize) -> f32 {
        let distance = query.abs_diff(key);
        let bucket = match self.distances.get(distance).or(self.distances.last()) {
            Some(bucket) => usize::from(*bucket),
            None => 0,
        };
        let bucket = if key > query {
            bucket + self.right
        } else {
            bucket
        };
        self.table.row(bucket).get(head).copied().unwrap_or(0.0)
    }
}
