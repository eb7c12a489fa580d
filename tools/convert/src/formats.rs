//! Which expert is stored in which format: what options say, resolved for a model.

use std::fmt;
use std::str::FromStr;

use palmtop::format::TensorFormat;

use crate::error::ConvertError;
use crate::graph::{BLOCK, DECODER, ENCODER, Graph};
use crate::{Options, Weights};

/// The format of an expert's matrices; an expert has one, its router stays f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertWeights {
    /// Four bits a value, a scale for 32 columns; integer arithmetic.
    Int4,
    /// Signed bytes with a scale per row; integer arithmetic.
    Int8,
    /// IEEE half precision, widened for arithmetic.
    F16,
    /// IEEE single precision.
    F32,
}

impl ExpertWeights {
    pub(crate) fn format(self) -> TensorFormat {
        match self {
            Self::Int4 => TensorFormat::I4,
            Self::Int8 => TensorFormat::I8,
            Self::F16 => TensorFormat::F16,
            Self::F32 => TensorFormat::F32,
        }
    }
}

impl From<Weights> for ExpertWeights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Int8 => Self::Int8,
            Weights::F16 => Self::F16,
            Weights::F32 => Self::F32,
        }
    }
}

impl fmt::Display for ExpertWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for ExpertWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "int4" => Ok(Self::Int4),
            "int8" => Ok(Self::Int8),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(format!(
                "`{text}` is not a format of experts; int4, int8, f16 and f32 are"
            )),
        }
    }
}

/// A format for the experts that a pattern names: `encoder.1.*=f16`, `block.0.2=int4`. The parts
/// are the stack (`encoder`, `decoder`, `block`), the layer and the expert; `*` stands for all.
/// The mixture block between the stacks is layer 0 of `block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertRule {
    /// `None`: all.
    stack: Option<&'static str>,
    layer: Option<usize>,
    expert: Option<usize>,
    format: ExpertWeights,
}

impl ExpertRule {
    fn names(&self, place: &Place) -> bool {
        self.stack.is_none_or(|stack| stack == place.stack)
            && self.layer.is_none_or(|layer| layer == place.layer)
            && self.expert.is_none_or(|expert| expert == place.expert)
    }
}

impl fmt::Display for ExpertRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |part: Option<usize>| part.map_or("*".to_owned(), |part| part.to_string());
        let (layer, expert) = (number(self.layer), number(self.expert));
        let stack = self.stack.unwrap_or("*");
        write!(f, "{stack}.{layer}.{expert}={}", self.format)
    }
}

impl FromStr for ExpertRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{text}` is not STACK.LAYER.EXPERT=FORMAT, as in `encoder.1.*=f16` or \
                 `block.0.2=int4`"
            )
        };
        let (pattern, format) = text.split_once('=').ok_or_else(form)?;
        let parts: Vec<&str> = pattern.split('.').collect();
        let [stack, layer, expert] = parts[..] else {
            return Err(form());
        };
        let number = |part: &str| match part {
            "*" => Ok(None),
            _ if part.bytes().all(|byte| byte.is_ascii_digit()) => {
                part.parse().map(Some).map_err(|_| form())
            }
            _ => Err(form()),
        };
        let stack = match stack {
            "*" => None,
            name => match [ENCODER, DECODER, BLOCK]
                .iter()
                .find(|known| **known == name)
            {
                Some(known) => Some(*known),
                None => {
                    return Err(format!(
                        "`{name}` in `{text}` is not a stack; encoder, decoder, block and * are"
                    ));
                }
            },
        };
        Ok(Self {
            stack,
            layer: number(layer)?,
            expert: number(expert)?,
            format: format.parse()?,
        })
    }
}

/// An expert's place in the model.
struct Place {
    stack: &'static str,
    layer: usize,
    expert: usize,
}

/// The format of every expert, by index in the expert table.
pub(crate) struct Formats(Vec<TensorFormat>);

impl Formats {
    /// What the options say about this model's experts. Later rules win.
    ///
    /// # Errors
    /// If a rule names no expert.
    pub fn resolve(graph: &Graph, options: &Options) -> Result<Self, ConvertError> {
        let usual = options.experts.unwrap_or(options.weights.into());
        let places: Vec<Place> = graph
            .mixtures()
            .flat_map(|(stack, layer, mixture)| {
                (0..mixture.experts.len()).map(move |expert| Place {
                    stack,
                    layer,
                    expert,
                })
            })
            .collect();
        let idle = |rule: &&ExpertRule| !places.iter().any(|place| rule.names(place));
        if let Some(rule) = options.expert_rules.iter().find(idle) {
            return Err(ConvertError::NoSuchExpert {
                rule: rule.to_string(),
                remedy: what_exists(graph),
            });
        }
        let of = |place: &Place| {
            let rules = options.expert_rules.iter().rev();
            let rule = rules.into_iter().find(|rule| rule.names(place));
            rule.map_or(usual, |rule| rule.format).format()
        };
        Ok(Self(places.iter().map(of).collect()))
    }

    /// The format of the expert with this index.
    pub fn of(&self, index: usize) -> TensorFormat {
        self.0.get(index).copied().unwrap_or(TensorFormat::F32)
    }

    /// Whether any expert takes quantized inputs.
    pub fn any_integer(&self) -> bool {
        self.0.iter().any(|format| format.is_integer())
    }
}

/// `encoder.1.0-7, encoder.3.0-7, block.0.0-3`, for a message.
fn what_exists(graph: &Graph) -> String {
    let of = |(stack, layer, experts): (&str, usize, usize)| {
        let last = experts.saturating_sub(1);
        format!("{stack}.{layer}.0 to {stack}.{layer}.{last}")
    };
    let mut all: Vec<String> = graph
        .mixtures()
        .map(|(stack, layer, mixture)| of((stack, layer, mixture.experts.len())))
        .collect();
    if all.is_empty() {
        return "this model has no experts: leave --expert out".to_owned();
    }
    if all.len() > 8 {
        let more = all.len() - 7;
        all.truncate(7);
        all.push(format!("those of {more} more layers"));
    }
    format!("this model has {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_printed() {
        for text in [
            "encoder.1.*=f16",
            "block.0.2=int4",
            "*.*.*=int8",
            "decoder.*.7=f32",
        ] {
            let rule = text.parse::<ExpertRule>();
            assert_eq!(rule.map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for (text, part) in [
            ("", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder.1=f16", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder.1.2.3=f16", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder.1.*", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder.+1.*=f16", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder..*=f16", "STACK.LAYER.EXPERT=FORMAT"),
            ("encoder.-1.*=f16", "STACK.LAYER.EXPERT=FORMAT"),
            ("middle.1.*=f16", "encoder, decoder, block and *"),
            ("encoder.1.*=int3", "int4, int8, f16 and f32 are"),
        ] {
            let error = text.parse::<ExpertRule>().err().unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
