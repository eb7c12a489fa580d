//! What a model is: family, widths, depths, mixtures, tokenizer, formats.

use palmtop::format::{FeedForwardKind, Header, LayerRecord, NONE16, NONE32, Palm, TensorFormat};
use serde::Serialize;

use crate::table::Table;
use crate::units::count;

/// What a model is.
#[derive(Debug, Serialize)]
pub struct Architecture {
    family: &'static str,
    version: String,
    parameters: u64,
    d_model: u32,
    vocabulary: u32,
    tied_head: bool,
    norm: &'static str,
    norm_position: &'static str,
    positions: String,
    tokenizer: &'static str,
    numeric: &'static str,
    weights: Vec<&'static str>,
    tile: u8,
    max_source: Option<u32>,
    max_target: Option<u32>,
    default_source: u32,
    default_target: u32,
    decoder_start: u32,
    eos: Option<u32>,
    pad: Option<u32>,
    forced_bos: Option<u32>,
    forced_eos: Option<u32>,
    encoder: Stack,
    decoder: Stack,
}

/// What a stack is.
#[derive(Debug, Serialize)]
struct Stack {
    layers: u16,
    heads: u16,
    d_kv: u16,
    d_ff: Vec<u32>,
    activation: Vec<String>,
    mixtures: Vec<Mixture>,
}

/// A sparse layer.
#[derive(Debug, Serialize)]
struct Mixture {
    layer: u32,
    experts: u16,
    top_k: u16,
    capacity: Option<u32>,
}

impl Architecture {
    /// Reads it off the header and the tables.
    pub fn of(palm: &Palm<'_>) -> Self {
        let h = palm.header();
        let layers = u32::from(h.encoder_layers);
        Self {
            family: family(h.family),
            version: format!("{}.{}", h.major, h.minor),
            parameters: parameters(palm),
            d_model: h.d_model,
            vocabulary: h.vocab,
            tied_head: tied_head(palm),
            norm: if h.norm == 0 {
                "RMS norm"
            } else {
                "layer norm"
            },
            norm_position: if h.norm_position == 0 {
                "before"
            } else {
                "after"
            },
            positions: positions(h),
            tokenizer: tokenizer(palm),
            numeric: if h.numeric == 1 { "int8" } else { "float" },
            weights: formats(palm),
            tile: h.tile,
            max_source: limit(h.max_source),
            max_target: limit(h.max_target),
            default_source: h.default_source,
            default_target: h.default_target,
            decoder_start: h.decoder_start,
            eos: id(h.eos),
            pad: id(h.pad),
            forced_bos: id(h.forced_bos),
            forced_eos: id(h.forced_eos),
            encoder: Stack::of(palm, 0, layers, h.encoder_heads, h.encoder_d_kv),
            decoder: Stack::of(
                palm,
                layers,
                h.layer_count(),
                h.decoder_heads,
                h.decoder_d_kv,
            ),
        }
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&["", ""]);
        let tied = if self.tied_head {
            ", tied to the head"
        } else {
            ", head of its own"
        };
        table.row(["family", self.family]);
        table.row(["parameters".to_owned(), count(self.parameters)]);
        table.row(["weights".to_owned(), self.weights.join(", ")]);
        table.row([
            "attention and caches",
            if self.numeric == "int8" {
                "int8"
            } else {
                "f32"
            },
        ]);
        table.row(["d_model".to_owned(), self.d_model.to_string()]);
        table.row([
            "vocabulary".to_owned(),
            format!("{}{tied}", count(self.vocabulary.into())),
        ]);
        table.row(["tokenizer", self.tokenizer]);
        table.row([
            "norm".to_owned(),
            format!("{}, {} sublayers", self.norm, self.norm_position),
        ]);
        table.row(["positions", self.positions.as_str()]);
        table.row(["encoder".to_owned(), self.encoder.text()]);
        for mixture in &self.encoder.mixtures {
            table.row([String::new(), mixture.text()]);
        }
        table.row(["decoder".to_owned(), self.decoder.text()]);
        for mixture in &self.decoder.mixtures {
            table.row([String::new(), mixture.text()]);
        }
        table.row(["longest source".to_owned(), most(self.max_source, "tokens")]);
        table.row([
            "longest target".to_owned(),
            most(self.max_target, "positions"),
        ]);
        table.row([
            "default limits".to_owned(),
            format!(
                "source {}, target {}",
                self.default_source, self.default_target
            ),
        ]);
        table.row(["file version", self.version.as_str()]);
        table.render()
    }
}

impl Stack {
    fn of(palm: &Palm<'_>, from: u32, to: u32, heads: u16, d_kv: u16) -> Self {
        let mut stack = Self {
            layers: (to - from) as u16,
            heads,
            d_kv,
            d_ff: Vec::new(),
            activation: Vec::new(),
            mixtures: Vec::new(),
        };
        for index in from..to {
            let layer = palm.layer(index);
            for (wi, gated, act) in feed_forwards(palm, &layer) {
                push_new(&mut stack.d_ff, palm.tensor(wi).map_or(0, |t| t.rows));
                push_new(&mut stack.activation, activation(act, gated));
            }
            if layer.ff_kind == FeedForwardKind::Mixture {
                stack.mixtures.push(Mixture {
                    layer: index - from,
                    experts: layer.experts,
                    top_k: layer.top_k,
                    capacity: limit(layer.capacity),
                });
            }
        }
        stack
    }

