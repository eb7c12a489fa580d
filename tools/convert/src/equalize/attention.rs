//! Attention: Q with K, and V with O. Where heads share keys and values, or positions rotate pairs
//! of channels, several rows have one factor.

use super::channels::{
    Pair, Sizes, balance, column_weights, row_sizes, scale_columns, scale_rows, squares,
};
use crate::graph::{Projections, Stack};

/// How the rows of Q, K and V belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub d_kv: usize,
    /// Channels j and j + d_kv / 2 of a head are rotated together.
    pub rotary: bool,
}

impl Heads {
    /// Those of a stack.
    pub fn of(stack: &Stack, rotary: bool) -> Self {
        Self {
            heads: stack.heads,
            kv_heads: stack.kv_heads,
            d_kv: stack.d_kv,
            rotary,
        }
    }

    /// Query heads that share a key head.
    fn sharing(&self) -> usize {
        (self.heads / self.kv_heads.max(1)).max(1)
    }

    /// The key channel that query channel `index` meets.
    fn key_of(&self, index: usize) -> usize {
        let d_kv = self.d_kv.max(1);
        index / d_kv / self.sharing() * d_kv + index % d_kv
    }

    /// The first of the key channels that have the factor of key channel `index`.
    fn first_of_pair(&self, index: usize) -> usize {
        let half = (self.d_kv / 2).max(1);
        if self.rotary && index % self.d_kv.max(1) >= half {
            index - half
        } else {
            index
        }
    }
}

/// Q with K and V with O. Gives the squares of the output's sizes.
pub(super) fn attention(
    projections: &mut Projections,
    queries: &[f64],
    keys: &[f64],
    heads: Heads,
) -> Sizes {
    let Projections { q, k, v, o } = projections;
    // Channels of K, those of a rotated pair as one.
    let set_of_key = |index| heads.first_of_pair(index);
    let set_of_query = |index| heads.first_of_pair(heads.key_of(index));
    let key_sizes = gather(&row_sizes(k, keys), k.rows, set_of_key);
    let query_sizes = gather(&row_sizes(q, queries), k.rows, set_of_query);
    let pairs = balance(&query_sizes, &key_sizes);
    scale_rows(
        q,
        spread(&pairs, q.rows, set_of_query).map(|pair| pair.before),
    );
    scale_rows(k, spread(&pairs, k.rows, set_of_key).map(|pair| pair.after));

    let values = row_sizes(v, keys);
    let of_heads: Sizes = (0..o.cols)
        .map(|index| values.get(heads.key_of(index)).copied().unwrap_or(0.0))
        .collect();
    let set_of_output = |index| heads.key_of(index);
    let weights = gather(&column_weights(&[o], &of_heads), v.rows, set_of_output);
    let pairs = balance(&values, &weights);
    scale_rows(v, pairs.iter().map(|pair| pair.before));
    let columns: Vec<Pair> = spread(&pairs, o.cols, set_of_output).collect();
    scale_columns(o, &columns);
    let values = row_sizes(v, keys);
    let of_heads: Sizes = (0..o.cols)
        .map(|index| values.get(heads.key_of(index)).copied().unwrap_or(0.0))
        .collect();
    squares(&row_sizes(o, &of_heads))
}

/// The size of each set of channels: the root mean square of its members' sizes. A set has the
/// index of one of its channels; other places hold 0.
fn gather(sizes: &[f64], len: usize, set_of: impl Fn(usize) -> usize) -> Sizes {
    let mut sums = vec![0.0; len];
    let mut counts = vec![0usize; len];
    for (index, size) in sizes.iter().enumerate() {
        let set = set_of(index);
        if let (Some(sum), Some(count)) = (sums.get_mut(set), counts.get_mut(set)) {
            // A set of one keeps its size to the bit.
            *sum = if *count == 0 {
                *size
            } else {
                f64::hypot(*sum, *size)
            };
            *count += 1;
        }
    }
    let mean = |(sum, count): (&f64, &usize)| match count {
        0 | 1 => *sum,
        count => sum / (*count as f64).sqrt(),
    };
    sums.iter().zip(&counts).map(mean).collect()
}

/// The factors of `len` channels, each its set's.
fn spread(
    pairs: &[Pair],
    len: usize,
    set_of: impl Fn(usize) -> usize + Clone,
) -> impl Iterator<Item = Pair> + Clone {
    (0..len).map(move |index| {
        let one = Pair {
            before: 1.0,
            after: 1.0,
        };
        pairs.get(set_of(index)).copied().unwrap_or(one)
    })
}
