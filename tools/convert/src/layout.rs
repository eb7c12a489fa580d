//! Gives every tensor its place: the resident weights one after another, each expert's in a blob
//! of its own, and the three tables that say where. Experts' bytes are made when the file is
//! written (`place::blob`): only their places are fixed here.

use palmtop::format::{NONE16, TensorFormat};
use palmtop::kernels;

use crate::Weights;
use crate::error::ConvertError;
use crate::formats::Formats;
use crate::graph::{
    Attention, Block, Expert, FeedForward, Graph, Head, Layer, Matrix, Mixture, MixtureBlock, Norm,
    Projections, Router, Rule, Stack,
};
use crate::place::{Form, TensorEntry, append, to_u32};
use crate::quantize::{self, Encoded};

/// Tensor indices of an attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionEntry {
    pub norm: u16,
    /// q, k, v, o.
    pub projections: [u16; 4],
}

/// Tensor indices of a feed-forward block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockEntry {
    pub activation: u8,
    pub wi: u16,
    pub wi_linear: u16,
    pub wo: u16,
}

/// What a mixture's entry says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixtureEntry {
    pub router: u16,
    pub experts: u16,
    pub first_expert: u32,
    pub rule: Rule,
}

/// The feed-forward part of a layer's entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FeedForwardEntry {
    Dense(BlockEntry),
    Mixture(MixtureEntry),
}

/// An entry of the layer table; the mixture block's has no attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerEntry {
    pub attention: Option<AttentionEntry>,
    pub relative_bias: u16,
    pub cross: Option<AttentionEntry>,
    pub ff_norm: u16,
    pub feed_forward: FeedForwardEntry,
}

/// An expert: the size of its blob and the entries that say what is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertEntry {
    /// Bytes, a multiple of 16.
    pub len: u32,
    pub format: TensorFormat,
    pub block: BlockEntry,
    /// q, k, v, o of an expert that is a whole layer.
    pub attention: Option<[u16; 4]>,
}

/// Names for the host, by index in the table.
#[derive(Default)]
pub(crate) struct Names {
    pub tensors: Vec<String>,
    /// What is in each expert, and how it is called in the checkpoint.
    pub experts: Vec<Vec<(&'static str, String)>>,
}

/// The model laid out; sections of text and JSON come later.
pub(crate) struct Layout {
    pub tensors: Vec<TensorEntry>,
    pub layers: Vec<LayerEntry>,
    pub experts: Vec<ExpertEntry>,
    /// The header's roles, in its order.
    pub roles: [u16; 12],
    pub resident: Vec<u8>,
    pub names: Names,
}

/// Lays out a graph with its matrices in the formats asked for, the bytes of int8 ones in `order`.
///
/// # Errors
/// If f16 cannot hold a value, or a table's index cannot count what there is.
pub(crate) fn lay_out(
    graph: &Graph,
    weights: Weights,
    formats: &Formats,
    order: kernels::Layout,
) -> Result<Layout, ConvertError> {
    let layout = Layout {
        tensors: Vec::new(),
        layers: Vec::new(),
        experts: Vec::new(),
        roles: [NONE16; 12],
        resident: Vec::new(),
        names: Names::default(),
    };
    let mut planner = Planner {
        format: weights.format(),
        order,
        formats,
        parallel: graph.parallel,
        layout,
    };
    planner.roles(graph)?;
    planner.stack(&graph.encoder)?;
    planner.stack(&graph.decoder)?;
    if let Some(block) = &graph.mixture_block {
        let entry = planner.mixture_block(block)?;
        planner.layout.layers.push(entry);
    }
    Ok(planner.layout)
}

struct Planner<'f> {
    format: TensorFormat,
    /// Order of the bytes of int8 matrices.
    order: kernels::Layout,
    formats: &'f Formats,
    parallel: bool,
    layout: Layout,
}

