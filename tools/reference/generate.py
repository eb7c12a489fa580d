"""Generate the reference fixtures: tiny random models as Hugging Face folders, with their outputs.

    python tools/reference/generate.py --out tests/fixtures [NAME …]
"""

import argparse
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors
import torch
import transformers
from safetensors.torch import save_file

import buckets
import palm
import sensitivity
from fixtures import FIXTURES
from measures import max_over_std, one_minus_cosine, pooled
from routing import RECORDERS
from rounding import round_matrices_to_f16, simulate_w8a8
from running import Run, attention_entropy, has_encoder, load, run_at_once, run_stepwise
from weights import randomize, scale_hidden_channels

FIRST_ORDINARY_TOKEN = 3  # below: padding, bos, eos and the like
SMALLEST_MARGIN = 0.02  # router logits closer than this leave the route to rounding; draw other tokens
ATTEMPTS = 2000


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
    randomize(model, fixture.seed, fixture.router_std)
    if fixture.outliers_of:
        scale_hidden_channels(model, fixture.seed)
    fixture.save(model, folder)


def reference(name, fixture, folder):
    """Run every case in f32, with f16 matrices and in the W8A8 simulation: (tensors, manifest)."""
    plain, halved, quantized = load(folder), load(folder), load(folder)
    round_matrices_to_f16(halved)
    simulate_w8a8(quantized)
    original = load(folder.parent / fixture.outliers_of) if fixture.outliers_of else plain
    tensors, cases, runs, inputs = {}, [], [], []
    for number, (source_length, target_length) in enumerate(fixture.lengths):
        source, target = choose_inputs(original, halved, fixture.seed, number, source_length, target_length)
        run = {
            "f32": run_stepwise(plain, source, target),
            "f16": run_stepwise(halved, source, target),
            "w8a8": run_stepwise(quantized, source, target),
        }
        if run["f32"].routes:
            run["replayed"] = run_stepwise(quantized, source, target, replay=run["f32"].routes)
        tensors |= case_tensors(f"case{number}", source, target, run)
        cases.append(case_entry(plain, source, target, run))
        inputs.append((source, target, run["f32"]))
        if fixture.outliers_of:
            cases[-1]["f32_logits_max_over_std_from_original"] = rounded(
                max_over_std(run["f32"].logits, run_stepwise(original, source, target).logits)
            )
        runs.append(run)
    manifest = {
        "name": name,
        "exercises": fixture.exercises,
        "architecture": architecture(plain),
        "same_function_as": fixture.outliers_of,
        "seed": fixture.seed,
        "parameters": sum(parameter.numel() for parameter in plain.parameters()),
        "versions": {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
            "numpy": np.__version__,
        },
        "attention_entropy": rounded(attention_entropy(plain, source, target)),
        "all_cases": distances({key: merge([run[key] for run in runs]) for key in runs[0]}),
        "cases": cases,
    }
    if not has_encoder(plain):
        manifest["decoder_only"] = True
    if moved := sensitivity.measure(lambda: load(folder), inputs, fixture.must_matter):
        manifest["moved_max_over_std"] = {
            change: {side: rounded(value) for side, value in sides.items()} for change, sides in moved.items()
        }
    if name == "t5-buckets":
        tensors |= buckets.tables()
        manifest["buckets"] = bucket_notes(plain.config, fixture.lengths)
    return tensors, manifest


def architecture(model):
    """The name that config.json gives."""
    return model.config.architectures[0] if isinstance(model, palm.Palm) else type(model).__name__


def choose_inputs(model, halved, seed, number, source_length, target_length):
    """Random tokens, drawn anew until no router of the f32 run is in two minds.

    With several experts per token the f16 run (`halved`) must be decided as well.
    """
    config = model.config
    for attempt in range(ATTEMPTS):
        generator = np.random.Generator(np.random.PCG64([seed, number, attempt]))
        source = generator.integers(FIRST_ORDINARY_TOKEN, config.vocab_size, source_length)
        target = generator.integers(FIRST_ORDINARY_TOKEN, config.vocab_size, target_length)
        if source_length > 1:
            source[-1] = config.eos_token_id
        target[0] = config.decoder_start_token_id if has_encoder(model) else config.bos_token_id
        source, target = torch.from_numpy(source) if has_encoder(model) else None, torch.from_numpy(target)
        if is_decided(model, source, target, SMALLEST_MARGIN) and (
            not routes_to_several(config) or is_decided(halved, source, target, SMALLEST_MARGIN / 2)
        ):
            return source, target
    raise ValueError(f"no tokens with router margins of {SMALLEST_MARGIN} in {ATTEMPTS} attempts")


