"""Histograms of times."""

from __future__ import annotations

from keystead.kernel.measures import QUICK_BOUNDS_NS, SLOW_BOUNDS_NS, Histogram


def test_a_bound_belongs_to_its_own_bucket() -> None:
    """What takes exactly as long as a bound is counted as not over it, as Prometheus reads `le`."""
    histogram = Histogram((10, 20))
    for duration_ns in (0, 10, 11, 20, 21):
        histogram.observe(duration_ns)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum_ns == 62
    assert histogram.count == 5


def test_many_of_one_length_are_counted_at_once() -> None:
    """A batch that shares its time counts as many as it had."""
    histogram = Histogram((10,))
    histogram.observe(7, 3)
    assert (histogram.counts, histogram.sum_ns) == ([3, 0], 21)


def test_bounds_rise() -> None:
    """A bucket holds what is in the smaller ones as well, so the bounds are in order."""
    for bounds_ns in (QUICK_BOUNDS_NS, SLOW_BOUNDS_NS):
        assert list(bounds_ns) == sorted(set(bounds_ns))
