//! How far a model is from a reference of the same shape: states, routes, outputs.
//!
//! Both read the same source, and both decoders are fed what the reference generated, so that their
//! states stand for the same tokens. The model runs twice: with its own routes, and with those of
//! the reference, which leaves the error of its weights and activations alone.

use anyhow::Result;
use palmtop::Stack;
use serde::Serialize;

use super::watch::{Decision, Place, Watch, key};
use crate::engine::{Engine, Fed};
use crate::failure::failed;
use crate::mixtures::{Mixture, label, mixtures, stack_name};

/// The error of vectors against their references.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gap {
    squares: f64,
    reference: f64,
    angles: f64,
    vectors: usize,
}

impl Gap {
    /// Adds vectors of `width` values, one after another.
    pub fn add(&mut self, got: &[f32], reference: &[f32], width: usize) {
        let width = width.max(1);
        for (a, b) in got.chunks_exact(width).zip(reference.chunks_exact(width)) {
            let (mut aa, mut bb, mut ab, mut dd) = (0.0f64, 0.0, 0.0, 0.0);
            for (a, b) in a.iter().zip(b) {
                let (a, b) = (f64::from(*a), f64::from(*b));
                aa += a * a;
                bb += b * b;
                ab += a * b;
                dd += (a - b) * (a - b);
            }
            self.squares += dd;
            self.reference += bb;
            if aa > 0.0 && bb > 0.0 {
                self.angles += (1.0 - ab / (aa.sqrt() * bb.sqrt())).max(0.0);
            }
            self.vectors += 1;
        }
    }

    /// ‖Δ‖ / ‖reference‖ over all vectors together.
    pub fn relative(&self) -> f64 {
        if self.reference > 0.0 {
            (self.squares / self.reference).sqrt()
        } else {
            0.0
        }
    }

    /// 1 − cosine, the mean over the vectors.
    pub fn angle(&self) -> f64 {
        self.angles / self.vectors.max(1) as f64
    }
}

/// The errors of one kind of state, with the model's own routes and with the reference's.
#[derive(Debug, Clone, Default)]
struct Row {
    name: String,
    free: Gap,
    forced: Gap,
}

/// Decisions of one sparse layer that came out otherwise than the reference's.
#[derive(Debug, Clone, Copy)]
struct Flips {
    mixture: Mixture,
    decisions: usize,
    free: usize,
    forced: usize,
}

/// What was found over some lines.
#[derive(Debug)]
pub struct Difference {
    places: Vec<(Place, Row)>,
    hidden: Row,
    logits: Row,
    flips: Vec<Flips>,
    lines: usize,
    source_tokens: usize,
    target_tokens: usize,
}

/// One kind of state in a report.
#[derive(Debug, Clone, Serialize)]
pub struct StateError {
    /// `enc 0`, `block`, `encoder output`, `dec 0`, `logits`.
    pub state: String,
    /// ‖Δ‖ / ‖reference‖ with the model's own routes.
    pub relative: f64,
    /// 1 − cosine, mean over tokens, with the model's own routes.
    pub one_minus_cosine: f64,
    /// The same with the reference's routes, if the model has sparse layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_relative: Option<f64>,
    /// The same with the reference's routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_one_minus_cosine: Option<f64>,
}

/// One sparse layer in a report.
#[derive(Debug, Clone, Serialize)]
pub struct RouteFlips {
    /// `encoder`, `decoder` or `block`.
    pub stack: &'static str,
    /// The layer in its stack.
    pub layer: usize,
    /// What it is called in a table.
    #[serde(skip)]
    pub label: String,
    /// Choices of all tokens: k for each.
    pub decisions: usize,
    /// Choices that differ from the reference's, with the model's own routes in the layers before.
    pub flips: usize,
    /// Choices that the router would have made otherwise, with the reference's routes in the layers
    /// before.
    pub forced_flips: usize,
}

/// What was found, for a report.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// Lines that were run.
    pub lines: usize,
    /// Source tokens of those lines.
    pub source_tokens: usize,
    /// Tokens that the decoders were fed.
    pub target_tokens: usize,
    /// The errors, in the order of a run.
    pub states: Vec<StateError>,
    /// The routes.
    pub routes: Vec<RouteFlips>,
}

impl Difference {
    /// Checks that the two models have the same shape.
    pub fn new(model: &Engine<'_>, reference: &Engine<'_>) -> Result<Self> {
        let (a, b) = (model.header(), reference.header());
        let fields = [
            ("d_model", a.d_model, b.d_model),
            ("vocabulary", a.vocab, b.vocab),
            (
                "encoder layers",
                a.encoder_layers.into(),
                b.encoder_layers.into(),
            ),
            (
                "decoder layers",
                a.decoder_layers.into(),
                b.decoder_layers.into(),
            ),
        ];
        for (what, here, there) in fields {
            if here != there {
                return Err(failed(format!(
                    "the models differ in shape: {what} is {here} here and {there} in the reference"
                ))
                .help("compare a model with another conversion of the same checkpoint")
                .into());
            }
        }
        let mixtures = mixtures(model.model().palm());
        let others = self::mixtures(reference.model().palm());
        let sizes = |ms: &[Mixture]| -> Vec<_> {
            ms.iter()
                .map(|m| (label(m.stack, m.layer), m.experts(), m.record.top_k))
                .collect()
        };
        if sizes(&mixtures) != sizes(&others) {
            return Err(failed("the models differ in their sparse layers")
                .help("compare a model with another conversion of the same checkpoint")
                .into());
        }
        let row = |name: String| Row {
            name,
            ..Row::default()
        };
        let mut places = Vec::new();
        let mut add = |stack: Stack, layer: usize| {
            places.push(((stack, layer), row(label(stack, layer))));
        };
        (0..a.encoder_layers).for_each(|layer| add(Stack::Encoder, layer.into()));
        if a.mixture_block {
            add(Stack::Block, 0);
        }
        (0..a.decoder_layers).for_each(|layer| add(Stack::Decoder, layer.into()));
        let flips = mixtures.into_iter().map(|mixture| Flips {
            mixture,
            decisions: 0,
            free: 0,
            forced: 0,
        });
        Ok(Self {
            places,
            hidden: row("encoder output".to_owned()),
            logits: row("logits".to_owned()),
            flips: flips.collect(),
            lines: 0,
            source_tokens: 0,
            target_tokens: 0,
        })
    }

