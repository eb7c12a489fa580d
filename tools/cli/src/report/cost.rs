//! Weight bytes and multiply-accumulates that one token touches.
//!
//! A source token runs through the encoder, and its keys and values for cross-attention are
//! computed for every decoder layer. A generated token runs through the decoder and the head, as
//! does every token of a model that is only a decoder. Of a mixture the k greatest experts count.
//! Weight bytes are those of a token alone; in the encoder a batch of `tile` tokens reads each
//! weight once. Attention is counted at the limits: the last position sees the most.

use palmtop::format::{ExpertRecord, FeedForwardKind, LayerRecord, NONE16, Palm, TensorFormat};
use serde::Serialize;

use crate::table::Table;
use crate::units::{bytes, count, macs};

/// What a token touches.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Touched {
    /// Bytes of weights that are read.
    weight_bytes: u64,
    /// Multiply-accumulates with weights.
    weight_macs: u64,
    /// Multiply-accumulates of attention at the limits: scores and sums of values.
    attention_macs: u64,
    /// Bytes of experts among the weights.
    expert_bytes: u64,
    /// The multiply-accumulates with weights, by the weights' format.
    macs_by_format: ByFormat,
}

/// Numbers by the format of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByFormat {
    /// Four bits in groups.
    pub int4: u64,
    /// Signed bytes.
    pub int8: u64,
    /// Half precision.
    pub f16: u64,
    /// Single precision.
    pub f32: u64,
}

impl ByFormat {
    fn of(format: TensorFormat, number: u64) -> Self {
        let mut all = Self::default();
        match format {
            TensorFormat::I4 => all.int4 = number,
            TensorFormat::I8 | TensorFormat::U8 => all.int8 = number,
            TensorFormat::F16 => all.f16 = number,
            TensorFormat::F32 => all.f32 = number,
        }
        all
    }

    fn add(&mut self, other: Self, times: u64) {
        self.int4 += other.int4 * times;
        self.int8 += other.int8 * times;
        self.f16 += other.f16 * times;
        self.f32 += other.f32 * times;
    }
}

/// What a token costs on average: of the encoder's tokens, in batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights read for a token: at least, and at most.
    pub weight_bytes: [u64; 2],
    /// Multiply-accumulates with weights.
    pub macs: ByFormat,
    /// Multiply-accumulates of attention at the limits.
    pub attention_macs: u64,
}

impl Touched {
    fn add(&mut self, other: Self, times: u64) {
        self.weight_bytes += other.weight_bytes * times;
        self.weight_macs += other.weight_macs * times;
        self.attention_macs += other.attention_macs * times;
        self.expert_bytes += other.expert_bytes * times;
        self.macs_by_format.add(other.macs_by_format, times);
    }
}

/// With the chosen experts of each mixture only, and as if all were computed.
#[derive(Debug, Default, Serialize)]
pub struct PerToken {
    chosen_expert: Touched,
    all_experts: Touched,
}

impl PerToken {
    fn both(&mut self, touched: Touched) {
        self.chosen_expert.add(touched, 1);
        self.all_experts.add(touched, 1);
    }

    fn attention(&mut self, macs: u64) {
        self.both(Touched {
            attention_macs: macs,
            ..Touched::default()
        });
    }
}

/// What tokens cost.
#[derive(Debug, Serialize)]
pub struct Cost {
    source_limit: u64,
    target_limit: u64,
    tile: u8,
    has_experts: bool,
    has_encoder: bool,
    source_token: PerToken,
    generated_token: PerToken,
}

impl Cost {
    /// Counts at these limits.
    pub fn of(palm: &Palm<'_>, source_limit: u64, target_limit: u64) -> Self {
        let h = palm.header();
        let (mut source, mut target) = (PerToken::default(), PerToken::default());
        if !h.decoder_only {
            source.both(row(palm, h.roles.embedding));
            source.both(row(palm, h.roles.encoder_positions));
            source.both(vector(palm, h.roles.encoder_embedding_norm));
            source.both(vector(palm, h.roles.encoder_final_norm));
        }
        target.both(row(palm, h.roles.embedding));
        target.both(row(palm, h.roles.decoder_positions));
        target.both(vector(palm, h.roles.decoder_embedding_norm));
        target.both(vector(palm, h.roles.decoder_final_norm));
        target.both(matrix(palm, h.roles.head));

        for index in 0..h.layer_count() {
            let l = palm.layer(index);
            let decoder = index >= u32::from(h.encoder_layers);
            let token = if decoder { &mut target } else { &mut source };
            for norm in [l.self_norm, l.ff_norm] {
                token.both(vector(palm, norm));
            }
            for linear in [l.q, l.k, l.v, l.o] {
                token.both(matrix(palm, linear));
            }
            feed_forward(palm, &l, token, 0);
            if decoder {
                let inner = u64::from(h.decoder_heads) * u64::from(h.decoder_d_kv);
                let keys = if h.decoder_only {
                    target_limit
                } else {
                    source_limit + target_limit
                };
                target.both(vector(palm, l.cross_norm));
                target.both(matrix(palm, l.cross_q));
                target.both(matrix(palm, l.cross_o));
                target.attention(2 * inner * keys);
                source.both(matrix(palm, l.cross_k));
                source.both(matrix(palm, l.cross_v));
            } else {
                let inner = u64::from(h.encoder_heads) * u64::from(h.encoder_d_kv);
                source.attention(2 * inner * source_limit);
            }
        }
        if let Some(index) = h.block_index() {
            let l = palm.layer(index);
            let inner = u64::from(h.encoder_heads) * u64::from(h.encoder_d_kv);
            source.both(vector(palm, l.ff_norm));
            feed_forward(palm, &l, &mut source, 2 * inner * source_limit);
        }
        Self {
            source_limit,
            target_limit,
            tile: h.tile,
            has_experts: h.experts.count > 0,
            has_encoder: !h.decoder_only,
            source_token: source,
            generated_token: target,
        }
    }

