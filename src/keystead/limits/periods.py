"""Which period of a quota holds a moment, and when that period ends.

Periods follow each other without a gap from their anchor, in both directions. Days have 24 hours. Months are those of
the calendar in UTC: each begins on the anchor's day of the month, or on the last day of a month that is too short for
it. Every one is counted from the anchor itself, so an anchor on the 31st comes back to the 31st.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime
from typing import NamedTuple

from keystead.kernel.limit import Credits, Period, Quota

FOR_EVER_MS = 253_402_300_800_000
"""When the one period of credits ends: with the year 9999."""

_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class Span(NamedTuple):
    """A period, in milliseconds since the epoch; its end is the next one's beginning."""

    begins_at_ms: int
    ends_at_ms: int


def span_of(kind: Quota | Credits, now_ms: int) -> Span:
    """Return the period of ``kind`` that holds ``now_ms``, which is from 1970 to 9998; credits have one for ever."""
    if isinstance(kind, Credits):
        return Span(0, FOR_EVER_MS)
    if kind.period is Period.DAY:
        begins_at_ms = now_ms - (now_ms - kind.anchor_ms) % _DAY_MS
        return Span(begins_at_ms, begins_at_ms + _DAY_MS)
    return _month(kind.anchor_ms, now_ms)


def _month(anchor_ms: int, now_ms: int) -> Span:
    days, time_of_day_ms = divmod(anchor_ms, _DAY_MS)
    anchor_day = date.fromordinal(_EPOCH_DAY + days).day
    now = datetime.fromtimestamp(now_ms // 1_000, UTC)
    months = now.year * 12 + now.month - 1
    if _begin_ms(months, anchor_day, time_of_day_ms) > now_ms:
        months -= 1
    return Span(_begin_ms(months, anchor_day, time_of_day_ms), _begin_ms(months + 1, anchor_day, time_of_day_ms))


def _begin_ms(months: int, anchor_day: int, time_of_day_ms: int) -> int:
    """Return when the period begins that begins in the month number ``months`` since the year 0."""
    year, month = months // 12, months % 12 + 1
    day = date(year, month, min(anchor_day, monthrange(year, month)[1]))
    return (day.toordinal() - _EPOCH_DAY) * _DAY_MS + time_of_day_ms
