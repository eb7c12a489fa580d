//! `palmtop logits`: encoder states and logits for given ids, for comparison with a reference.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::args::{Ids, ModelArgs, ThreadArgs};
use crate::engine::Engine;
use crate::failure::misused;
use crate::mixtures::{order, stack_name};
use crate::model_file::Image;
use crate::out;
use crate::text::check_ids;
use crate::trace::{self, Recorder, Taken};

const EXAMPLES: &str = "Examples:
  palmtop logits model.palm --input-ids 5,6,7 --decoder-input-ids 0,9,4 -o out.safetensors
  palmtop logits checkpoint/ --weights f32 --input-ids 5,6,7 -o out.safetensors

The file holds encoder_last_hidden_state [1, S, D] and logits [1, T, V], f32. Every decoder
position is computed step by step, as in generation. A model that is only a decoder reads
--input-ids step by step, and the file holds logits [1, T, V] alone.

With --trace the file also holds the experts taken, routes.STACK.LAYER [1, tokens] i32, -1 where a
token was dropped, and their weights, gates.STACK.LAYER f32. Where a token takes k > 1 experts the
shape is [1, tokens, k]. The mixture block is routes.block.0, with one token.";

/// Arguments of `logits`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    threads: ThreadArgs,

    /// Source ids; the prompt of a model that is only a decoder
    #[arg(long, value_name = "IDS")]
    input_ids: Ids,

    /// Decoder input ids [default: the model's decoder start alone]
    #[arg(long, value_name = "IDS")]
    decoder_input_ids: Option<Ids>,

    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,

    /// Show on stderr which experts each token took, and write it too
    #[arg(long)]
    trace: bool,
}

/// Computes and writes.
pub fn logits(args: &Args) -> Result<ExitCode> {
    args.threads.start();
    out::check_file(&args.output)?;
    let image = Image::load(&args.model)?;
    let mut engine = Engine::new(&image)?;
    let h = *engine.header();
    let source = &args.input_ids.0;
    check_ids(source, h.vocab, "--input-ids")?;
    let target = match &args.decoder_input_ids {
        Some(_) if h.decoder_only => {
            return Err(misused(format!(
                "{} is only a decoder: it has no --decoder-input-ids",
                args.model.path.display()
            ))
            .help("give all ids as --input-ids")
            .into());
        }
        _ if h.decoder_only => source.clone(),
        Some(ids) => ids.0.clone(),
        None => vec![h.decoder_start],
    };
    check_ids(&target, h.vocab, "--decoder-input-ids")?;
    let mut recorder = Recorder::default();
    let fed = engine.fed(source, &target, &mut recorder)?;
    let (states, logits) = (bytes(&fed.hidden), bytes(&fed.logits));

    let taken = recorder.taken;
    let routes = if args.trace {
        routes(&taken)
    } else {
        Vec::new()
    };
    let (s, t) = (source.len(), target.len());
    let mut tensors = vec![view(
        "logits",
        Dtype::F32,
        vec![1, t, h.vocab as usize],
        &logits,
    )?];
    if !h.decoder_only {
        tensors.push(view(
            "encoder_last_hidden_state",
            Dtype::F32,
            vec![1, s, h.d_model as usize],
            &states,
        )?);
    }
    for routes in &routes {
        let shape = || routes.shape.clone();
        let [experts, gates] = &routes.names;
        tensors.push(view(experts, Dtype::I32, shape(), &routes.experts)?);
        tensors.push(view(gates, Dtype::F32, shape(), &routes.gates)?);
    }
    out::file(&args.output, &serialize(tensors, None)?)?;
    if args.trace {
        let names = |ids: &[u32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let palm = engine.model().palm();
        let text = trace::text(palm, &taken, &names(source), &names(&target));
        eprint!("{text}");
    }
    if let Some(paging) = engine.paging() {
        let tokens = s + if h.decoder_only { 0 } else { t };
        eprintln!("{}", paging.over(tokens).text());
    }
    Ok(ExitCode::SUCCESS)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn view<'a>(
    name: &'a str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
) -> Result<(&'a str, TensorView<'a>)> {
    Ok((name, TensorView::new(dtype, shape, bytes)?))
}

/// The experts of a sparse layer's tokens, as tensors.
struct Routes {
    names: [String; 2],
    shape: Vec<usize>,
    experts: Vec<u8>,
    gates: Vec<u8>,
}

/// Tensors for each sparse layer, tokens in order and their choices in the order of ranks.
fn routes(taken: &[Taken]) -> Vec<Routes> {
    let mut places: Vec<_> = taken.iter().map(Taken::place).collect();
    places.sort_by_key(|(stack, layer)| (order(*stack), *layer));
    places.dedup();
    let tensors = places.into_iter().map(|(stack, layer)| {
        let mut here: Vec<&Taken> = taken
            .iter()
            .filter(|t| t.place() == (stack, layer))
            .collect();
        here.sort_by_key(|t| (t.token, t.rank));
        let ranks = here.iter().map(|t| t.rank + 1).max().unwrap_or(1);
        let mut shape = vec![1, here.len() / ranks];
        shape.extend((ranks > 1).then_some(ranks));
        let mut routes = Routes {
            names: ["routes", "gates"].map(|what| format!("{what}.{}.{layer}", stack_name(stack))),
            shape,
            experts: Vec::new(),
            gates: Vec::new(),
        };
        for t in here {
            let expert = if t.dropped { -1 } else { t.expert as i32 };
            routes.experts.extend_from_slice(&expert.to_le_bytes());
            routes.gates.extend_from_slice(&t.gate.to_le_bytes());
        }
        routes
    });
    tensors.collect()
}
