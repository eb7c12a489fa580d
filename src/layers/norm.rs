//! Norms by kind.

use crate::kernels::fast;
use crate::tensor::NormWeights;

/// What a model's norms compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NormKind {
    pub layer_norm: bool,
    pub eps: f32,
}

impl NormKind {
    /// Normalizes a row of D values in place.
    pub fn apply(self, weights: &NormWeights<'_>, row: &mut [f32]) {
        if self.layer_norm && cfg!(feature = "layer-norm") {
            fast::layer_norm(row, weights.gain, weights.bias, self.eps);
        } else {
            fast::rms_norm(row, weights.gain, self.eps);
        }
    }

    /// Normalizes rows of `width` values in place.
    pub fn apply_all(self, weights: &NormWeights<'_>, rows: &mut [f32], width: usize) {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        {
            let norm = crate::kernels::x86::Norm {
                gain: weights.gain,
                bias: self.layer_norm.then_some(weights.bias),
                eps: self.eps,
            };
            if crate::kernels::x86::normalize(rows, width, norm) {
                return;
            }
        }
        for row in rows.chunks_exact_mut(width.max(1)) {
            self.apply(weights, row);
        }
    }
}
