"""Charts have an interval for every time, also where nothing happened, and every point is in one."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.cli.text import moment_ms
from keystead.cli.usage.timeline import DAY_MS, HOUR_MS, MINUTE_MS, WIDTHS_MS, interval_for, timeline

BEGIN_MS = moment_ms("2026-03-28T10:20:30Z")
ROME = ZoneInfo("Europe/Rome")
INTERVALS = st.sampled_from(tuple(WIDTHS_MS))
ZONES = st.sampled_from((UTC, ROME, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/Santiago")))
SPANS_MS = st.integers(1, 20 * DAY_MS)


@given(
    SPANS_MS,
    INTERVALS,
    ZONES,
    st.lists(st.tuples(st.integers(-DAY_MS, 30 * DAY_MS), st.integers(0, 2**64 - 1)), max_size=50),
)
def test_every_point_is_in_an_interval(
    span_ms: int, interval: str, zone: tzinfo, offsets: list[tuple[int, int]]
) -> None:
    """The sum over all intervals is the sum of all points, wherever they lie."""
    points = [(BEGIN_MS + offset_ms, amount) for offset_ms, amount in offsets]
    line = timeline(BEGIN_MS, BEGIN_MS + span_ms, interval, zone)
    assert sum(line.spread(points)) == sum(amount for _, amount in points)


@given(SPANS_MS, INTERVALS, ZONES)
def test_the_intervals_cover_the_time(span_ms: int, interval: str, zone: tzinfo) -> None:
    """The first holds the beginning and the last the end, and each begins where the one before it ends."""
    line = timeline(BEGIN_MS, BEGIN_MS + span_ms, interval, zone)
    begins_ms = line.begins_ms
    widths_ms = {after - before for before, after in pairwise(begins_ms)}
    assert begins_ms[0] <= BEGIN_MS < begins_ms[0] + DAY_MS
    assert begins_ms[-1] < BEGIN_MS + span_ms <= begins_ms[-1] + WIDTHS_MS[interval] + HOUR_MS
    assert widths_ms <= {WIDTHS_MS[interval], *((23 * HOUR_MS, 25 * HOUR_MS) if interval == "DAY" else ())}


@given(SPANS_MS, INTERVALS, ZONES, st.integers(1, 40), st.integers(20, 150))
def test_labels_name_columns_that_exist(span_ms: int, interval: str, zone: tzinfo, size: int, columns: int) -> None:
    """A label stands under a column of the chart, and they are in order."""
    line = timeline(BEGIN_MS, BEGIN_MS + span_ms, interval, zone)
    shown = -(-len(line.begins_ms) // size)
    indexes = [index for index, _ in line.labels(size, columns=columns, width=max(1, columns // shown))]
    assert indexes
    assert indexes == sorted(set(indexes))
    assert 0 <= indexes[0] <= indexes[-1] < shown


def test_days_begin_where_the_people_are() -> None:
    """A day of Rome begins at its own midnight, and the one on which clocks change has 23 hours."""
    line = timeline(BEGIN_MS, BEGIN_MS + 2 * DAY_MS, "DAY", ROME)
    assert [line.local(at_ms).isoformat() for at_ms in line.begins_ms] == [
        "2026-03-28T00:00:00+01:00",
        "2026-03-29T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    ]


def test_labels_say_times_of_a_day_or_days() -> None:
    """A day is told by its hours, a month by its days."""
    midnight_ms = moment_ms("2026-03-01T00:00:00Z")
    day = timeline(midnight_ms, midnight_ms + DAY_MS, "HOUR")
    assert day.labels(1, columns=72, width=3) == [
        (0, "00:00"), (3, "03:00"), (6, "06:00"), (9, "09:00"), (12, "12:00"), (15, "15:00"), (18, "18:00"),
        (21, "21:00"),
    ]  # fmt: skip
    month = timeline(midnight_ms, midnight_ms + 30 * DAY_MS, "DAY")
    texts = [text for _, text in month.labels(1, columns=60, width=2)]
    assert texts[0].endswith("Mar")
    assert len(texts) == len({*texts}) >= 4


@pytest.mark.parametrize(
    ("span_ms", "interval"),
    ((MINUTE_MS, "MINUTE"), (3 * HOUR_MS, "MINUTE"), (DAY_MS, "HOUR"), (7 * DAY_MS, "HOUR"), (30 * DAY_MS, "DAY")),
)
def test_the_interval_follows_the_length_of_the_time(span_ms: int, interval: str) -> None:
    """Nobody has to say an interval to get a chart that can be read."""
    assert interval_for(span_ms) == interval


def test_a_moment_is_written_in_the_zone() -> None:
    """The same moment has another clock time in another place."""
    line = timeline(BEGIN_MS, BEGIN_MS + 1, "MINUTE", ROME)
    assert line.local(BEGIN_MS) == datetime(2026, 3, 28, 11, 20, 30, tzinfo=ROME)
