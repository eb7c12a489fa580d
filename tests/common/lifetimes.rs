//! A second opinion on the arena: every region of memory that a run needs, with the units of work
//! during which it is alive. Computed from a file's header and tables and from
//! `src/kernels/CONTRACT.md` alone; nothing here asks the library for a size.
#![allow(dead_code)]

use palmtop::Limits;
use palmtop::format::{FeedForwardKind, LayerRecord, Palm, Policy};
use palmtop::kernels::Layout;

/// A block of memory, alive from the unit `first` to the unit `last`, both included.
#[derive(Debug)]
pub struct Region {
    pub what: &'static str,
    pub bytes: u128,
    pub first: usize,
    pub last: usize,
}

/// A run, unit by unit.
pub struct Timeline {
    regions: Vec<Region>,
    units: Vec<&'static str>,
}

/// Heads of one stack.
#[derive(Clone, Copy)]
struct Heads {
    count: u128,
    /// Heads of keys and values.
    kv_count: u128,
    width: u128,
}

impl Heads {
    fn inner(self) -> u128 {
        self.count * self.width
    }

    fn kv_inner(self) -> u128 {
        self.kv_count * self.width
    }
}

/// What the sizes of regions follow from.
struct Sizes<'p, 'm> {
    palm: &'p Palm<'m>,
    d_model: u128,
    int8: bool,
}

fn round_up(bytes: u128, to: u128) -> u128 {
    bytes.div_ceil(to) * to
}

impl Sizes<'_, '_> {
    /// Keys and values of one layer. int8: a scale per head vector, and whole words.
    fn keys_values(&self, positions: u128, heads: Heads) -> u128 {
        let vectors = positions * heads.kv_count;
        if self.int8 {
            2 * (vectors * 4 + round_up(vectors * heads.width, 4))
        } else {
            2 * vectors * heads.width * 4
        }
    }

    /// The input rows of linear layers. int8: rows of 16 bytes, with scale and zero point; the
    /// same rows later take inputs of `inner` values. Floats: D values; wider inputs stay where
    /// they were computed.
    fn tile(&self, rows: u128, inner: u128) -> u128 {
        self.tile_of(self.int8, rows, inner)
    }

    fn tile_of(&self, integer: bool, rows: u128, inner: u128) -> u128 {
        if integer {
            // DSP cores keep a value as a 16-bit number, and its pair's difference beside it.
            let room = match self.palm.header().layout {
                Layout::Lanes4 => 2,
                _ => 1,
            };
            rows * round_up(self.d_model.max(inner), 16) * room + rows * 4 + rows * 4
        } else {
            rows * self.d_model * 4
        }
    }

    /// The f32 rows that linear layers write. A norm's row of D values passes through the same.
    fn wide(&self, rows: u128, inner: u128) -> u128 {
        (rows * inner).max(self.d_model) * 4
    }

    /// Scores; int8: also weights of 15 bits, sums of P·V, and a quantized query.
    fn attention(&self, keys: u128, heads: Heads) -> u128 {
        let scores = keys * 4;
        if self.int8 {
            scores + round_up(keys * 2, 4) + heads.width * 4 + round_up(heads.width, 4)
        } else {
            scores
        }
    }

    fn rows_of(&self, tensor: u16) -> u128 {
        self.palm.tensor(tensor).unwrap().rows.into()
    }

    /// The input rows of a layer's experts, which are quantized or not whatever the model is: the
    /// greater of those that there are.
    fn expert_tile(&self, layer: &LayerRecord, rows: u128, inner: u128) -> u128 {
        let first = layer.first_expert;
        (first..first + u32::from(layer.experts))
            .map(|expert| {
                let wi = self.palm.tensor(self.palm.expert(expert).wi).unwrap();
                self.tile_of(wi.format.is_integer(), rows, inner)
            })
            .max()
            .unwrap()
    }

    /// Whether a layer's outputs are added up beside the stream.
    fn is_aside(&self, layer: &LayerRecord) -> bool {
        let mixture = layer.ff_kind == FeedForwardKind::Mixture;
        self.palm.header().parallel || (mixture && layer.top_k > 1)
    }

    /// Hidden width of the widest expert of a layer.
    fn widest_expert(&self, layer: &LayerRecord) -> u128 {
        (0..u32::from(layer.experts))
            .map(|expert| self.rows_of(self.palm.expert(layer.first_expert + expert).wi))
            .max()
            .unwrap()
    }
}

