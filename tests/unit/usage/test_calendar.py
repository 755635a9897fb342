"""Days of time zones, held against clocks that are watched minute by minute."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keystead.usage.calendar import Days, Run, answerable, day_bounds, runs
from keystead.usage.model import Interval
from keystead.usage.retention import Kept

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALWAYS = Kept(0, 0, 0)
ZONES = (
    "UTC",
    "Europe/Rome",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
)


def moment(*parts: int) -> int:
    """Return a moment of UTC in milliseconds."""
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)  # type: ignore[misc,arg-type]  # parts of a date


def watched(from_ms: int, to_ms: int, zone: ZoneInfo) -> list[int]:
    """Watch the clock of ``zone`` from minute to minute and note when it reaches a new date."""
    seen = date.min
    found: list[int] = []
    for at_ms in range(from_ms // MINUTE * MINUTE, to_ms, MINUTE):
        today = (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()
        if today > seen:
            seen = today
            found.append(at_ms)
    return found[1:]  # the first was under way


@settings(max_examples=60)
@given(
    name=st.sampled_from(ZONES),
    begin=st.integers(moment(1975, 1, 1) // MINUTE, moment(2037, 1, 1) // MINUTE),
    length=st.integers(1, 6 * 24 * 60),
)
@example("America/St_Johns", moment(2008, 11, 2, 2, 40) // MINUTE, 10)
@example("Pacific/Apia", moment(2011, 12, 29) // MINUTE, 3 * 24 * 60)
@example("Africa/Cairo", moment(2024, 4, 25) // MINUTE, 3 * 24 * 60)
@example("Asia/Beirut", moment(2023, 10, 27) // MINUTE, 3 * 24 * 60)
@example("America/Havana", moment(2023, 11, 4) // MINUTE, 3 * 24 * 60)
def test_a_day_begins_when_its_date_is_first_reached(name: str, begin: int, length: int) -> None:
    """Every day that a span touches is there once, wherever clocks are put on or back, and nothing lies between."""
    from_ms, to_ms = begin * MINUTE, (begin + length) * MINUTE
    bounds = day_bounds(from_ms, to_ms, ZoneInfo(name))
    reached = watched(from_ms - 4 * DAY, to_ms + 4 * DAY, ZoneInfo(name))
    first = bisect_right(reached, from_ms) - 1
    assert bounds == [it for it in reached if reached[first] <= it < to_ms] + [
        next(it for it in reached if it >= to_ms)
    ]


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    (
        ("Europe/Rome", (2024, 3, 31), 23.0),
        ("Europe/Rome", (2024, 10, 27), 25.0),
        ("Australia/Lord_Howe", (2024, 4, 7), 24.5),
        ("Asia/Kathmandu", (2024, 10, 27), 24.0),
    ),
)
def test_days_are_as_long_as_clocks_make_them(name: str, day: tuple[int, int, int], hours: float) -> None:
    """A day at which clocks are put on or back has 23, 25 or other hours."""
    noon_ms = moment(*day, 3)
    begin_ms, end_ms = day_bounds(noon_ms, noon_ms + 1, ZoneInfo(name))
    assert (end_ms - begin_ms) / HOUR == hours


def test_a_gap_that_begins_before_midnight_ends_the_day() -> None:
    """In Toronto on 30 March 1919 clocks went from 23:30 to 0:30: the next day began there."""
    bounds = day_bounds(moment(1919, 3, 30, 12), moment(1919, 3, 31, 12), ZoneInfo("America/Toronto"))
    assert bounds[1] == moment(1919, 3, 31, 4, 30)


def test_no_day_lies_beyond_the_calendar() -> None:
    """The end of all dates is an error that says so, not a wrong day."""
    with pytest.raises(OverflowError):
        day_bounds(moment(9999, 12, 31, 22), moment(9999, 12, 31, 23), ZoneInfo("Asia/Tokyo"))


@given(
    name=st.sampled_from(ZONES),
    begin=st.integers(moment(1975, 1, 1) // MINUTE, moment(2037, 1, 1) // MINUTE),
    length=st.integers(1, 900),
)
def test_a_run_says_of_every_moment_in_which_day_it_lies(name: str, begin: int, length: int) -> None:
    """What databases compute from runs is the day that the calendar says, and a year makes a handful of runs."""
    bounds = day_bounds(begin * MINUTE, begin * MINUTE + length * DAY, ZoneInfo(name))
    found = runs(bounds[:-1], bounds[-1])
    assert len(found) <= 2 + 8 * (1 + length // 365)
    for run in found:
        for at_ms in {run.begin_ms, (run.begin_ms + run.end_ms) // 2, run.end_ms - 1}:
            assert at_ms - (at_ms - run.begin_ms) % run.width_ms == bounds[bisect_right(bounds, at_ms) - 1]
    assert [found[0].begin_ms, *(run.end_ms for run in found)] == sorted({bounds[0], *(run.end_ms for run in found)})
    assert all(before.end_ms == after.begin_ms for before, after in pairwise(found))
    assert found[-1].end_ms == bounds[-1]


def test_runs_change_where_clocks_do() -> None:
    """Days of 24 hours, one of 23, and days of 24 hours again are three runs."""
    bounds = [0, DAY, 2 * DAY, 2 * DAY + 23 * HOUR, 3 * DAY + 23 * HOUR]
    assert runs(bounds[:-1], bounds[-1]) == [
        Run(0, DAY, 2 * DAY),
        Run(2 * DAY, 23 * HOUR, bounds[3]),
        Run(bounds[3], DAY, bounds[4]),
    ]


def test_whole_days_are_told_by_the_sums_of_days() -> None:
    """Days that begin as those of UTC do need no narrower sums, whatever the zone is called."""
    assert answerable([0, DAY, 2 * DAY], ALWAYS) == [Days(Interval.DAY, (0, DAY), 2 * DAY)]


def test_days_of_whole_hours_are_told_by_the_sums_of_hours() -> None:
    """Most zones need no sums by the minute."""
    bounds = [HOUR, HOUR + DAY, HOUR + 2 * DAY]
    assert answerable(bounds, ALWAYS) == [Days(Interval.HOUR, (HOUR, HOUR + DAY), HOUR + 2 * DAY)]


def test_other_days_are_told_by_the_sums_of_minutes_while_those_are_kept() -> None:
    """Days of half hours are exact as far back as minutes are kept, then told by hours, and then by days."""
    bounds = [HOUR // 2 + number * DAY for number in range(6)]
    kept = Kept(calls_since_ms=0, minutes_since_ms=3 * DAY, hours_since_ms=2 * DAY)
    assert answerable(bounds, kept) == [
        Days(Interval.DAY, (bounds[0], bounds[1]), bounds[2]),
        Days(Interval.HOUR, (bounds[2],), bounds[3]),
        Days(Interval.MINUTE, (bounds[3], bounds[4]), bounds[5]),
    ]
