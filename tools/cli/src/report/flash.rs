//! Flash bytes by part. The parts sum to the file.

use palmtop::format::{FeedForwardKind, NONE16, Palm, TensorFormat};
use serde::Serialize;

use super::architecture::tied_head;
use crate::table::Table;
use crate::units::{bytes, count, share};

/// What a range of bytes in the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Head,
    Embedding,
    OutputHead,
    Attention,
    FeedForward,
    Experts,
    Routers,
    Norms,
    Positions,
    Tokenizer,
    Golden,
    Names,
    Padding,
}

impl Part {
    const ALL: [Self; 13] = [
        Self::Head,
        Self::Embedding,
        Self::OutputHead,
        Self::Attention,
        Self::FeedForward,
        Self::Experts,
        Self::Routers,
        Self::Norms,
        Self::Positions,
        Self::Tokenizer,
        Self::Golden,
        Self::Names,
        Self::Padding,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Head => "header and tables",
            Self::Embedding => "embedding",
            Self::OutputHead => "output head",
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward (dense)",
            Self::Experts => "experts",
            Self::Routers => "routers",
            Self::Norms => "norms",
            Self::Positions => "positions",
            Self::Tokenizer => "tokenizer",
            Self::Golden => "golden pair",
            Self::Names => "names",
            Self::Padding => "padding",
        }
    }
}

/// Bytes of a part.
#[derive(Debug, Serialize)]
pub struct PartBytes {
    part: &'static str,
    bytes: u64,
}

/// Flash bytes by part.
#[derive(Debug, Serialize)]
pub struct Flash {
    total: u64,
    head_is_tied: bool,
    parts: Vec<PartBytes>,
}

impl Flash {
    /// Adds up what every table entry points to; what nothing points to is padding.
    pub fn of(palm: &Palm<'_>) -> Self {
        let total = u64::from(palm.header().total_len);
        let mut sums = [0u64; Part::ALL.len()];
        let mut end = 0;
        let mut claims = claims(palm);
        claims.sort_unstable();
        for (from, to, part) in claims {
            let from = from.max(end);
            if to > from {
                sums[Part::Padding as usize] += from - end;
                sums[part as usize] += to - from;
                end = to;
            }
        }
        sums[Part::Padding as usize] += total - end;
        let parts = Part::ALL
            .iter()
            .map(|part| PartBytes {
                part: part.name(),
                bytes: sums[*part as usize],
            })
            .collect();
        Self {
            total,
            head_is_tied: tied_head(palm),
            parts,
        }
    }

    /// Every part and its bytes.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.parts.iter().map(|part| (part.part, part.bytes))
    }

    /// Bytes of the file.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The table for people; parts that are not there are left out.
    pub fn text(&self) -> String {
        let mut table = Table::new(&["part", ">bytes", ">", ">share"]);
        for PartBytes { part, bytes: n } in self.parts.iter().filter(|part| part.bytes > 0) {
            let tied = self.head_is_tied && *part == "embedding";
            let name = if tied {
                "embedding, also the head"
            } else {
                part
            };
            table.row([name.to_owned(), count(*n), bytes(*n), share(*n, self.total)]);
        }
        table.row([
            "file".to_owned(),
            count(self.total),
            bytes(self.total),
            String::new(),
        ]);
        table.render()
    }

    /// Parts and sizes on one line, the greatest first.
    pub fn line(&self) -> String {
        let mut parts: Vec<&PartBytes> = self.parts.iter().filter(|p| p.bytes > 0).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let parts: Vec<String> = parts
            .iter()
            .map(|p| format!("{} {}", p.part, bytes(p.bytes)))
            .collect();
        parts.join(", ")
    }
}

type Claim = (u64, u64, Part);

