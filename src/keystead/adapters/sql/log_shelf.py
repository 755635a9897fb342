"""The logs of all workspaces as what takes room, in SQL: what may go, and letting it go in small transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import and_, delete, exists, insert, select, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.turns import begin_turn
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.errors import LogRewrittenError
from keystead.events.merkle import HASH_BYTES
from keystead.events.model import Retained

TURN = "log-cuts"
ROW_LEAVES_MAX = 1_000
"""So many hashes stand in a row of ``cut_leaves`` at most."""

CarriedTo = Callable[[str], Awaitable[int | None]]
"""Returns the least index that a sink of a workspace has not carried; None without sinks."""

_DAY_MS = 86_400_000
_LOOKED_AT_ONCE = 50_000
_EVENTS = schema.events
_CUTS = schema.log_cuts
_LEAVES = schema.cut_leaves
_CHECKPOINTS = schema.checkpoints
_KEPT = (
    _CHECKPOINTS.c.workspace_id,
    _CHECKPOINTS.c.size,
    _CHECKPOINTS.c.frontier,
    _CHECKPOINTS.c.note,
    _CHECKPOINTS.c.made_at_ms,
)


class SqlLogShelf:
    """The ``LogShelf`` of one database."""

    def __init__(self, database: Database, carried_to: CarriedTo) -> None:
        """Look at the logs in ``database``, and keep what sinks still have to carry."""
        self._database = database
        self._carried_to = carried_to

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn over all workspaces is due, and note that it is begun."""
        return await begin_turn(self._database, TURN, now_ms=now_ms, every_ms=every_ms)

    async def workspaces(self, *, after: str, limit: int) -> Sequence[Retained]:
        """Return at most ``limit`` workspaces past the id ``after``."""
        columns = schema.workspaces.c
        wanted = select(columns.id, columns.audit_retention_days).where(columns.id > after).order_by(columns.id)
        return [Retained(row.id, row.audit_retention_days) for row in await self._read(wanted.limit(limit))]

    async def cut_point(self, workspace_id: str, *, before_ms: int) -> KeptCheckpoint | None:
        """Return the last checkpoint that covers events from before ``before_ms`` alone, which all sinks have carried.

        Events are looked at in their order from the last cut on, up to the first that stays: those that will go.
        """
        cut_to = await self._cut_to(workspace_id)
        # The newest event always stays: readers of the log know their place by it.
        bound = await self._size(workspace_id) - 1
        if (carried_to := await self._carried_to(workspace_id)) is not None:
            bound = min(bound, carried_to)
        bound = await self._first_young(workspace_id, cut_to, bound, before_ms)
        size = _CHECKPOINTS.c.size
        covered = (_CHECKPOINTS.c.workspace_id == workspace_id, size > cut_to, size <= bound)
        points = await self._read(select(*_KEPT).where(*covered).order_by(size.desc()).limit(1))
        return KeptCheckpoint(**points[0]._asdict()) if points else None

    async def sweep(self, workspace_id: str, *, limit: int) -> int:
        """Delete at most ``limit`` events that are declared gone, and keep their hashes; return how many."""
        async with transaction(self._database) as session:
            own = select(_CUTS.c.size, _CUTS.c.swept_to).where(_CUTS.c.workspace_id == workspace_id)
            if not await session.read(own.where(_CUTS.c.swept_to < _CUTS.c.size)):
                return 0
            cut = (await session.lock(own.with_for_update()))[0]
            start, stop = cut.swept_to, min(cut.size, cut.swept_to + min(limit, ROW_LEAVES_MAX))
            return await _sweep(session, workspace_id, start, stop) if start < stop else 0

    async def thin_checkpoints(self, workspace_id: str, *, before_ms: int) -> int:
        """Of the checkpoints from before ``before_ms`` keep the last of each day (UTC); return how many went."""
        later = _CHECKPOINTS.alias("later")
        same_day = later.c.made_at_ms // _DAY_MS == _CHECKPOINTS.c.made_at_ms // _DAY_MS
        followed = exists().where(
            and_(later.c.workspace_id == workspace_id, later.c.size > _CHECKPOINTS.c.size, same_day)
        )
        old = (_CHECKPOINTS.c.workspace_id == workspace_id, _CHECKPOINTS.c.made_at_ms < before_ms)
        async with transaction(self._database) as session:
            return await session.write(delete(_CHECKPOINTS).where(*old, followed))

    async def _first_young(self, workspace_id: str, start: int, stop: int, before_ms: int) -> int:
        """Return the first index from ``start`` to before ``stop`` of an event that stays; ``stop`` when there is none.

        In stretches, so that no statement takes long however much is old.
        """
        place = _EVENTS.c.leaf_index
        young = _EVENTS.c.occurred_at_ms + 0 >= before_ms  # not to be searched for: the order of places leads
        staying = select(place).where(_EVENTS.c.workspace_id == workspace_id, young).order_by(place).limit(1)
        for begin in range(start, stop, _LOOKED_AT_ONCE):
            end = min(stop, begin + _LOOKED_AT_ONCE)
            if rows := await self._read(staying.where(place >= begin, place < end)):
                return int(rows[0].leaf_index)
        return stop

    async def _size(self, workspace_id: str) -> int:
        heads = schema.log_heads
        rows = await self._read(select(heads.c.size).where(heads.c.workspace_id == workspace_id))
        return rows[0].size if rows else 0

    async def _cut_to(self, workspace_id: str) -> int:
        rows = await self._read(select(_CUTS.c.size).where(_CUTS.c.workspace_id == workspace_id))
        return rows[0].size if rows else 0

    async def _read(self, statement: Any) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)


async def _sweep(session: Session, workspace_id: str, start: int, stop: int) -> int:
    here = (_EVENTS.c.workspace_id == workspace_id, _EVENTS.c.leaf_index >= start, _EVENTS.c.leaf_index < stop)
    rows = await session.read(select(_EVENTS.c.leaf_hash).where(*here).order_by(_EVENTS.c.leaf_index))
    hashes = b"".join(row.leaf_hash for row in rows)
    if len(hashes) != (stop - start) * HASH_BYTES:
        # Somebody deleted events by hand: then nothing more is deleted that could prove it.
        raise LogRewrittenError(workspace_id, f"of the events from {start} to before {stop} some are missing")
    await session.write(insert(_LEAVES).values(workspace_id=workspace_id, first_index=start, hashes=hashes))
    await session.write(delete(_EVENTS).where(*here))
    await session.write(update(_CUTS).where(_CUTS.c.workspace_id == workspace_id).values(swept_to=stop))
    return stop - start


def kept_hashes(rows: Sequence[Any], start: int, stop: int) -> dict[int, bytes]:
    """Take the hashes of leaves from ``start`` to before ``stop`` out of rows of ``cut_leaves``."""
    return {
        index: row.hashes[place : place + HASH_BYTES]
        for row in rows
        for index, place in zip(
            range(row.first_index, row.first_index + len(row.hashes) // HASH_BYTES),
            range(0, len(row.hashes), HASH_BYTES),
            strict=True,
        )
        if start <= index < stop
    }
