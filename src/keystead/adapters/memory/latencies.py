"""How long answers took, from the calls in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from keystead.usage.latency import bucket_of
from keystead.usage.model import INTERVAL_MS, Call, Interval, LatencyPoint

_HOUR_MS = INTERVAL_MS[Interval.HOUR]


def latency_points(
    calls: Iterable[tuple[Call, str]],
    *,
    interval: Interval,
    limit: int,
    order: Callable[[str], tuple[int, str]],
    days: Sequence[int] = (),
) -> list[LatencyPoint]:
    """Return sketches of calls with their groups, which stand in ``order``; of all buckets the first ``limit`` stay."""
    counts: Counter[tuple[int, str, int]] = Counter()
    for call, group in calls:
        begins_at_ms = _begins(call.at_ms - call.at_ms % _HOUR_MS, interval, days)
        if call.latency_us is not None and begins_at_ms is not None:
            counts[begins_at_ms, group, bucket_of(call.latency_us)] += 1
    points: dict[tuple[int, str], dict[int, int]] = {}
    for begins_at_ms, group, bucket in sorted(counts, key=lambda it: (it[0], order(it[1]), it[2]))[:limit]:
        points.setdefault((begins_at_ms, group), {})[bucket] = counts[begins_at_ms, group, bucket]
    return [LatencyPoint(*place, buckets) for place, buckets in points.items()]


def _begins(hour_ms: int, interval: Interval, days: Sequence[int]) -> int | None:
    """Return when the interval begins that an hour is in; None before the first of ``days``."""
    if interval is not Interval.DAY:
        return hour_ms
    if not days:
        return hour_ms - hour_ms % INTERVAL_MS[interval]
    place = bisect_right(days, hour_ms)
    return days[place - 1] if place else None
