"""What every ledger guarantees: gaps are exact, an event is written once, and walls hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from sqlalchemy.dialects import sqlite

from keystead.adapters.clickhouse.connection import ClickHouse
from keystead.adapters.clickhouse.metering import ClickHouseMetering
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.ledger import MemoryLedger
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql import ledger_queries
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.ledger import SqlLedger
from keystead.adapters.sql.ledger_apart import SqlLedgerApart
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.walls import TenantScope
from keystead.usage.meters import Comparison, Gap, KnownMeter, entries_of, parse_meters, window_of
from keystead.usage.model import VALID_NUMBER, Call
from tests import clickhouses
from tests.contract.conftest import empty, url_of
from tests.contract.usage_stores import (
    DAY,
    HOUR,
    NOWHERE,
    OUR_KEY,
    OUR_TEST_KEY,
    OUR_TESTS,
    OURS,
    ROTATED,
    T0,
    THEIR_KEY,
    THEIRS,
    UNOWNED,
    Writer,
    call,
    random_calls,
)

# Sums of usage that come at once from another store: several pages a question.
FEW = 3
KEPT_SINCE_MS = T0 - DAY
METERS = parse_meters("api_calls=calls, api_cost=cost, reads=calls:operation:read, eu_cost=cost:tag:eu")
SPAN = {"from_ms": T0 - DAY, "to_ms": T0 + 40 * DAY}


@dataclass
class Books:
    """A ledger and the usage it is about."""

    usage: MemoryUsage | SqlUsage | ClickHouseUsage
    ledger: MemoryLedger | SqlLedger

    async def meter(self, name: str) -> KnownMeter:
        """Return a meter that is known."""
        return next(it for it in await self.ledger.meters() if it.name == name)

    async def gaps(self, name: str, *, limit: int = 1_000) -> list[Gap]:
        """Return the gaps of a meter."""
        return await self.ledger.gaps(await self.meter(name), **SPAN, limit=limit)

    async def tell(self, name: str, *, at_ms: int = T0) -> list[str]:
        """Write events for all gaps of a meter; return their ids."""
        entries = entries_of(name, await self.gaps(name))
        await self.ledger.record(entries, at_ms=at_ms)
        return [entry.id for entry in entries]

    async def compared(
        self, name: str, scope: TenantScope = OURS, *, owner_id: str = "", equal: bool = True
    ) -> list[Comparison]:
        """Compare a meter."""
        meter = await self.meter(name)
        return await self.ledger.compare(scope, meter, **SPAN, owner_id=owner_id, equal=equal, limit=100)


@pytest.fixture
async def books(usage_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Books]:
    """Lend the books of each kind, empty but for the meters; what ClickHouse counts has its ledger in a database."""
    async with AsyncExitStack() as stack:
        if usage_url == "memory":
            usage = MemoryUsage()
            made = Books(usage, MemoryLedger(usage.everything))
        elif usage_url == "chdb":
            clickhouse = request.getfixturevalue("clickhouse")
            database = Database.connect(url_of("postgresql", request, tmp_path))
            metering = ClickHouseMetering(clickhouse, lambda: KEPT_SINCE_MS)
            made = Books(ClickHouseUsage(clickhouse), SqlLedgerApart(database, metering, page=FEW))
            stack.push_async_callback(clickhouses.empty, clickhouse)
            stack.push_async_callback(empty, database)
        else:
            database = Database.connect(usage_url)
            made = Books(SqlUsage(database), SqlLedger(database))
            stack.push_async_callback(empty, database)
        await made.ledger.begin(METERS, since_ms=T0 + 1)
        yield made


async def test_a_meter_begins_once(books: Books) -> None:
    """A meter is told from the window in which it became known; a later start with it changes nothing."""
    await books.ledger.begin(METERS, since_ms=T0 + DAY)
    assert await books.ledger.meters() == [
        KnownMeter("api_calls", "calls", T0, T0),
        KnownMeter("api_cost", "cost", T0, T0),
        KnownMeter("eu_cost", "cost:tag:eu", T0, T0),
        KnownMeter("reads", "calls:operation:read", T0, T0),
    ]


async def test_only_valid_calls_of_owners_are_billed(books: Books) -> None:
    """What was refused, or has nobody to pay for it, makes no gap; secrets and keys of one owner are one sum."""
    await books.usage.count(
        Writer().stretch(
            call(T0 + 5, cost=3),
            call(T0 + 6, ROTATED, cost=4),
            call(T0 + 7, code=11),
            call(T0 + 8, UNOWNED),
            call(T0 + HOUR, OUR_TEST_KEY, cost=0),
            call(T0 + HOUR, THEIR_KEY, operation="write"),
        )
    )
    ours = Gap("wsp_ours", "live", "customer-1", T0, 2, 0, 0)
    tests = Gap("wsp_ours", "test", "customer-1", T0 + HOUR, 1, 0, 0)
    theirs = Gap("wsp_theirs", "live", "customer-1", T0 + HOUR, 1, 0, 0)
    assert await books.gaps("api_calls") == [ours, tests, theirs]
    assert await books.gaps("api_calls", limit=2) == [ours, tests]
    assert await books.gaps("api_cost") == [replace(ours, used=7), theirs]
    assert await books.gaps("reads") == [ours, tests]
    assert await books.gaps("eu_cost") == []


async def test_a_tag_is_billed_by_its_own_sums(books: Books) -> None:
    """A meter of a label counts the calls that carry it, whatever else they carry, and no others."""
    await books.usage.count(
        Writer().stretch(
            call(T0, cost=5, tags=("eu", "gold")), call(T0, cost=7, tags=("EU",)), call(T0, cost=9, tags=("gold", "eu"))
        )
    )
    assert [gap.used for gap in await books.gaps("eu_cost")] == [14]


async def test_late_usage_is_the_next_revision(books: Books) -> None:
    """What is counted after a window was told is one more event with the difference; what was told stays."""
    writer = Writer()
    await books.usage.count(writer.stretch(call(T0), call(T0 + 1)))
    first = await books.tell("api_calls")
    assert await books.gaps("api_calls") == []
    await books.usage.count(writer.stretch(call(T0 + 2), call(T0 + HOUR)))
    assert [(gap.used, gap.told, gap.revisions) for gap in await books.gaps("api_calls")] == [(3, 2, 1), (1, 0, 0)]
    await books.tell("api_calls", at_ms=T0 + 1)
    entries = await books.ledger.pending(now_ms=T0 + 1, limit=10)
    told = {(it.begins_at_ms, it.revision): it.value for it in entries}
    assert told == {(T0, 0): 2, (T0, 1): 1, (T0 + HOUR, 0): 1}
    assert entries[0].id == first[0]
    assert await books.gaps("api_calls") == []


async def test_tellers_that_race_write_each_event_once(books: Books) -> None:
    """Two processes that find the same gap, one of them having seen less of it, bill its sum exactly."""
    writer = Writer()
    await books.usage.count(writer.stretch(call(T0)))
    seen_early = await books.gaps("api_calls")
    await books.usage.count(writer.stretch(call(T0 + 1), call(T0 + 2)))
    seen_late = await books.gaps("api_calls")
    await asyncio.gather(
        *[books.ledger.record(entries_of("api_calls", seen), at_ms=T0) for seen in (seen_late, seen_early) * 3]
    )
    await books.tell("api_calls")
    entries = await books.ledger.pending(now_ms=T0, limit=10)
    assert sum(it.value for it in entries) == 3
    assert sorted(it.revision for it in entries) == list(range(len(entries)))
    assert await books.tell("api_calls") == []


async def test_events_wait_until_they_are_acknowledged(books: Books) -> None:
    """The same events come first again and again; acknowledged ones never more, also when that is said twice."""
    await books.usage.count(Writer().stretch(*[call(T0 + hour * HOUR) for hour in range(5)]))
    ids = await books.tell("api_calls")
    first = await books.ledger.pending(now_ms=T0, limit=2)
    assert await books.ledger.pending(now_ms=T0, limit=2) == first
    assert await books.ledger.pending(now_ms=T0 - 1, limit=2) == []
    done = [it.id for it in first]
    for _ in range(2):
        await books.ledger.acknowledge(done, at_ms=T0)
    assert {it.id for it in await books.ledger.pending(now_ms=T0, limit=10)} == set(ids) - set(done)
    assert await books.ledger.count_pending(None) == 3


async def test_a_refused_event_holds_up_no_others(books: Books) -> None:
    """An event that is put off is pending all the time, and due again when its time has come."""
    await books.usage.count(Writer().stretch(call(T0), call(T0 + HOUR)))
    ids = sorted(await books.tell("api_calls"))
    await books.ledger.postpone(ids[:1], until_ms=T0 + 50)
    assert [it.id for it in await books.ledger.pending(now_ms=T0 + 49, limit=10)] == ids[1:]
    assert await books.ledger.count_pending(None) == 2
    assert [it.id for it in await books.ledger.pending(now_ms=T0 + 50, limit=10)] == [ids[1], ids[0]]


async def test_pending_events_have_walls(books: Books) -> None:
    """A caller is told how many of his own events wait, and of those in his environments (P8)."""
    await books.usage.count(Writer().stretch(call(), call(T0, OUR_TEST_KEY), call(T0, THEIR_KEY)))
    await books.tell("api_calls")
    counts = [await books.ledger.count_pending(scope) for scope in (None, OURS, OUR_TESTS, THEIRS, NOWHERE)]
    assert counts == [3, 2, 1, 1, 0]


async def test_a_comparison_tells_acknowledged_from_pending(books: Books) -> None:
    """Each owner's sums stand beside each other, inside the caller's walls alone (P8)."""
    writer = Writer()
    other = replace(OUR_KEY, owner_id="customer-2")
    await books.usage.count(writer.stretch(call(cost=5), call(T0, OUR_TEST_KEY), call(T0, other), call(T0, THEIR_KEY)))
    ids = await books.tell("api_calls")
    await books.ledger.acknowledge(ids, at_ms=T0)
    await books.usage.count(writer.stretch(call(), call(T0 + HOUR, other)))
    await books.tell("api_calls")
    await books.usage.count(writer.stretch(call(T0, other)))
    live = Comparison("customer-1", "live", "api_calls", used=2, acknowledged=1, pending=1)
    tests = Comparison("customer-1", "test", "api_calls", used=1, acknowledged=1, pending=0)
    others = Comparison("customer-2", "live", "api_calls", used=3, acknowledged=1, pending=1)
    assert await books.compared("api_calls") == [live, tests, others]
    assert await books.compared("api_calls", equal=False) == [live, others]
    assert await books.compared("api_calls", owner_id="customer-2") == [others]
    assert await books.compared("api_calls", OUR_TESTS) == [tests]
    assert await books.compared("api_calls", NOWHERE) == []
    assert await books.compared("api_calls", THEIRS) == [replace(tests, environment="live")]
    untold = Comparison("customer-1", "live", "api_cost", used=6, acknowledged=0, pending=0)
    assert await books.compared("api_cost", owner_id="customer-1", equal=False) == [
        untold,
        replace(untold, environment="test", used=1),
    ]


async def test_what_is_told_of_random_usage_is_its_sum(books: Books) -> None:
    """For every meter the events add up to what an independent recount finds, however often it is told between."""
    writer = Writer()
    calls: list[Call] = []
    for seed in range(4):
        more = random_calls(Random(seed), 200)
        calls += more
        await books.usage.count(writer.stretch(*more))
        for meter in METERS:
            await books.tell(meter.name)
    billed = [it for it in calls if it.code == VALID_NUMBER and it.subject.owner_id]
    told: dict[str, int] = dict.fromkeys((meter.name for meter in METERS), 0)
    windows = set()
    for it in await books.ledger.pending(now_ms=T0, limit=100_000):
        told[it.meter] += it.value
        windows.add(it.begins_at_ms)
    assert told == {
        "api_calls": len(billed),
        "api_cost": sum(it.cost for it in billed),
        "reads": sum(it.operation == "read" for it in billed),
        "eu_cost": sum(it.cost for it in billed if "eu" in it.tags),
    }
    assert windows == {window_of(it.at_ms) for it in billed}


async def test_what_should_be_forgotten_is_not_billed_again(clickhouse: ClickHouse, migrated_file: Path) -> None:
    """ClickHouse deletes old hours late, and what was told of them may be gone: nobody is told of them any more."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    usage, meter = ClickHouseUsage(clickhouse), KnownMeter("m", "calls", T0, T0)
    ledger = SqlLedgerApart(database, ClickHouseMetering(clickhouse, lambda: T0 + HOUR))
    await usage.count(Writer().stretch(call(T0), call(T0 + HOUR)))
    assert [gap.begins_at_ms for gap in await ledger.gaps(meter, **SPAN, limit=10)] == [T0 + HOUR]
    (compared,) = await ledger.compare(OURS, meter, **SPAN, owner_id="", equal=True, limit=10)
    assert compared.used == 1
    await database.close()
    await clickhouses.empty(clickhouse)


