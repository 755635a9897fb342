"""What every store of outcomes guarantees: each joined to its call once, the first report counts, and walls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from keystead.adapters.clickhouse.connection import ClickHouse
from keystead.adapters.clickhouse.outcomes import ClickHouseOutcomes
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.outcomes import MemoryOutcomes
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.outcomes import SqlOutcomes
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.ids import new_id
from keystead.kernel.paging import PageRequest
from keystead.tenants.model import Environment, TenantScope
from keystead.usage.latency import bucket_of, merge
from keystead.usage.model import Call, Dimension, Interval, Joined, LatencyPoint, Outcome, Subject
from tests import clickhouses
from tests.contract.conftest import empty, url_of
from tests.contract.usage_stores import (
    DAY,
    EVER,
    HOUR,
    MINUTE,
    NOWHERE,
    OUR_KEY,
    OUR_TEST_KEY,
    OUR_TESTS,
    OURS,
    ROTATED,
    SUBJECTS,
    T0,
    THEIRS,
    UNOWNED,
    Writer,
    meant,
    questions,
    seen,
)

Outcomes = MemoryOutcomes | SqlOutcomes | ClickHouseOutcomes
OUR_LIVE = TenantScope("wsp_ours", frozenset({Environment.LIVE}))


@dataclass
class Pair:
    """Where calls are counted, and where their outcomes are kept and joined."""

    usage: MemoryUsage | SqlUsage | ClickHouseUsage
    outcomes: Outcomes
    database: Database | None = None
    clickhouse: ClickHouse | None = None
    writer: Writer | None = None

    def another(self, **bounds: int) -> Outcomes:
        """Return the store of another process; in memory there is none, so the same."""
        if self.database is None:
            return self.outcomes
        if self.clickhouse is None:
            return SqlOutcomes(self.database, **bounds)
        return ClickHouseOutcomes(self.clickhouse, self.database, **bounds)

    async def count(self, *calls: Call) -> None:
        """Count calls."""
        self.writer = self.writer or Writer()
        assert await self.usage.count(self.writer.stretch(*calls))

    async def join(self, now_ms: int = T0, *, at_most: int = 100) -> Joined:
        """Join until nothing more is settled, as the worker does; return what became of all."""
        whole = Joined()
        while (step := await self.outcomes.join(at_most=at_most, now_ms=now_ms)).settled:
            whole = Joined(whole.joined + step.joined, whole.repeated + step.repeated, whole.dropped + step.dropped)
        return whole

    async def told(self, scope: TenantScope = OURS) -> dict[str, tuple[int | None, int | None]]:
        """Return how each call of a workspace ended, as the list of calls has it."""
        page = await self.usage.calls(scope, EVER, PageRequest(100_000))
        return {it.verification_id: (it.http_status, it.latency_us) for it in page.items}

    async def sums(self, by: Dimension | None = None) -> list[tuple[int, ...]]:
        """Return calls, outcomes and errors of our workspace by minute, hour and day."""
        all_sums = []
        for interval in Interval:
            points = await self.usage.series(OURS, EVER, interval=interval, by=by, limit=10_000)
            sums = [(it.calls, it.outcomes, it.errors) for it in points]
            all_sums.append(tuple(map(sum, zip(*sums, strict=True))))
        return all_sums

    async def sketch(self) -> dict[int, int]:
        """Return the sketch of everything in our workspace."""
        points = await self.usage.latencies(OURS, EVER, interval=Interval.DAY, by=None, limit=10_000)
        return merge(point.buckets for point in points)


@pytest.fixture
async def pair(usage_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """Lend the stores of each kind, empty; those of ClickHouse stand beside a database."""
    if usage_url == "memory":
        usage = MemoryUsage()
        yield Pair(usage, MemoryOutcomes(usage))
        return
    if usage_url != "chdb":
        database = Database.connect(usage_url)
        yield Pair(SqlUsage(database), SqlOutcomes(database), database)
    else:
        database = Database.connect(url_of("postgresql", request, tmp_path))
        clickhouse = request.getfixturevalue("clickhouse")
        outcomes = ClickHouseOutcomes(clickhouse, database)
        yield Pair(ClickHouseUsage(clickhouse), outcomes, database, clickhouse)
        await clickhouses.empty(clickhouse)
    await empty(database)


def call(at_ms: int = T0, subject: Subject = OUR_KEY, *, code: int = 1, tags: tuple[str, ...] = ()) -> Call:
    """Make a verdict whose id says when it was given, as every journal's do."""
    return Call(new_id("ver", now_ms=at_ms), at_ms, subject, code, 1, "read", "192.0.2.1", "", tags)


def ended(it: Call, status: int = 200, latency_us: int | None = 1_500) -> Outcome:
    """Report how a call ended."""
    return Outcome(it.verification_id, status, latency_us)


