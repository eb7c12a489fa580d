"""Generate the reference fixtures: tiny random models as Hugging Face folders, with their outputs.

    python tools/reference/generate.py --out tests/fixtures [NAME …]
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors
import torch
import transformers
from safetensors.torch import save_file

import buckets
from fixtures import FIXTURES
from measures import max_over_std, one_minus_cosine, pooled
from rounding import round_matrices_to_f16, simulate_w8a8
from running import Run, attention_entropy, load, run_at_once, run_stepwise
from weights import randomize, scale_hidden_channels

FIRST_ORDINARY_TOKEN = 3  # below: padding, bos, eos and the like
SMALLEST_MARGIN = 0.02  # router logits closer than this leave the route to rounding; draw other tokens
ATTEMPTS = 200


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in arguments.names or FIXTURES:
        manifest = generate(name, arguments.out)
        print(summary(name, manifest), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Generate the reference fixtures of the Rust tests.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the fixtures go")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (all): {', '.join(FIXTURES)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in FIXTURES]
    if unknown:
        parser.error(f"no such fixture: {', '.join(unknown)}")
    return arguments


def generate(name, out):
    """Write one fixture; it appears under its name only when it is complete."""
    fixture = FIXTURES[name]
    draft, final = out / f".{name}.part", out / name
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        write_checkpoint(fixture, draft)
        tensors, manifest = reference(name, fixture, draft)
        save_file(tensors, draft / "reference.safetensors")
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        make_readable(draft)
        replace_folder(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def replace_folder(draft, final):
    """Rename `draft` to `final`; a folder that is there already goes only once the new one is in place."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.rename(final, old)
    os.rename(draft, final)
    shutil.rmtree(old, ignore_errors=True)


def make_readable(folder):
    """safetensors writes files for their owner only; a committed fixture is for everyone."""
    for path in folder.iterdir():
        path.chmod(0o644)


def write_checkpoint(fixture, folder):
    """Make the model and save it in the form the fixture asks for."""
    config_class, model_class = fixture.family
    config = config_class(**fixture.config)
    for key, value in fixture.config_overrides.items():
        setattr(config, key, value)
    torch.manual_seed(fixture.seed)
    model = model_class(config).eval()
    model.tie_weights()
    randomize(model, fixture.seed)
    if fixture.outliers_of:
        scale_hidden_channels(model, fixture.seed)
    fixture.save(model, folder)


def reference(name, fixture, folder):
    """Run every case in f32, with f16 matrices and in the W8A8 simulation: (tensors, manifest)."""
    plain, halved, quantized = load(folder), load(folder), load(folder)
    round_matrices_to_f16(halved)
    simulate_w8a8(quantized)
    original = load(folder.parent / fixture.outliers_of) if fixture.outliers_of else plain
    tensors, cases, runs = {}, [], []
    for number, (source_length, target_length) in enumerate(fixture.lengths):
        source, target = choose_inputs(original, fixture.seed, number, source_length, target_length)
        run = {
            "f32": run_stepwise(plain, source, target),
            "f16": run_stepwise(halved, source, target),
            "w8a8": run_stepwise(quantized, source, target),
        }
        if run["f32"].encoder_routes is not None:
            routes = {"encoder": run["f32"].encoder_routes, "decoder": run["f32"].decoder_routes}
            run["replayed"] = run_stepwise(quantized, source, target, replay=routes)
        tensors |= case_tensors(f"case{number}", source, target, run)
        cases.append(case_entry(plain, source, target, run))
        if fixture.outliers_of:
            cases[-1]["f32_logits_max_over_std_from_original"] = rounded(
                max_over_std(run["f32"].logits, run_stepwise(original, source, target).logits)
            )
        runs.append(run)
    manifest = {
        "name": name,
        "exercises": fixture.exercises,
        "architecture": type(plain).__name__,
        "same_function_as": fixture.outliers_of,
        "seed": fixture.seed,
        "parameters": sum(parameter.numel() for parameter in plain.parameters()),
        "versions": {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
            "numpy": np.__version__,
        },
        "attention_entropy": rounded(attention_entropy(plain, source)),
        "all_cases": distances({key: merge([run[key] for run in runs]) for key in runs[0]}),
        "cases": cases,
    }
    if name == "t5-buckets":
        tensors |= buckets.tables()
        manifest["buckets"] = bucket_notes(plain.config, fixture.lengths)
    return tensors, manifest


def choose_inputs(model, seed, number, source_length, target_length):
    """Random tokens, drawn anew until no router of the f32 run is in two minds."""
    config = model.config
    for attempt in range(ATTEMPTS):
        generator = np.random.Generator(np.random.PCG64([seed, number, attempt]))
        source = generator.integers(FIRST_ORDINARY_TOKEN, config.vocab_size, source_length)
        target = generator.integers(FIRST_ORDINARY_TOKEN, config.vocab_size, target_length)
        if source_length > 1:
            source[-1] = config.eos_token_id
        target[0] = config.decoder_start_token_id
        source, target = torch.from_numpy(source), torch.from_numpy(target)
        margin = run_stepwise(model, source, target).minimum_margin
        if margin is None or margin >= SMALLEST_MARGIN:
            return source, target
    raise ValueError(f"no tokens with router margins of {SMALLEST_MARGIN} in {ATTEMPTS} attempts")


