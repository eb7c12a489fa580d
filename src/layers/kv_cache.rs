//! Keys and values of attention: f32, or int8 with a scale per head vector.

use crate::kernels::fast;
use crate::tensor::arena::{Carver, round4};

/// Shape of a cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub int8: bool,
    pub positions: usize,
    pub heads: usize,
    pub d_kv: usize,
}

impl KvShape {
    /// Bytes of a cache of this shape.
    pub const fn bytes(&self) -> u64 {
        let heads = self.positions as u64 * self.heads as u64;
        let values = heads * self.d_kv as u64;
        if self.int8 {
            2 * (heads * 4 + round4(values))
        } else {
            2 * values * 4
        }
    }
}

/// K and V of one layer.
pub(crate) struct KvCache<'a> {
    pub heads: usize,
    pub d_kv: usize,
    pub values: KvValues<'a>,
}

/// The values of a cache: `[positions, heads, d_kv]`, scales `[positions, heads]`.
pub(crate) enum KvValues<'a> {
    Float {
        k: &'a mut [f32],
        v: &'a mut [f32],
    },
    Int8 {
        k: &'a mut [i8],
        v: &'a mut [i8],
        k_scales: &'a mut [f32],
        v_scales: &'a mut [f32],
    },
}

/// Which half of a cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvSide {
    Key,
    Value,
}

impl<'a> KvCache<'a> {
    /// Carves a cache.
    pub fn carve(carver: &mut Carver<'a>, shape: KvShape) -> Self {
        let heads = shape.positions.saturating_mul(shape.heads);
        let values = heads.saturating_mul(shape.d_kv);
        Self {
            heads: shape.heads,
            d_kv: shape.d_kv,
            values: if shape.int8 {
                KvValues::Int8 {
                    k_scales: carver.take(heads),
                    v_scales: carver.take(heads),
                    k: carver.take(values),
                    v: carver.take(values),
                }
            } else {
                KvValues::Float {
                    k: carver.take(values),
                    v: carver.take(values),
                }
            },
        }
    }

    /// Stores rows of `heads · d_kv` values from `position` on.
    pub fn store(&mut self, side: KvSide, position: usize, rows: &[f32]) {
        let inner = self.heads.saturating_mul(self.d_kv);
        let start = position.saturating_mul(inner);
        match &mut self.values {
            KvValues::Float { k, v } => {
                let values = if side == KvSide::Key { k } else { v };
                if let Some(to) = values.get_mut(start..) {
                    for (to, from) in to.iter_mut().zip(rows) {
                        *to = *from;
                    }
                }
            }
            KvValues::Int8 {
                k,
                v,
                k_scales,
                v_scales,
            } => {
                let (values, scales) = if side == KvSide::Key {
                    (k, k_scales)
                } else {
                    (v, v_scales)
                };
                let first = position.saturating_mul(self.heads);
                if let (Some(to), Some(scales)) = (values.get_mut(start..), scales.get_mut(first..))
                {
                    fast::quantize_vectors(rows, self.d_kv, to, scales);
                }
            }
        }
    }
}
