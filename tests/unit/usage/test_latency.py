"""Sketches of latency: percentiles within their error, whatever is added up and in whatever order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.usage.latency import LATENCY_MAX_US, bucket_of, merge, percentiles

LATENCIES = st.lists(st.one_of(st.integers(1, LATENCY_MAX_US), st.integers(1, 200)), min_size=1, max_size=300)


def sketch(latencies_us: list[int]) -> Counter[int]:
    """Count latencies by bucket."""
    return Counter(map(bucket_of, latencies_us))


@given(LATENCIES, st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_percentiles_are_within_two_percent(latencies_us: list[int], wanted: list[int]) -> None:
    """Each percentile is within 2 % of the least latency that so many of 100 did not exceed."""
    wanted.sort()
    found = percentiles(sketch(latencies_us), wanted)
    assert len(found) == len(wanted)
    for percent, found_us in zip(wanted, found, strict=True):
        exact_us = next(
            it
            for it in sorted(latencies_us)
            if 100 * sum(one <= it for one in latencies_us) >= percent * len(latencies_us)
        )
        assert abs(found_us - exact_us) <= 0.02 * exact_us


@given(st.lists(LATENCIES, max_size=4))
def test_sketches_that_are_merged_are_the_whole_ones(parts: list[list[int]]) -> None:
    """A sketch of several parts is the sketch of everything: nothing is lost by adding up late."""
    assert merge(map(sketch, parts)) == sketch([latency_us for part in parts for latency_us in part])


@given(st.integers(0, LATENCY_MAX_US), st.integers(0, LATENCY_MAX_US))
def test_buckets_keep_the_order(one_us: int, other_us: int) -> None:
    """A longer latency is never in a lower bucket, so percentiles never go down."""
    low_us, high_us = sorted((one_us, other_us))
    assert bucket_of(low_us) <= bucket_of(high_us)


@pytest.mark.parametrize(
    ("latency_us", "bucket"), ((0, 0), (1, 0), (2, 35), (LATENCY_MAX_US, 1_101), (LATENCY_MAX_US + 1, 1_101))
)
def test_buckets_are_few_and_fixed(latency_us: int, bucket: int) -> None:
    """Buckets are in stores for good: their numbers never change, and every one fits into 16 bits."""
    assert bucket_of(latency_us) == bucket


def test_without_latencies_there_are_no_percentiles() -> None:
    """Nothing is made up for an interval in which nobody reported a latency."""
    assert percentiles({}, (50, 90, 99)) == []
