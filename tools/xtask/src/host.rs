//! The same model on the host, through the same core: what the boards must reproduce bit for bit.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use palmtop::generate::{argmax, greedy};
use palmtop::text::Tokenizer;
use palmtop::{Limits, Model, NoTrace, RouteTrace, Session};

/// A model file in aligned memory.
pub struct Host {
    words: Vec<u128>,
    length: usize,
}

/// What the host computes for an input.
pub struct Expected {
    /// The ids fed to the decoder.
    pub fed: Vec<u32>,
    /// The greatest logit after each.
    pub tokens: Vec<u32>,
    /// The logits of each step, as little-endian f32.
    pub logits: Vec<u8>,
}

impl Host {
    /// Reads a .palm file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        Ok(Self {
            words,
            length: bytes.len(),
        })
    }

    /// The model.
    pub fn model(&self) -> Result<Model<'_>> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        Model::parse(&bytes[..self.length]).map_err(|error| anyhow!("{error}"))
    }

    /// The ids of a text.
    pub fn ids(&self, text: &str, limit: u32) -> Result<Vec<u32>> {
        let model = self.model()?;
        let tokenizer = Tokenizer::of(model.palm()).context("the model has no tokenizer")?;
        let mut ids = vec![0; limit as usize];
        let count = tokenizer
            .encode(text, &mut ids)
            .with_context(|| text.to_owned())?;
        ids.truncate(count);
        Ok(ids)
    }

    /// The text of ids.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        let model = self.model()?;
        let tokenizer = Tokenizer::of(model.palm()).context("the model has no tokenizer")?;
        let mut text = Vec::new();
        tokenizer.decode(ids, |piece| text.extend_from_slice(piece));
        Ok(String::from_utf8(text)?)
    }

    /// The tokens of greedy search.
    pub fn generate(&self, source: &[u32], limits: Limits) -> Result<Vec<u32>> {
        let model = self.model()?;
        let mut arena = arena(&model, limits);
        let mut session = Session::new(model, limits, bytemuck::cast_slice_mut(&mut arena))?;
        let mut decoder = session.encode(source)?.decoder();
        let mut tokens = Vec::new();
        greedy(&mut decoder, limits.target as usize, &mut NoTrace, |id| {
            tokens.push(id)
        })?;
        Ok(tokens)
    }

    /// Encodes a source and shows the routes to `trace`.
    pub fn encode(
        &self,
        source: &[u32],
        limits: Limits,
        trace: &mut impl RouteTrace,
    ) -> Result<()> {
        let model = self.model()?;
        let mut arena = arena(&model, limits);
        let mut session = Session::new(model, limits, bytemuck::cast_slice_mut(&mut arena))?;
        session.encode_traced(source, trace)?;
        Ok(())
    }

    /// The logits when these ids are fed to the decoder.
    pub fn logits(&self, source: &[u32], fed: Vec<u32>, limits: Limits) -> Result<Expected> {
        let model = self.model()?;
        let mut arena = arena(&model, limits);
        let mut session = Session::new(model, limits, bytemuck::cast_slice_mut(&mut arena))?;
        let mut decoder = session.encode(source)?.decoder();
        let (mut tokens, mut logits) = (Vec::new(), Vec::new());
        for &id in &fed {
            let values = decoder.step(id)?;
            tokens.push(argmax(values));
            logits.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(Expected {
            fed,
            tokens,
            logits,
        })
    }

    /// The logits along the host's own greedy output.
    pub fn greedy_logits(&self, source: &[u32], limits: Limits) -> Result<Expected> {
        let mut fed = self.generate(source, limits)?;
        fed.pop();
        fed.insert(0, self.model()?.palm().header().decoder_start);
        self.logits(source, fed, limits)
    }
}

fn arena(model: &Model<'_>, limits: Limits) -> Vec<u128> {
    vec![0; model.arena_bytes(limits).div_ceil(16)]
}
