"""Remembered replies in SQL, and how they are forgotten."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, delete, select, tuple_, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.walls import Walls
from keystead.idempotency.errors import SlotTakenError
from keystead.idempotency.model import ReplySlot, StoredReply

FORGOTTEN_AT_ONCE = 1_000

_TABLE = schema.replies
_SLOT = (_TABLE.c.workspace_id, _TABLE.c.credential_id, _TABLE.c.method, _TABLE.c.key_hmac)


class SqlReplies:
    """The ``ReplyRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def get(self, slot: ReplySlot) -> StoredReply | None:
        """Return what is kept in ``slot``, or None."""
        if not self._walls.admit(slot.workspace_id):
            return None
        rows = await self._session.read(select(_TABLE).where(*_is(slot)))
        if not rows:
            return None
        row = rows[0]
        return StoredReply(
            slot=slot,
            request_hash=row.request_hash,
            public=row.public,
            sealed=row.sealed,
            created_at_ms=row.created_at_ms,
        )

    async def add(self, reply: StoredReply) -> None:
        """Keep a reply; raise ``SlotTakenError`` when another call got there first, once that call has committed."""
        slot = reply.slot
        self._walls.demand(slot.workspace_id)
        insert = self._session.database.insert_new(_TABLE).values(
            workspace_id=slot.workspace_id,
            credential_id=slot.credential_id,
            method=slot.method,
            key_hmac=slot.key_hmac,
            request_hash=reply.request_hash,
            public=reply.public,
            sealed=reply.sealed,
            created_at_ms=reply.created_at_ms,
        )
        with demanding_workspace(slot.workspace_id):
            added = await self._session.write(insert)
        if not added:
            raise SlotTakenError


class SqlReplyKeeper:
    """Housekeeping: bounded batches, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._database = database

    async def forget(self, *, before_ms: int, secrets_before_ms: int) -> int:
        """Delete replies from before ``before_ms`` and sealed secrets from before ``secrets_before_ms``.

        Touches at most 1,000 rows of each and returns how many it touched; call it again while that is not 0.
        """
        sealed_too_long = (_TABLE.c.sealed.is_not(None)) & (_TABLE.c.created_at_ms < secrets_before_ms)
        async with transaction(self._database) as session:
            forgotten = await session.write(delete(_TABLE).where(_oldest(_TABLE.c.created_at_ms < before_ms)))
            unsealed = await session.write(update(_TABLE).where(_oldest(sealed_too_long)).values(sealed=None))
        return forgotten + unsealed


def _is(slot: ReplySlot) -> tuple[ColumnElement[bool], ...]:
    values = (slot.workspace_id, slot.credential_id, slot.method, slot.key_hmac)
    return tuple([column == value for column, value in zip(_SLOT, values, strict=True)])


def _oldest(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    oldest = select(*_SLOT).where(condition).order_by(_TABLE.c.created_at_ms).limit(FORGOTTEN_AT_ONCE)
    return tuple_(*_SLOT).in_(oldest)
