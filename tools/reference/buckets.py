"""Relative position buckets of T5 as `transformers` computes them, tabulated.

The far buckets come from float32 logarithms; where the exact value is an integer, rounding decides on
which side of a boundary a distance falls. The tables let another implementation be compared exactly.
"""

import math

import torch
from transformers.models.t5.modeling_t5 import T5Attention

# (number of buckets, maximum distance): the defaults, T5Gemma-like, small, odd and wide ones.
SETTINGS = ((32, 128), (20, 50), (8, 20), (64, 256), (16, 64), (7, 30), (9, 128), (32, 512), (48, 96), (4, 16))
FARTHEST = 600


def table(buckets, max_distance, bidirectional):
    """Bucket of every relative position (memory - query) from -FARTHEST to FARTHEST, as u8."""
    positions = torch.arange(-FARTHEST, FARTHEST + 1)
    found = T5Attention._relative_position_bucket(positions, bidirectional, buckets, max_distance)
    one_by_one = torch.stack(
        [T5Attention._relative_position_bucket(p, bidirectional, buckets, max_distance) for p in positions]
    )
    if not torch.equal(found, one_by_one):
        raise AssertionError(f"buckets of {buckets}/{max_distance} depend on vectorization")
    return found.to(torch.uint8)


def tables():
    """{"buckets.32_128.bidirectional": u8 [1201], …} for every setting and direction."""
    return {
        f"buckets.{buckets}_{distance}.{direction}": table(buckets, distance, direction == "bidirectional")
        for buckets, distance in SETTINGS
        for direction in ("bidirectional", "causal")
    }


def unseen_buckets(config, lengths):
    """Buckets that occur in no case: of the encoder, of the decoder (expected: none but unreachable)."""
    count, distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
    source, target = (max(pair[side] for pair in lengths) for side in (0, 1))
    reach = torch.arange(-(source - 1), source)
    encoder = T5Attention._relative_position_bucket(reach, True, count, distance)
    decoder = T5Attention._relative_position_bucket(torch.arange(-(target - 1), 1), False, count, distance)
    reachable = table(count, distance, True).unique().tolist()
    return (
        sorted(set(reachable) - set(encoder.tolist())),
        sorted(set(range(count)) - set(decoder.tolist())),
    )


def near_boundaries(buckets, max_distance, bidirectional, tolerance=1e-4):
    """Distances whose logarithmic position is within `tolerance` of an integer: rounding decides these."""
    count = buckets // 2 if bidirectional else buckets
    exact = count // 2
    scale = (count - exact) / math.log(max_distance / exact)
    places = {d: math.log(d / exact) * scale for d in range(exact + 1, FARTHEST + 1)}
    return [d for d, place in places.items() if abs(place - round(place)) < tolerance and place < count - exact]
