"""How long answers took, as replies of ``UsageService`` tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from keystead.gen.v1 import usage_pb2
from keystead.kernel.errors import invalid
from keystead.tenants.model import TenantScope
from keystead.transport.services import conversions
from keystead.usage.latency import percentiles
from keystead.usage.model import INTERVAL_MS, Dimension, Interval, LatencyPoint, Point, UsageFilter
from keystead.usage.ports import UsageStore

BUCKETS_MAX = 200_000
"""How many buckets a reply is made of at most, over all of its points."""

_WANTED = (50, 90, 99)
_POINTS_AT_ONCE = 200

Latencies = Mapping[tuple[int, str], usage_pb2.LatencyQuantiles]
"""What is told of each point, by its beginning and group."""


async def latencies_of(
    store: UsageStore,
    scope: TenantScope,
    wanted: UsageFilter,
    points: Sequence[Point],
    *,
    interval: Interval,
    by: Dimension | None,
    days: Sequence[int] = (),
) -> Latencies:
    """Ask how long the answers of ``points`` took, as they were asked for.

    Points of a minute, or with labels, have no latencies. Raises ``InvalidRequestError`` when there are too many.
    """
    by_label = by is Dimension.TAG or bool(wanted.tag)
    if interval is Interval.MINUTE or by_label or not any(point.outcomes for point in points):
        return {}
    found = await store.latencies(scope, wanted, interval=interval, by=by, limit=BUCKETS_MAX + 1, days=days)
    if sum(len(point.buckets) for point in found) > BUCKETS_MAX:
        raise invalid("interval", "makes more latencies than fit a reply; take a wider one, or a narrower filter")
    return await _written(found)


async def latency_of_key(
    store: UsageStore, scope: TenantScope, wanted: UsageFilter
) -> usage_pb2.LatencyQuantiles | None:
    """Ask how long the answers of one key took, over the whole hours that the span touches; None when nobody said."""
    hour_ms = INTERVAL_MS[Interval.HOUR]
    from_ms = wanted.from_ms // hour_ms * hour_ms
    hours = replace(wanted, from_ms=from_ms)
    # One day, as long as the span, makes one sketch of it.
    found = await store.latencies(scope, hours, interval=Interval.DAY, by=None, limit=BUCKETS_MAX, days=(from_ms,))
    return _quantiles(found[0].buckets) if found else None


async def _written(points: Sequence[LatencyPoint]) -> Latencies:
    """Write the quantiles of points, a part of them at a time, so that other calls are not held up."""
    told = {}
    for start in range(0, len(points), _POINTS_AT_ONCE):
        for point in points[start : start + _POINTS_AT_ONCE]:
            told[point.begins_at_ms, point.group] = _quantiles(point.buckets)
        await asyncio.sleep(0)
    return told


def _quantiles(buckets: Mapping[int, int]) -> usage_pb2.LatencyQuantiles:
    p50, p90, p99 = map(conversions.span_us, percentiles(buckets, _WANTED))
    return usage_pb2.LatencyQuantiles(p50=p50, p90=p90, p99=p99)
