//! The places of a model where tokens are routed: its sparse layers, and the mixture block.

use palmtop::Stack;
use palmtop::format::{FeedForwardKind, LayerRecord, Palm, Policy};

/// A sparse layer, or the mixture block between encoder and decoder.
#[derive(Debug, Clone, Copy)]
pub struct Mixture {
    /// Where it is.
    pub stack: Stack,
    /// The layer in its stack, from 0; 0 for the block.
    pub layer: usize,
    /// Its entry in the layer table.
    pub record: LayerRecord,
}

impl Mixture {
    /// How many experts it has.
    pub fn experts(&self) -> usize {
        self.record.experts.into()
    }

    /// `enc 1`, `block`, `dec 0`: short enough to head a column.
    pub fn label(&self) -> String {
        label(self.stack, self.layer)
    }

    /// The rule that finds experts, in words.
    pub fn policy(&self) -> &'static str {
        match self.record.policy {
            Policy::Switch => "Switch: the best, weight = its probability",
            Policy::TopK if self.record.top_k == 1 => "the best, weight 1",
            Policy::TopK => "the best k, weights add up to 1",
            Policy::Nllb if self.record.normalize_first => {
                "NLLB: the best two, weights add up to 1 before tokens are dropped"
            }
            Policy::Nllb => "NLLB: the best two, weights of what is kept add up to 1",
            Policy::Position => "by position, equal weights",
            Policy::Hash => "by token, equal weights",
        }
    }

    /// Most tokens that an expert takes, in words; `None` without a limit.
    pub fn capacity(&self) -> Option<String> {
        let r = &self.record;
        if r.capacity_fraction > 0.0 {
            Some(format!(
                "at most {} % of the tokens each",
                round(f64::from(r.capacity_fraction) * 100.0)
            ))
        } else if r.capacity > 0 {
            Some(format!("at most {} tokens each", r.capacity))
        } else {
            None
        }
    }
}

/// A number without needless decimals: `25`, `12.5`.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What a place is called in a column heading.
pub fn label(stack: Stack, layer: usize) -> String {
    match stack {
        Stack::Encoder => format!("enc {layer}"),
        Stack::Decoder => format!("dec {layer}"),
        Stack::Block => "block".to_owned(),
    }
}

/// What a stack is called in JSON and in names of tensors.
pub fn stack_name(stack: Stack) -> &'static str {
    match stack {
        Stack::Encoder => "encoder",
        Stack::Decoder => "decoder",
        Stack::Block => "block",
    }
}

/// Stacks in the order in which a run passes them.
pub fn order(stack: Stack) -> usize {
    match stack {
        Stack::Encoder => 0,
        Stack::Block => 1,
        Stack::Decoder => 2,
    }
}

/// Every place where tokens are routed, in the order of a run.
pub fn mixtures(palm: &Palm<'_>) -> Vec<Mixture> {
    let h = palm.header();
    let encoder = u32::from(h.encoder_layers);
    let sparse = |index: u32| {
        let record = palm.layer(index);
        (record.ff_kind == FeedForwardKind::Mixture).then_some(record)
    };
    let mut found = Vec::new();
    let mut add = |stack, layer: u32, record: Option<LayerRecord>| {
        found.extend(record.map(|record| Mixture {
            stack,
            layer: layer as usize,
            record,
        }));
    };
    for index in 0..encoder {
        add(Stack::Encoder, index, sparse(index));
    }
    if let Some(index) = h.block_index() {
        add(Stack::Block, 0, Some(palm.layer(index)));
    }
    for index in encoder..h.layer_count() {
        add(Stack::Decoder, index - encoder, sparse(index));
    }
    found
}
