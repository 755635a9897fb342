"""How long usage is kept: raw calls and sums by the minute for weeks, sums by the hour for a year, by the day for ever.

What was told of hours is kept for at least as long as their sums: usage that came late, to an hour of which nobody knew
any more what was told, would be billed again.

Everything is forgotten by whole days of UTC, so that a database may drop a day in one piece and every store forgets the
same.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.usage.model import INTERVAL_MS, Interval

USES_DAYS_MAX = 365
"""How far back somebody may ask what a key used; when it last used something is kept for a day longer."""

_DAY_MS = INTERVAL_MS[Interval.DAY]


@dataclass(frozen=True, slots=True)
class Kept:
    """Since when there are raw calls, and sums by the minute and by the hour, in milliseconds.

    Also since when there are last uses of expressions, and what was told to be billed; 0 is since ever.
    """

    calls_since_ms: int
    minutes_since_ms: int
    hours_since_ms: int
    uses_since_ms: int = 0
    told_since_ms: int = 0

    def width_ms(self, at_ms: int) -> int:
        """Return how wide the narrowest sums are that are kept of the time around ``at_ms``."""
        if at_ms >= self.minutes_since_ms:
            return INTERVAL_MS[Interval.MINUTE]
        return INTERVAL_MS[Interval.HOUR if at_ms >= self.hours_since_ms else Interval.DAY]

    def widened(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Return the span with both ends moved outward to where sums that are kept begin and end."""
        begin_width_ms, end_width_ms = self.width_ms(from_ms), self.width_ms(to_ms)
        return from_ms // begin_width_ms * begin_width_ms, -(-to_ms // end_width_ms) * end_width_ms


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days each is kept; sums by the hour for at least as long as those by the minute.

    ``told_days`` is for what was told to be billed, at least as long as sums by the hour.
    """

    calls_days: int
    minutes_days: int
    hours_days: int
    told_days: int = 400

    def kept(self, now_ms: int) -> Kept:
        """Return what is kept at ``now_ms``: the day under way and so many whole days before it."""
        today_ms = now_ms - now_ms % _DAY_MS
        hours_days = max(self.hours_days, self.minutes_days)
        return Kept(
            calls_since_ms=today_ms - self.calls_days * _DAY_MS,
            minutes_since_ms=today_ms - self.minutes_days * _DAY_MS,
            hours_since_ms=today_ms - hours_days * _DAY_MS,
            uses_since_ms=today_ms - (USES_DAYS_MAX + 1) * _DAY_MS,
            told_since_ms=today_ms - max(self.told_days, hours_days) * _DAY_MS,
        )
