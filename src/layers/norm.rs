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
}
