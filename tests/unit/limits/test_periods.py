"""Periods of quotas: which one holds a moment, and that they follow each other exactly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.limit import Credits, Period, Quota
from keystead.limits.periods import FOR_EVER_MS, span_of

DAY_MS = 86_400_000
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31)).map(  # noqa: DTZ001 -- strategies want it naive
    lambda at: (at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution // 1_000
)


def ms(text: str) -> int:
    """Read a moment of UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def date_of(at_ms: int) -> datetime:
    """Write a moment of UTC."""
    return datetime.fromtimestamp(at_ms // 1_000, UTC)


@pytest.mark.parametrize(
    ("anchor", "now", "begins", "ends"),
    (
        ("1970-01-01", "2024-02-29T12:00", "2024-02-01", "2024-03-01"),
        ("2024-01-31", "2024-02-28T23:59", "2024-01-31", "2024-02-29"),
        ("2024-01-31", "2024-02-29", "2024-02-29", "2024-03-31"),
        ("2024-01-31", "2024-04-30", "2024-04-30", "2024-05-31"),
        ("2023-01-31", "2023-03-01", "2023-02-28", "2023-03-31"),
        ("2024-12-15T08:30", "2025-01-15T08:29", "2024-12-15T08:30", "2025-01-15T08:30"),
        ("2024-12-15T08:30", "2025-01-15T08:30", "2025-01-15T08:30", "2025-02-15T08:30"),
        ("2030-05-31", "2024-02-29T10:00", "2024-02-29", "2024-03-31"),
        ("2030-05-31T06:00", "2024-01-01", "2023-12-31T06:00", "2024-01-31T06:00"),
    ),
)
def test_months_are_those_of_the_calendar(anchor: str, now: str, begins: str, ends: str) -> None:
    """A month begins on the anchor's day and time, or on the last day of a month that is too short; it never drifts."""
    assert span_of(Quota(1, Period.MONTH, ms(anchor)), ms(now)) == (ms(begins), ms(ends))


def test_days_have_24_hours_from_the_anchor() -> None:
    """A day begins at the anchor's time of day, also before the anchor."""
    quota = Quota(1, Period.DAY, ms("2024-05-10T08:00"))
    assert span_of(quota, ms("2024-05-12T07:59")) == (ms("2024-05-11T08:00"), ms("2024-05-12T08:00"))
    assert span_of(quota, ms("2024-05-12T08:00")) == (ms("2024-05-12T08:00"), ms("2024-05-13T08:00"))
    assert span_of(quota, ms("2024-05-01T00:00")) == (ms("2024-04-30T08:00"), ms("2024-05-01T08:00"))


def test_credits_have_one_period_for_ever() -> None:
    """A balance never begins anew."""
    assert span_of(Credits(5), 0) == span_of(Credits(5), FOR_EVER_MS - 1) == (0, FOR_EVER_MS)


@given(anchor_ms=MOMENTS, now_ms=MOMENTS, period=st.sampled_from(Period))
def test_periods_follow_each_other_without_a_gap(anchor_ms: int, now_ms: int, period: Period) -> None:
    """Every moment is in exactly one period, on which its first and last millisecond agree, and its neighbours too."""
    quota = Quota(1, period, anchor_ms)
    span = span_of(quota, now_ms)
    assert span.begins_at_ms <= now_ms < span.ends_at_ms
    assert span_of(quota, span.begins_at_ms) == span_of(quota, span.ends_at_ms - 1) == span
    assert span_of(quota, span.ends_at_ms).begins_at_ms == span.ends_at_ms
    assert span_of(quota, span.begins_at_ms - 1).ends_at_ms == span.begins_at_ms
    if period is Period.DAY:
        assert span.ends_at_ms - span.begins_at_ms == DAY_MS


@given(anchor_ms=MOMENTS, now_ms=MOMENTS)
def test_a_month_keeps_the_anchors_day_and_time(anchor_ms: int, now_ms: int) -> None:
    """Each month begins on the anchor's day or on its own last one, at the anchor's time, a calendar month after."""
    span = span_of(Quota(1, Period.MONTH, anchor_ms), now_ms)
    anchor, begin, end = date_of(anchor_ms), date_of(span.begins_at_ms), date_of(span.ends_at_ms)
    assert span.begins_at_ms % DAY_MS == span.ends_at_ms % DAY_MS == anchor_ms % DAY_MS
    assert (end.year * 12 + end.month) - (begin.year * 12 + begin.month) == 1
    tomorrow = date_of(span.begins_at_ms + DAY_MS)
    assert begin.day == anchor.day or (begin.day < anchor.day and tomorrow.day == 1)


@given(now_ms=st.integers(0, DAY_MS), anchor_ms=st.sampled_from((0, DAY_MS * 30 + 7)))
def test_the_first_days_there_are(now_ms: int, anchor_ms: int) -> None:
    """Periods that hold the epoch's first day may begin before it."""
    span = span_of(Quota(1, Period.MONTH, anchor_ms), now_ms)
    assert span.begins_at_ms <= now_ms < span.ends_at_ms
