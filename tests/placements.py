"""Whether what clients were told can be true, when only they saw it: each call was decided between two moments.

A limiter decides a call at some moment after it was sent and before its verdict came. So an interval holds for sure
only the admissions whose both moments lie in it; when these alone are over, the limit cannot have been kept. What is
found here is never a false alarm, but an excess may hide in the time that calls were under way.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import NamedTuple

from keystead.kernel.limit import SlidingWindow, TokenBucket

DRIFT = 0.001
"""By how much the clock of the limiter may run faster or slower than that of the client."""


class Admission(NamedTuple):
    """When a call that was admitted left the client, when its verdict was there, and what it cost."""

    sent_us: int
    received_us: int
    cost: int = 1


def surely_over(kind: TokenBucket | SlidingWindow, admissions: Iterable[Admission]) -> float:
    """Return by how much the worst interval is over its bound at least; at most 0 when a limiter may have kept it."""
    return _window(kind, admissions) if isinstance(kind, SlidingWindow) else _bucket(kind, admissions)


def _window(kind: SlidingWindow, admissions: Iterable[Admission]) -> float:
    """See each interval that begins where a call was sent and is as long as the window."""
    long_us = kind.window_ms * 1_000 * (1 - DRIFT)
    return _worst(admissions, lambda begins_us, ends_us: kind.limit if ends_us - begins_us <= long_us else _NO_BOUND)


def _bucket(kind: TokenBucket, admissions: Iterable[Admission]) -> float:
    """See each interval that begins where a call was sent and ends where a verdict was received."""
    per_us = kind.rate / (kind.per_ms * 1_000) * (1 + DRIFT)
    return _worst(admissions, lambda begins_us, ends_us: kind.burst + per_us * (ends_us - begins_us))


def _worst(admissions: Iterable[Admission], allowed: Callable[[int, int], float]) -> float:
    """Return the greatest excess of all intervals over what is ``allowed`` between two moments, which only grows."""
    latest_first = sorted(admissions, reverse=True)
    within: list[tuple[int, int]] = []  # received_us and cost of everything sent since, in the order of verdicts
    worst = -_NO_BOUND
    for begins_us, received_us, cost in latest_first:
        insort(within, (received_us, cost))
        for (ends_us, _), total in zip(within, accumulate(cost for _, cost in within), strict=True):
            bound = allowed(begins_us, ends_us)
            if bound == _NO_BOUND:
                break
            worst = max(worst, total - bound)
    return worst


_NO_BOUND = float("inf")
