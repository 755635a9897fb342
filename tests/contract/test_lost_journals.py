"""What every store guarantees of a journal that was declared lost: nobody waits for it, and nothing is lost twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import text

from keystead.adapters.clickhouse.connection import ClickHouse, Lane
from keystead.adapters.clickhouse.usage import ClickHouseUsage, JournalRow, journal_of, keep_journal
from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql.attempts import SqlAttempts
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.journals import LateUsage
from keystead.adapters.sql.ledger import SqlLedger
from keystead.adapters.sql.usage import SqlUsage
from keystead.events.model import Cursor, Event
from keystead.events.ports import EventLog
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import IdSource
from keystead.keys.installation import SYSTEM_ORIGIN
from keystead.keys.lost_journals import declare_lost
from keystead.keys.ports import Units
from keystead.tenants.model import Workspace
from keystead.usage.errors import JournalAliveError, JournalClosedError, JournalUnknownError
from keystead.usage.feed_ports import Delivery, Reception
from keystead.usage.journals import ALIVE_MS, JournalState
from keystead.usage.meters import LedgerEntry, parse_meters
from keystead.usage.model import Attempt, AttemptPage, Dimension
from keystead.worker.entitlements import EntitlementsFeed
from tests import clickhouses, fakes
from tests.contract.conftest import empty
from tests.contract.stores import ORIGIN, Stores, sql_stores
from tests.contract.usage_stores import DAY, EVER, HOUR, MINUTE, OURS, T0, Store, Writer, call

REASON = "node 3 lost its disk"


@dataclass
class Deployment:
    """Where usage is counted, with the units and the log that belong to it."""

    usage: MemoryUsage | SqlUsage
    units: Units
    log: EventLog
    store: MemoryStore | None = None
    database: Database | None = None

    async def lose(self, *journal_ids: str) -> list[bool]:
        """Declare journals lost, in one unit."""
        async with self.units.begin(None, SYSTEM_ORIGIN) as unit:
            return [await declare_lost(unit, it, reason=REASON) for it in journal_ids]

    async def silence(self, journal_id: str) -> None:
        """Let nobody have reported a journal, ever."""
        if self.store is not None:
            journals = self.store.committed.journals
            journals[journal_id] = replace(journals[journal_id], seen_at_ms=0)
        if self.database is not None:
            async with self.database.writers.begin() as connection:
                await connection.execute(text("UPDATE journals SET seen_at_ms = 0 WHERE id = :id"), {"id": journal_id})

    async def states(self) -> dict[str, JournalState]:
        """Return the state of every journal."""
        return {it.id: it.state for it in await self.usage.journals(closed=True, limit=100)}

    async def told(self) -> list[Event]:
        """Return the events of lost journals."""
        await self.log.place(limit=1_000)
        page = await self.log.poll(Cursor(), limit=1_000)
        return [event for event in page.placed if event.action == "journal.declared_lost"]

    async def calls(self) -> int:
        """Return how many of our calls are counted."""
        points = await self.usage.top(OURS, EVER, by=Dimension.KEY, limit=10)
        return sum(point.calls for point in points)


@pytest.fixture
async def deployment(stores_url: str) -> AsyncIterator[Deployment]:
    """Lend a deployment of each kind with two workspaces, long after what its journals hold."""
    clock = fakes.ManualClock(T0 + 9 * DAY)
    database: Database | None = None
    if stores_url:
        database = Database.connect(stores_url)
        stores = sql_stores(database)
        made = Deployment(SqlUsage(database), stores.units, stores.log, database=database)
    else:
        store = MemoryStore()
        units = MemoryUnits(store, clock=clock, ids=IdSource(clock))
        made = Deployment(MemoryUsage(store, clock=clock), units, MemoryEventLog(store), store=store)
    async with made.units.begin(None, ORIGIN) as unit:
        for name in ("wsp_ours", "wsp_theirs"):
            await unit.workspaces.add(Workspace(name, name.removeprefix("wsp_"), name, T0, T0))
    yield made
    if database is not None:
        await empty(database)


async def test_usage_waits_no_more_for_a_lost_journal(deployment: Deployment) -> None:
    """Once it is declared lost, usage is complete up to the least of the others, in the same transaction as the
    events that tell each workspace (P6); doing it again changes and tells nothing.
    """
    usage = deployment.usage
    await usage.register("jrn_gone", at_ms=T0, node="node-3")
    await usage.register("jrn_here", at_ms=T0 + HOUR)
    await deployment.silence("jrn_gone")
    assert await usage.complete_until() == T0
    assert await deployment.lose("jrn_gone") == [True]
    assert await usage.complete_until() == T0 + HOUR
    assert await deployment.states() == {"jrn_gone": JournalState.LOST, "jrn_here": JournalState.OPEN}
    assert await deployment.lose("jrn_gone") == [False]
    told = await deployment.told()
    assert sorted(event.workspace_id for event in told) == ["wsp_ours", "wsp_theirs"]
    assert {(event.target, event.actor_type, event.actor_id) for event in told} == {
        ("jrn_gone", "system", "command-line")
    }
    for event in told:
        assert f'"short_from_ms":{{"after":{T0},"before":null}}' in event.record
        assert f'"reason":"{REASON}"' in event.record


async def test_a_journal_that_is_alive_closed_or_unknown_is_not_given_up(deployment: Deployment) -> None:
    """Whoever names the wrong journal is refused, and nobody is told anything."""
    usage = deployment.usage
    await usage.register("jrn_alive", at_ms=T0)
    await usage.register("jrn_closed", at_ms=T0)
    await usage.close("jrn_closed")
    await deployment.silence("jrn_closed")
    for journal_id, refusal in {
        "jrn_alive": JournalAliveError,
        "jrn_closed": JournalClosedError,
        "jrn_none": JournalUnknownError,
    }.items():
        with pytest.raises(refusal):
            await deployment.lose(journal_id)
    assert await usage.complete_until() == T0
    assert await deployment.told() == []


async def test_whatever_is_counted_shows_that_a_journal_is_alive(deployment: Deployment) -> None:
    """A node that counts, or has nothing to count, reports its journal with every step."""
    writer = Writer("jrn_busy")
    await deployment.usage.register("jrn_busy", at_ms=T0)
    for stretch in (writer.stretch(call()), writer.stretch(seen_at_ms=T0 + MINUTE)):
        await deployment.silence("jrn_busy")
        assert await deployment.usage.count(stretch)
        with pytest.raises(JournalAliveError):
            await deployment.lose("jrn_busy")


async def test_a_unit_that_fails_gives_no_journal_up(deployment: Deployment) -> None:
    """The change and its events are one: when either cannot be, usage waits as before (P6)."""
    await deployment.usage.register("jrn_gone", at_ms=T0)
    await deployment.silence("jrn_gone")
    with pytest.raises(JournalUnknownError):
        await deployment.lose("jrn_gone", "jrn_none")
    assert await deployment.states() == {"jrn_gone": JournalState.OPEN}
    assert await deployment.usage.complete_until() == T0
    assert await deployment.told() == []


async def test_a_lost_journal_that_comes_back_is_counted_once(deployment: Deployment) -> None:
    """Its calls count exactly once, wherever they were cut; it stays lost until nothing of it is left to count, so
    ``complete_until`` never goes back; and is waited for from then on (P5).
    """
    usage, writer = deployment.usage, Writer("jrn_gone")
    await usage.register("jrn_gone", at_ms=T0)
    await usage.register("jrn_here", at_ms=T0 + DAY)
    first, second, third = writer.stretch(call()), writer.stretch(call(), call()), writer.stretch(call())
    assert await usage.count(first)
    await deployment.silence("jrn_gone")
    await deployment.lose("jrn_gone")
    await usage.register("jrn_gone", at_ms=T0 + DAY)
    assert await usage.complete_until() == T0 + DAY
    assert not await usage.count(first)
    assert await usage.counted_to("jrn_gone") == second.begin
    assert [await usage.count(second), await usage.count(second)] == [True, False]
    assert (await deployment.states())["jrn_gone"] is JournalState.LOST
    assert await usage.complete_until() == T0 + DAY
    assert await usage.count(replace(third, seen_at_ms=T0 + DAY + HOUR))
    assert (await deployment.states())["jrn_gone"] is JournalState.OPEN
    assert await usage.complete_until() == T0 + DAY
    await usage.close("jrn_here")
    assert await usage.complete_until() == T0 + DAY + HOUR
    assert await deployment.calls() == 4


async def test_a_lost_journal_may_be_counted_to_its_end(deployment: Deployment) -> None:
    """Whoever finds the disk counts the rest and closes the journal; a copy that is found later is an open one again,
    and adds nothing.
    """
    usage, writer = deployment.usage, Writer("jrn_gone")
    await usage.register("jrn_gone", at_ms=T0)
    await deployment.silence("jrn_gone")
    await deployment.lose("jrn_gone")
    rest = writer.stretch(call(), call())
    assert await usage.count(rest)
    await usage.close("jrn_gone")
    assert await deployment.states() == {"jrn_gone": JournalState.CLOSED}
    assert await usage.complete_until() is None
    await usage.register("jrn_gone", at_ms=T0 + DAY)
    assert await deployment.states() == {"jrn_gone": JournalState.OPEN}
    assert not await usage.count(rest)
    assert await deployment.calls() == 2


async def test_journals_are_listed_the_last_first(deployment: Deployment) -> None:
    """A list is bounded and begins with what is new; closed journals are there when they are asked for."""
    for place in range(4):
        await deployment.usage.register(f"jrn_{place}", at_ms=T0 + place, node=f"node-{place}")
    await deployment.usage.register("jrn_3", at_ms=T0 + DAY, node="node-elsewhere")
    await deployment.usage.close("jrn_2")
    listed = await deployment.usage.journals(closed=False, limit=2)
    assert [(it.id, it.node, it.opened_at_ms) for it in listed] == [
        ("jrn_3", "node-3", T0 + 3),
        ("jrn_1", "node-1", T0 + 1),
    ]
    assert [it.id for it in await deployment.usage.journals(closed=True, limit=3)] == ["jrn_3", "jrn_2", "jrn_1"]
    assert all(it.silent_ms < MINUTE for it in listed)


async def test_a_journal_of_attempts_alone_can_be_given_up(stores: Stores) -> None:
    """A process that died after its first page of attempts is waited for as well, until it is declared lost; its later
    pages count once all the same.
    """
    if stores.database is None:
        assert stores.kind == "memory"  # whose attempts make no journal known, so nobody waits for one
        return
    usage, attempts = SqlUsage(stores.database), SqlAttempts(stores.database)
    deployment = Deployment(usage, stores.units, stores.log, database=stores.database)
    forged = Attempt("wsp_ours", "live", T0, "acme", "live", 3, "192.0.2.1", 5, T0 + 10, T0 + 90)
    assert await attempts.count_attempts(AttemptPage("jrn_gone", 1, (forged,)))
    assert await usage.complete_until() == T0 + 10
    with pytest.raises(JournalAliveError):
        await deployment.lose("jrn_gone")
    await deployment.silence("jrn_gone")
    await deployment.lose("jrn_gone")
    assert await usage.complete_until() is None
    page = AttemptPage("jrn_gone", 2, (forged,))
    assert [await attempts.count_attempts(page), await attempts.count_attempts(page)] == [True, False]


class Receiver:
    """An Entitlements service that takes everything."""

    def __init__(self) -> None:
        """Begin with nothing billed."""
        self.billed: dict[str, LedgerEntry] = {}

    async def send(self, entries: Sequence[LedgerEntry]) -> Delivery:
        """Count each id once."""
        self.billed |= {entry.id: entry for entry in entries}
        return Delivery(Reception.ACCEPTED)


async def test_what_a_lost_journal_held_is_billed_when_it_comes_back(database: Database) -> None:
    """However long ago its hours were told, the calls of a journal that comes back are further events, once each."""
    stores = sql_stores(database)
    usage, ledger = SqlUsage(database), SqlLedger(database)
    deployment = Deployment(usage, stores.units, stores.log, database=database)
    clock, receiver = fakes.ManualClock(T0 + 8 * DAY), Receiver()
    meters = parse_meters("api_calls=calls")
    await ledger.begin(meters, since_ms=T0)
    feed = EntitlementsFeed(
        ledger=ledger, usage=usage, receiver=receiver, clock=clock, holder="nod_1", meters=["api_calls"]
    )
    gone, here = Writer("jrn_gone"), Writer("jrn_here")
    await usage.count(gone.stretch(call(T0), call(T0 + 1)))
    await deployment.silence("jrn_gone")
    await deployment.lose("jrn_gone")
    await usage.count(here.stretch(call(T0 + 7 * DAY), seen_at_ms=T0 + 8 * DAY))

    async def turned() -> list[int]:
        for _ in range(20):
            clock.advance(30_000)
            await feed.turn()
        return sorted(entry.value for entry in receiver.billed.values())

    assert await turned() == [1, 2]
    await usage.count(gone.stretch(call(T0 + 2), call(T0 + 2 * DAY), call(T0 + 2 * DAY)))
    assert await turned() == [1, 1, 2, 2]
    assert await turned() == [1, 1, 2, 2]
    assert sorted(entry.revision for entry in receiver.billed.values()) == [0, 0, 0, 1]


@pytest.fixture
async def elsewhere(clickhouse: ClickHouse) -> AsyncIterator[ClickHouseUsage]:
    """Lend a ClickHouse that counts, empty."""
    yield ClickHouseUsage(clickhouse)
    await clickhouses.empty(clickhouse)


async def test_clickhouse_waits_no_more_for_a_lost_journal(clickhouse: ClickHouse, elsewhere: ClickHouseUsage) -> None:
    """As in the database: it is found by its silence, not waited for, counted once when it is back, and open then."""
    writer = Writer("jrn_gone")
    await elsewhere.register("jrn_gone", at_ms=T0, node="node-3")
    await elsewhere.register("jrn_here", at_ms=T0 + HOUR)
    assert await elsewhere.count(writer.stretch(call()))
    alive = await elsewhere.find("jrn_gone")
    assert alive is not None
    assert (alive.node, alive.silent_ms < ALIVE_MS) == ("node-3", True)
    await clickhouse.writer.run(
        lambda lane: keep_journal(lane, replace(_row(lane, "jrn_gone"), version=99, seen_at_ms=0, now_ms=0))
    )
    silent = await elsewhere.find("jrn_gone")
    assert silent is not None
    assert (silent.state, silent.silent_ms > ALIVE_MS) == (JournalState.OPEN, True)
    await elsewhere.lose(silent)
    await elsewhere.lose(replace(silent, id="jrn_none"))
    assert await elsewhere.complete_until() == T0 + HOUR
    assert [(it.id, it.state) for it in await elsewhere.journals(closed=False, limit=9)] == [
        ("jrn_here", JournalState.OPEN),
        ("jrn_gone", JournalState.LOST),
    ]
    await elsewhere.register("jrn_gone", at_ms=T0 + DAY)
    late = writer.stretch(call(), call())
    assert [await elsewhere.count(late), await elsewhere.count(late)] == [True, False]
    assert await elsewhere.complete_until() == T0 + HOUR
    assert await elsewhere.count(writer.stretch(seen_at_ms=T0 + DAY))
    await elsewhere.close("jrn_here")
    assert await elsewhere.complete_until() == T0 + DAY
    assert await elsewhere.find("jrn_none") is None
    await demand_calls(elsewhere, 3)


async def test_clickhouse_has_late_calls_billed_before_it_waits_again(
    clickhouse: ClickHouse, database: Database
) -> None:
    """The feed, whose ledger is in the database, looks again from the journal's beginning on once all of it is counted;
    should that fail, the journal stays lost and the next step does it.
    """
    failing = [True]
    late = LateUsage(database)

    async def look_again(from_ms: int) -> None:
        if failing.pop():
            raise UnavailableError("The database is away.")
        await late(from_ms)

    ledger, writer = SqlLedger(database), Writer("jrn_gone")
    elsewhere = ClickHouseUsage(clickhouse, late=look_again)
    await ledger.begin(parse_meters("api_calls=calls"), since_ms=T0)
    await ledger.told("api_calls", to_ms=T0 + 7 * DAY)
    await elsewhere.register("jrn_gone", at_ms=T0 + HOUR + 1, node="node-3")
    known = await elsewhere.find("jrn_gone")
    assert known is not None
    await elsewhere.lose(known)
    assert await elsewhere.count(writer.stretch(call(T0 + DAY)))
    assert [it.again_from_ms for it in await ledger.meters()] == [None]
    with pytest.raises(UnavailableError):
        await elsewhere.count(writer.stretch(seen_at_ms=T0 + 8 * DAY))
    assert await elsewhere.complete_until() is None
    failing.append(False)
    assert await elsewhere.count(writer.stretch(seen_at_ms=T0 + 8 * DAY + 1))
    assert await elsewhere.complete_until() == T0 + 8 * DAY + 1
    assert [it.again_from_ms for it in await ledger.meters()] == [T0 + HOUR]
    await clickhouses.empty(clickhouse)


async def demand_calls(store: Store, calls: int) -> None:
    """Demand that so many of our calls are counted."""
    points = await store.top(OURS, EVER, by=Dimension.KEY, limit=10)
    assert sum(point.calls for point in points) == calls


def _row(lane: Lane, journal_id: str) -> JournalRow:
    found = journal_of(lane, journal_id)
    assert found is not None
    return found
