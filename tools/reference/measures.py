"""Distances between two tensors, the same ones that the Rust tests use. Sums are taken in float64."""

import torch


def one_minus_cosine(actual, expected):
    """1 - cosine of two tensors of one shape, taken as one vector each."""
    a, b = actual.double().flatten(), expected.double().flatten()
    a, b = a / a.norm(), b / b.norm()
    return float((a - b).square().sum() / 2)  # equals 1 - a·b, without its cancellation


def max_over_std(actual, expected):
    """Largest absolute difference, in standard deviations of `expected` (1 value: its magnitude)."""
    difference = (actual.double() - expected.double()).abs().max()
    spread = expected.double().std() if expected.numel() > 1 else expected.double().abs().max()
    return float(difference / spread)


def pooled(tensors):
    """All cases of a fixture as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])