async def test_told_windows_never_become_untold(books: Books) -> None:
    """How far a meter was told only goes on."""
    await books.ledger.told("reads", to_ms=T0 + DAY)
    await books.ledger.told("reads", to_ms=T0 + HOUR)
    assert (await books.meter("reads")).told_to_ms == T0 + DAY
    assert (await books.meter("api_calls")).told_to_ms == T0


async def test_the_earliest_window_asked_for_is_looked_at_again(books: Books) -> None:
    """Whoever asks for a second look gets it, also when somebody asks while another look is under way."""
    await books.ledger.look_again("reads", from_ms=T0 + DAY)
    await books.ledger.look_again("reads", from_ms=T0 + 2 * DAY)
    under_way = await books.meter("reads")
    assert under_way.again_from_ms == T0 + DAY
    await books.ledger.look_again("reads", from_ms=T0)
    await books.ledger.looked_again(under_way, to_ms=None)
    asked = await books.meter("reads")
    assert asked.again_from_ms == T0
    await books.ledger.looked_again(asked, to_ms=T0 + HOUR)
    assert (await books.meter("reads")).again_from_ms == T0 + HOUR
    await books.ledger.looked_again(await books.meter("reads"), to_ms=None)
    assert (await books.meter("reads")).again_from_ms is None


