"""The event log in SQL: rows come with their unit of work and get their place later, by one sequencer at a time.

Writers never queue on a head row. The sequencer takes an advisory lock (on SQLite the one writing connection), gives
what is committed the next numbers and extends each workspace's tree, all in one transaction, so readers never see a
gap. Should a sequencer freeze, the server ends its transaction; what it sends afterwards is refused, and nothing was
half-placed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.session import Session, transaction
from keystead.events import merkle
from keystead.events.errors import CursorLostError
from keystead.events.model import Cursor, Event, canonical
from keystead.events.ports import UNPLACED_MAX, LogPage

_EVENTS = schema.events
_HEADS = schema.log_heads
# The name of the sequencer's lock among PostgreSQL's advisory locks: "keystead" as bytes.
_SEQUENCER_LOCK = int.from_bytes(b"keystead")
# Heads are read in slices, for a statement takes a bounded number of parameters.
_HEADS_AT_ONCE = 1_000

_COLUMNS = (
    "id, workspace_id, environment, action, target, owner_id, actor_type, actor_id, request_id, occurred_at_ms, "
    "touches, record, private, seq, leaf_index, leaf_hash"
)
_TOUCHES = _COLUMNS.split(", ").index("touches")
_SEQ = _COLUMNS.split(", ").index("seq")
# One statement sees one moment, so an event that is being placed meanwhile is in one of the two lists, never in none.
_POLL = f"""
SELECT * FROM (SELECT {_COLUMNS} FROM events WHERE seq >= ? ORDER BY seq LIMIT ?) AS placed
UNION ALL
SELECT * FROM (SELECT {_COLUMNS} FROM events WHERE seq IS NULL AND touches <> '[]'
                ORDER BY occurred_at_ms, id LIMIT {UNPLACED_MAX + 1}) AS touching
UNION ALL
SELECT * FROM (SELECT {_COLUMNS} FROM events WHERE seq IS NULL AND touches = '[]' LIMIT 1) AS others
"""  # noqa: S608 -- the columns are the constant above
_ANY_UNPLACED = "SELECT 1 FROM events WHERE seq IS NULL LIMIT 1"
# That it has no place yet is not searched for: a planner that believes nothing waits, since nothing did when it last
# looked, would read all that waits for each of the rows.
_NUMBER = (
    update(_EVENTS)
    .where(_EVENTS.c.id == bindparam("event_id"), (_EVENTS.c.seq + 0).is_(None))
    .values(seq=bindparam("new_seq"), leaf_index=bindparam("new_leaf"))
)
_HEAD = "SELECT seq, leaf_hash FROM events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT 1"


@dataclass(slots=True)
class _Head:
    """How many events have their place, and the edge of their tree."""

    size: int
    edge: bytes


class SqlEventLog:
    """The ``EventLog`` of one database."""

    def __init__(self, database: Database) -> None:
        """Read and number the events in ``database``."""
        self._database = database

    async def head(self) -> Cursor:
        """Return the cursor of the last placed event."""
        rows = await self._database.fetch(_HEAD)
        return Cursor(rows[0][0], rows[0][1]) if rows else Cursor()

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Read what came after ``cursor``; raise ``CursorLostError`` when its event is not there with its hash."""
        rows = await self._database.fetch(_POLL, cursor.seq, limit + 2)
        placed = sorted([row for row in rows if row[_SEQ] is not None], key=lambda row: int(row[_SEQ]))
        unplaced = [_event(row) for row in rows if row[_SEQ] is None]
        if cursor.seq:
            if not placed or placed[0][_SEQ] != cursor.seq or placed[0][-1] != cursor.event_hash:
                raise CursorLostError
            del placed[0]
        hidden = sum(bool(event.touches) for event in unplaced) > UNPLACED_MAX
        unplaced.sort(key=lambda event: (event.occurred_at_ms, event.id))
        return LogPage([_event(row) for row in placed[:limit]], unplaced, len(placed) > limit, hidden)

    async def place(self, *, limit: int) -> int:
        """Give at most ``limit`` committed events their ``seq`` and leaf index; 0 when another process is at it."""
        if not await self._database.fetch(_ANY_UNPLACED):
            return 0  # nothing to do, and no lock taken to find out
        async with transaction(self._database, engine=self._database.sequencers) as session:
            if self._database.kind != SQLITE and not await _alone(session):
                return 0
            unplaced = (
                select(_EVENTS.c.id, _EVENTS.c.workspace_id, _EVENTS.c.leaf_hash)
                .where(_EVENTS.c.seq.is_(None))
                .order_by(_EVENTS.c.occurred_at_ms, _EVENTS.c.id)
                .limit(limit)
            )
            rows = await session.lock(unplaced)
            if rows:
                await _place(session, rows)
        return len(rows)


async def insert_events(session: Session, events: Sequence[Event]) -> None:
    """Store events without a place, in the transaction of the changes they tell of (P6)."""
    rows = [
        {
            "id": event.id,
            "workspace_id": event.workspace_id,
            "environment": event.environment,
            "action": event.action,
            "target": event.target,
            "owner_id": event.owner_id,
            "actor_type": event.actor_type,
            "actor_id": event.actor_id,
            "request_id": event.request_id,
            "occurred_at_ms": event.occurred_at_ms,
            "touches": canonical(list(event.touches)),
            "record": event.record,
            "private": event.private,
            "leaf_hash": event.leaf_hash,
        }
        for event in events
    ]
    await session.write(insert(_EVENTS), rows)


async def _alone(session: Session) -> bool:
    rows = await session.lock(select(func.pg_try_advisory_xact_lock(_SEQUENCER_LOCK)))
    return bool(rows[0][0])


async def _place(session: Session, rows: Sequence[Any]) -> None:
    heads = await _heads(session, {schema.GLOBAL_HEAD, *(row.workspace_id for row in rows)})
    placed = []
    for row in rows:
        whole = heads.setdefault(schema.GLOBAL_HEAD, _Head(0, b""))
        own = heads.setdefault(row.workspace_id, _Head(0, b""))
        whole.size += 1
        placed.append({"event_id": row.id, "new_seq": whole.size, "new_leaf": own.size})
        own.edge = merkle.append(own.edge, own.size, row.leaf_hash)
        own.size += 1
    await session.write(_NUMBER, placed)
    await _save_heads(session, heads)


async def _heads(session: Session, names: set[str]) -> dict[str, _Head]:
    ordered = sorted(names)
    heads: dict[str, _Head] = {}
    for start in range(0, len(ordered), _HEADS_AT_ONCE):
        wanted = _HEADS.c.workspace_id.in_(ordered[start : start + _HEADS_AT_ONCE])
        rows = await session.lock(select(_HEADS).where(wanted))
        heads |= {row.workspace_id: _Head(row.size, row.frontier) for row in rows}
    return heads


async def _save_heads(session: Session, heads: dict[str, _Head]) -> None:
    rows = [{"name": name, "new_size": head.size, "new_edge": head.edge} for name, head in heads.items()]
    insert_new = session.database.insert_new(_HEADS)
    empty = [{"workspace_id": name, "size": 0, "frontier": b""} for name in heads]
    await session.write(insert_new, empty)
    changed = update(_HEADS).where(_HEADS.c.workspace_id == bindparam("name"))
    await session.write(changed.values(size=bindparam("new_size"), frontier=bindparam("new_edge")), rows)


def _event(row: Sequence[Any]) -> Event:
    values = list(row[:-1])
    values[_TOUCHES] = tuple(json.loads(values[_TOUCHES]))
    return Event(*values)