impl Timeline {
    pub fn new(palm: &Palm<'_>, limits: Limits) -> Self {
        let mut time = Self {
            regions: Vec::new(),
            units: Vec::new(),
        };
        let sizes = Sizes::of(palm);
        let mut cross = Vec::new();
        if !palm.header().decoder_only {
            let states = time.encode(palm, limits);
            cross = time.cross(palm, limits);
            let end = time.unit("last of the source");
            time.alive("encoder states", states, 0, end);
        }
        let start = time.decode(palm, limits);
        let end = time.units.len() - 1;
        for (bytes, first) in cross {
            time.alive("cross K/V", bytes, first, end);
        }
        let header = palm.header();
        let own = sizes.keys_values(limits.target.into(), decoder(palm));
        for _ in 0..u128::from(header.decoder_layers) * u128::from(limits.beams) {
            time.alive("self K/V", own, start, end);
        }
        time.alive("decoder state", sizes.d_model * 4, start, end);
        let encoder = u32::from(header.encoder_layers);
        let mut layers = (encoder..header.layer_count()).map(|index| palm.layer(index));
        if layers.any(|layer| sizes.is_aside(&layer)) {
            time.alive("sum of experts", sizes.d_model * 4, start, end);
        }
        time
    }

    /// The encoder's layers and the mixture block; gives the bytes of the states, which live longer.
    fn encode(&mut self, palm: &Palm<'_>, limits: Limits) -> u128 {
        let (sizes, header) = (Sizes::of(palm), palm.header());
        let source = u128::from(limits.source);
        let rows = source.min(header.tile.into());
        let sums = source * sizes.d_model * 4;
        let heads = Heads {
            count: header.encoder_heads.into(),
            kv_count: header.encoder_kv_heads.into(),
            width: header.encoder_d_kv.into(),
        };
        let begin = self.units.len();
        for index in 0..u32::from(header.encoder_layers) {
            let layer = palm.layer(index);
            if !header.parallel {
                self.encoder_attention(&sizes, source, rows, heads);
                let (first, last) = self.encoder_feed_forward(&sizes, &layer, source, rows);
                if sizes.is_aside(&layer) {
                    self.alive("sums of experts", sums, first, last);
                }
                continue;
            }
            // The feed-forward first, from the x that attention then changes.
            let (first, _) = self.encoder_feed_forward(&sizes, &layer, source, rows);
            let last = self.encoder_attention(&sizes, source, rows, heads);
            self.alive("sums of experts", sums, first, last);
        }
        if let Some(index) = header.block_index() {
            self.block(&sizes, &palm.layer(index), source, rows, heads);
        }
        let mut layers = (0..u32::from(header.encoder_layers)).map(|index| palm.layer(index));
        if layers.any(|layer| layer.policy == Policy::Hash) {
            self.alive("ids", source * 4, begin, self.units.len() - 1);
        }
        sums
    }

    fn encoder_attention(
        &mut self,
        sizes: &Sizes<'_, '_>,
        source: u128,
        rows: u128,
        heads: Heads,
    ) -> usize {
        let first = self.unit("encoder keys and values");
        self.linear(sizes, rows, heads.inner());
        let last = self.unit("encoder attention");
        self.linear(sizes, rows, heads.inner());
        self.now("scores", sizes.attention(source, heads));
        self.alive("encoder K/V", sizes.keys_values(source, heads), first, last);
        last
    }

    /// Gives the first and the last unit.
    fn encoder_feed_forward(
        &mut self,
        sizes: &Sizes<'_, '_>,
        layer: &LayerRecord,
        source: u128,
        rows: u128,
    ) -> (usize, usize) {
        if layer.ff_kind == FeedForwardKind::Dense {
            let unit = self.unit("encoder feed-forward");
            self.linear(sizes, rows, sizes.rows_of(layer.wi));
            return (unit, unit);
        }
        let (experts, places) = (u128::from(layer.experts), source * u128::from(layer.top_k));
        let first = self.unit("routes");
        self.now("a normed row", sizes.d_model * 4);
        self.now("probabilities", experts * 4);
        let last = self.unit("experts");
        self.now("gather list", rows * 4);
        self.now("gates of the gathered", rows * 4);
        self.expert(sizes, layer, rows);
        self.alive("choices", round_up(places * 2, 4), first, last);
        self.alive("gates", places * 4, first, last);
        self.alive("counts", experts * 4, first, last);
        (first, last)
    }

    /// The mixture block: one decision, then its experts one after another over all tokens.
    fn block(
        &mut self,
        sizes: &Sizes<'_, '_>,
        layer: &LayerRecord,
        source: u128,
        rows: u128,
        heads: Heads,
    ) {
        let first = self.unit("block route");
        self.now("mean", sizes.d_model * 4);
        self.now("a normed row", sizes.d_model * 4);
        self.now("probabilities", u128::from(layer.experts) * 4);
        if sizes.palm.expert(layer.first_expert).has_attention() {
            let first = self.unit("block keys and values");
            self.now("tile", sizes.expert_tile(layer, rows, 0));
            self.now("wide rows", sizes.wide(rows, heads.inner()));
            let last = self.unit("block attention");
            self.now("tile", sizes.expert_tile(layer, rows, heads.inner()));
            self.now("wide rows", sizes.wide(rows, heads.inner()));
            self.now("scores", sizes.attention(source, heads));
            self.alive("block K/V", sizes.keys_values(source, heads), first, last);
        }
        let last = self.unit("block experts");
        self.expert(sizes, layer, rows);
        let chosen = u128::from(layer.top_k);
        self.alive("choices", round_up(chosen * 2, 4) + chosen * 4, first, last);
        self.alive("sums of experts", source * sizes.d_model * 4, first, last);
    }

