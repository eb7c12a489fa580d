//! Gives every tensor its place: the resident weights one after another, each expert's in a blob
//! of its own, and the three tables that say where.

use palmtop::format::{ALIGN, NONE16, TensorFormat};

use crate::Weights;
use crate::error::ConvertError;
use crate::graph::{Attention, Block, FeedForward, Graph, Head, Layer, Matrix, Norm, Stack};
use crate::quantize::{self, Encoded};

/// An entry of the tensor table. Offsets count from the start of the resident section, or of the
/// expert's blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    pub offset: u32,
    pub rows: u32,
    pub cols: u32,
    pub stride: u32,
    pub format: TensorFormat,
    pub in_expert: bool,
    pub scales: Option<u32>,
    pub sums: Option<u32>,
    pub bias: Option<u32>,
}

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

/// The feed-forward part of a layer's entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FeedForwardEntry {
    Dense(BlockEntry),
    Mixture {
        router: u16,
        experts: u16,
        first_expert: u32,
        capacity: u32,
    },
}

/// An entry of the layer table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerEntry {
    pub attention: AttentionEntry,
    pub relative_bias: u16,
    pub cross: Option<AttentionEntry>,
    pub ff_norm: u16,
    pub feed_forward: FeedForwardEntry,
}

/// An expert: its blob and the entries that say what is in it.
pub(crate) struct ExpertEntry {
    pub blob: Vec<u8>,
    pub block: BlockEntry,
}

