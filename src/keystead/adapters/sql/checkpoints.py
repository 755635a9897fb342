"""Signed checkpoints in SQL, and the sealed key that signs them.

Each row names the size of the one that it extends, and no two of a workspace may name the same: so of two nodes that
extend one checkpoint the second is told that it came too late, and neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.turns import begin_turn
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.ports import SealedKey
from keystead.kernel.clock import Clock

TURN = "checkpoints"
KEY_NAME = "checkpoints"

_TABLE = schema.checkpoints
_HEADS = schema.log_heads
_KEYS = schema.audit_keys
_COLUMNS = (_TABLE.c.workspace_id, _TABLE.c.size, _TABLE.c.frontier, _TABLE.c.note, _TABLE.c.made_at_ms)
_BEFORE_ALL = -1


class SqlCheckpoints:
    """The ``CheckpointStore`` of one database."""

    def __init__(self, database: Database) -> None:
        """Keep them in ``database``."""
        self._database = database

    async def latest(self, workspace_id: str) -> KeptCheckpoint | None:
        """Return the last checkpoint of a workspace."""
        rows = await Session(self._database, read_only=False).read(_latest(workspace_id))
        return KeptCheckpoint(**rows[0]._asdict()) if rows else None

    async def keep(self, made: KeptCheckpoint, *, after: KeptCheckpoint | None) -> bool:
        """Store a checkpoint that extends ``after``; False, and nothing, when that is not the last."""
        values = {
            "workspace_id": made.workspace_id,
            "size": made.size,
            "previous_size": _BEFORE_ALL if after is None else after.size,
            "frontier": made.frontier,
            "note": made.note,
            "made_at_ms": made.made_at_ms,
        }
        async with transaction(self._database) as session:
            if not await session.write(self._database.insert_new(_TABLE).values(values)):
                return False
            before = await session.read(_latest(made.workspace_id, _TABLE.c.size < made.size))
            last = KeptCheckpoint(**before[0]._asdict()) if before else None
            if _same(last, after):
                return True
            await session.rollback()
            return False

    async def confirm(self, kept: KeptCheckpoint, *, at_ms: int) -> None:
        """Note that a checkpoint still held at ``at_ms``."""
        it = (_TABLE.c.workspace_id == kept.workspace_id, _TABLE.c.size == kept.size, _TABLE.c.made_at_ms < at_ms)
        async with transaction(self._database) as session:
            await session.write(update(_TABLE).where(*it).values(made_at_ms=at_ms))

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn over all workspaces is due, and note that it is begun."""
        return await begin_turn(self._database, TURN, now_ms=now_ms, every_ms=every_ms)

    async def due(self, *, confirmed_to_ms: int, after: str, limit: int) -> Sequence[str]:
        """Return workspaces with news, or whose last checkpoint was confirmed at ``confirmed_to_ms`` or before."""
        last = (
            select(func.max(_TABLE.c.size))
            .where(_TABLE.c.workspace_id == _HEADS.c.workspace_id)
            .correlate(_HEADS)
            .scalar_subquery()
        )
        old = (
            select(_TABLE.c.made_at_ms)
            .where(_TABLE.c.workspace_id == _HEADS.c.workspace_id, _TABLE.c.size == _HEADS.c.size)
            .correlate(_HEADS)
            .scalar_subquery()
        )
        # Also a workspace whose head went back has news: that is told rather than passed over.
        wanted = (
            select(_HEADS.c.workspace_id)
            .where(_HEADS.c.workspace_id != schema.GLOBAL_HEAD, _HEADS.c.workspace_id > after)
            .where(or_(last.is_(None), last != _HEADS.c.size, old <= confirmed_to_ms))
            .order_by(_HEADS.c.workspace_id)
            .limit(limit)
        )
        rows = await Session(self._database, read_only=False).read(wanted)
        return [row.workspace_id for row in rows]


class SqlAuditKeys:
    """The ``AuditKeyStore`` of one database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the key in ``database``, dated by ``clock``."""
        self._database = database
        self._clock = clock

    async def get(self) -> SealedKey | None:
        """Return the key; None before the first process has made one."""
        wanted = select(_KEYS.c.public_key, _KEYS.c.master_id, _KEYS.c.sealed).where(_KEYS.c.name == KEY_NAME)
        rows = await Session(self._database, read_only=False).read(wanted)
        return SealedKey(**rows[0]._asdict()) if rows else None

    async def add(self, key: SealedKey) -> None:
        """Store the key, unless there is one already."""
        values = {
            "name": KEY_NAME,
            "public_key": key.public_key,
            "master_id": key.master_id,
            "sealed": key.sealed,
            "created_at_ms": self._clock.now_ms(),
        }
        async with transaction(self._database) as session:
            await session.write(self._database.insert_new(_KEYS).values(values))

    async def replace(self, key: SealedKey, *, sealed_under: str) -> None:
        """Store the same key sealed anew, unless it is no longer sealed under the master ``sealed_under``."""
        it = (_KEYS.c.name == KEY_NAME, _KEYS.c.master_id == sealed_under, _KEYS.c.public_key == key.public_key)
        async with transaction(self._database) as session:
            await session.write(update(_KEYS).where(*it).values(master_id=key.master_id, sealed=key.sealed))


def _latest(workspace_id: str, *narrower: ColumnElement[bool]) -> Select[Any]:
    of_workspace = select(*_COLUMNS).where(_TABLE.c.workspace_id == workspace_id, *narrower)
    return of_workspace.order_by(_TABLE.c.size.desc()).limit(1)


def _same(last: KeptCheckpoint | None, after: KeptCheckpoint | None) -> bool:
    """Say whether ``after`` is the last; when it was confirmed does not matter."""
    if last is None or after is None:
        return last is after
    return (last.size, last.frontier) == (after.size, after.frontier)
