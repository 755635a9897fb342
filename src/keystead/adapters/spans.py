"""How a span of time is cut so that its sums cost about the same for a day and for a year.

Minutes at the ragged ends, hours next to them and days between. An interval counts when it begins inside the span.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keystead.usage.model import INTERVAL_MS, Interval

NARROWER = {Interval.DAY: Interval.HOUR, Interval.HOUR: Interval.MINUTE}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a span, whole intervals of one kind: from ``begin_ms`` inclusive to ``end_ms`` exclusive."""

    interval: Interval
    begin_ms: int
    end_ms: int


def parts(begin_ms: int, end_ms: int, interval: Interval = Interval.DAY) -> Iterator[Part]:
    """Cut the minutes that begin in a span into few intervals, in order, none wider than ``interval``."""
    step_ms = INTERVAL_MS[interval]
    if interval is Interval.MINUTE:
        inner_begin_ms, inner_end_ms = ceiling(begin_ms, step_ms), ceiling(end_ms, step_ms)
        if inner_begin_ms < inner_end_ms:
            yield Part(interval, inner_begin_ms, inner_end_ms)
        return
    minute_ms = INTERVAL_MS[Interval.MINUTE]
    inner_begin_ms, inner_end_ms = ceiling(begin_ms, step_ms), ceiling(end_ms, minute_ms) // step_ms * step_ms
    if inner_begin_ms >= inner_end_ms:
        yield from parts(begin_ms, end_ms, NARROWER[interval])
        return
    yield from parts(begin_ms, inner_begin_ms, NARROWER[interval])
    yield Part(interval, inner_begin_ms, inner_end_ms)
    yield from parts(inner_end_ms, end_ms, NARROWER[interval])


def ceiling(at_ms: int, step_ms: int) -> int:
    """Return the first beginning of a step at or after ``at_ms``."""
    return -(-at_ms // step_ms) * step_ms
