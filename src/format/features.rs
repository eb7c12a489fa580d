//! What a build of the library leaves out: a file that needs it is refused.

use super::check::Checked;
use super::{FeedForwardKind, FormatError, Palm, TensorFormat};

/// Whether this build has what the file needs. All tables have been checked.
pub(super) const fn built_in(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    if !cfg!(feature = "floats") && h.numeric == 0 {
        return left_out("floats");
    }
    if !cfg!(feature = "layer-norm") && h.norm == 1 {
        return left_out("layer-norm");
    }
    if !cfg!(feature = "mixture-block") && h.block_index().is_some() {
        return left_out("mixture-block");
    }
    let mut index = 0;
    while index < h.layers.count {
        let layer = palm.layer(index);
        if matches!(layer.ff_kind, FeedForwardKind::Dense) {
            if !cfg!(feature = "dense") {
                return left_out("dense");
            }
            if !cfg!(feature = "gelu") && is_gelu(layer.activation) {
                return left_out("gelu");
            }
        }
        index += 1;
    }
    let mut index = 0;
    while index < h.experts.count {
        let expert = palm.expert(index);
        if !cfg!(feature = "gelu") && is_gelu(expert.activation) {
            return left_out("gelu");
        }
        if let Some(wi) = palm.tensor(expert.wi) {
            match wi.format {
                TensorFormat::I4 if !cfg!(feature = "int4") => return left_out("int4"),
                TensorFormat::F16 | TensorFormat::F32 if !cfg!(feature = "floats") => {
                    return left_out("floats");
                }
                _ => {}
            }
        }
        index += 1;
    }
    Ok(())
}

/// GELU in either form.
const fn is_gelu(activation: u8) -> bool {
    matches!(activation, 1 | 2)
}

const fn left_out(feature: &'static str) -> Checked {
    Err(FormatError::LeftOut { feature })
}