    /// Runs both on a source. `generated` is what the reference made of it.
    pub fn add(
        &mut self,
        model: &mut Engine<'_>,
        reference: &mut Engine<'_>,
        source: &[u32],
        generated: &[u32],
    ) -> Result<()> {
        let h = *reference.header();
        // The last id is never fed.
        let fed = generated.split_last().map_or(&[][..], |(_, fed)| fed);
        let mut target = if h.decoder_only {
            source.to_vec()
        } else {
            vec![h.decoder_start]
        };
        target.extend_from_slice(fed);

        let mut theirs = Watch::default();
        let wanted = reference.fed(source, &target, &mut theirs)?;
        let routes = theirs.routes();
        let mut own = Watch::default();
        let free = model.fed(source, &target, &mut own)?;
        self.gaps((&own, &free), (&theirs, &wanted), &h, false);
        let differs = |(decision, expert): &&(Decision, usize)| {
            routes.get(&key(*decision)).is_some_and(|e| e != expert)
        };
        let count = |list: &[(Decision, usize)], place: Place| {
            list.iter()
                .filter(differs)
                .filter(|((stack, layer, ..), _)| (*stack, *layer) == place)
                .count()
        };
        let mut led = Watch {
            forced: Some(&routes),
            ..Watch::default()
        };
        if !self.flips.is_empty() {
            let forced = model.fed(source, &target, &mut led)?;
            self.gaps((&led, &forced), (&theirs, &wanted), &h, true);
        }
        for flips in &mut self.flips {
            let place = (flips.mixture.stack, flips.mixture.layer);
            let here = theirs.taken.iter();
            flips.decisions += here
                .filter(|((stack, layer, ..), _)| (*stack, *layer) == place)
                .count();
            flips.free += count(&own.taken, place);
            flips.forced += count(&led.wanted, place);
        }
        self.lines += 1;
        self.source_tokens += source.len();
        self.target_tokens += target.len();
        Ok(())
    }

    fn gaps(
        &mut self,
        (got, got_ends): (&Watch<'_>, &Fed),
        (reference, ends): (&Watch<'_>, &Fed),
        h: &palmtop::format::Header,
        forced: bool,
    ) {
        let (d_model, vocab) = (h.d_model as usize, h.vocab as usize);
        let side = |row: &mut Row, got: &[f32], reference: &[f32], width: usize| {
            let gap = if forced {
                &mut row.forced
            } else {
                &mut row.free
            };
            gap.add(got, reference, width);
        };
        for (place, row) in &mut self.places {
            side(
                row,
                got.states_at(*place),
                reference.states_at(*place),
                d_model,
            );
        }
        side(&mut self.hidden, &got_ends.hidden, &ends.hidden, d_model);
        side(&mut self.logits, &got_ends.logits, &ends.logits, vocab);
    }

    /// The numbers.
    pub fn found(&self) -> Found {
        let sparse = !self.flips.is_empty();
        let state = |row: &Row| StateError {
            state: row.name.clone(),
            relative: row.free.relative(),
            one_minus_cosine: row.free.angle(),
            forced_relative: sparse.then(|| row.forced.relative()),
            forced_one_minus_cosine: sparse.then(|| row.forced.angle()),
        };
        let decoder = |((stack, _), _): &&(Place, Row)| *stack == Stack::Decoder;
        let encoder: Vec<_> = self.places.iter().filter(|p| !decoder(p)).collect();
        let output = (self.hidden.free.vectors > 0).then_some(&self.hidden);
        let rows = encoder.into_iter().map(|(_, row)| row).chain(output);
        let rows = rows.chain(self.places.iter().filter(decoder).map(|(_, row)| row));
        Found {
            lines: self.lines,
            source_tokens: self.source_tokens,
            target_tokens: self.target_tokens,
            states: rows.chain([&self.logits]).map(state).collect(),
            routes: self
                .flips
                .iter()
                .map(|flips| RouteFlips {
                    stack: stack_name(flips.mixture.stack),
                    layer: flips.mixture.layer,
                    label: flips.mixture.label(),
                    decisions: flips.decisions,
                    flips: flips.free,
                    forced_flips: flips.forced,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_relative_to_the_reference() {
        let mut gap = Gap::default();
        gap.add(&[3.0, 0.0, 0.0, 4.0], &[3.0, 0.0, 0.0, 5.0], 2);
        assert!((gap.relative() - (1.0f64 / 34.0).sqrt()).abs() < 1e-12);
        assert_eq!(gap.angle(), 0.0, "both vectors have their direction");
        let mut turned = Gap::default();
        turned.add(&[0.0, 1.0], &[1.0, 0.0], 2);
        assert_eq!(turned.angle(), 1.0);
        assert!((turned.relative() - 2.0f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_no_error() {
        assert_eq!(Gap::default().relative(), 0.0);
        assert_eq!(Gap::default().angle(), 0.0);
    }
}
