//! What a model is: family, widths, depths, mixtures, tokenizer, formats.

use std::ops::Range;

use palmtop::Stack as Place;
use palmtop::format::{FeedForwardKind, Header, LayerRecord, NONE16, NONE32, Palm, TensorFormat};
use serde::Serialize;

use crate::mixtures;
use crate::table::Table;
use crate::units::{bytes, count};

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
    /// The last attention of a layer runs beside its feed-forward.
    parallel: bool,
    decoder_only: bool,
    encoder: Stack,
    /// The mixture block between encoder and decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    mixture_block: Option<Mixture>,
    decoder: Stack,
}

/// What a stack is.
#[derive(Debug, Serialize)]
struct Stack {
    layers: u16,
    heads: u16,
    kv_heads: u16,
    d_kv: u16,
    d_ff: Vec<u32>,
    activation: Vec<String>,
    mixtures: Vec<Mixture>,
    /// The dense feed-forward blocks, in words.
    #[serde(skip)]
    dense: Vec<String>,
}

/// A sparse layer.
#[derive(Debug, Serialize)]
struct Mixture {
    layer: u32,
    experts: u16,
    top_k: u16,
    policy: &'static str,
    capacity: Option<u32>,
    /// Most tokens of an expert, as a share of the tokens of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity_fraction: Option<f32>,
    /// How the experts' matrices are stored, and how many experts are.
    weights: Vec<Kind>,
    /// What the experts are, and how many of each.
    kinds: Vec<Kind>,
    /// Bytes of all experts.
    expert_bytes: u64,
    #[serde(skip)]
    numbers: String,
}

/// So many experts of a kind.
#[derive(Debug, Serialize)]
struct Kind {
    kind: String,
    experts: usize,
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
            parallel: h.parallel,
            decoder_only: h.decoder_only,
            encoder: Stack::of(
                palm,
                Place::Encoder,
                0..layers,
                [h.encoder_heads, h.encoder_kv_heads, h.encoder_d_kv],
            ),
            mixture_block: mixtures::mixtures(palm)
                .iter()
                .find(|m| m.stack == Place::Block)
                .map(|m| Mixture::of(palm, m)),
            decoder: Stack::of(
                palm,
                Place::Decoder,
                layers..h.layer_count(),
                [h.decoder_heads, h.decoder_kv_heads, h.decoder_d_kv],
            ),
        }
    }

    /// Trained values.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// What the model is, on one line.
    pub fn line(&self) -> String {
        let layers = if self.decoder_only {
            format!("decoder only, {}", plural(self.decoder.layers, "layer"))
        } else {
            format!("{} and {} layers", self.encoder.layers, self.decoder.layers)
        };
        format!(
            "{}, {layers}, d_model {}, weights {}",
            self.family,
            self.d_model,
            self.weights.join(", ")
        )
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
        if self.parallel {
            table.row(["sublayers", "attention and feed-forward side by side"]);
        }
        if !self.decoder_only {
            table.row(["encoder".to_owned(), self.encoder.text()]);
            for line in lines(&self.encoder.mixtures) {
                table.row([String::new(), line]);
            }
        }
        let mut name = "mixture block";
        for line in lines(self.mixture_block.as_slice()) {
            let line = line.trim_start_matches("layer 0: ").to_owned();
            table.row([name.to_owned(), line]);
            name = "";
        }
        let decoder = if self.decoder_only {
            "decoder only"
        } else {
            "decoder"
        };
        table.row([decoder.to_owned(), self.decoder.text()]);
        for line in lines(&self.decoder.mixtures) {
            table.row([String::new(), line]);
        }
        if !self.decoder_only {
            table.row(["longest source".to_owned(), most(self.max_source, "tokens")]);
        }
        let longest = match self.decoder_only {
            true => "longest text",
            false => "longest target",
        };
        table.row([longest.to_owned(), most(self.max_target, "positions")]);
        table.row([
            "default limits".to_owned(),
            match self.decoder_only {
                true => format!("{} positions", self.default_target),
                false => format!(
                    "source {}, target {}",
                    self.default_source, self.default_target
                ),
            },
        ]);
        table.row(["file version", self.version.as_str()]);
        table.render()
    }
}

impl Stack {
    fn of(
        palm: &Palm<'_>,
        stack: Place,
        layers: Range<u32>,
        [heads, kv_heads, d_kv]: [u16; 3],
    ) -> Self {
        let mut stack = Self {
            layers: layers.len() as u16,
            heads,
            kv_heads,
            d_kv,
            d_ff: Vec::new(),
            activation: Vec::new(),
            dense: Vec::new(),
            mixtures: mixtures::mixtures(palm)
                .iter()
                .filter(|m| m.stack == stack)
                .map(|m| Mixture::of(palm, m))
                .collect(),
        };
        for index in layers {
            let layer = palm.layer(index);
            for (wi, gated, act) in feed_forwards(palm, &layer) {
                push_new(&mut stack.d_ff, palm.tensor(wi).map_or(0, |t| t.rows));
                push_new(&mut stack.activation, activation(act, gated));
                if layer.ff_kind == FeedForwardKind::Dense {
                    let rows = palm.tensor(wi).map_or(0, |t| t.rows);
                    let what = format!("d_ff {rows}, {}", activation(act, gated));
                    push_new(&mut stack.dense, what);
                }
            }
        }
        stack
    }