impl Planner<'_> {
    fn roles(&mut self, graph: &Graph) -> Result<(), ConvertError> {
        let embedding = self.linear(&graph.embedding)?;
        let head = match &graph.head {
            Head::Own(matrix) => self.linear(matrix)?,
            Head::Tied { bias: None } => embedding,
            Head::Tied { bias: Some(bias) } => self.shared_with(embedding, bias)?,
        };
        let (encoder, decoder) = (&graph.encoder, &graph.decoder);
        let encoder_positions = self.optional(&encoder.positions, Self::float)?;
        let decoder_positions = match (&encoder.positions, &decoder.positions) {
            // Computed tables are the same in both stacks.
            (Some(one), Some(other)) if one.cols == other.cols && one.values == other.values => {
                encoder_positions
            }
            _ => self.optional(&decoder.positions, Self::float)?,
        };
        self.layout.roles = [
            embedding,
            head,
            encoder_positions,
            decoder_positions,
            self.optional(&encoder.embedding_norm, Self::norm)?,
            self.optional(&decoder.embedding_norm, Self::norm)?,
            self.optional(&encoder.final_norm, Self::norm)?,
            self.optional(&decoder.final_norm, Self::norm)?,
            self.distances("encoder distances", &encoder.distances)?,
            self.distances("decoder distances", &decoder.distances)?,
            NONE16,
            NONE16,
        ];
        Ok(())
    }

    fn optional<T>(
        &mut self,
        part: &Option<T>,
        put: impl Fn(&mut Self, &T) -> Result<u16, ConvertError>,
    ) -> Result<u16, ConvertError> {
        part.as_ref().map_or(Ok(NONE16), |part| put(self, part))
    }

    fn distances(&mut self, name: &str, table: &[u8]) -> Result<u16, ConvertError> {
        if table.is_empty() {
            Ok(NONE16)
        } else {
            self.resident(name, &quantize::bytes(table))
        }
    }

    fn stack(&mut self, stack: &Stack) -> Result<(), ConvertError> {
        let put = |bias| self.float(bias);
        let biases = stack
            .relative_biases
            .iter()
            .map(put)
            .collect::<Result<Vec<_>, _>>()?;
        for layer in &stack.layers {
            let bias = layer.relative_bias.and_then(|index| biases.get(index));
            let entry = self.layer(layer, bias.copied().unwrap_or(NONE16))?;
            self.layout.layers.push(entry);
        }
        Ok(())
    }

    fn layer(&mut self, layer: &Layer, relative_bias: u16) -> Result<LayerEntry, ConvertError> {
        let attention = self.attention(&layer.attention)?;
        let cross = match &layer.cross {
            Some(cross) => Some(self.attention(cross)?),
            None => None,
        };
        // Side by side, both sublayers may read the same norm.
        let beside = layer.cross.as_ref().unwrap_or(&layer.attention);
        let ff_norm = if self.parallel && beside.norm == layer.ff_norm {
            cross.unwrap_or(attention).norm
        } else {
            self.norm(&layer.ff_norm)?
        };
        Ok(LayerEntry {
            attention: Some(attention),
            relative_bias,
            cross,
            ff_norm,
            feed_forward: match &layer.feed_forward {
                FeedForward::Dense(block) => FeedForwardEntry::Dense(self.dense(block)?),
                FeedForward::Mixture(mixture) => FeedForwardEntry::Mixture(self.mixture(mixture)?),
            },
        })
    }

    /// The entry of the mixture block (specification, section 4a).
    fn mixture_block(&mut self, block: &MixtureBlock) -> Result<LayerEntry, ConvertError> {
        Ok(LayerEntry {
            attention: None,
            relative_bias: NONE16,
            cross: None,
            ff_norm: self.norm(&block.norm)?,
            feed_forward: FeedForwardEntry::Mixture(self.mixture(&block.mixture)?),
        })
    }

    fn attention(&mut self, attention: &Attention) -> Result<AttentionEntry, ConvertError> {
        let norm = self.norm(&attention.norm)?;
        let Projections { q, k, v, o } = &attention.projections;
        let projections = [
            self.linear(q)?,
            self.linear(k)?,
            self.linear(v)?,
            self.linear(o)?,
        ];
        Ok(AttentionEntry { norm, projections })
    }

    fn dense(&mut self, block: &Block) -> Result<BlockEntry, ConvertError> {
        Ok(BlockEntry {
            activation: block.activation as u8,
            wi: self.linear(&block.wi)?,
            wi_linear: self.optional(&block.wi_linear, Self::linear)?,
            wo: self.linear(&block.wo)?,
        })
    }

    fn mixture(&mut self, mixture: &Mixture) -> Result<MixtureEntry, ConvertError> {
        let router = match &mixture.router {
            Router::Learned(matrix) => self.float(matrix)?,
            Router::Position => NONE16,
            Router::Table { name, experts } => self.resident(name, &quantize::bytes(experts))?,
        };
        let first_expert = to_u32("number of experts", self.layout.experts.len())?;
        for expert in &mixture.experts {
            let entry = self.expert(expert)?;
            self.layout.experts.push(entry);
        }
        let experts = u16::try_from(mixture.experts.len()).unwrap_or(u16::MAX);
        Ok(MixtureEntry {
            router,
            experts,
            first_expert,
            rule: mixture.rule,
        })
    }

    /// All of one expert in one blob, in the order of [`crate::place::matrices`]. Experts of one
    /// shape share entries of the tensor table.
    fn expert(&mut self, expert: &Expert) -> Result<ExpertEntry, ConvertError> {
        let format = self.formats.of(self.layout.experts.len());
        let mut end = 0;
        let mut names = Vec::new();
        let mut put = |part: &'static str, matrix: &Matrix| -> Result<u16, ConvertError> {
            let (entry, after) = Form::of(matrix, format, self.order).entry(end, true)?;
            end = after;
            names.push((part, matrix.name.clone()));
            match self.layout.tensors.iter().position(|other| *other == entry) {
                Some(index) => Ok(index as u16),
                None => self.index(&matrix.name, entry),
            }
        };
        let block = &expert.block;
        let entry = BlockEntry {
            activation: block.activation as u8,
            wi: put("wi", &block.wi)?,
            wi_linear: match &block.wi_linear {
                Some(matrix) => put("wi_linear", matrix)?,
                None => NONE16,
            },
            wo: put("wo", &block.wo)?,
        };
        let attention = match &expert.attention {
            None => None,
            Some(Projections { q, k, v, o }) => {
                Some([put("q", q)?, put("k", k)?, put("v", v)?, put("o", o)?])
            }
        };
        self.layout.names.experts.push(names);
        Ok(ExpertEntry {
            len: to_u32(
                "size of an expert",
                end.next_multiple_of(crate::place::unit(self.order)),
            )?,
            format,
            block: entry,
            attention,
        })
    }

    /// A matrix of a linear layer, the embedding or the head.
    fn linear(&mut self, matrix: &Matrix) -> Result<u16, ConvertError> {
        let encoded = quantize::matrix(matrix, self.format, self.order)?;
        self.resident(&matrix.name, &encoded)
    }

    /// What stays f32 in every format.
    fn float(&mut self, matrix: &Matrix) -> Result<u16, ConvertError> {
        self.resident(&matrix.name, &quantize::f32(matrix))
    }

    fn norm(&mut self, norm: &Norm) -> Result<u16, ConvertError> {
        self.resident(&norm.name, &quantize::norm(norm))
    }

    fn resident(&mut self, name: &str, encoded: &Encoded) -> Result<u16, ConvertError> {
        let entry = append(&mut self.layout.resident, encoded, false)?;
        self.index(name, entry)
    }

    /// An entry with the same matrix as entry `index` and a bias of its own.
    fn shared_with(&mut self, index: u16, bias: &[f32]) -> Result<u16, ConvertError> {
        let region = &mut self.layout.resident;
        let place = to_u32("size of the weights", region.len())?;
        region.extend(bias.iter().flat_map(|value| value.to_le_bytes()));
        let Some(entry) = self.layout.tensors.get(usize::from(index)).copied() else {
            return Ok(NONE16);
        };
        let bias = Some(place);
        self.index("head", TensorEntry { bias, ..entry })
    }

    fn index(&mut self, name: &str, entry: TensorEntry) -> Result<u16, ConvertError> {
        let index = self.layout.tensors.len();
        let most = u64::from(NONE16 - 1);
        let Some(index) = u16::try_from(index)
            .ok()
            .filter(|index| *index < NONE16 - 1)
        else {
            let what = "number of tensors".to_owned();
            return Err(ConvertError::TooLarge {
                what,
                found: index as u64 + 1,
                most,
            });
        };
        self.layout.tensors.push(entry);
        self.layout.names.tensors.push(name.to_owned());
        Ok(index)
    }
}
