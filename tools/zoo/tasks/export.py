#!/usr/bin/env python3
"""Write the averaged weights of a checkpoint, finished or not, as a model folder in bfloat16.

    python export.py OUT/checkpoint.pt FOLDER
"""

import argparse
import sys

import torch

from train import write


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("folder")
    args = p.parse_args()
    try:
        saved = torch.load(args.checkpoint, weights_only=True)
    except (OSError, RuntimeError, EOFError) as e:
        sys.exit(f"export.py: cannot read {args.checkpoint}: {e}")
    write(args.folder, saved["config"], saved["ema"])


if __name__ == "__main__":
    main()
