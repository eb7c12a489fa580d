#!/usr/bin/env python3
"""Draw curve.svg from the curve.tsv of a training run: python curve.py [FOLDER]"""

import argparse
import csv
import sys
from pathlib import Path

W, H, L, R, T, B = 640, 360, 50, 56, 28, 40  # picture and margins


def scale(values, lo, hi, a, b):
    return [a + (v - lo) / (hi - lo) * (b - a) for v in values]


def line(xs, ys, colour):
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def label(x, y, text, colour="#333", anchor="middle"):
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def draw(rows):
    epochs = [float(r["epoch"]) for r in rows]
    top = max(epochs)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if top / s <= 10)
    xs = scale(epochs, 0, top, L, W - R)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{W}" height="{H}" fill="white"/>']
    for v in range(0, 101, 20):
        y = scale([v], 0, 100, H - B, T)[0]
        out += [f'<path d="M{L} {y:.1f}H{W - R}" stroke="#ddd"/>', label(L - 6, y + 4, v, anchor="end")]
    for v in range(0, int(top) + 1, step):
        out.append(label(scale([v], 0, top, L, W - R)[0], H - B + 16, v))
    out.append(label((L + W - R) / 2, H - 8, "epoch"))
    series = [("dev_wer", "#d62728", "WER %"), ("dev_wer_nostress", "#1f77b4", "WER % without stress"),
              ("dev_per_nostress", "#2ca02c", "PER % without stress")]
    for i, (key, colour, name) in enumerate(series):
        ys = scale([min(100.0, float(r[key])) for r in rows], 0, 100, H - B, T)
        out += [line(xs, ys, colour), label(L + 8 + 150 * i, T - 10, name, colour, "start"),
                label(W - R + 4, ys[-1] + 4, f"{float(rows[-1][key]):.1f}", colour, "start")]
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", nargs="?", default=str(Path(__file__).parent))
    folder = Path(p.parse_args().folder)
    try:
        with open(folder / "curve.tsv") as f:
            rows = list(csv.DictReader(f, delimiter="\t"))
    except OSError as e:
        sys.exit(f"curve.py: {e}")
    if len(rows) < 2:
        sys.exit("curve.py: curve.tsv has fewer than two points")
    (folder / "curve.svg").write_text(draw(rows))


if __name__ == "__main__":
    main()
