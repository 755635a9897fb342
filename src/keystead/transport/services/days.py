"""Usage by the days of a time zone, as ``QueryUsage`` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from keystead.kernel.errors import invalid
from keystead.tenants.model import TenantScope
from keystead.usage.calendar import answerable, day_bounds
from keystead.usage.model import Dimension, Point, UsageFilter
from keystead.usage.ports import UsageStore
from keystead.usage.retention import Kept

ZONE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days one after the other: their beginnings, the first of which is ``wanted``'s and the last ends with it."""

    wanted: UsageFilter
    beginnings: Sequence[int]


def zone_of(field: str, name: str) -> tzinfo | None:
    """Return the time zone that is called ``name``, None when it is empty; raise for one that nobody knows."""
    if not name:
        return None
    unknown = invalid(field, "must be the name of a time zone, such as Europe/Rome (IANA)")
    if len(name) > ZONE_CHARACTERS or not name.isascii():
        raise unknown
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no path inside the zones, or a folder of them
        raise unknown from None


def calendar_of(wanted: UsageFilter, zone: tzinfo) -> Calendar:
    """Widen the span of ``wanted`` to whole days of ``zone``."""
    try:
        *beginnings, end_ms = day_bounds(wanted.from_ms, wanted.to_ms, zone)
    except OverflowError:
        raise invalid("to", "must be a moment between 1970 and 9999, to the end of its day") from None
    return Calendar(replace(wanted, from_ms=beginnings[0], to_ms=end_ms), beginnings)


async def series_by_days(
    store: UsageStore, scope: TenantScope, calendar: Calendar, kept: Kept, *, by: Dimension | None, limit: int
) -> list[Point]:
    """Return sums for each day (and group), by time and then group, from the narrowest sums that are needed and kept.

    It may be more than ``limit`` points, but not much more.
    """
    points: list[Point] = []
    for days in answerable([*calendar.beginnings, calendar.wanted.to_ms], kept):
        wanted = replace(calendar.wanted, from_ms=days.beginnings[0], to_ms=days.end_ms)
        points += await store.series(scope, wanted, interval=days.interval, by=by, limit=limit, days=days.beginnings)
    return points
