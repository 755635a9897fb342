"""P6 and P12: however many sequencers there are, and whatever happens to one of them, there is one history.

On SQLite the lock of the data directory keeps a second server away (``test_listeners`` holds that), so a frozen
sequencer there has nobody beside it who could write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.dialects import postgresql

from keystead.adapters.sql import events
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.migration import migrate
from keystead.adapters.sql.units import SqlUnits
from keystead.events.model import Cursor
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.verification.freshness import Lease, Touches
from keystead.worker.follower import LogFollower
from tests.chronicles import Chronicle, demand_one_history
from tests.polling import eventually
from tests.sequencers import Account, Orders, Sequencer

ORIGIN = Origin(Actor(ActorType.SYSTEM, "test"))
WORKSPACES = 5
IDLE_TIMEOUT_MS = 500
PAGE = 40
EVENTS = 30
POINTS = 8
"""Of one placing: it asks for the lock, reads, numbers, saves, is about to commit, and has."""

TAKEN_BACK = range(2, POINTS)
"""The points at which the sequencer has the lock."""


@dataclass
class Log:
    """A log that is written and read here, and given its order elsewhere."""

    database: Database
    written: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    cursor: Cursor = field(default_factory=Cursor)

    def __post_init__(self) -> None:
        """Wire what a server has."""
        clock = SystemClock()
        self.log = SqlEventLog(self.database)
        self.units = SqlUnits(self.database, clock=clock, ids=IdSource(clock))
        self.follower = LogFollower(log=self.log, touches=Touches(), lease=Lease(30_000), clock=clock)

    async def write(self, writer: int, count: int) -> None:
        """Let something happen, so many times, in one workspace after the other."""
        for number in range(count):
            target = f"key_{writer}_{len(self.written)}_{number}"
            async with self.units.begin(None, ORIGIN) as unit:
                workspace_id = f"wsp_{(writer + number) % WORKSPACES}"
                unit.record(Change(workspace_id, Action.KEY_CREATED, target, touches=(target,)))
            self.written.append(target)

    async def follow(self) -> None:
        """Read what has its place since the last time, and hold that it goes on where that ended."""
        while True:
            page = await self.log.poll(self.cursor, limit=PAGE)
            if not page.placed:
                return
            first = self.cursor.seq + 1
            assert [event.seq for event in page.placed] == list(range(first, first + len(page.placed)))
            self.read += [event.target for event in page.placed]
            self.cursor = Cursor(page.placed[-1].seq or 0, page.placed[-1].leaf_hash)

    async def demand_all_read(self) -> None:
        """Wait until everything has its place and was read; hold that each was read once."""

        async def whole() -> bool:
            await self.follow()
            return len(self.read) >= len(self.written)

        await eventually(whole, within_s=20)
        assert sorted(self.read) == sorted(self.written)


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[Log]:
    """Lend an empty log."""
    await migrate(url)
    database = Database.connect(url, settings=DatabaseSettings(command_timeout_ms=30_000))
    try:
        yield Log(database)
    finally:
        await database.close()


async def demand_history(url: str) -> None:
    """Hold that there is one, without a gap."""
    sizes = await demand_one_history(Chronicle(Path(), url, "", "", ""))
    assert len(sizes) == WORKSPACES  # so there were several trees


async def test_sequencers_at_once_make_one_history(postgres_url: str) -> None:
    """While eight write, two processes and a follower give events their places: no gap, no fork, every event once, and
    whoever reads with a cursor meanwhile sees each of them once and in order.
    """
    async with log_at(postgres_url) as log:
        await log.follower.turn()
        orders = Orders(url=postgres_url)
        with Sequencer(orders) as one, Sequencer(orders) as two:
            both = asyncio.gather(*[asyncio.to_thread(it.wait_for_a_place) for it in (one, two)])
            while not both.done():
                writing = asyncio.gather(*[log.write(writer, 15) for writer in range(8)])
                while not writing.done():
                    await log.follower.turn()
                    await log.follow()
                await writing
            await both
            await log.demand_all_read()
            await log.follower.turn()
            accounts = [it.end(within_s=20) for it in (one, two)]
        assert all(it.failed == 0 for it in accounts)
        assert min(it.placed for it in accounts) > 0
        assert (log.follower.events_read, log.follower.unplaced) == (len(log.written), 0)
    await demand_history(postgres_url)


async def demand_passed(url: str, point: int) -> None:
    """Freeze a sequencer at a point, let another go on past its lock, wake it, and hold that it changed nothing."""
    async with log_at(url) as log:
        await log.write(0, EVENTS)
        with Sequencer(Orders(url=url, idle_timeout_ms=IDLE_TIMEOUT_MS, freezes_at=point)) as sleeper:

            async def frozen() -> bool:
                return sleeper.is_frozen

            await eventually(frozen, within_s=20)
            await log.follow()
            assert len(log.read) == (EVENTS if point == POINTS else 0)
            with Sequencer(Orders(url=url)) as awake:
                await log.write(1, EVENTS)
                await log.demand_all_read()
                sleeper.wake()
                await log.write(2, EVENTS)
                await log.demand_all_read()
                accounts = [it.end(within_s=20) for it in (sleeper, awake)]
        assert [it.failed for it in accounts] == [point in TAKEN_BACK, 0]
        assert sum(it.placed for it in accounts) == len(log.written)
    await demand_history(url)


@pytest.mark.parametrize("point", (3, 5, 7))
async def test_a_frozen_sequencer_is_passed_and_wakes_to_nothing(postgres_url: str, point: int) -> None:
    """A sequencer that is frozen in its transaction holds the order back until the server takes the transaction from
    it; another one goes on, and what the first one sends when it wakes is refused: one history, of which a reader sees
    every event once and in order.
    """
    await demand_passed(postgres_url, point)


@pytest.mark.soak
@pytest.mark.parametrize("point", range(1, POINTS + 1))
async def test_a_sequencer_frozen_anywhere_is_passed(postgres_url: str, point: int) -> None:
    """The same wherever it is: before it has the lock, and when its transaction has ended, it has nothing to lose."""
    await demand_passed(postgres_url, point)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
async def test_a_frozen_sequencer_on_sqlite_wakes_and_goes_on(tmp_path: Path, point: int) -> None:
    """Frozen wherever it is in its transaction, it has shown nothing of it to whoever reads; woken, it ends it."""
    url = f"sqlite:///{tmp_path / 'keystead.db'}"
    async with log_at(url) as log:
        await log.write(0, EVENTS)
        with Sequencer(Orders(url=url, freezes_at=point)) as sleeper:

            async def frozen() -> bool:
                return sleeper.is_frozen

            await eventually(frozen, within_s=20)
            await log.follow()
            assert len(log.read) == (EVENTS if point == POINTS else 0)
            sleeper.wake()
            await log.demand_all_read()
            assert sleeper.end(within_s=20) == Account(EVENTS, 0)
    await demand_history(url)


async def test_a_backlog_is_no_worse_however_long(postgres_url: str) -> None:
    """Events that have waited for hours are found by their ids one by one, also where the planner last looked when
    nothing waited: the time for each does not grow with how many there are, so a sequencer always catches up.
    """
    async with log_at(postgres_url) as log:
        await log.write(0, 200)
        await log.log.place(limit=1_000)
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("VACUUM ANALYZE events")
        await log.write(1, 200)
        numbering = events._NUMBER.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        given = {**numbering.params, "event_id": "'evt_1'", "new_seq": 1, "new_leaf": 1}
        plan = [row[0] for row in await connection.fetch(f"EXPLAIN {numbering}" % given)]
        await connection.close()
    assert any("events_pk" in step for step in plan), plan
