//! Model families: each maps its configuration and tensor names to the canonical graph.
//! A new family is a new file here and a line in [`FAMILIES`].

mod bart;
mod embedding;
mod fairseq;
mod m2m100;
mod mixtral;
mod nllb_moe;
mod palm;
mod switch;
mod t5;

use palmtop::format::{MAX_COLS, MAX_ROWS};
use serde_json::{Value, json};

use crate::Options;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ConvertError;
use crate::graph::{Activation, Graph, Matrix, Norm};

type Build = fn(&mut Checkpoint<'_>, &Limits) -> Result<Graph, ConvertError>;

/// A family: what it is called in config.json, and what builds its graph.
struct Entry {
    architecture: &'static str,
    /// Other classes whose saves have the same tensors.
    also: &'static [&'static str],
    model_type: &'static str,
    decoder_only: bool,
    build: Build,
}

const FAMILIES: [Entry; 9] = [
    Entry {
        architecture: "T5ForConditionalGeneration",
        also: &["T5WithLMHeadModel", "T5Model"],
        model_type: "t5",
        decoder_only: false,
        build: |checkpoint, limits| t5::build(checkpoint, limits, t5::Variant::T5),
    },
    Entry {
        architecture: "MT5ForConditionalGeneration",
        also: &["MT5Model"],
        model_type: "mt5",
        decoder_only: false,
        build: |checkpoint, limits| t5::build(checkpoint, limits, t5::Variant::Mt5),
    },
    Entry {
        architecture: "UMT5ForConditionalGeneration",
        also: &["UMT5Model"],
        model_type: "umt5",
        decoder_only: false,
        build: |checkpoint, limits| t5::build(checkpoint, limits, t5::Variant::Umt5),
    },
    Entry {
        architecture: "SwitchTransformersForConditionalGeneration",
        also: &["SwitchTransformersModel"],
        model_type: "switch_transformers",
        decoder_only: false,
        build: switch::build,
    },
    Entry {
        architecture: "BartForConditionalGeneration",
        also: &["BartModel"],
        model_type: "bart",
        decoder_only: false,
        build: bart::build,
    },
    Entry {
        architecture: "M2M100ForConditionalGeneration",
        also: &["M2M100Model"],
        model_type: "m2m_100",
        decoder_only: false,
        build: m2m100::build,
    },
    Entry {
        architecture: "NllbMoeForConditionalGeneration",
        also: &["NllbMoeModel"],
        model_type: "nllb-moe",
        decoder_only: false,
        build: nllb_moe::build,
    },
    Entry {
        architecture: "MixtralForCausalLM",
        also: &["MixtralModel"],
        model_type: "mixtral",
        decoder_only: true,
        build: mixtral::build,
    },
    Entry {
        architecture: "PalmMoeForConditionalGeneration",
        also: &[],
        model_type: "palm_moe",
        decoder_only: false,
        build: palm::build,
    },
];

/// Source and target limits that were asked for.
pub(crate) struct Limits {
    pub source: Option<u32>,
    pub target: Option<u32>,
    /// Rows of position tables.
    pub positions: Option<u32>,
}

/// Rows of position tables unless more are asked for.
const USUAL_POSITIONS: u32 = 4096;
/// Source and target limit unless one is asked for.
const USUAL_LIMIT: u32 = 64;

/// Whether a configuration's number of positions is the most that a model can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// It is: the checkpoint has no more, or the family says so.
    Stated,
    /// It is not: transformers computes as many as are needed.
    None,
}

impl Limits {
    /// The limits that options ask for.
    pub fn of(options: &Options) -> Self {
        Self {
            source: options.source,
            target: options.target,
            positions: options.max_positions,
        }
    }

    /// Positions that the tables hold: as many as are asked for, else as many as config.json
    /// states (`field`) or a limit asks for, but not more than 4096 without being asked (with a
    /// note). What config.json states is the most, unless it bounds nothing in transformers.
    pub fn positions(
        &self,
        checkpoint: &mut Checkpoint<'_>,
        field: &str,
        stated: usize,
        bound: Bound,
    ) -> Result<usize, ConvertError> {
        let asked = self.source.max(self.target).unwrap_or(0) as usize;
        let (most, wanted) = match bound {
            Bound::Stated => (stated, stated),
            Bound::None => (
                MAX_ROWS,
                stated.max(USUAL_LIMIT as usize).max(asked).min(MAX_ROWS),
            ),
        };
        let usual = wanted.min(asked.max(USUAL_POSITIONS as usize));
        match self.positions {
            None => {
                if usual < wanted {
                    checkpoint.note(format!(
                        "config.json: `{field}` is {stated}; the position tables hold {usual}: \
                         --max-positions N holds N"
                    ));
                }
                Ok(usual)
            }
            Some(asked) if asked >= 1 && asked as usize <= most => Ok(asked as usize),
            Some(found) => Err(ConvertError::Limit {
                option: "--max-positions",
                found,
                remedy: format!("this model has 1 to {most} positions"),
            }),
        }
    }

    /// Limits for who states none: as asked for, else `usual`, at most 64 and at most what the
    /// model can take. Pairs are (source, target); 0 in `most` means no limit.
    pub fn resolve(&self, usual: (u32, u32), most: (u32, u32)) -> Result<(u32, u32), ConvertError> {
        let one = |option, asked: Option<u32>, usual: u32, most: u32| {
            let cap = if most == 0 { MAX_ROWS as u32 } else { most };
            match asked {
                None => Ok(usual.clamp(1, USUAL_LIMIT).min(cap)),
                Some(found) if found == 0 || found > cap => {
                    let remedy = format!("this model takes 1 to {cap} tokens");
                    Err(ConvertError::Limit {
                        option,
                        found,
                        remedy,
                    })
                }
                Some(found) => Ok(found),
            }
        };
        let source = one("--source", self.source, usual.0, most.0)?;
        Ok((source, one("--target", self.target, usual.1, most.1)?))
    }
}

