"""What every store of attempts guarantees: each page counted once, exact sums by group, and in usage by code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest
from sqlalchemy import select

from keystead.adapters.clickhouse.attempts import ClickHouseAttempts
from keystead.adapters.clickhouse.connection import ClickHouse
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.attempts import MemoryAttempts
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.attempts import SqlAttempts
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.paging import PageRequest
from keystead.usage.model import OTHER_ADDRESS, Attempt, AttemptPage, Dimension, Interval
from tests import clickhouses
from tests.contract.conftest import empty
from tests.contract.usage_stores import DAY, EVER, HOUR, MINUTE, OUR_TESTS, OURS, T0, THEIRS, Store, Writer, call

EVERY_GROUP = """
SELECT workspace_id, environment, minute_ms, brand, secret_environment, code, client_ip,
       sum(count), min(first_at_ms), max(last_at_ms)
  FROM @attempts WHERE workspace_id != ''
 GROUP BY workspace_id, environment, minute_ms, brand, secret_environment, code, client_ip
"""
GROUPS = ("workspace_id", "minute_ms", "environment", "brand", "secret_environment", "code", "client_ip")
FORGED = Attempt("wsp_ours", "live", T0, "acme", "live", 3, "192.0.2.1", 5, T0 + 10, T0 + 90)


@dataclass
class Shop:
    """A store of attempts beside the store of usage that it adds to."""

    attempts: MemoryAttempts | SqlAttempts | ClickHouseAttempts
    usage: Store
    database: Database | None = None
    clickhouse: ClickHouse | None = None

    async def groups(self) -> list[Attempt]:
        """Return every group that is counted, in order."""
        if self.clickhouse is not None:
            told = await self.clickhouse.reader.run(lambda lane: lane.rows(EVERY_GROUP))
            found = [Attempt(*list(row)) for row in told]
        elif self.database is None:
            assert isinstance(self.attempts, MemoryAttempts)
            found = list(self.attempts.groups.values())
        else:
            columns = [usage_schema.attempts.c[name] for name in Attempt.__slots__]
            rows = await Session(self.database, read_only=False).read(select(*columns))
            found = [Attempt(*list(row)) for row in rows]
        return sorted(found, key=place)

    async def by_code(self, interval: Interval) -> Counter[str]:
        """Return how many calls of ours there are of each code."""
        points = await self.usage.series(OURS, EVER, interval=interval, by=Dimension.CODE, limit=10_000)
        counts: Counter[str] = Counter()
        for point in points:
            counts[point.group] += point.calls
        return counts


@pytest.fixture
async def shop(usage_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """Lend the store of each kind, empty."""
    if usage_url == "memory":
        usage = MemoryUsage()
        yield Shop(MemoryAttempts(usage), usage)
        return
    if usage_url == "chdb":
        clickhouse = request.getfixturevalue("clickhouse")
        yield Shop(ClickHouseAttempts(clickhouse), ClickHouseUsage(clickhouse), clickhouse=clickhouse)
        await clickhouses.empty(clickhouse)
        return
    database = Database.connect(usage_url)
    yield Shop(SqlAttempts(database), SqlUsage(database), database)
    await empty(database)


def place(it: Attempt) -> tuple[object, ...]:
    """Return what tells groups apart."""
    return tuple(getattr(it, name) for name in GROUPS)


def page(number: int, *attempts: Attempt, journal_id: str = "jrn_1") -> AttemptPage:
    """Make a page."""
    return AttemptPage(journal_id, number, attempts)


async def test_a_page_that_comes_twice_is_counted_once(shop: Shop) -> None:
    """A retry after a commit that nobody saw succeed changes nothing, in no group and in no sum (P5)."""
    assert await shop.attempts.attempts_counted_to("jrn_1") == 0
    assert await shop.attempts.count_attempts(page(1, FORGED))
    assert not await shop.attempts.count_attempts(page(1, FORGED))
    assert await shop.attempts.count_attempts(page(2, FORGED))
    for number in (1, 2):
        assert not await shop.attempts.count_attempts(page(number, FORGED))
    assert await shop.attempts.attempts_counted_to("jrn_1") == 2
    assert await shop.groups() == [replace(FORGED, count=10)]
    assert [await shop.by_code(interval) for interval in Interval] == [{"3": 10}] * 3


async def test_a_number_may_be_left_out(shop: Shop) -> None:
    """A page of which nothing could be read is never sent, and does not hold up those that follow."""
    assert await shop.attempts.count_attempts(page(4, FORGED))
    assert not await shop.attempts.count_attempts(page(3, FORGED))
    assert await shop.attempts.count_attempts(page(7))
    assert await shop.attempts.attempts_counted_to("jrn_1") == 7
    assert await shop.groups() == [FORGED]


async def test_journals_are_independent(shop: Shop) -> None:
    """Each process counts its own pages; groups that meet are summed, with the first and the last moment of all."""
    later = replace(FORGED, count=2, first_at_ms=T0 + 5, last_at_ms=T0 + 60)
    assert await shop.attempts.count_attempts(page(1, FORGED))
    assert await shop.attempts.count_attempts(page(1, later, journal_id="jrn_2"))
    assert await shop.groups() == [replace(FORGED, count=7, first_at_ms=T0 + 5)]


async def test_pages_and_stretches_of_one_journal_do_not_disturb_each_other(shop: Shop) -> None:
    """Calls and attempts of a process are counted apart, and asked for together."""
    writer = Writer()
    await shop.usage.register("jrn_1", at_ms=T0)
    assert await shop.usage.count(writer.stretch(call(), call(code=10)))
    assert await shop.attempts.count_attempts(page(1, FORGED, replace(FORGED, code=2, brand="")))
    assert await shop.usage.count(writer.stretch(call(), seen_at_ms=T0 + HOUR))
    assert await shop.usage.complete_until() == T0 + HOUR
    assert await shop.by_code(Interval.HOUR) == {"1": 2, "2": 5, "3": 5, "10": 1}
    listed = await shop.usage.calls(OURS, EVER, PageRequest(100))
    assert len(listed.items) == 3


async def test_attempts_cost_nothing_and_belong_to_no_key(shop: Shop) -> None:
    """In usage they are calls without key, secret, owner and operation; a group that comes twice in a page is one."""
    assert await shop.attempts.count_attempts(page(1, FORGED, replace(FORGED, count=1, last_at_ms=T0 + 99)))
    assert await shop.groups() == [replace(FORGED, count=6, last_at_ms=T0 + 99)]
    for by in (Dimension.KEY, Dimension.SECRET, Dimension.OWNER, Dimension.OPERATION):
        (point,) = await shop.usage.series(OURS, EVER, interval=Interval.DAY, by=by, limit=9)
        assert (point.group, point.calls, point.cost, point.outcomes) == ("", 6, 0, 0)
    (point,) = await shop.usage.series(OURS, EVER, interval=Interval.DAY, by=Dimension.ENVIRONMENT, limit=9)
    assert (point.group, point.calls) == ("live", 6)


async def test_a_flood_of_attempts_tops_no_list_of_keys(shop: Shop) -> None:
    """What is about no key is no group where keys, secrets or owners are ranked, however much of it there is; by code,
    and in a series, it is told.
    """
    assert await shop.usage.count(Writer().stretch(call(), call()))
    assert await shop.attempts.count_attempts(page(1, replace(FORGED, count=1_000_000)))
    for by, name in ((Dimension.KEY, "key_a"), (Dimension.SECRET, "sec_a1"), (Dimension.OWNER, "customer-1")):
        ranked = await shop.usage.top(OURS, EVER, by=by, limit=10)
        assert [(point.group, point.calls) for point in ranked] == [(name, 2)]
    codes = await shop.usage.top(OURS, EVER, by=Dimension.CODE, limit=10)
    assert [(point.group, point.calls) for point in codes] == [("3", 1_000_000), ("1", 2)]
    series = await shop.usage.series(OURS, EVER, interval=Interval.DAY, by=Dimension.KEY, limit=10)
    assert [(point.group, point.calls) for point in series] == [("", 1_000_000), ("key_a", 2)]


async def test_attempts_have_walls(shop: Shop) -> None:
    """Another workspace, or a caller for the other environment, sees none of them (P8)."""
    assert await shop.attempts.count_attempts(page(1, FORGED, replace(FORGED, environment="test", count=3)))
    for scope, calls in ((OURS, 8), (OUR_TESTS, 3), (THEIRS, 0)):
        points = await shop.usage.series(scope, EVER, interval=Interval.DAY, by=None, limit=9)
        assert sum(point.calls for point in points) == calls


def random_attempts(random: Random, number: int) -> list[Attempt]:
    """Make groups of all kinds, many of them alike, in no order."""
    made = []
    for _ in range(number):
        minute_ms = T0 + random.choice((0, MINUTE, HOUR, DAY, DAY + MINUTE))
        first_at_ms = minute_ms + random.randrange(MINUTE)
        made.append(
            Attempt(
                random.choice(("wsp_ours", "wsp_theirs")),
                random.choice(("live", "test")),
                minute_ms,
                random.choice(("", "acme", "\N{FOX FACE}")),
                random.choice(("", "live")),
                random.choice((2, 3, 7)),
                random.choice(("", "::1", "192.0.2.1", OTHER_ADDRESS)),
                random.randrange(1, 50),
                first_at_ms,
                min(first_at_ms + random.randrange(MINUTE), minute_ms + MINUTE - 1),
            )
        )
    return made


def recount(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Sum groups once more, in the simplest way."""
    return sorted(
        (
            replace(
                members[0],
                count=sum(it.count for it in members),
                first_at_ms=min(it.first_at_ms for it in members),
                last_at_ms=max(it.last_at_ms for it in members),
            )
            for group in {place(it) for it in attempts}
            if (members := [it for it in attempts if place(it) == group])
        ),
        key=place,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_sums_are_exact(shop: Shop, seed: int) -> None:
    """Whatever comes, from several processes at once: groups and sums are what a recount says."""
    random = Random(seed)
    attempts = random_attempts(random, 600)
    pages = [page(1, *attempts[start : start + 100], journal_id=f"jrn_{start}") for start in range(0, 600, 100)]
    assert all(await asyncio.gather(*[shop.attempts.count_attempts(it) for it in pages]))
    assert await shop.groups() == recount(attempts)
    expected: Counter[str] = Counter()
    for it in attempts:
        if it.workspace_id == "wsp_ours":
            expected[str(it.code)] += it.count
    for interval in Interval:
        assert await shop.by_code(interval) == expected


async def test_a_page_that_comes_from_several_at_once_is_counted_once(shop: Shop) -> None:
    """Of many processes that send the same page, one counts it."""
    counted = await asyncio.gather(*[shop.attempts.count_attempts(page(1, FORGED)) for _ in range(8)])
    assert sorted(counted) == [False] * 7 + [True]
    assert await shop.groups() == [FORGED]
