"""How long answers took, as a sketch that can be added up.

A latency is known by its bucket alone: buckets grow by about 2 %, so 1,101 of them reach from a microsecond to an hour,
and every latency is within 1 % of its bucket's middle (DDSketch, Masson, Rim and Lee, VLDB 2019). Counting by bucket
loses nothing when counts are added, so sketches of minutes, keys and nodes make the sketch of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ddsketch import LogarithmicMapping

LATENCY_MAX_US = 3_600_000_000
"""An hour: the longest latency that can be reported."""

_MAPPING = LogarithmicMapping(relative_accuracy=0.01)


def bucket_of(latency_us: int) -> int:
    """Return the bucket of a latency, 0 to 1,101; less than a microsecond counts as one, more than an hour as that."""
    return int(_MAPPING.key(min(max(latency_us, 1), LATENCY_MAX_US)))


def merge(sketches: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Add up sketches: how many latencies fell into each bucket."""
    whole: dict[int, int] = {}
    for sketch in sketches:
        for bucket, count in sketch.items():
            whole[bucket] = whole.get(bucket, 0) + count
    return whole


def percentiles(buckets: Mapping[int, int], wanted: Sequence[int]) -> list[int]:
    """Return for each of ``wanted``, 1 to 100 and ascending, the latency in microseconds that so many of 100 kept to.

    That is the least latency that at least ``wanted`` of 100 did not exceed (nearest rank); the answer is within 2 % of
    it: 1 % is the bucket's, the rest comes from whole microseconds. Without latencies there are none.
    """
    total = sum(buckets.values())
    places = [-(-total * percent // 100) for percent in wanted]
    found: list[int] = []
    passed = 0
    for bucket in sorted(buckets):
        passed += buckets[bucket]
        while len(found) < len(places) and passed >= places[len(found)]:
            found.append(round(_MAPPING.value(bucket)))
    return found
