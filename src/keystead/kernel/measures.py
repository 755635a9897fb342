"""How often, and how long: counts that cost next to nothing to make, for whoever comes by and reads them.

A histogram is one list of whole numbers. What is measured adds to it without asking who will look; nothing here knows
of any monitoring.
"""

from __future__ import annotations

from bisect import bisect_left

NS_PER_SECOND = 1_000_000_000
QUICK_BOUNDS_NS = (
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    2_500_000_000,
)
"""1 µs to 2.5 s: for what is mostly done in memory."""
SLOW_BOUNDS_NS = (
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
)
"""1 ms to 10 s: for hashes and for what waits for a disk or a network."""


class Histogram:
    """How many took how long. ``counts`` has one entry for each bound, which it includes, and one for what is over."""

    __slots__ = ("bounds_ns", "counts", "sum_ns")

    def __init__(self, bounds_ns: tuple[int, ...]) -> None:
        """Sort into ``bounds_ns``, which must rise."""
        self.bounds_ns = bounds_ns
        self.counts = [0] * (len(bounds_ns) + 1)
        self.sum_ns = 0

    def observe(self, duration_ns: int, times: int = 1) -> None:
        """Note that ``times`` took ``duration_ns`` each."""
        self.counts[bisect_left(self.bounds_ns, duration_ns)] += times
        self.sum_ns += duration_ns * times

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)
