"""How long usage is kept."""

from __future__ import annotations

from dataclasses import replace

from keystead.usage.retention import Kept, Retention

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def test_the_day_under_way_and_whole_days_before_it_are_kept() -> None:
    """What is kept changes at midnight of UTC alone, so a store may forget by whole days."""
    retention = Retention(calls_days=2, minutes_days=3, hours_days=5, told_days=7)
    for now_ms in (400 * DAY, 400 * DAY + 1, 401 * DAY - 1):
        assert retention.kept(now_ms) == Kept(398 * DAY, 397 * DAY, 395 * DAY, 34 * DAY, 393 * DAY)
    assert retention.kept(401 * DAY) == Kept(399 * DAY, 398 * DAY, 396 * DAY, 35 * DAY, 394 * DAY)


def test_hours_outlive_minutes() -> None:
    """Where minutes are kept, hours are kept too, whatever was asked for."""
    kept = Retention(calls_days=9, minutes_days=3, hours_days=1).kept(10 * DAY)
    assert (kept.calls_since_ms, kept.minutes_since_ms, kept.hours_since_ms) == (DAY, 7 * DAY, 7 * DAY)


def test_what_was_told_outlives_what_was_used() -> None:
    """Whatever was asked for, no hour has usage of which nobody knows what was told: it would be billed again."""
    retention = Retention(calls_days=1, minutes_days=2, hours_days=5, told_days=2)
    for kept in (retention.kept(10 * DAY), replace(retention, minutes_days=9).kept(10 * DAY)):
        assert kept.told_since_ms == kept.hours_since_ms
    assert replace(retention, told_days=8).kept(10 * DAY).told_since_ms == 2 * DAY


def test_the_narrowest_width_depends_on_what_is_kept() -> None:
    """Minutes are there for a while, hours for longer, days for ever."""
    kept = Kept(calls_since_ms=0, minutes_since_ms=20, hours_since_ms=10)
    assert [kept.width_ms(at_ms) for at_ms in (25, 20, 19, 10, 9)] == [MINUTE, MINUTE, HOUR, HOUR, DAY]


def test_a_span_is_widened_to_what_is_kept_at_its_ends() -> None:
    """A ragged end in a time of which only hours or days are kept is told by those, and nothing is left out."""
    kept = Kept(calls_since_ms=0, minutes_since_ms=20 * DAY, hours_since_ms=10 * DAY)
    odd_ms = 7 * HOUR + 7 * MINUTE
    assert kept.widened(20 * DAY + odd_ms, 21 * DAY + odd_ms) == (20 * DAY + odd_ms, 21 * DAY + odd_ms)
    assert kept.widened(11 * DAY + odd_ms, 21 * DAY + 1) == (11 * DAY + 7 * HOUR, 21 * DAY + MINUTE)
    assert kept.widened(9 * DAY + odd_ms, 12 * DAY + odd_ms) == (9 * DAY, 12 * DAY + 8 * HOUR)
    assert kept.widened(DAY + odd_ms, 9 * DAY + odd_ms) == (DAY, 10 * DAY)