    fn text(&self) -> String {
        let keys = if self.kv_heads == self.heads {
            String::new()
        } else {
            format!(" ({} of keys and values)", self.kv_heads)
        };
        let dense = match self.dense.is_empty() {
            true => String::new(),
            false => format!(", {}", self.dense.join(" and ")),
        };
        format!(
            "{}, {}{keys} × {} d_kv{dense}",
            plural(self.layers, "layer"),
            plural(self.heads, "head"),
            self.d_kv
        )
    }
}

impl Mixture {
    fn of(palm: &Palm<'_>, mixture: &mixtures::Mixture) -> Self {
        let r = &mixture.record;
        let (mut weights, mut kinds, mut expert_bytes) = (Vec::new(), Vec::new(), 0);
        for index in 0..u32::from(r.experts) {
            let expert = palm.expert(r.first_expert + index);
            let Some(wi) = palm.tensor(expert.wi) else {
                continue;
            };
            expert_bytes += u64::from(expert.len);
            let layer = if expert.has_attention() {
                "whole layer, "
            } else {
                ""
            };
            let activation = activation(expert.activation, expert.wi_linear != NONE16);
            count_new(&mut weights, name(wi.format).to_owned());
            count_new(&mut kinds, format!("{layer}{activation}, d_ff {}", wi.rows));
        }
        let whom = if mixture.stack == Place::Block {
            "once an input"
        } else {
            "a token"
        };
        let capacity = mixture
            .capacity()
            .unwrap_or_else(|| "no capacity limit".to_owned());
        Self {
            layer: mixture.layer as u32,
            experts: r.experts,
            top_k: r.top_k,
            policy: mixture.policy(),
            capacity: limit(r.capacity),
            capacity_fraction: (r.capacity_fraction > 0.0).then_some(r.capacity_fraction),
            weights,
            kinds,
            expert_bytes,
            numbers: match mixture.stack {
                Place::Block => format!("{} experts, {} {whom}", r.experts, r.top_k),
                _ => format!("{} experts, {} {whom}, {capacity}", r.experts, r.top_k),
            },
        }
    }

    /// What it is, but for its place: one line for the numbers, one for the rule, then the experts.
    fn text(&self) -> Vec<String> {
        let mut text = vec![self.numbers.clone(), format!("  {}", self.policy)];
        let alone = self.kinds.len() == 1;
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .map(|k| match alone {
                true => k.kind.clone(),
                false => format!("{} × {}", k.experts, k.kind),
            })
            .collect();
        text.push(format!("  {} of experts", bytes(self.expert_bytes)));
        let mut line = String::new();
        for part in self.weights.iter().map(|k| &k.kind).chain(&kinds) {
            if !line.is_empty() && line.len() + part.len() > WIDE {
                text.push(format!("    {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push_str("; ");
            }
            line.push_str(part);
        }
        text.push(format!("    {line}"));
        text
    }
}

/// Most letters of a line of kinds of experts.
const WIDE: usize = 60;

/// Mixtures as lines; those that are alike are told of once.
fn lines(mixtures: &[Mixture]) -> Vec<String> {
    let mut told: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for mixture in mixtures {
        let text = mixture.text();
        let layer = mixture.layer.to_string();
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, layers)) => layers.push(layer),
            None => told.push((text, vec![layer])),
        }
    }
    let mut lines = Vec::new();
    for (text, layers) in told {
        let many = if layers.len() == 1 { "" } else { "s" };
        let place = format!("layer{many} {}: ", layers.join(", "));
        for (i, line) in text.into_iter().enumerate() {
            lines.push(if i == 0 {
                format!("{place}{line}")
            } else {
                line
            });
        }
    }
    lines
}

fn count_new(kinds: &mut Vec<Kind>, kind: String) {
    match kinds.iter_mut().find(|known| known.kind == kind) {
        Some(known) => known.experts += 1,
        None => kinds.push(Kind { kind, experts: 1 }),
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
        4 => "M2M-100",
        5 => "NLLB-MoE",
        6 => "Mixtral",
        7 => "PaLM",
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
    if h.rotary {
        kinds.push("rotary, in self-attention".to_owned());
    } else if h.roles.encoder_positions != NONE16 || h.roles.decoder_positions != NONE16 {
        kinds.push("a table, added".to_owned());
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
    for index in 0..h.layers.count {
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
    // Cosines and sines are computed, not trained.
    let rotary = [h.roles.encoder_positions, h.roles.decoder_positions];
    for index in 0..h.tensors.count as u16 {
        if h.rotary && rotary.contains(&index) {
            continue;
        }
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
        let [q, k, v, o] = expert.attention;
        for tensor in [expert.wi, expert.wi_linear, expert.wo, q, k, v, o] {
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
