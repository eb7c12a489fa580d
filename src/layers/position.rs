//! Relative-position biases (Raffel et al. 2020, section 2.1; `T5Attention.compute_bias`).

use crate::tensor::Matrix;

/// The bias of a stack's self-attention.
#[derive(Clone, Copy)]
pub(crate) struct RelativeBias<'m> {
    /// f32 `[buckets, heads]`.
    pub table: Matrix<'m>,
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