async def test_there_is_one_sender(books: Books) -> None:
    """Of several processes one holds the place; another gets it when it is given back, or not renewed in time."""
    first = await asyncio.gather(*[books.ledger.hold(name, now_ms=T0, until_ms=T0 + 10) for name in ("a", "b", "c")])
    assert sum(first) == 1
    holder = "abc"[first.index(True)]
    rival = "abc"[first.index(False)]
    assert await books.ledger.hold(holder, now_ms=T0 + 9, until_ms=T0 + 20)
    assert not await books.ledger.hold(rival, now_ms=T0 + 19, until_ms=T0 + 30)
    await books.ledger.let_go(rival)
    assert not await books.ledger.hold(rival, now_ms=T0 + 19, until_ms=T0 + 30)
    assert await books.ledger.hold(rival, now_ms=T0 + 20, until_ms=T0 + 30)
    await books.ledger.let_go(rival)
    assert await books.ledger.hold(holder, now_ms=T0 + 21, until_ms=T0 + 30)


@pytest.mark.parametrize("meaning", ("calls", "cost:tag:eu"))
async def test_looking_for_gaps_reads_the_asked_hours_alone(migrated_file: Path, meaning: str) -> None:
    """However much usage and however many workspaces there are, each is searched by its hours and none read whole."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    meter = KnownMeter("m", meaning, T0, T0)
    asked = [
        ledger_queries.gaps(meter, **SPAN, limit=10),
        ledger_queries.comparison(
            meter, workspace_id="w", environments=["live"], **SPAN, owner_id="", equal=False, limit=10
        ),
    ]
    steps: list[str] = []
    for statement in asked:
        written = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        steps += [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {written}")]
    await database.close()
    tables = [
        step for step in steps if step.startswith(("SCAN", "SEARCH")) and step not in {"SCAN places", "SCAN sums"}
    ]
    assert len(tables) == 7  # the seventh finds the meter itself
    others = [step for step in tables if "workspace_id" not in step and "usage" not in step]
    assert others == ["SEARCH entitlement_meters USING INDEX sqlite_autoindex_entitlement_meters_1 (name=?)"]
    assert [step for step in tables if step.startswith("SCAN")] == []