/// A folder's graph, and its architecture's name.
pub(crate) fn build(
    checkpoint: &mut Checkpoint<'_>,
    limits: &Limits,
) -> Result<(Graph, &'static str), ConvertError> {
    let entry = find(&checkpoint.config)?;
    if let Some(Value::Array(list)) = checkpoint.config.get("architectures")
        && let Some(name) = list.first().and_then(Value::as_str)
        && name != entry.architecture
    {
        checkpoint.note(format!(
            "config.json names {name}: taken as {}",
            entry.architecture
        ));
    }
    let config = &checkpoint.config;
    let remedy = match entry.decoder_only {
        false => "only encoder-decoders are supported",
        true => "this architecture has no encoder",
    };
    config.must_be("is_encoder_decoder", &json!(!entry.decoder_only), remedy)?;
    config.must_be(
        "tie_encoder_decoder",
        &json!(false),
        "shared stacks are not supported",
    )?;
    config.must_be("pruned_heads", &json!({}), "pruned heads are not supported")?;
    if config.get("quantization_config").is_some() {
        return Err(config.refuse(
            "quantization_config",
            "quantized checkpoints are not supported; take the f32, f16 or bf16 one",
        ));
    }
    let graph = (entry.build)(checkpoint, limits)?;
    checkpoint.finish(entry.architecture)?;
    Ok((graph, entry.architecture))
}

/// The family that `architectures` names, or else `model_type`.
fn find(config: &Config) -> Result<&'static Entry, ConvertError> {
    let model_type = config.text("model_type")?;
    let architecture = match config.get("architectures") {
        None => None,
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.first().and_then(Value::as_str)
        }
        Some(_) => return Err(config.refuse("architectures", "a list of names is wanted")),
    };
    let refuse = |field, found: &str| ConvertError::Architecture {
        file: config.file().to_owned(),
        field,
        found: found.to_owned(),
        supported: FAMILIES.map(|family| family.architecture).join(", "),
    };
    let by_type = |name| FAMILIES.iter().find(|family| family.model_type == name);
    let Some(name) = architecture else {
        let name = model_type.unwrap_or("absent");
        return by_type(name).ok_or_else(|| refuse("model_type", name));
    };
    let family = FAMILIES
        .iter()
        .find(|family| family.architecture == name || family.also.contains(&name))
        .ok_or_else(|| refuse("architectures", name))?;
    match model_type {
        Some(other) if other != family.model_type => Err(refuse("model_type", other)),
        _ => Ok(family),
    }
}

/// An activation function by the name that transformers gives it.
fn activation(config: &Config, field: &str, name: &str) -> Result<Activation, ConvertError> {
    match name {
        "relu" => Ok(Activation::Relu),
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate" => {
            Ok(Activation::GeluTanh)
        }
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(config.refuse(
            field,
            format!(
                "activation `{name}` is not supported; relu, gelu, gelu_new, gelu_pytorch_tanh, \
                 silu and swish are"
            ),
        )),
    }
}

/// A linear layer `name.weight` `[rows, cols]`, with `name.bias` if `bias`.
fn linear(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    (rows, cols): (usize, usize),
    bias: bool,
) -> Result<Matrix, ConvertError> {
    let name = format!("{name}.weight");
    let values = checkpoint.take(&name, &[rows, cols])?;
    let bias = match name.strip_suffix("weight") {
        Some(stem) if bias => Some(checkpoint.take(&format!("{stem}bias"), &[rows])?),
        _ => None,
    };
    Ok(Matrix {
        name,
        rows,
        cols,
        values,
        bias,
    })
}

/// A norm `name.weight`, with `name.bias` if `bias`.
fn norm(
    checkpoint: &mut Checkpoint<'_>,
    name: &str,
    width: usize,
    bias: bool,
) -> Result<Norm, ConvertError> {
    let gain = checkpoint.take(&format!("{name}.weight"), &[width])?;
    let bias = match bias {
        true => Some(checkpoint.take(&format!("{name}.bias"), &[width])?),
        false => None,
    };
    Ok(Norm {
        name: format!("{name}.weight"),
        gain,
        bias,
    })
}

/// `d_model` and `vocab_size`.
fn widths(config: &Config, d_model: usize, vocab: usize) -> Result<(usize, usize), ConvertError> {
    let d_model = config.size("d_model", d_model, MAX_COLS)?;
    Ok((d_model, config.size("vocab_size", vocab, MAX_ROWS)?))
}

/// The epsilon of a norm.
fn epsilon(config: &Config, field: &str, default: f64) -> Result<f32, ConvertError> {
    let value = config.number(field, default)? as f32;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(config.refuse(field, "a number above 0 is wanted"))
}

/// Refuses heads that are too many, too wide, or (they are rotated in pairs) of an odd width.
fn head_width(config: &Config, field: &str, heads: usize, d_kv: usize) -> Result<(), ConvertError> {
    let most = usize::from(u16::MAX);
    if heads.saturating_mul(d_kv) > MAX_COLS || heads > most || d_kv > most {
        let remedy = format!("heads times their width ({heads} times {d_kv}) is above {MAX_COLS}");
        return Err(config.refuse(field, remedy));
    }
    if !d_kv.is_multiple_of(2) {
        let remedy = format!("an even width of heads is wanted, not {d_kv}: pairs are rotated");
        return Err(config.refuse(field, remedy));
    }
    Ok(())
}
