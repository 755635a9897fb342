"""The intervals of a chart: which there are, what falls into each, and how its time is written.

A reply leaves out intervals without calls; a picture must not. So the intervals are counted out here, from the time
asked for, and each point goes to the one that holds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
INTERVALS_MAX = 50_000

WIDTHS_MS = {"MINUTE": MINUTE_MS, "HOUR": HOUR_MS, "DAY": DAY_MS}
SIZES = {
    "MINUTE": (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880),
    "HOUR": (1, 2, 3, 6, 12, 24, 48, 168),
    "DAY": (1, 2, 7, 14, 28, 56),
}
"""How many intervals one column of a chart may hold, so that people can say it."""

_MINUTES_SHOWN_MS = 3 * HOUR_MS
_HOURS_SHOWN_MS = 8 * DAY_MS
_CLOCK_SHOWN_MS = 36 * HOUR_MS
_STEPS_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
_STEPS_DAYS = (1, 2, 7, 14, 28, 91)


def interval_for(span_ms: int) -> str:
    """Choose how wide the points of so long a time are."""
    if span_ms <= _MINUTES_SHOWN_MS:
        return "MINUTE"
    return "HOUR" if span_ms <= _HOURS_SHOWN_MS else "DAY"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Intervals by when they begin, in the order of time; at least one."""

    begins_ms: tuple[int, ...]
    zone: tzinfo

    def spread(self, points: Iterable[tuple[int, int]]) -> list[int]:
        """Sum ``points`` (when, how much) by interval; what lies outside goes to the nearest."""
        values = [0] * len(self.begins_ms)
        for at_ms, amount in points:
            values[max(0, bisect_right(self.begins_ms, at_ms) - 1)] += amount
        return values

    def labels(self, size: int, *, columns: int, width: int) -> list[tuple[int, str]]:
        """Name some columns of ``size`` intervals each: times of the day, or days when there are many.

        ``columns`` is what the chart has, ``width`` what each of its columns takes.
        """
        moments = [self.local(at_ms) for at_ms in self.begins_ms[::size]]
        clock = self.begins_ms[-1] - self.begins_ms[0] <= _CLOCK_SHOWN_MS and self.begins_ms[-1] != self.begins_ms[0]
        pattern, steps = ("%H:%M", _STEPS_MINUTES) if clock else ("%d %b", _STEPS_DAYS)
        found: list[int] = [0]
        for step in steps:
            found = _changes([_ordinal(moment, clock=clock) for moment in moments], step)
            if len(found) * (len("00:00") + 3) <= columns and _apart(found, width):
                break
        return [(index, moments[index].strftime(pattern)) for index in found]

    def local(self, at_ms: int) -> datetime:
        """Write a moment as the people of the time zone do."""
        return datetime.fromtimestamp(at_ms // 1_000, self.zone)


def timeline(from_ms: int, to_ms: int, interval: str, zone: tzinfo = UTC) -> Timeline:
    """Count out the intervals that touch the time from ``from_ms`` up to ``to_ms``, at most 50,000."""
    begins_ms = _days(from_ms, to_ms, zone) if interval == "DAY" else _even(from_ms, to_ms, WIDTHS_MS[interval])
    return Timeline(tuple(begins_ms[-INTERVALS_MAX:]), zone)


def _even(from_ms: int, to_ms: int, width_ms: int) -> list[int]:
    first_ms = from_ms // width_ms * width_ms
    return list(range(first_ms, max(to_ms, first_ms + 1), width_ms))


def _days(from_ms: int, to_ms: int, zone: tzinfo) -> list[int]:
    """Count days of the zone, which have 23 or 25 hours now and then."""
    day = datetime.fromtimestamp(from_ms // 1_000, zone).date()
    begins_ms: list[int] = []
    for _ in range(INTERVALS_MAX):
        begins = datetime(day.year, day.month, day.day, tzinfo=zone)
        at_ms = int(begins.timestamp()) * 1_000
        if begins_ms and at_ms >= to_ms:
            break
        begins_ms.append(at_ms)
        day += timedelta(days=1)
    return begins_ms


def _ordinal(moment: datetime, *, clock: bool) -> int:
    days = moment.date().toordinal()
    return days * 1_440 + moment.hour * 60 + moment.minute if clock else days


def _changes(ordinals: Sequence[int], step: int) -> list[int]:
    """Return where a new ``step`` begins; the first place alone when none does."""
    begins = [index for index in range(1, len(ordinals)) if ordinals[index] // step != ordinals[index - 1] // step]
    return [0, *begins] if ordinals[0] % step == 0 or not begins else begins


def _apart(indexes: Sequence[int], width: int) -> bool:
    """Say whether labels at ``indexes`` leave room between one another."""
    room = len("00:00") + 2
    return all((after - before) * width >= room for before, after in pairwise(indexes))
