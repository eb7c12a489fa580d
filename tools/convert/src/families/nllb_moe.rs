//! NLLB-MoE: M2M-100's stacks with a mixture of experts in some layers, two experts a token.
//! (`transformers/models/nllb_moe/modeling_nllb_moe.py`, 4.56.2.)

use palmtop::format::{MAX_ROWS, Policy};
use serde_json::json;

use super::fairseq;
use super::m2m100::{self, LayerPlace, Names};
use super::{Limits, linear};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::graph::{Expert, Family, FeedForward, Graph, Mixture, Router, Rule};

/// The graph of an NLLB-MoE.
pub(super) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<Graph, ConvertError> {
    let config = checkpoint.config.clone();
    refuse_other_routers(&config)?;
    let mut rule = rule(&config)?;
    let experts = config.size("num_experts", 128, usize::from(u16::MAX))?;
    if experts < 2 {
        return Err(config.refuse(
            "num_experts",
            "at least 2 are wanted: a token has two experts",
        ));
    }
    let router_bias = config.flag("router_bias", false)?;
    let steps = [
        ("encoder", config.count("encoder_sparse_step", 4)?),
        ("decoder", config.count("decoder_sparse_step", 4)?),
    ];
    rule.capacity_fraction = fraction(checkpoint, rule.capacity_fraction)?;
    let names = Names {
        family: Family::NllbMoe,
        cross: ["cross_attention", "cross_attention_layer_norm"],
        ff_norm: "ff_layer_norm",
    };
    m2m100::assemble(checkpoint, limits, &names, &|checkpoint, place| {
        let name = format!("{}.ffn", place.name);
        let step = steps.iter().find(|(side, _)| *side == place.side);
        if !is_sparse(place.index, step.map_or(0, |(_, step)| *step)) {
            let block = fairseq::block(checkpoint, &name, place.dims, place.activation)?;
            return Ok(FeedForward::Dense(block));
        }
        let mixture = mixture(checkpoint, &name, place, experts, router_bias)?;
        Ok(FeedForward::Mixture(Mixture { rule, ..mixture }))
    })
}

fn mixture(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    place: &LayerPlace<'_>,
    experts: usize,
    router_bias: bool,
) -> Result<Mixture, ConvertError> {
    let (_, d_model) = place.dims;
    let router = format!("{name}.router.classifier");
    let router = linear(checkpoint, &router, (experts, d_model), router_bias)?;
    let mut expert = |index: usize| {
        let name = format!("{name}.experts.expert_{index}");
        fairseq::block(checkpoint, &name, place.dims, place.activation).map(Expert::from)
    };
    Ok(Mixture {
        router: Router::Learned(router),
        rule: Rule::new(Policy::Nllb, 2),
        experts: (0..experts).map(&mut expert).collect::<Result<_, _>>()?,
    })
}

/// Lines 910 and 1113.
fn is_sparse(index: usize, step: usize) -> bool {
    step > 0 && (index + 1).is_multiple_of(step)
}

fn refuse_other_routers(config: &Config) -> Result<(), ConvertError> {
    let all =
        "only `all` is supported: `sampling` and `random` draw the second expert at inference";
    config.must_be("second_expert_policy", &json!("all"), all)?;
    let order = "only false is supported: tokens queue for experts in their own order";
    config.must_be("batch_prioritized_routing", &json!(false), order)?;
    let f32_only = "only routers in float32 are supported";
    config.must_be("router_dtype", &json!("float32"), f32_only)
}

/// Lines 268-274, 339-351 and 465-470.
fn rule(config: &Config) -> Result<Rule, ConvertError> {
    const FRACTION: &str = "moe_eval_capacity_token_fraction";
    const DROPOUT: &str = "moe_token_dropout";
    let fraction = config.number(FRACTION, 1.0)?;
    let capacity_fraction = fraction.max(0.0) as f32;
    if !capacity_fraction.is_finite() || (fraction > 0.0 && capacity_fraction == 0.0) {
        return Err(config.refuse(FRACTION, "a share of the tokens is wanted, as 0.5"));
    }
    let capacity = match fraction > 0.0 {
        true => 0,
        // Null makes transformers take the first call's token count for all calls.
        false if config.has("expert_capacity") && config.get("expert_capacity").is_none() => {
            let remedy = format!("a whole number is wanted where `{FRACTION}` is not above 0");
            return Err(config.refuse("expert_capacity", remedy));
        }
        false => config.size("expert_capacity", 64, u32::MAX as usize)? as u32,
    };
    // transformers multiplies in f32 by the f64 difference, rounded.
    let dropout = config.number(DROPOUT, 0.2)?;
    if !(0.0..1.0).contains(&dropout) || (1.0 - dropout) as f32 == 0.0 {
        return Err(config.refuse(DROPOUT, "a number from 0 to below 1 is wanted"));
    }
    Ok(Rule {
        capacity,
        capacity_fraction,
        normalize_first: config.flag("normalize_router_prob_before_dropping", false)?,
        output_factor: (1.0 - dropout) as f32,
        ..Rule::new(Policy::Nllb, 2)
    })
}

/// The device computes ⌈fraction · tokens⌉ in f32, Python in f64: takes the neighbour of `nearest`
/// with which both agree for all token counts, and notes it if there is none.
fn fraction(checkpoint: &mut Checkpoint<'_>, nearest: f32) -> Result<f32, ConvertError> {
    const FRACTION: &str = "moe_eval_capacity_token_fraction";
    let config = &checkpoint.config;
    let exact = config.number(FRACTION, 1.0)?;
    let most = config.count("max_position_embeddings", 1024)?.min(MAX_ROWS);
    if nearest == 0.0 {
        return Ok(nearest);
    }
    let differs = |fraction: f32| {
        let differs = move |tokens: &usize| {
            let narrow = (fraction * *tokens as f32).ceil();
            f64::from(narrow) != (exact * *tokens as f64).ceil()
        };
        (1..=most).find(differs)
    };
    let neighbours = [nearest, nearest.next_down(), nearest.next_up()];
    if let Some(same) = neighbours.into_iter().find(|f| differs(*f).is_none()) {
        return Ok(same);
    }
    if let Some(tokens) = differs(nearest) {
        checkpoint.note(format!(
            "config.json: `{FRACTION}` = {exact} gives another capacity in f32 than in f64, first \
             at {tokens} tokens"
        ));
    }
    Ok(nearest)
}

#[cfg(test)]
mod tests {
    use super::is_sparse;

    #[test]
    fn sparse_layers_are_those_of_transformers() {
        let sparse = |step| (0..6).filter(|i| is_sparse(*i, step)).collect::<Vec<_>>();
        assert_eq!(sparse(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(sparse(2), [1, 3, 5]);
        assert_eq!(sparse(4), [3]);
        assert_eq!(sparse(0), [] as [usize; 0]);
    }
}