async def test_an_outcome_is_joined_whichever_comes_first(pair: Pair) -> None:
    """A report before its call is counted waits for it; one after it is joined at once; both are in every sum."""
    early, late = call(), call(T0 + DAY)
    await pair.outcomes.keep(OURS, [ended(early, 503)], at_ms=T0)
    assert await pair.join() == Joined()
    await pair.count(early, late)
    await pair.outcomes.keep(OURS, [ended(late, 200, None)], at_ms=T0)
    assert await pair.join() == Joined(joined=2)
    assert await pair.told() == {early.verification_id: (503, 1_500), late.verification_id: (200, None)}
    assert await pair.sums() == [(2, 2, 1)] * 3
    assert await pair.sketch() == {bucket_of(1_500): 1}


async def test_of_several_reports_the_first_counts(pair: Pair) -> None:
    """A report again, in the same message, a later one, from another reporter or after the join, changes nothing."""
    it = call()
    await pair.outcomes.keep(OURS, [ended(it, 500, 7), ended(it, 200, 8)], at_ms=T0)
    await pair.outcomes.keep(OURS, [ended(it, 201, 9)], at_ms=T0 + 1)
    await pair.outcomes.keep(OUR_LIVE, [ended(it, 202, 10)], at_ms=T0 + 2)
    await pair.count(it)
    assert await pair.join() == Joined(joined=1, repeated=1)
    await pair.outcomes.keep(OURS, [ended(it, 203, 11)], at_ms=T0 + 3)
    assert await pair.join() == Joined(repeated=1)
    assert await pair.told() == {it.verification_id: (500, 7)}
    assert await pair.sums() == [(1, 1, 1)] * 3
    assert await pair.sketch() == {bucket_of(7): 1}


async def test_the_first_report_counts_though_a_join_had_passed_it(pair: Pair) -> None:
    """A call that comes between two looks still takes the report that was first, by whomever."""
    it, others = call(), [call() for _ in range(3)]
    await pair.count(*others)
    await pair.outcomes.keep(OURS, [ended(it, 500)], at_ms=T0)
    await pair.outcomes.keep(OURS, [ended(other) for other in others], at_ms=T0 + 1)
    await pair.outcomes.keep(OUR_LIVE, [ended(it, 200)], at_ms=T0 + 2)
    assert await pair.outcomes.join(at_most=1, now_ms=T0) == Joined(joined=1)
    await pair.count(it)
    assert await pair.join() == Joined(joined=3, repeated=1)
    assert (await pair.told())[it.verification_id][0] == 500


async def test_a_reporter_beyond_the_walls_changes_nothing(pair: Pair) -> None:
    """Neither another workspace nor a reporter for the other environment ends a call, whatever id they name (P8)."""
    live, tried = call(), call(subject=OUR_TEST_KEY)
    await pair.count(live, tried)
    await pair.outcomes.keep(THEIRS, [ended(live), ended(tried)], at_ms=T0)
    await pair.outcomes.keep(OUR_TESTS, [ended(live, 500)], at_ms=T0)
    await pair.outcomes.keep(OUR_LIVE, [ended(tried, 500)], at_ms=T0)
    await pair.outcomes.keep(NOWHERE, [ended(live, 500)], at_ms=T0)
    assert await pair.join() == Joined()
    assert await pair.sums() == [(2, 0, 0)] * 3
    await pair.outcomes.keep(OUR_TESTS, [ended(tried, 404)], at_ms=T0)
    assert await pair.join() == Joined(joined=1)
    assert await pair.told() == {live.verification_id: (None, None), tried.verification_id: (404, 1_500)}


async def test_what_waits_in_vain_is_dropped_after_an_hour(pair: Pair) -> None:
    """An outcome without a call waits an hour and no longer; one whose call came is joined however late that is."""
    never, late = call(), call()
    await pair.outcomes.keep(OURS, [ended(never), ended(late)], at_ms=T0)
    assert await pair.join(T0 + HOUR) == Joined()
    await pair.count(late)
    assert await pair.join(T0 + HOUR + 1) == Joined(joined=1, dropped=1)
    await pair.count(never)
    assert await pair.join(T0 + HOUR + 1) == Joined()
    assert await pair.sums() == [(2, 1, 0)] * 3


