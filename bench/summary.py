"""Many numbers in few: percentiles of calls, and medians of runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of all values do not exceed (nearest rank); 0.0 of none."""
    if not ascending:
        return 0.0
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle value; 0.0 of none."""
    return statistics.median(values) if values else 0.0


def ratio(value: float, base: float) -> float:
    """Return ``value`` in units of ``base``; 0.0 when there is no base."""
    return value / base if base else 0.0