def is_decided(model, source, target, margin):
    """Whether every router's choice is clear by `margin`; the first tokens alone rule most inputs out."""
    for length in sorted({1, 1 + len(target) // 4, len(target)}):
        found = run_stepwise(model, source, target[:length]).minimum_margin
        if found is not None and found < margin:
            return False
    return True


def routes_to_several(config):
    """Whether tokens have several experts each."""
    return config.model_type in RECORDERS


def case_tensors(prefix, source, target, run):
    """The tensors of one case under the names that README.md lists."""
    tensors = {"decoder_input_ids": target.to(torch.int32)}
    if source is not None:
        tensors["input_ids"] = source.to(torch.int32)
    names = {"f32": "{}", "f16": "f16_{}", "w8a8": "w8a8_{}", "replayed": "w8a8_{}_replayed"}
    for variant, one in run.items():
        name = names[variant].format
        tensors[name("logits")] = one.logits
        if one.encoder is not None:
            tensors[name("encoder_last_hidden_state")] = one.encoder
        if variant != "replayed":
            tensors |= {name(key): tensor for key, tensor in one.routes.items()}
    return {f"{prefix}.{key}": tensor.contiguous() for key, tensor in tensors.items()}


def case_entry(model, source, target, run):
    """The entry of one case in the manifest; checks what must hold of it."""
    at_once, dropped_at_once = run_at_once(model, source, target)
    entry = {"source": 0 if source is None else len(source), "target": len(target)}
    entry["logits_std"] = rounded(run["f32"].logits.std().item())
    entry |= distances(run)
    stepwise_distance = max_over_std(at_once, run["f32"].logits)
    if dropped_at_once == 0 and stepwise_distance > 1e-4:
        raise AssertionError(f"decoding step by step and at once differ by {stepwise_distance} std")
    if isinstance(model, palm.Palm):
        found = palm.check(model, source, target, run["f32"], max_over_std)
        entry["second_definition_max_over_std"] = {side: rounded(value) for side, value in found.items()}
    if "replayed" in run:
        entry["routes"] = route_notes(run) | {
            "decoder_dropped_if_computed_at_once": dropped_at_once,
            "at_once_max_over_std": rounded(stepwise_distance),
        }
    return entry


def distances(run):
    """How far the f16 run and the simulation are from f32."""
    plain, found = run["f32"], {}
    measured = {"f16": ("f16_max_over_std", max_over_std)}
    measured["w8a8"] = ("w8a8_one_minus_cosine", one_minus_cosine)
    measured["replayed"] = ("w8a8_one_minus_cosine_replayed", one_minus_cosine)
    for variant, (key, distance) in measured.items():
        if variant in run:
            found[key] = {}
            if plain.encoder is not None:
                found[key]["encoder"] = rounded(distance(run[variant].encoder, plain.encoder))
            found[key]["logits"] = rounded(distance(run[variant].logits, plain.logits))
    return found


def merge(runs):
    """All cases of one variant as a single run of flat tensors."""
    encoder = None if runs[0].encoder is None else pooled([run.encoder for run in runs])
    return Run(encoder, pooled([run.logits for run in runs]))


def route_notes(run):
    """Margins, drops, experts in use, and how many routes each variant changes."""
    plain, notes = run["f32"], {}
    sides = [side for side in ("encoder", "decoder", "mixture") if f"{side}_routes" in plain.routes]
    routes = {side: plain.routes[f"{side}_routes"] for side in sides}
    if math.isfinite(plain.minimum_margin):
        notes["minimum_margin"] = rounded(plain.minimum_margin)
    for side in sides:
        if side == "encoder" or "encoder" not in sides:
            notes[f"{side}_experts_used"] = len(set(routes[side].unique().tolist()) - {-1})
    for side in sides:
        if side != "mixture":
            notes[f"{side}_dropped"] = int((routes[side] < 0).sum())
    if "encoder_choices" in plain.routes:
        dropped = (routes["encoder"] < 0).sum(-1)
        notes["encoder_assignments"] = routes["encoder"].numel()
        notes["encoder_dropped_by_rank"] = (routes["encoder"] < 0).sum((0, 1)).tolist()
        notes["encoder_tokens_without_expert"] = int((dropped == routes["encoder"].shape[-1]).sum())
    for variant in ("f16", "w8a8"):
        notes[f"{variant}_flips"] = {
            side: int((run[variant].routes[f"{side}_routes"] != routes[side]).sum()) for side in sides
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
    parts.append("1-cos w8a8 " + figures(total["w8a8_one_minus_cosine"]))
    if "w8a8_one_minus_cosine_replayed" in total:
        parts.append("replayed " + figures(total["w8a8_one_minus_cosine_replayed"]))
        routes = [case["routes"] for case in manifest["cases"]]
        flips = {v: sum(sum(r[f"{v}_flips"].values()) for r in routes) for v in ("f16", "w8a8")}
        parts.append(f"flips {flips}, dropped {sum(r.get('encoder_dropped', 0) for r in routes)}")
        parts.append(f"margin {min(r.get('minimum_margin', math.inf) for r in routes)}")
    parts.append("f16 " + figures(total["f16_max_over_std"]))
    parts.append(f"logits std {manifest['cases'][-1]['logits_std']}, entropy {manifest['attention_entropy']}")
    for change, sides in manifest.get("moved_max_over_std", {}).items():
        parts.append(f"{change} {figures(sides)}")
    return "; ".join(parts)


def figures(sides):
    """Encoder states first, then logits."""
    return " / ".join(f"{value:.2e}" for value in sides.values())


if __name__ == "__main__":
    main()