/// Names for the host, by index in the table.
#[derive(Default)]
pub(crate) struct Names {
    pub tensors: Vec<String>,
    /// `wi`, `wi_linear` (or empty) and `wo` of each expert.
    pub experts: Vec<[String; 3]>,
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

/// Lays out a graph with its matrices in the format asked for.
///
/// # Errors
/// If f16 cannot hold a value, or a table's index cannot count what there is.
pub(crate) fn lay_out(graph: &Graph, weights: Weights) -> Result<Layout, ConvertError> {
    let format = match weights {
        Weights::Int8 => TensorFormat::I8,
        Weights::F16 => TensorFormat::F16,
        Weights::F32 => TensorFormat::F32,
    };
    let layout = Layout {
        tensors: Vec::new(),
        layers: Vec::new(),
        experts: Vec::new(),
        roles: [NONE16; 12],
        resident: Vec::new(),
        names: Names::default(),
    };
    let mut planner = Planner { format, layout };
    planner.roles(graph)?;
    planner.stack(&graph.encoder)?;
    planner.stack(&graph.decoder)?;
    Ok(planner.layout)
}

struct Planner {
    format: TensorFormat,
    layout: Layout,
}

impl Planner {
    fn roles(&mut self, graph: &Graph) -> Result<(), ConvertError> {
        let embedding = self.linear(&graph.embedding)?;
        let head = match &graph.head {
            Head::Own(matrix) => self.linear(matrix)?,
            Head::Tied { bias: None } => embedding,
            Head::Tied { bias: Some(bias) } => self.shared_with(embedding, bias)?,
        };
        let (encoder, decoder) = (&graph.encoder, &graph.decoder);
        self.layout.roles = [
            embedding,
            head,
            self.optional(&encoder.positions, Self::float)?,
            self.optional(&decoder.positions, Self::float)?,
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
        Ok(LayerEntry {
            attention: self.attention(&layer.attention)?,
            relative_bias,
            cross: match &layer.cross {
                Some(cross) => Some(self.attention(cross)?),
                None => None,
            },
            ff_norm: self.norm(&layer.ff_norm)?,
            feed_forward: match &layer.feed_forward {
                FeedForward::Dense(block) => FeedForwardEntry::Dense(self.dense(block)?),
                FeedForward::Mixture {
                    router,
                    experts,
                    capacity,
                } => self.mixture(router, experts, *capacity)?,
            },
        })
    }

    fn attention(&mut self, attention: &Attention) -> Result<AttentionEntry, ConvertError> {
        let Attention { norm, q, k, v, o } = attention;
        let norm = self.norm(norm)?;
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

    fn mixture(
        &mut self,
        router: &Matrix,
        experts: &[Block],
        capacity: u32,
    ) -> Result<FeedForwardEntry, ConvertError> {
        let router = self.float(router)?;
        let first_expert = to_u32("number of experts", self.layout.experts.len())?;
        for expert in experts {
            let expert = self.expert(expert)?;
            self.layout.experts.push(expert);
        }
        let experts = u16::try_from(experts.len()).unwrap_or(u16::MAX);
        Ok(FeedForwardEntry::Mixture {
            router,
            experts,
            first_expert,
            capacity,
        })
    }

    /// All of one expert in one blob. Experts of one shape share entries of the tensor table.
    fn expert(&mut self, block: &Block) -> Result<ExpertEntry, ConvertError> {
        let mut blob = Vec::new();
        let mut put = |matrix: &Matrix| -> Result<u16, ConvertError> {
            let encoded = quantize::matrix(matrix, self.format)?;
            let entry = place(&mut blob, &encoded, true)?;
            match self.layout.tensors.iter().position(|other| *other == entry) {
                Some(index) => Ok(index as u16),
                None => self.index(&matrix.name, entry),
            }
        };
        let entry = BlockEntry {
            activation: block.activation as u8,
            wi: put(&block.wi)?,
            wi_linear: match &block.wi_linear {
                Some(matrix) => put(matrix)?,
                None => NONE16,
            },
            wo: put(&block.wo)?,
        };
        pad(&mut blob);
        let linear = block.wi_linear.as_ref().map(|matrix| matrix.name.clone());
        let names = [
            block.wi.name.clone(),
            linear.unwrap_or_default(),
            block.wo.name.clone(),
        ];
        self.layout.names.experts.push(names);
        Ok(ExpertEntry { blob, block: entry })
    }

    /// A matrix of a linear layer, the embedding or the head.
    fn linear(&mut self, matrix: &Matrix) -> Result<u16, ConvertError> {
        let encoded = quantize::matrix(matrix, self.format)?;
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
        let entry = place(&mut self.layout.resident, encoded, false)?;
        self.index(name, entry)
    }

    /// An entry with the same matrix as entry `index` and a bias of its own.
    fn shared_with(&mut self, index: u16, bias: &[f32]) -> Result<u16, ConvertError> {
        let bias = put_words(
            &mut self.layout.resident,
            bias.iter().map(|v| v.to_le_bytes()),
        )?;
        match self.layout.tensors.get(usize::from(index)).copied() {
            Some(entry) => self.index(
                "head",
                TensorEntry {
                    bias: Some(bias),
                    ..entry
                },
            ),
            None => Ok(NONE16),
        }
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

/// Appends a tensor to a region: matrix, scales, sums, bias.
fn place(
    region: &mut Vec<u8>,
    encoded: &Encoded,
    in_expert: bool,
) -> Result<TensorEntry, ConvertError> {
    pad(region);
    let offset = to_u32("size of the weights", region.len())?;
    region.extend_from_slice(&encoded.data);
    let quantized = encoded.format == TensorFormat::I8;
    let scales = encoded.scales.iter().map(|scale| scale.to_le_bytes());
    let sums = encoded.sums.iter().map(|sum| sum.to_le_bytes());
    Ok(TensorEntry {
        offset,
        rows: to_u32("rows", encoded.rows)?,
        cols: to_u32("columns", encoded.cols)?,
        stride: to_u32("bytes of a row", encoded.stride())?,
        format: encoded.format,
        in_expert,
        scales: if quantized {
            Some(put_words(region, scales)?)
        } else {
            None
        },
        sums: if quantized {
            Some(put_words(region, sums)?)
        } else {
            None
        },
        bias: match &encoded.bias {
            Some(bias) => Some(put_words(
                region,
                bias.iter().map(|value| value.to_le_bytes()),
            )?),
            None => None,
        },
    })
}

/// Appends 32-bit words; the region's length is a multiple of 4 before and after.
fn put_words(
    region: &mut Vec<u8>,
    words: impl Iterator<Item = [u8; 4]>,
) -> Result<u32, ConvertError> {
    let offset = to_u32("size of the weights", region.len())?;
    region.extend(words.flatten());
    Ok(offset)
}

/// Fills up with zeros to a multiple of 16.
pub(crate) fn pad(region: &mut Vec<u8>) {
    region.resize(region.len().next_multiple_of(ALIGN), 0);
}

/// A size as the file states it.
pub(crate) fn to_u32(what: &str, size: usize) -> Result<u32, ConvertError> {
    u32::try_from(size).map_err(|_| ConvertError::TooLarge {
        what: what.to_owned(),
        found: size as u64,
        most: u64::from(u32::MAX),
    })
}