    fn expert(&mut self, sizes: &Sizes<'_, '_>, layer: &LayerRecord, rows: u128) {
        let width = sizes.widest_expert(layer);
        self.now("tile", sizes.expert_tile(layer, rows, width));
        self.now("wide rows", sizes.wide(rows, width));
    }

    /// Cross-attention K/V: how many bytes each layer has, and from when on.
    fn cross(&mut self, palm: &Palm<'_>, limits: Limits) -> Vec<(u128, usize)> {
        let (sizes, header) = (Sizes::of(palm), palm.header());
        let source = u128::from(limits.source);
        let (rows, heads) = (source.min(header.tile.into()), decoder(palm));
        let bytes = sizes.keys_values(source, heads);
        (0..header.decoder_layers)
            .map(|_| {
                let unit = self.unit("cross keys and values");
                // Encoder states are not wider than D: the tile holds nothing else here.
                self.now("tile", sizes.tile(rows, 0));
                self.now("wide rows", sizes.wide(rows, heads.kv_inner()));
                (bytes, unit)
            })
            .collect()
    }

    /// One step of the decoder; every other needs the same. Gives its first unit.
    fn decode(&mut self, palm: &Palm<'_>, limits: Limits) -> usize {
        let (sizes, header) = (Sizes::of(palm), palm.header());
        let heads = decoder(palm);
        let start = self.units.len();
        let encoder_layers = u32::from(header.encoder_layers);
        for index in 0..u32::from(header.decoder_layers) {
            let layer = palm.layer(encoder_layers + index);
            for (what, keys) in [
                ("self-attention", limits.target),
                ("cross-attention", limits.source),
            ] {
                if header.decoder_only && what == "cross-attention" {
                    continue;
                }
                self.unit(what);
                self.linear(&sizes, 1, heads.inner());
                self.now("scores", sizes.attention(keys.into(), heads));
            }
            if layer.ff_kind == FeedForwardKind::Dense {
                self.unit("decoder feed-forward");
                self.linear(&sizes, 1, sizes.rows_of(layer.wi));
                continue;
            }
            let first = self.unit("decoder routes");
            self.now("a normed row", sizes.d_model * 4);
            self.now("probabilities", u128::from(layer.experts) * 4);
            let last = self.unit("decoder experts");
            self.expert(&sizes, &layer, 1);
            let chosen = u128::from(layer.top_k);
            self.alive("choices", round_up(chosen * 2, 4) + chosen * 4, first, last);
        }
        self.unit("head");
        self.now("tile", sizes.tile(1, 0));
        self.now("last state", sizes.d_model * 4);
        self.now("logits", u128::from(header.vocab) * 4);
        start
    }

    /// Begins the next unit of work and gives its number.
    fn unit(&mut self, what: &'static str) -> usize {
        self.units.push(what);
        self.units.len() - 1
    }

    fn alive(&mut self, what: &'static str, bytes: u128, first: usize, last: usize) {
        assert!(first <= last);
        self.regions.push(Region {
            what,
            bytes,
            first,
            last,
        });
    }

    /// A region of the unit that was begun last, and of no other.
    fn now(&mut self, what: &'static str, bytes: u128) {
        let unit = self.units.len() - 1;
        self.alive(what, bytes, unit, unit);
    }

    fn linear(&mut self, sizes: &Sizes<'_, '_>, rows: u128, inner: u128) {
        self.now("tile", sizes.tile(rows, inner));
        self.now("wide rows", sizes.wide(rows, inner));
    }

    fn at(&self, unit: usize) -> u128 {
        let alive = |region: &&Region| (region.first..=region.last).contains(&unit);
        self.regions.iter().filter(alive).map(|r| r.bytes).sum()
    }

    /// The most bytes that are alive at once, and the unit in which they are.
    pub fn peak(&self) -> (u128, &'static str) {
        let peaks = (0..self.units.len()).map(|unit| (self.at(unit), self.units[unit]));
        peaks.max_by_key(|(bytes, _)| *bytes).unwrap()
    }
}

impl<'p, 'm> Sizes<'p, 'm> {
    fn of(palm: &'p Palm<'m>) -> Self {
        Self {
            palm,
            d_model: palm.header().d_model.into(),
            int8: palm.header().numeric == 1,
        }
    }
}

/// The heads of the decoder, which cross-attention has too.
fn decoder(palm: &Palm<'_>) -> Heads {
    Heads {
        count: palm.header().decoder_heads.into(),
        kv_count: palm.header().decoder_kv_heads.into(),
        width: palm.header().decoder_d_kv.into(),
    }
}