async def test_sums_of_outcomes_are_those_of_the_calls(pair: Pair) -> None:
    """Whatever is asked, by every dimension, outcomes and errors are those of the calls that are meant."""
    random = Random(11)
    calls = [
        call(T0 + random.randrange(3 * DAY), random.choice(SUBJECTS), code=random.choice((1, 11)), tags=tags)
        for tags in ((), ("a",), ("a", "b")) * 40
    ]
    told = {it.verification_id: ended(it, random.choice((200, 499, 500, 503))) for it in calls[::2]}
    for scope in (OURS, THEIRS):
        known = [told[it.verification_id] for it in seen(calls, scope) if it.verification_id in told]
        await pair.outcomes.keep(scope, known, at_ms=T0)
    await pair.count(*calls)
    assert (await pair.join(at_most=7)).joined == len(told)
    for scope, wanted in questions():
        counted = [
            told[it.verification_id] for it in seen(calls, scope) if meant(it, wanted) if it.verification_id in told
        ]
        expected = (len(counted), sum(it.http_status >= 500 for it in counted))
        for interval in Interval:
            points = await pair.usage.series(scope, wanted, interval=interval, by=Dimension.CODE, limit=10_000)
            assert (sum(it.outcomes for it in points), sum(it.errors for it in points)) == expected
    by_tag = await pair.usage.series(OURS, EVER, interval=Interval.HOUR, by=Dimension.TAG, limit=10_000)
    expected_tags = Counter(tag for it in seen(calls, OURS) if it.verification_id in told for tag in it.tags)
    found = Counter[str]()
    for point in by_tag:
        found[point.group] += point.outcomes
    assert found == expected_tags


async def test_latencies_are_told_by_hour_day_and_group(pair: Pair) -> None:
    """A sketch holds the calls of its interval, its group and the filter, inside the walls, and no others."""
    calls = [
        (call(T0), 100),
        (call(T0 + HOUR - 1, ROTATED), 100),
        (call(T0 + HOUR, UNOWNED, code=3), 9_000),
        (call(T0 + DAY + MINUTE, OUR_TEST_KEY), 0),
    ]
    await pair.count(*[it for it, _ in calls])
    await pair.outcomes.keep(OURS, [ended(it, latency_us=latency_us) for it, latency_us in calls], at_ms=T0)
    assert (await pair.join()).joined == 4

    async def ask(
        interval: Interval, by: Dimension | None = None, scope: TenantScope = OURS, limit: int = 100, **fields: str
    ) -> list[tuple[int, str, dict[int, int]]]:
        wanted = replace(EVER, **fields)  # type: ignore[arg-type] # the names are checked at run time
        points = await pair.usage.latencies(scope, wanted, interval=interval, by=by, limit=limit)
        return [(it.begins_at_ms, it.group, dict(it.buckets)) for it in points]

    quick, slow = bucket_of(100), bucket_of(9_000)
    assert await ask(Interval.HOUR) == [(T0, "", {quick: 2}), (T0 + HOUR, "", {slow: 1}), (T0 + DAY, "", {0: 1})]
    assert await ask(Interval.DAY) == [(T0, "", {quick: 2, slow: 1}), (T0 + DAY, "", {0: 1})]
    assert await ask(Interval.DAY, limit=1) == [(T0, "", {quick: 2})]
    assert await ask(Interval.DAY, Dimension.CODE, OUR_LIVE) == [(T0, "1", {quick: 2}), (T0, "3", {slow: 1})]
    assert await ask(Interval.HOUR, key_id="key_a") == [(T0, "", {quick: 2})]
    assert await ask(Interval.HOUR, Dimension.SECRET, secret_id="sec_a2") == [(T0, "sec_a2", {quick: 1})]
    assert await ask(Interval.HOUR, scope=THEIRS) == []
    assert await ask(Interval.HOUR, tag="a") == []
    assert await ask(Interval.HOUR, Dimension.TAG) == []


@pytest.mark.parametrize(
    "hours",
    (
        (0, 24, 48, 72),
        (0, 24, 47, 71, 95),
        (0, 25, 49, 97),
        (0, 23),
        (-24, 0.5, 24.5, 48.5),
        (5.5,),
        (10.75, 34.75, 59.75, 83.75),
    ),
)
async def test_latencies_of_a_time_zones_days(pair: Pair, hours: tuple[float, ...]) -> None:
    """An hour belongs to the day in which it begins, whether that is 23, 24 or 25 hours long or begins amid an hour."""
    calls = [call(T0 + hour * HOUR) for hour in range(96)]
    await pair.count(*calls)
    await pair.outcomes.keep(OURS, [ended(it) for it in calls], at_ms=T0)
    assert (await pair.join()).joined == 96
    days = [T0 + int(hour * HOUR) for hour in hours]
    expected = Counter(max(day for day in days if day <= it.at_ms) for it in calls if it.at_ms >= days[0])
    for subject in ("", "key_a"):
        points = await pair.usage.latencies(
            OURS, replace(EVER, key_id=subject), interval=Interval.DAY, by=None, limit=1_000, days=days
        )
        wanted = [LatencyPoint(day, "", {bucket_of(1_500): count}) for day, count in sorted(expected.items())]
        assert points == wanted


