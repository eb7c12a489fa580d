//! `palmtop logits`: encoder states and logits for given ids, for comparison with a reference.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::args::{Ids, ModelArgs};
use crate::engine::{Engine, limits};
use crate::model_file::Image;
use crate::out;
use crate::text::check_ids;
use crate::trace::{self, Recorder, Taken};

const EXAMPLES: &str = "Examples:
  palmtop logits model.palm --input-ids 5,6,7 --decoder-input-ids 0,9,4 -o out.safetensors
  palmtop logits checkpoint/ --weights f32 --input-ids 5,6,7 -o out.safetensors

The file holds encoder_last_hidden_state [1, S, D] and logits [1, T, V], f32. Every decoder
position is computed step by step, as in generation. With --trace it also holds the experts taken,
routes.STACK.LAYER [1, tokens] i32, -1 where a token was dropped.";

/// Arguments of `logits`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Source ids
    #[arg(long, value_name = "IDS")]
    input_ids: Ids,

    /// Decoder input ids [default: the model's decoder start alone]
    #[arg(long, value_name = "IDS")]
    decoder_input_ids: Option<Ids>,

    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,

    /// Show on stderr which expert each token took, and write it too
    #[arg(long)]
    trace: bool,
}

/// Computes and writes.
pub fn logits(args: &Args) -> Result<ExitCode> {
    out::check_file(&args.output)?;
    let image = Image::load(&args.model)?;
    let mut engine = Engine::new(image.model()?);
    let h = *engine.header();
    let source = &args.input_ids.0;
    let target = args
        .decoder_input_ids
        .as_ref()
        .map_or_else(|| vec![h.decoder_start], |i| i.0.clone());
    check_ids(source, h.vocab, "--input-ids")?;
    check_ids(&target, h.vocab, "--decoder-input-ids")?;
    let limits = limits(&h, source.len(), target.len() as u32)?;

    let mut recorder = Recorder::default();
    let mut states = Vec::new();
    let mut logits = Vec::new();
    let mut session = engine.session(limits)?;
    let mut encoded = session.encode_traced(source, &mut recorder)?;
    push(&mut states, encoded.hidden());
    let mut decoder = encoded.decoder();
    for id in &target {
        push(&mut logits, decoder.step_traced(*id, &mut recorder)?);
    }

    let routes = if args.trace {
        routes(&recorder.taken)
    } else {
        Vec::new()
    };
    let (s, t) = (source.len(), target.len());
    let mut tensors = vec![
        view(
            "encoder_last_hidden_state",
            Dtype::F32,
            [1, s, h.d_model as usize],
            &states,
        )?,
        view("logits", Dtype::F32, [1, t, h.vocab as usize], &logits)?,
    ];
    for (name, values) in &routes {
        tensors.push(view(name, Dtype::I32, [1, values.len() / 4], values)?);
    }
    let bytes = serialize(tensors, None)?;
    out::file(&args.output, &bytes)?;
    if args.trace {
        let names = |ids: &[u32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        eprint!(
            "{}",
            trace::text(&recorder.taken, &names(source), &names(&target))
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn push(bytes: &mut Vec<u8>, values: &[f32]) {
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

fn view<'a, const N: usize>(
    name: &'a str,
    dtype: Dtype,
    shape: [usize; N],
    bytes: &'a [u8],
) -> Result<(&'a str, TensorView<'a>)> {
    Ok((name, TensorView::new(dtype, shape.to_vec(), bytes)?))
}

/// A tensor of experts for each sparse layer: its name and its bytes.
fn routes(taken: &[Taken]) -> Vec<(String, Vec<u8>)> {
    let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
    for t in taken {
        let name = format!("routes.{}.{}", t.stack, t.layer);
        let expert = if t.dropped { -1 } else { t.expert as i32 };
        match tensors.iter_mut().find(|(known, _)| *known == name) {
            Some((_, bytes)) => bytes.extend_from_slice(&expert.to_le_bytes()),
            None => tensors.push((name, expert.to_le_bytes().to_vec())),
        }
    }
    tensors
}
