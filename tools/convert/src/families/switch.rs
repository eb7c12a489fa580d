//! Switch Transformers: T5's stacks with a mixture of experts in some layers.
//! (`transformers/models/switch_transformers/`, 4.56.2.)

use palmtop::format::{MAX_COLS, Policy};
use serde_json::json;

use super::t5::{self, Parts, Shape, Side};
use super::{Limits, activation, linear, widths};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::graph::{Expert, Family, FeedForward, Graph, Mixture, Router, Rule};

/// The graph of a Switch Transformer.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    refuse_other_routers(&config)?;
    let (d_model, vocab) = widths(&config, 768, 32_128)?;
    let layers = config.size("num_layers", 12, usize::from(u16::MAX))?;
    let decoder_layers = match config.get("num_decoder_layers") {
        // Absent, the class's own 12 stands; null means as many as the encoder has.
        None if !config.has("num_decoder_layers") => 12,
        _ => config.size("num_decoder_layers", layers, usize::from(u16::MAX))?,
    };
    let encoder_step = sparse_step(&config, "encoder", layers)?;
    let decoder_step = sparse_step(&config, "decoder", decoder_layers)?;
    let name = config.text("dense_act_fn")?.unwrap_or("relu");
    let activation = activation(&config, "dense_act_fn", name)?;
    let experts = config.size("num_experts", 8, usize::from(u16::MAX))?;
    let router_bias = config.flag("router_bias", false)?;
    let capacity = config.size("expert_capacity", 64, u32::MAX as usize)? as u32;
    let shape = Shape {
        d_ff: config.size("d_ff", 2048, MAX_COLS)?,
        ..t5::attention_shape(&config, d_model, 12)?
    };

    let dims = (d_model, shape.d_ff);
    let feed_forward = |checkpoint: &mut Checkpoint<'_>, index: usize, side: Side, name: &str| {
        let step = match side {
            Side::Encoder => encoder_step,
            Side::Decoder => decoder_step,
        };
        let name = format!("{name}.mlp");
        if !is_sparse(index, step) {
            let block = t5::block(checkpoint, &name, dims, activation, false)?;
            return Ok(FeedForward::Dense(block));
        }
        let router = format!("{name}.router.classifier");
        let router = linear(checkpoint, &router, (experts, d_model), router_bias)?;
        let mut expert = |expert: usize| {
            let name = format!("{name}.experts.expert_{expert}");
            t5::block(checkpoint, &name, dims, activation, false)
        };
        let experts = (0..experts).map(|index| expert(index).map(Expert::from));
        Ok(FeedForward::Mixture(Mixture {
            router: Router::Learned(router),
            rule: Rule {
                capacity,
                ..Rule::new(Policy::Switch, 1)
            },
            experts: experts.collect::<Result<_, _>>()?,
        }))
    };
    let tied = config.flag("tie_word_embeddings", true)?;
    let parts = Parts {
        layers,
        decoder_layers,
        vocab,
        tied,
        eps_field: "layer_norm_epsilon",
    };
    t5::assemble(
        checkpoint,
        limits,
        Family::Switch,
        &shape,
        &parts,
        &feed_forward,
    )
}

/// Every so many layers one is sparse: as the configuration class computes it, unless the
/// configuration states the step itself (saved ones do).
fn sparse_step(config: &Config, side: &str, layers: usize) -> Result<usize, ConvertError> {
    let sparse = config.count(&format!("num_sparse_{side}_layers"), 3)?;
    let step = layers.checked_div(sparse).unwrap_or(layers);
    config.count(&format!("{side}_sparse_step"), step)
}

/// `modeling_switch_transformers.py`, line 877.
fn is_sparse(index: usize, step: usize) -> bool {
    step == 1 || (step > 0 && index % step == 1)
}

fn refuse_other_routers(config: &Config) -> Result<(), ConvertError> {
    let f32_only = "only routers in float32 are supported";
    config.must_be("router_dtype", &json!("float32"), f32_only)?;
    let top1 = "only `tokens_masked` (top-1) routing is supported";
    config.must_be("router_type", &json!("tokens_masked"), top1)
}

#[cfg(test)]
mod tests {
    use super::is_sparse;

    #[test]
    fn sparse_layers_are_those_of_transformers() {
        let sparse = |step, layers| {
            (0..layers)
                .filter(|i| is_sparse(*i, step))
                .collect::<Vec<_>>()
        };
        assert_eq!(sparse(2, 6), [1, 3, 5]);
        assert_eq!(sparse(1, 3), [0, 1, 2]);
        assert_eq!(sparse(3, 7), [1, 4]);
        assert_eq!(sparse(0, 3), [] as [usize; 0]);
        // num_sparse_layers = 0 makes the step the depth, which still makes layer 1 sparse.
        assert_eq!(sparse(4, 4), [1]);
    }
}
