"""Sums by the days of a time zone: the same in every store as counting the calls of each day one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.usage.calendar import answerable, day_bounds
from keystead.usage.model import Call, Dimension, Interval, Point, UsageFilter
from keystead.usage.retention import Kept
from tests.contract.usage_stores import (
    DAY,
    HOUR,
    MINUTE,
    OUR_TESTS,
    OURS,
    SUBJECTS,
    Store,
    Writer,
    call,
    groups_of,
    meant,
    order,
    questions,
    seen,
)

ALWAYS = Kept(0, 0, 0)
ZONES = ("Europe/Rome", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia", "Africa/Cairo")
# Around the changes of clocks in autumn, and in spring.
BEGINNINGS = (datetime(2023, 10, 24, 13, 7, tzinfo=UTC), datetime(2024, 4, 23, 2, 59, tzinfo=UTC))


def moment(at: datetime) -> int:
    """Return milliseconds since the Unix epoch."""
    return int(at.timestamp()) * 1_000


def some_calls(random: Random, from_ms: int, to_ms: int) -> list[Call]:
    """Make calls of all subjects, many of them close to the hour or half-hour."""
    halves = range(from_ms // (HOUR // 2) * (HOUR // 2), to_ms, HOUR // 2)
    return [
        call(
            random.choice(halves) + random.choice((-1, 0, 1, random.randrange(HOUR))),
            random.choice(SUBJECTS),
            code=random.choice((1, 1, 11, 12)),
            cost=random.choice((0, 1, 7)),
            tags=random.choice(((), ("eu",), ("EU", "eu"))),
        )
        for _ in range(300)
    ]


def recounted(calls: Sequence[Call], bounds: Sequence[int], by: Dimension | None, width_ms: int = 1) -> list[Point]:
    """Count calls day by day, each where its interval of ``width_ms`` begins."""
    counts: Counter[tuple[int, str]] = Counter()
    costs: Counter[tuple[int, str]] = Counter()
    for it in calls:
        begins_at_ms = it.at_ms - it.at_ms % width_ms
        if not bounds[0] <= begins_at_ms < bounds[-1]:
            continue
        for group in groups_of(it, by):
            place = (bounds[bisect_right(bounds, begins_at_ms) - 1], group)
            counts[place] += 1
            costs[place] += it.cost
    return [Point(*place, counts[place], costs[place]) for place in sorted(counts, key=lambda it: order(it, by))]


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_days_are_those_of_the_zone(usage_store: Store, name: str, beginning: datetime) -> None:
    """Whatever the zone's offset, and where clocks are put on or back, each call is in its own day, exactly."""
    from_ms, to_ms = moment(beginning), moment(beginning) + 8 * DAY
    bounds = day_bounds(from_ms, to_ms, ZoneInfo(name))
    calls = some_calls(Random(f"{name}{from_ms}"), from_ms - DAY, to_ms + DAY)
    await usage_store.count(Writer().stretch(*calls))
    (days,) = answerable(bounds, ALWAYS)
    for scope in (OURS, OUR_TESTS):
        for fields in ({}, {"key_id": "key_a"}, {"owner_id": "customer-1", "code": 1}):
            wanted = replace(UsageFilter(bounds[0], bounds[-1]), **fields)
            mine = [it for it in seen(calls, scope) if meant(it, wanted)]
            for by in (None, Dimension.SECRET, Dimension.CODE):
                told = await usage_store.series(
                    scope, wanted, interval=days.interval, by=by, limit=1_000, days=days.beginnings
                )
                assert told == recounted(mine, bounds, by), (fields, by)


async def test_labels_go_by_whole_hours(usage_store: Store) -> None:
    """Sums of labels are kept by the hour, so in a zone of half-hours each is in the day in which its hour begins."""
    from_ms = moment(BEGINNINGS[0])
    bounds = day_bounds(from_ms, from_ms + 4 * DAY, ZoneInfo("Asia/Kolkata"))
    calls = some_calls(Random(1), from_ms - DAY, from_ms + 6 * DAY)
    await usage_store.count(Writer().stretch(*calls))
    wanted = UsageFilter(bounds[0], bounds[-1])
    told = await usage_store.series(
        OURS, wanted, interval=Interval.MINUTE, by=Dimension.TAG, limit=1_000, days=bounds[:-1]
    )
    assert told == recounted(seen(calls, OURS), bounds, Dimension.TAG, HOUR)


async def test_wider_sums_are_in_the_day_in_which_they_begin(usage_store: Store) -> None:
    """Where minutes are gone, hours tell of days of half-hours: nothing is lost, and nothing is counted twice."""
    from_ms = moment(BEGINNINGS[1])
    bounds = day_bounds(from_ms, from_ms + 6 * DAY, ZoneInfo("Asia/Kolkata"))
    calls = some_calls(Random(2), from_ms - DAY, from_ms + 8 * DAY)
    await usage_store.count(Writer().stretch(*calls))
    wanted = UsageFilter(bounds[0], bounds[-1])
    for interval, width_ms in ((Interval.MINUTE, MINUTE), (Interval.HOUR, HOUR), (Interval.DAY, DAY)):
        told = await usage_store.series(OURS, wanted, interval=interval, by=None, limit=1_000, days=bounds[:-1])
        assert told == recounted(seen(calls, OURS), bounds, None, width_ms)


async def test_a_series_of_days_stops_at_its_limit(usage_store: Store) -> None:
    """No more points are told than were asked for, the earliest ones."""
    from_ms = moment(BEGINNINGS[0])
    bounds = day_bounds(from_ms, from_ms + 9 * DAY, ZoneInfo("Europe/Rome"))
    await usage_store.count(Writer().stretch(*[call(begin_ms + 1) for begin_ms in bounds]))
    wanted = UsageFilter(bounds[0], bounds[-1])
    told = await usage_store.series(OURS, wanted, interval=Interval.HOUR, by=None, limit=4, days=bounds[:-1])
    assert [point.begins_at_ms for point in told] == bounds[:4]


async def test_no_question_of_days_reads_a_whole_table(migrated_file: object) -> None:
    """A year of days is a few searches, with a key one for each hour, and never a way from end to end."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    asked: set[tuple[str, tuple[object, ...]]] = set()

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        asked.add((statement, parameters))

    event.listen(database.statements.sync_engine, "before_cursor_execute", note)
    bounds = day_bounds(moment(BEGINNINGS[0]), moment(BEGINNINGS[0]) + 366 * DAY, ZoneInfo("Europe/Rome"))
    store = SqlUsage(database)
    for scope, wanted in questions():
        span = replace(wanted, from_ms=bounds[0], to_ms=bounds[-1])
        await store.series(scope, span, interval=Interval.HOUR, by=Dimension.CODE, limit=10, days=bounds[:-1])
    assert asked
    for statement, parameters in asked:
        steps = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {statement}", *parameters)]
        assert any("USING PRIMARY KEY (workspace_id=?" in step for step in steps), steps
        assert not [step for step in steps if step.startswith("SCAN usage")], steps
    await database.close()
