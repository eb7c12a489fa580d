"""Compare the output of `palmtop logits` with a reference.

    python tools/reference/compare.py OUT.safetensors REF.safetensors … [--case K] [--variant f16]

For every tensor of OUT that a reference holds too, prints the largest absolute difference in standard
deviations of the reference, and 1 - cosine. Names in OUT may carry their `case{k}.` prefix; one without
is looked up as case K. `--variant` chooses which run of the reference is meant.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from measures import max_over_std, one_minus_cosine

VARIANTS = ("f32", "f16", "w8a8", "w8a8_replayed")


def reference_name(name, case, variant):
    """Where a reference keeps the tensor that OUT calls `name`."""
    prefix, _, plain = name.rpartition(".")
    prefix = prefix or f"case{case}"
    if variant == "w8a8_replayed":
        return f"{prefix}.w8a8_{plain}_replayed"
    return f"{prefix}.{plain}" if variant == "f32" else f"{prefix}.{variant}_{plain}"


def compare(actual, expected):
    """One line of figures for two tensors; integers are compared for equality."""
    if actual.shape != expected.shape:
        return f"shapes differ: {list(actual.shape)} and {list(expected.shape)}"
    if not expected.is_floating_point():
        return f"{int((actual.long() != expected.long()).sum())} of {expected.numel()} differ"
    if not torch.isfinite(actual).all():
        return "not finite"
    distance, angle = max_over_std(actual, expected), one_minus_cosine(actual, expected)
    return f"max|Δ|/std {distance:.3e}   1-cos {angle:.3e}"


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compare the output of `palmtop logits` with a reference.")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("references", type=Path, nargs="+", metavar="REF", help="reference.safetensors or its folder")
    parser.add_argument("--case", type=int, default=0, metavar="K", help="case of names without one (default: 0)")
    parser.add_argument("--variant", choices=VARIANTS, default="f32", help="run of the reference (default: f32)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    outputs, compared = load_file(arguments.out), 0
    for path in arguments.references:
        expected = load_file(path / "reference.safetensors" if path.is_dir() else path)
        for name, actual in sorted(outputs.items()):
            key = reference_name(name, arguments.case, arguments.variant)
            if key in expected:
                print(f"{path}  {key}: {compare(actual, expected[key])}")
                compared += 1
    if compared == 0:
        sys.exit(f"{arguments.out} shares no tensor with the references ({arguments.variant}, case {arguments.case})")


if __name__ == "__main__":
    main()
