//! Multiply-accumulates of a model, counted from its file: linear layers and attention.

use palmtop::format::{FeedForwardKind, LayerRecord, Palm};

/// Multiply-accumulates of one source and what is generated from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// Of the encoder, keys and values of cross-attention included.
    pub encoder: u64,
    /// Of all decoder steps.
    pub decoder: u64,
}

/// Those of a run over `source` tokens with `steps` decoder steps. Every chosen expert counts, also
/// where it has no room for a token.
pub fn of(palm: &Palm<'_>, source: u64, steps: u64) -> Macs {
    let header = palm.header();
    let layers = |range: std::ops::Range<u32>| range.map(|index| palm.layer(index));
    let encoder_layers = u32::from(header.encoder_layers);
    let decoder_layers = encoder_layers + u32::from(header.decoder_layers);
    let size = |index| size(palm, index);
    let width = |heads: u16, d_kv: u16| u64::from(heads) * u64::from(d_kv);
    let encoder_width = width(header.encoder_heads, header.encoder_d_kv);
    let decoder_width = width(header.decoder_heads, header.decoder_d_kv);
    let mut macs = Macs::default();
    if !header.decoder_only {
        for layer in layers(0..encoder_layers) {
            let linear = own(palm, &layer) + feed_forward(palm, &layer);
            // Scores, and the sum of the values.
            macs.encoder += source * (linear + 2 * source * encoder_width);
        }
    }
    // Positions 1, 2, …: what a step's own attention looks back on.
    let looked_at = steps * (steps + 1) / 2;
    for layer in layers(encoder_layers..decoder_layers) {
        let mut linear = own(palm, &layer) + feed_forward(palm, &layer);
        macs.decoder += 2 * looked_at * decoder_width;
        if !header.decoder_only {
            linear += size(layer.cross_q) + size(layer.cross_o);
            macs.encoder += source * (size(layer.cross_k) + size(layer.cross_v));
            macs.decoder += 2 * steps * source * decoder_width;
        }
        macs.decoder += steps * linear;
    }
    macs.decoder += steps * size(header.roles.head);
    macs
}

/// Weights of a matrix.
fn size(palm: &Palm<'_>, index: u16) -> u64 {
    let tensor = palm.tensor(index);
    tensor.map_or(0, |tensor| u64::from(tensor.rows) * u64::from(tensor.cols))
}

/// Of the projections of self-attention.
fn own(palm: &Palm<'_>, layer: &LayerRecord) -> u64 {
    let matrices = [layer.q, layer.k, layer.v, layer.o];
    matrices.into_iter().map(|index| size(palm, index)).sum()
}

/// Of the feed-forward block of one token.
fn feed_forward(palm: &Palm<'_>, layer: &LayerRecord) -> u64 {
    let block =
        |matrices: [u16; 3]| -> u64 { matrices.into_iter().map(|index| size(palm, index)).sum() };
    match layer.ff_kind {
        FeedForwardKind::Dense => block([layer.wi, layer.wi_linear, layer.wo]),
        FeedForwardKind::Mixture => {
            let expert = palm.expert(layer.first_expert);
            let expert = block([expert.wi, expert.wi_linear, expert.wo]);
            size(palm, layer.router) + u64::from(layer.top_k) * expert
        }
    }
}