    /// A generated token.
    pub fn generated(&self) -> Work {
        let t = &self.generated_token.chosen_expert;
        Work {
            weight_bytes: [t.weight_bytes; 2],
            macs: t.macs_by_format,
            attention_macs: t.attention_macs,
        }
    }

    /// A source token on average over a source at the limit, if there is an encoder. A batch reads
    /// each weight once; of the experts, as many as one token's, or up to all of them where the
    /// tokens of a batch go different ways.
    pub fn source(&self) -> Option<Work> {
        if !self.has_encoder {
            return None;
        }
        let (one, all) = (
            &self.source_token.chosen_expert,
            &self.source_token.all_experts,
        );
        let batch = self.source_limit.min(self.tile.into()).max(1);
        let shared = one.weight_bytes - one.expert_bytes;
        let spread = all.expert_bytes.min(one.expert_bytes * batch);
        Some(Work {
            weight_bytes: [one.weight_bytes / batch, (shared + spread) / batch],
            macs: one.macs_by_format,
            attention_macs: one.attention_macs,
        })
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            "token",
            ">weight bytes",
            ">",
            ">weight MACs",
            ">attention MACs",
            ">of experts",
        ]);
        let mut row = |name: &str, t: &Touched| {
            table.row([
                name.to_owned(),
                count(t.weight_bytes),
                bytes(t.weight_bytes),
                macs(t.weight_macs),
                macs(t.attention_macs),
                if self.has_experts {
                    bytes(t.expert_bytes)
                } else {
                    String::new()
                },
            ]);
        };
        if self.has_experts {
            if self.has_encoder {
                row("source, chosen experts", &self.source_token.chosen_expert);
                row("source, if all experts ran", &self.source_token.all_experts);
            }
            row(
                "generated, chosen experts",
                &self.generated_token.chosen_expert,
            );
            row(
                "generated, if all experts ran",
                &self.generated_token.all_experts,
            );
        } else {
            if self.has_encoder {
                row("source", &self.source_token.chosen_expert);
            }
            row("generated", &self.generated_token.chosen_expert);
        }
        let encoder = if self.has_encoder {
            format!(
                "  Attention is that of the last position at source {} and target {}.\n  \
                 The encoder reads a weight once for each batch of {} source tokens.\n",
                self.source_limit, self.target_limit, self.tile
            )
        } else {
            format!(
                "  Attention is that of the last position, {}. A token of the prompt is as one that \
                 is generated.\n",
                self.target_limit
            )
        };
        format!("{}{encoder}", table.render())
    }
}

/// `attention`: multiply-accumulates of attention in an expert that is a whole layer.
fn feed_forward(palm: &Palm<'_>, layer: &LayerRecord, token: &mut PerToken, attention: u64) {
    if layer.ff_kind == FeedForwardKind::Dense {
        for linear in [layer.wi, layer.wi_linear, layer.wo] {
            token.both(matrix(palm, linear));
        }
        return;
    }
    // A table of experts by token is looked up, and nothing is multiplied.
    token.both(match layer.policy.is_learned() {
        true => matrix(palm, layer.router),
        false => Touched::default(),
    });
    let mut largest = Touched::default();
    for i in 0..u32::from(layer.experts) {
        let touched = expert(palm, &palm.expert(layer.first_expert + i), attention);
        token.all_experts.add(touched, 1);
        if touched.weight_bytes > largest.weight_bytes {
            largest = touched;
        }
    }
    token.chosen_expert.add(largest, u64::from(layer.top_k));
}

fn expert(palm: &Palm<'_>, expert: &ExpertRecord, attention: u64) -> Touched {
    let mut touched = Touched::default();
    for linear in [expert.wi, expert.wi_linear, expert.wo] {
        touched.add(matrix(palm, linear), 1);
    }
    if expert.has_attention() {
        for linear in expert.attention {
            touched.add(matrix(palm, linear), 1);
        }
        touched.attention_macs += attention;
    }
    touched.expert_bytes = touched.weight_bytes;
    touched
}

/// A whole matrix: scales, sums and bias too.
fn matrix(palm: &Palm<'_>, index: u16) -> Touched {
    if index == NONE16 {
        return Touched::default();
    }
    let Some(t) = palm.tensor(index) else {
        return Touched::default();
    };
    let rows = u64::from(t.rows);
    let sums = if t.format == TensorFormat::I8 {
        rows * 4
    } else {
        0
    };
    let bias = if t.bias == 0 { 0 } else { rows * 4 };
    Touched {
        weight_bytes: t.matrix_bytes() + t.scale_bytes() + sums + bias,
        weight_macs: rows * u64::from(t.cols),
        macs_by_format: ByFormat::of(t.format, rows * u64::from(t.cols)),
        ..Touched::default()
    }
}

/// One row of a table: an embedding, a position.
fn row(palm: &Palm<'_>, index: u16) -> Touched {
    let bytes = palm.tensor(index).map_or(0, |t| {
        u64::from(t.stride) + if t.format == TensorFormat::I8 { 4 } else { 0 }
    });
    Touched {
        weight_bytes: bytes,
        ..Touched::default()
    }
}

/// A norm: gains, and shifts if it has them.
fn vector(palm: &Palm<'_>, index: u16) -> Touched {
    let bytes = palm
        .tensor(index)
        .map_or(0, |t| u64::from(t.cols) * if t.bias == 0 { 4 } else { 8 });
    Touched {
        weight_bytes: bytes,
        ..Touched::default()
    }
}
