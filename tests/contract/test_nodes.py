"""The processes that serve, in each database: by its own clock, each in a row of its own."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.nodes import FORGOTTEN_AFTER_MS, FORGOTTEN_STALE_AFTER_MS, SqlNodes
from keystead.adapters.sql.session import transaction
from keystead.events.nodes import LogEnd, NodeIdentity
from keystead.kernel.clock import SystemClock
from tests.contract.stores import sql_stores

CLOCKS_DIFFER_MS = 5_000
A = NodeIdentity("nod_a", "alpha", "1.2", 30_000, serves_stale=False)
B = NodeIdentity("nod_b", "beta ' host", "1.3", 1_000, serves_stale=True)


async def silence(database: Database, node: NodeIdentity, silent_ms: int) -> None:
    """Let a process have been silent for so long."""
    statement = text("UPDATE nodes SET seen_at_ms = seen_at_ms - :silent_ms WHERE id = :id")
    async with transaction(database) as session:
        assert await session.write(statement, {"silent_ms": silent_ms, "id": node.id}) == 1


async def test_a_process_is_seen_as_it_says(database: Database) -> None:
    """Everything that it says of itself is there, dated by the database; the next heartbeat moves when it was seen and
    how far it has come, and not when it began.
    """
    nodes = SqlNodes(database)
    await nodes.beat(A, 7)
    (first,) = await nodes.all()
    assert (first.identity, first.applied_seq) == (A, 7)
    assert abs(first.started_at_ms - SystemClock().now_ms()) < CLOCKS_DIFFER_MS
    assert 0 <= first.seen_at_ms - first.started_at_ms < 100  # the clock is read for each
    await silence(database, A, 60_000)
    (silent,) = await nodes.all()
    assert 60_000 <= silent.silent_ms < 60_000 + CLOCKS_DIFFER_MS
    assert silent.gone
    await nodes.beat(A, 9)
    (again,) = await nodes.all()
    assert again.started_at_ms == first.started_at_ms
    assert again.seen_at_ms >= first.seen_at_ms
    assert (again.applied_seq, again.gone) == (9, False)


async def test_each_process_has_a_row_of_its_own(database: Database) -> None:
    """The oldest comes first, and one that leaves takes nobody with it; leaving twice is no harm."""
    nodes = SqlNodes(database)
    await nodes.beat(B, 1)
    await nodes.beat(A, 2)
    assert {(it.identity.id, it.identity.serves_stale) for it in await nodes.all()} == {
        ("nod_a", False),
        ("nod_b", True),
    }
    started = [it.started_at_ms for it in await nodes.all()]
    assert started == sorted(started)
    for _ in range(2):
        await nodes.leave(B.id)
    assert [it.identity for it in await nodes.all()] == [A]


async def test_the_silent_are_forgotten_in_their_time(database: Database) -> None:
    """After an hour, or a day for one that may still serve stale answers, and not sooner; nobody else is."""
    nodes = SqlNodes(database)
    for node in (A, B):
        await nodes.beat(node, 1)
        await silence(database, node, FORGOTTEN_AFTER_MS - CLOCKS_DIFFER_MS)
    assert await nodes.sweep() == 0
    for node in (A, B):
        await silence(database, node, CLOCKS_DIFFER_MS + 1)
    assert await nodes.sweep() == 1
    assert [it.identity for it in await nodes.all()] == [B]
    await silence(database, B, FORGOTTEN_STALE_AFTER_MS - FORGOTTEN_AFTER_MS)
    assert await nodes.sweep() == 1


async def test_heartbeats_of_many_processes_wait_for_nobody(database: Database) -> None:
    """Twenty at once, again and again, are all noted."""
    nodes = SqlNodes(database)
    many = [NodeIdentity(f"nod_{number}", "host", "1", 1_000, serves_stale=False) for number in range(20)]
    for seq in range(3):
        await asyncio.gather(*[nodes.beat(node, seq) for node in many])
    assert {it.applied_seq for it in await nodes.all()} == {2}
    assert len(await nodes.all()) == 20


async def test_the_end_of_the_log_holds_every_event_that_is_committed(database: Database) -> None:
    """An event is named until it has its place, and is below the number afterwards; a list that is cut says so."""
    stores = sql_stores(database)
    nodes = SqlNodes(database)
    assert await nodes.log_end() == LogEnd(0, frozenset(), whole=True)
    await stores.happened(*[stores.make.change("wsp_1") for _ in range(3)])
    end = await nodes.log_end()
    assert (end.seq, len(end.unplaced), end.whole) == (0, 3, True)
    assert not (await SqlNodes(database, unplaced_max=2).log_end()).whole
    await stores.log.place(limit=100)
    assert await nodes.log_end() == LogEnd(3, frozenset(), whole=True)