    fn text(&self) -> String {
        let d_ff: Vec<String> = self.d_ff.iter().map(ToString::to_string).collect();
        format!(
            "{}, {} × {} d_kv, d_ff {}, {}",
            plural(self.layers, "layer"),
            plural(self.heads, "head"),
            self.d_kv,
            d_ff.join(" and "),
            self.activation.join(" and ")
        )
    }
}

impl Mixture {
    fn text(&self) -> String {
        let capacity = match self.capacity {
            Some(tokens) => format!("at most {tokens} tokens each"),
            None => "no capacity limit".to_owned(),
        };
        format!(
            "layer {}: {} experts, {} a token, {capacity}",
            self.layer, self.experts, self.top_k
        )
    }
}

/// Every feed-forward block of a layer: its `wi`, whether it is gated, its activation.
fn feed_forwards(palm: &Palm<'_>, layer: &LayerRecord) -> Vec<(u16, bool, u8)> {
    match layer.ff_kind {
        FeedForwardKind::Dense => vec![(layer.wi, layer.wi_linear != NONE16, layer.activation)],
        FeedForwardKind::Mixture => (0..u32::from(layer.experts))
            .map(|i| palm.expert(layer.first_expert + i))
            .map(|e| (e.wi, e.wi_linear != NONE16, e.activation))
            .collect(),
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn family(code: u32) -> &'static str {
    match code {
        1 => "T5",
        2 => "Switch Transformers",
        3 => "BART",
        _ => "unknown",
    }
}

fn activation(code: u8, gated: bool) -> String {
    let name = match code {
        0 => "ReLU",
        1 => "GELU",
        2 => "GELU (tanh)",
        3 => "SiLU",
        _ => "unknown activation",
    };
    if gated {
        format!("gated {name}")
    } else {
        name.to_owned()
    }
}

fn positions(h: &Header) -> String {
    let mut kinds = Vec::new();
    if h.roles.encoder_positions != NONE16 || h.roles.decoder_positions != NONE16 {
        kinds.push("learned".to_owned());
    }
    match (h.encoder_buckets, h.decoder_buckets) {
        (0, 0) => {}
        (encoder, decoder) if encoder == decoder => {
            kinds.push(format!("relative, {encoder} buckets"));
        }
        (encoder, decoder) => {
            kinds.push(format!("relative, {encoder} and {decoder} buckets"));
        }
    }
    if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join("; ")
    }
}

fn tokenizer(palm: &Palm<'_>) -> &'static str {
    match palm.section(palm.header().tokenizer).first_chunk() {
        None => "none (ids only)",
        Some(kind) => match u32::from_le_bytes(*kind) {
            1 => "characters",
            2 => "bytes",
            _ => "unknown",
        },
    }
}

/// Whether the head reads the embedding's matrix.
pub fn tied_head(palm: &Palm<'_>) -> bool {
    let roles = &palm.header().roles;
    match (palm.tensor(roles.embedding), palm.tensor(roles.head)) {
        (Some(embedding), Some(head)) => embedding.offset == head.offset,
        _ => false,
    }
}

fn plural(n: u16, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

fn limit(value: u32) -> Option<u32> {
    (value > 0).then_some(value)
}

fn id(value: u32) -> Option<u32> {
    (value != NONE32).then_some(value)
}

fn most(value: Option<u32>, unit: &str) -> String {
    value.map_or_else(|| "no limit".to_owned(), |value| format!("{value} {unit}"))
}

fn name(format: TensorFormat) -> &'static str {
    match format {
        TensorFormat::F32 => "f32",
        TensorFormat::F16 => "f16",
        TensorFormat::I8 => "int8",
        TensorFormat::U8 => "u8",
        TensorFormat::I4 => "int4",
    }
}

/// Formats of the matrices of linear layers, embedding and head, each once.
fn formats(palm: &Palm<'_>) -> Vec<&'static str> {
    let h = palm.header();
    let mut found = Vec::new();
    let mut see = |index: u16| {
        if let Some(tensor) = palm.tensor(index) {
            push_new(&mut found, name(tensor.format));
        }
    };
    see(h.roles.embedding);
    see(h.roles.head);
    for index in 0..h.layer_count() {
        let layer = palm.layer(index);
        see(layer.q);
        for (wi, _, _) in feed_forwards(palm, &layer) {
            see(wi);
        }
    }
    found
}

/// Trained values: every matrix, bias and norm once, distance tables and a tied head not.
fn parameters(palm: &Palm<'_>) -> u64 {
    let h = palm.header();
    let mut seen = Vec::new();
    let mut total = 0;
    for index in 0..h.tensors.count as u16 {
        let Some(tensor) = palm.tensor(index) else {
            continue;
        };
        if tensor.in_expert || tensor.format == TensorFormat::U8 {
            continue;
        }
        if !seen.contains(&tensor.offset) {
            seen.push(tensor.offset);
            total += u64::from(tensor.rows) * u64::from(tensor.cols);
        }
        if tensor.bias != 0 && !seen.contains(&tensor.bias) {
            seen.push(tensor.bias);
            total += u64::from(if tensor.rows == 1 {
                tensor.cols
            } else {
                tensor.rows
            });
        }
    }
    for index in 0..h.experts.count {
        let expert = palm.expert(index);
        for tensor in [expert.wi, expert.wi_linear, expert.wo] {
            let Some(tensor) = palm.tensor(tensor) else {
                continue;
            };
            total += u64::from(tensor.rows) * u64::from(tensor.cols);
            total += if tensor.bias == 0 {
                0
            } else {
                u64::from(tensor.rows)
            };
        }
    }
    total
}
