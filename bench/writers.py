"""One node that changes things without a pause: ``python -m bench.writers WAY URL WRITERS SECONDS FIRST AWAY_MS``.

Each writer renames an owner of its own, which is a mutation as small as they come: a row is locked, changed, and told
of by one event. What is told is mutations a second, after half a second of warming up.

``log`` is the way of the product: the event gets its place afterwards, and this node sees to that as every server does.
``head`` is what the product does without: the event gets its place in the mutation's own transaction, under the lock of
the log's head, which is taken as late as it can be and held until the commit.

``AWAY_MS`` is how far the database is: so long each question takes before it is asked, without any processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import uvloop
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.units import SqlUnits
from keystead.events import merkle
from keystead.events.model import Event, canonical, make_event
from keystead.kernel.change import Actor, ActorType, Change, Origin
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope
from keystead.tenants.service import OwnerDraft, OwnerService

WORKSPACE = "wsp_01hf7yat00000000000000bench"
ORIGIN = Origin(Actor(ActorType.KEY, "key_01hf7yat00000000000000bench"), "203.0.113.7", "bench", "req-bench")
WALLS = TenantScope(WORKSPACE, BOTH_ENVIRONMENTS)
_WARM_UP_S = 0.5
_POLL_S = 0.25
_PLACED_AT_ONCE = 1_000
_PATIENT_MS = 60_000
_HEADS = schema.log_heads


class FarDatabase(Database):
    """A database that is ``away_ms`` away, there and back; all of this process are as far."""

    away_ms = 0

    @asynccontextmanager
    async def asking(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Wait for as long as the way takes, then ask."""
        if self.away_ms:
            await asyncio.sleep(self.away_ms / 1_000)
        async with super().asking(connection):
            yield


class HeadRowUnits(SqlUnits):
    """Units that give their events a place themselves, one after the other."""

    async def _store_events(self, session: Session, changes: Sequence[Change], origin: Origin) -> None:
        if not changes:
            return
        now_ms = self._clock.now_ms()
        events = [
            make_event(it, origin, event_id=name, occurred_at_ms=now_ms, random_bytes=self._random_bytes)
            for it, name in zip(changes, sorted(self._ids.new("evt") for _ in changes), strict=True)
        ]
        locked = select(_HEADS).order_by(_HEADS.c.workspace_id).with_for_update()
        wanted = _HEADS.c.workspace_id.in_([schema.GLOBAL_HEAD, WORKSPACE])
        whole, own = [[row.size, row.frontier] for row in await session.lock(locked.where(wanted))]
        rows = []
        for event in events:
            rows.append(_row(event) | {"seq": whole[0] + 1, "leaf_index": own[0]})
            own[1] = merkle.append(own[1], own[0], event.leaf_hash)
            whole[0], own[0] = whole[0] + 1, own[0] + 1
        await session.write(insert(schema.events), rows)
        for name, (size, frontier) in ((schema.GLOBAL_HEAD, whole), (WORKSPACE, own)):
            await session.write(
                update(_HEADS).where(_HEADS.c.workspace_id == name).values(size=size, frontier=frontier)
            )


def _row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
    return row | {"touches": canonical(list(event.touches)), "leaf_hash": event.leaf_hash}


WAYS: dict[str, type[SqlUnits]] = {"log": SqlUnits, "head": HeadRowUnits}


class Node:
    """The writers of one process, and what gives events their places."""

    def __init__(self, way: str, url: str, writers: int, first: int, away_ms: int) -> None:
        """Connect to nothing yet; the owners are those from ``first`` on."""
        settings = DatabaseSettings(
            pool_size=writers,
            pool_timeout_ms=_PATIENT_MS,
            command_timeout_ms=_PATIENT_MS,
            idle_timeout_ms=_PATIENT_MS,
        )
        FarDatabase.away_ms = away_ms
        self.database = FarDatabase.connect(url, settings=settings)
        clock = SystemClock()
        self.units = WAYS[way](self.database, clock=clock, ids=IdSource(clock))
        self.log = SqlEventLog(self.database)
        self.owners = OwnerService(clock)
        self.names = [f"owner-{number}" for number in range(first, first + writers)]
        self.changes = 0

    async def run(self, seconds: float) -> tuple[int, float]:
        """Write; return how many mutations there were in how many seconds."""
        sequencing = asyncio.create_task(self._sequence())
        ends_s = time.monotonic() + _WARM_UP_S + seconds
        writing = [asyncio.create_task(self._write(name, lambda: time.monotonic() < ends_s)) for name in self.names]
        await asyncio.sleep(_WARM_UP_S)
        before, began_s = self.changes, time.monotonic()
        await asyncio.gather(*writing)
        found = self.changes - before, time.monotonic() - began_s
        sequencing.cancel()
        await asyncio.wait([sequencing])
        await self.database.close()
        return found

    async def _write(self, name: str, goes_on: Callable[[], bool]) -> None:
        number = 0
        while goes_on():
            number += 1
            draft = OwnerDraft(owner_id=name, name=f"Owner {number % 2}")
            async with self.units.begin(WALLS, ORIGIN) as unit:
                await self.owners.update(unit, WORKSPACE, draft, mask={"name"}, etag="", allow_missing=False)
            self.changes += 1

    async def _sequence(self) -> None:
        while True:
            while await self.log.place(limit=_PLACED_AT_ONCE) == _PLACED_AT_ONCE:
                continue
            await asyncio.sleep(_POLL_S)


def main() -> None:
    """Write as the command line says, and print how much that was."""
    way, url, writers, seconds, first, away_ms = sys.argv[1:]
    used_s = time.process_time()
    changes, took_s = uvloop.run(Node(way, url, int(writers), int(first), int(away_ms)).run(float(seconds)))
    used_s = time.process_time() - used_s
    print(json.dumps({"changes": changes, "seconds": took_s, "used_s": used_s}))


if __name__ == "__main__":
    main()