def case_tensors(prefix, source, target, run):
    """The tensors of one case under the names that README.md lists."""
    tensors = {
        "input_ids": source.to(torch.int32),
        "decoder_input_ids": target.to(torch.int32),
        "encoder_last_hidden_state": run["f32"].encoder,
        "logits": run["f32"].logits,
        "f16_encoder_last_hidden_state": run["f16"].encoder,
        "f16_logits": run["f16"].logits,
        "w8a8_encoder_last_hidden_state": run["w8a8"].encoder,
        "w8a8_logits": run["w8a8"].logits,
    }
    if "replayed" in run:
        tensors |= {
            "w8a8_encoder_last_hidden_state_replayed": run["replayed"].encoder,
            "w8a8_logits_replayed": run["replayed"].logits,
        }
        for variant, before in (("f32", ""), ("f16", "f16_"), ("w8a8", "w8a8_")):
            tensors[f"{before}encoder_routes"] = run[variant].encoder_routes
            tensors[f"{before}decoder_routes"] = run[variant].decoder_routes
    return {f"{prefix}.{key}": tensor.contiguous() for key, tensor in tensors.items()}


def case_entry(model, source, target, run):
    """The entry of one case in the manifest; checks what must hold of it."""
    at_once, dropped_at_once = run_at_once(model, source, target)
    entry = {"source": len(source), "target": len(target)}
    entry["logits_std"] = rounded(run["f32"].logits.std().item())
    entry |= distances(run)
    stepwise_distance = max_over_std(at_once, run["f32"].logits)
    if dropped_at_once == 0 and stepwise_distance > 1e-4:
        raise AssertionError(f"decoding step by step and at once differ by {stepwise_distance} std")
    if "replayed" in run:
        entry["routes"] = route_notes(run) | {
            "decoder_dropped_if_computed_at_once": dropped_at_once,
            "at_once_max_over_std": rounded(stepwise_distance),
        }
    return entry


def distances(run):
    """How far the f16 run and the simulation are from f32."""
    plain, found = run["f32"], {}
    found["f16_max_over_std"] = {
        "encoder": rounded(max_over_std(run["f16"].encoder, plain.encoder)),
        "logits": rounded(max_over_std(run["f16"].logits, plain.logits)),
    }
    for variant in ("w8a8", "replayed"):
        if variant in run:
            key = "w8a8_one_minus_cosine" + ("_replayed" if variant == "replayed" else "")
            found[key] = {
                "encoder": rounded(one_minus_cosine(run[variant].encoder, plain.encoder)),
                "logits": rounded(one_minus_cosine(run[variant].logits, plain.logits)),
            }
    return found


def merge(runs):
    """All cases of one variant as a single run of flat tensors."""
    return Run(pooled([run.encoder for run in runs]), pooled([run.logits for run in runs]))


def route_notes(run):
    """Margins, drops, experts in use, and how many routes each variant changes."""
    plain = run["f32"]
    notes = {
        "minimum_margin": rounded(plain.minimum_margin),
        "encoder_experts_used": len(set(plain.encoder_routes.unique().tolist()) - {-1}),
        "encoder_dropped": int((plain.encoder_routes < 0).sum()),
        "decoder_dropped": int((plain.decoder_routes < 0).sum()),
    }
    for variant in ("f16", "w8a8"):
        notes[f"{variant}_flips"] = {
            "encoder": int((run[variant].encoder_routes != plain.encoder_routes).sum()),
            "decoder": int((run[variant].decoder_routes != plain.decoder_routes).sum()),
        }
    return notes


def bucket_notes(config, lengths):
    """Checks that the cases reach every bucket, and lists the distances that rounding decides."""
    encoder, decoder = buckets.unseen_buckets(config, lengths)
    if encoder or decoder:
        raise AssertionError(f"buckets in no case: encoder {encoder}, decoder {decoder}")
    return {
        f"{count}_{distance}": {
            "decided_by_rounding_bidirectional": buckets.near_boundaries(count, distance, True),
            "decided_by_rounding_causal": buckets.near_boundaries(count, distance, False),
        }
        for count, distance in buckets.SETTINGS
    }


def rounded(value):
    """Four significant digits: what is worth reading, and stable from one run to the next."""
    return float(f"{value:.4g}")


def summary(name, manifest):
    """One line for the terminal."""
    total = manifest["all_cases"]
    parts = [f"{name}: {manifest['parameters']} parameters"]
    parts.append("1-cos w8a8 {encoder:.2e} / {logits:.2e}".format(**total["w8a8_one_minus_cosine"]))
    if "w8a8_one_minus_cosine_replayed" in total:
        parts.append("replayed {encoder:.2e} / {logits:.2e}".format(**total["w8a8_one_minus_cosine_replayed"]))
        routes = [case["routes"] for case in manifest["cases"]]
        flips = {v: sum(sum(r[f"{v}_flips"].values()) for r in routes) for v in ("f16", "w8a8")}
        parts.append(f"flips {flips}, dropped {sum(r['encoder_dropped'] for r in routes)}")
        parts.append(f"margin {min(r['minimum_margin'] for r in routes)}")
    parts.append("f16 {encoder:.2e} / {logits:.2e}".format(**total["f16_max_over_std"]))
    parts.append(f"logits std {manifest['cases'][-1]['logits_std']}, entropy {manifest['attention_entropy']}")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