/// Which bytes belong to which part. Ranges may overlap where tensors share data.
fn claims(palm: &Palm<'_>) -> Vec<Claim> {
    let h = palm.header();
    let mut claims = vec![(0, u64::from(h.head_len), Part::Head)];
    let r = &h.roles;
    claim(palm, &mut claims, Part::Embedding, &[r.embedding]);
    claim(palm, &mut claims, Part::OutputHead, &[r.head]);
    claim(
        palm,
        &mut claims,
        Part::Positions,
        &[
            r.encoder_positions,
            r.decoder_positions,
            r.encoder_distances,
            r.decoder_distances,
        ],
    );
    claim(
        palm,
        &mut claims,
        Part::Norms,
        &[
            r.encoder_embedding_norm,
            r.decoder_embedding_norm,
            r.encoder_final_norm,
            r.decoder_final_norm,
        ],
    );
    for index in 0..h.layers.count {
        let l = palm.layer(index);
        claim(palm, &mut claims, Part::Norms, &[l.self_norm, l.ff_norm]);
        claim(palm, &mut claims, Part::Positions, &[l.rel_bias]);
        claim(palm, &mut claims, Part::Attention, &[l.q, l.k, l.v, l.o]);
        let decoder = u32::from(h.encoder_layers)..h.layer_count();
        if decoder.contains(&index) {
            claim(palm, &mut claims, Part::Norms, &[l.cross_norm]);
            let cross = [l.cross_q, l.cross_k, l.cross_v, l.cross_o];
            claim(palm, &mut claims, Part::Attention, &cross);
        }
        match l.ff_kind {
            FeedForwardKind::Dense => {
                claim(
                    palm,
                    &mut claims,
                    Part::FeedForward,
                    &[l.wi, l.wi_linear, l.wo],
                );
            }
            FeedForwardKind::Mixture => claim(palm, &mut claims, Part::Routers, &[l.router]),
        }
    }
    let mut section = |offset: u32, len: u64, part| {
        if len > 0 {
            claims.push((u64::from(offset), u64::from(offset) + len, part));
        }
    };
    section(h.tokenizer.offset, tokenizer_len(palm), Part::Tokenizer);
    section(h.golden.offset, golden_len(palm), Part::Golden);
    section(
        h.experts_section.offset,
        h.experts_section.len.into(),
        Part::Experts,
    );
    let names = palm.section(h.names);
    section(h.names.offset, unpadded(names), Part::Names);
    claims
}

/// Claims a tensor's matrix, scales, sums and bias.
fn claim(palm: &Palm<'_>, claims: &mut Vec<Claim>, part: Part, tensors: &[u16]) {
    for index in tensors.iter().filter(|index| **index != NONE16) {
        let Some(t) = palm.tensor(*index) else {
            continue;
        };
        let mut push = |offset: u32, len: u64| {
            claims.push((u64::from(offset), u64::from(offset) + len, part));
        };
        push(t.offset, t.matrix_bytes());
        if t.format == TensorFormat::I8 {
            push(t.scales, u64::from(t.rows) * 4);
            push(t.sums, u64::from(t.rows) * 4);
        }
        if t.bias != 0 {
            let values = if part == Part::Norms { t.cols } else { t.rows };
            push(t.bias, u64::from(values) * 4);
        }
    }
}

/// Bytes of the tokenizer's tables without the padding behind them.
fn tokenizer_len(palm: &Palm<'_>) -> u64 {
    let b = palm.section(palm.header().tokenizer);
    if b.is_empty() {
        return 0;
    }
    let outputs = u32_at(b, 32);
    let offsets = if outputs > 0 { (outputs + 1) * 4 } else { 0 };
    40 + u32_at(b, 28) * 8 + offsets + u32_at(b, 36)
}

/// Bytes of the golden pair without the padding behind it.
fn golden_len(palm: &Palm<'_>) -> u64 {
    let b = palm.section(palm.header().golden);
    if b.is_empty() {
        0
    } else {
        16 + (u32_at(b, 0) + u32_at(b, 4)) * 4
    }
}

fn unpadded(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk());
    four.map_or(0, |four| u64::from(u32::from_le_bytes(*four)))
}
