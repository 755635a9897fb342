"""How long usage is kept."""

from __future__ import annotations

from keystead.usage.retention import Kept, Retention

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def test_the_day_under_way_and_whole_days_before_it_are_kept() -> None:
    """What is kept changes at midnight of UTC alone, so a store may forget by whole days."""
    retention = Retention(calls_days=2, minutes_days=3, hours_days=5)
    for now_ms in (10 * DAY, 10 * DAY + 1, 11 * DAY - 1):
        assert retention.kept(now_ms) == Kept(8 * DAY, 7 * DAY, 5 * DAY)
    assert retention.kept(11 * DAY) == Kept(9 * DAY, 8 * DAY, 6 * DAY)


def test_hours_outlive_minutes() -> None:
    """Where minutes are kept, hours are kept too, whatever was asked for."""
    assert Retention(calls_days=9, minutes_days=3, hours_days=1).kept(10 * DAY) == Kept(DAY, 7 * DAY, 7 * DAY)


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
