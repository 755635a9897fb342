"""Days of a time zone as spans of UTC, and which sums can tell of them.

A day begins at the first moment at which its date is reached: mostly at midnight, after a gap over midnight when the
gap ends, and never when a date is left out. Days are 24 hours long but for those at which clocks are changed, so a year
of them is a few runs of days of one length, and a run is plain arithmetic for any database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise

from keystead.usage.model import INTERVAL_MS, Interval
from keystead.usage.retention import Kept

_DAY_MS = INTERVAL_MS[Interval.DAY]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """Days one after the other that sums of one interval tell of; the last one ends at ``end_ms``."""

    interval: Interval
    beginnings: tuple[int, ...]
    end_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """Days of one length: they begin at ``begin_ms`` and every ``width_ms`` after it, before ``end_ms``."""

    begin_ms: int
    width_ms: int
    end_ms: int


def day_bounds(from_ms: int, to_ms: int, zone: tzinfo) -> list[int]:
    """Return the beginnings of the days that a span touches, and of the one after; ``from_ms`` is before ``to_ms``.

    Raises ``OverflowError`` for days beyond the year 9999.
    """
    day = _local_date(from_ms, zone)
    bounds = [_beginning(day, zone)]
    while bounds[-1] < to_ms:
        day += _ONE_DAY
        begin_ms = _beginning(day, zone)
        if begin_ms > bounds[-1]:  # else the date was left out
            bounds.append(begin_ms)
    # A clock that is put back over midnight shows the old date again, and the new day has begun all the same.
    return bounds[1:] if bounds[1] <= from_ms else bounds


def answerable(bounds: Sequence[int], kept: Kept) -> list[Days]:
    """Say which sums tell of the days between ``bounds``, exactly where sums that are narrow enough are kept.

    Where they are not, wider sums do, each for the day in which it begins. Pieces come in order; there are at most 3.
    """
    whole = {interval: all(bound % INTERVAL_MS[interval] == 0 for bound in bounds) for interval in Interval}
    if whole[Interval.DAY]:
        return [Days(Interval.DAY, tuple(bounds[:-1]), bounds[-1])]
    days: dict[Interval, list[tuple[int, int]]] = {}
    for begin_ms, end_ms in pairwise(bounds):
        days.setdefault(_narrowest(begin_ms, kept, whole_hours=whole[Interval.HOUR]), []).append((begin_ms, end_ms))
    return [
        Days(interval, tuple(begin_ms for begin_ms, _ in spans), spans[-1][1])
        for interval, spans in sorted(days.items(), key=lambda item: item[1][0])
    ]


def runs(beginnings: Sequence[int], end_ms: int) -> list[Run]:
    """Gather days into runs of one length, in order; the last day ends at ``end_ms``."""
    found: list[Run] = []
    for begin_ms, next_ms in pairwise((*beginnings, end_ms)):
        width_ms = next_ms - begin_ms
        if found and found[-1].width_ms == width_ms:
            found[-1] = Run(found[-1].begin_ms, width_ms, next_ms)
        else:
            found.append(Run(begin_ms, width_ms, next_ms))
    return found


def _narrowest(begin_ms: int, kept: Kept, *, whole_hours: bool) -> Interval:
    if begin_ms < kept.hours_since_ms:
        return Interval.DAY
    return Interval.HOUR if whole_hours or begin_ms < kept.minutes_since_ms else Interval.MINUTE


def _beginning(day: date, zone: tzinfo) -> int:
    """Return when ``day`` is first reached in ``zone``, or what comes after it when it is left out."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    begin_ms = (midnight.astimezone(UTC) - _EPOCH) // _MILLISECOND
    if _local(begin_ms, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return begin_ms
    # Midnight falls into a gap. Before the gap the date is an earlier one, from its end on it is this or a later one.
    before_ms, after_ms = begin_ms - 2 * _DAY_MS, begin_ms
    while after_ms - before_ms > 1:
        middle_ms = (before_ms + after_ms) // 2
        if _local_date(middle_ms, zone) < day:
            before_ms = middle_ms
        else:
            after_ms = middle_ms
    return after_ms


def _local(at_ms: int, zone: tzinfo) -> datetime:
    return (_EPOCH + at_ms * _MILLISECOND).astimezone(zone)


def _local_date(at_ms: int, zone: tzinfo) -> date:
    return _local(at_ms, zone).date()