async def test_two_that_join_at_once_count_once(pair: Pair) -> None:
    """Joiners side by side, with reporters and counters, add every outcome once and never block one another."""
    calls = [
        call(T0 + number % 5 * HOUR, random_subject) for number, random_subject in enumerate([OUR_KEY, UNOWNED] * 200)
    ]
    joiners = [pair.outcomes, pair.another()]

    async def report(step: int) -> None:
        for start in range(0, len(calls), 40):
            reported = calls[start : start + 40][::step]
            await pair.outcomes.keep(OURS, [ended(it, 500) for it in reported], at_ms=T0)

    async def count() -> None:
        for start in range(0, len(calls), 50):
            await pair.count(*calls[start : start + 50])

    async def join(joiner: Outcomes) -> int:
        joined = 0
        for _ in range(25):
            joined += (await joiner.join(at_most=30, now_ms=T0)).joined
            await asyncio.sleep(0)
        return joined

    joining = [asyncio.create_task(join(it)) for it in joiners]
    await asyncio.gather(report(1), report(-1), count(), *joining)
    rest = await pair.join()
    assert sum(task.result() for task in joining) + rest.joined == len(calls)
    assert await pair.sums() == [(400, 400, 400)] * 3
    assert await pair.sketch() == {bucket_of(1_500): 400}


async def test_reporters_of_the_same_calls_do_not_block_one_another(pair: Pair) -> None:
    """Reports of the same calls at the same moment, in whatever order, are all kept."""
    told = [ended(call()) for _ in range(1_000)]
    await asyncio.gather(*[pair.outcomes.keep(OURS, told[::step], at_ms=T0) for step in (1, -1) * 5])
    assert await pair.join(T0 + HOUR + 1) == Joined(dropped=1_000)


async def test_what_waits_in_vain_starves_nobody(pair: Pair) -> None:
    """However many wait for calls that never come, one whose call came is found within a few looks."""
    pair.outcomes = pair.another(window_rows=10, windows_max=2)
    it = call()
    await pair.outcomes.keep(OURS, [ended(call()) for _ in range(95)], at_ms=T0)
    await pair.outcomes.keep(OURS, [ended(it)], at_ms=T0 + 1)
    await pair.count(it)
    looks = [await pair.outcomes.join(at_most=3, now_ms=T0) for _ in range(5)]
    assert sum(look.settled for look in looks) == 1
    assert (await pair.told())[it.verification_id] == (200, 1_500)


async def test_a_join_that_fails_leaves_nothing(database: Database) -> None:
    """When the last step of a join fails, no call, no sum and no sketch knows of it, and the next join does it all."""
    pair = Pair(SqlUsage(database), SqlOutcomes(database), database)
    it = call(tags=("a",))
    await pair.count(it)
    await pair.outcomes.keep(OURS, [ended(it, 500)], at_ms=T0)
    await break_deletes(database)
    with pytest.raises(Exception, match="broken"):
        await pair.outcomes.join(at_most=10, now_ms=T0)
    assert await pair.told() == {it.verification_id: (None, None)}
    assert await pair.sums() == [(1, 0, 0)] * 3
    assert await pair.sketch() == {}
    await mend_deletes(database)
    assert await pair.join() == Joined(joined=1)
    assert await pair.sums() == [(1, 1, 1)] * 3


async def test_a_report_is_kept_whole_or_not_at_all(database: Database) -> None:
    """When the database refuses one outcome of a report, it keeps none, and the report can be sent again."""
    pair = Pair(SqlUsage(database), SqlOutcomes(database), database)
    told = sorted((ended(call()) for _ in range(5)), key=lambda it: it.verification_id)
    bad = replace(told[-1], http_status=2**70)
    with pytest.raises(Exception, match=r"large|int16|range"):
        await pair.outcomes.keep(OURS, [*told[:-1], bad], at_ms=T0)
    assert await pair.join(T0 + HOUR + 1) == Joined()
    await pair.outcomes.keep(OURS, told, at_ms=T0)
    assert await pair.join(T0 + HOUR + 1) == Joined(dropped=5)


async def break_deletes(database: Database) -> None:
    """Make the database refuse to delete what waits."""
    statements = (
        ["CREATE TRIGGER broken BEFORE DELETE ON waiting_outcomes BEGIN SELECT raise(ABORT, 'broken'); END"]
        if database.kind == "sqlite"
        else [
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$",
            "CREATE TRIGGER broken BEFORE DELETE ON waiting_outcomes FOR EACH ROW EXECUTE FUNCTION broken()",
        ]
    )
    async with database.writers.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def mend_deletes(database: Database) -> None:
    """Let the database delete again."""
    statement = "DROP TRIGGER broken" if database.kind == "sqlite" else "DROP FUNCTION broken CASCADE"
    async with database.writers.begin() as connection:
        await connection.execute(text(statement))
