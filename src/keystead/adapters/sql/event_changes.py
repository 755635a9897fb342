"""What becomes of events after they have happened, in SQL: less is kept of them, and their hashes stay.

A cut is declared first, in one row with its event; the records it names are then swept in small transactions, each of
which moves their hashes into one row. So the hashes of all leaves can be read at any instant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.session import Session
from keystead.adapters.walls import Walls
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import SALT_BYTES, Erasure, canonical

NOTHING = canonical({})

_EVENTS = schema.events
_CUTS = schema.log_cuts


class SqlEvents:
    """The ``EventRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """Change what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def erase(self, workspace_id: str, wanted: Erasure, *, limit: int) -> int:
        """Erase what is private beside at most ``limit`` events, the oldest first; return beside how many."""
        self._walls.demand(workspace_id)
        placed = _EVENTS.c.seq.is_not(None)  # the others are the sequencer's, who locks them in an order of its own
        meant = (
            select(_EVENTS.c.id)
            .where(_EVENTS.c.workspace_id == workspace_id, _EVENTS.c.private != NOTHING, placed, *_meant(wanted))
            .order_by(_EVENTS.c.occurred_at_ms, _EVENTS.c.id)
            .limit(limit)
        )
        return await self._session.write(update(_EVENTS).where(_EVENTS.c.id.in_(meant)).values(private=NOTHING))

    async def cut(self, point: KeptCheckpoint, *, now_ms: int) -> int | None:
        """Declare gone what ``point`` covers, and return the first index until now; None when as much is gone."""
        self._walls.demand(point.workspace_id)
        first = {"workspace_id": point.workspace_id, "size": 0, "swept_to": 0, "note": "", "cut_at_ms": now_ms}
        await self._session.write(self._session.database.insert_new(_CUTS).values(first))
        own = _CUTS.c.workspace_id == point.workspace_id
        rows: Sequence[Any] = await self._session.lock(select(_CUTS.c.size).where(own).with_for_update())
        before: int = rows[0].size
        if before >= point.size:
            return None
        cut = update(_CUTS).where(own).values(size=point.size, note=point.note, cut_at_ms=now_ms)
        await self._session.write(cut)
        return before


def _meant(wanted: Erasure) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.owner_id:
        conditions.append(_EVENTS.c.owner_id == wanted.owner_id)
    if wanted.key_id:
        conditions.append(or_(_EVENTS.c.target == wanted.key_id, _EVENTS.c.actor_id == wanted.key_id))
    if wanted.client_ip:
        # Canonical JSON, so an address has one spelling there: behind its salt, whose digits are not known.
        salt = "_" * (2 * SALT_BYTES)
        value = re.sub(r"([\\%_])", r"\\\1", canonical(wanted.client_ip))
        found = f'%"client_ip":{{"salt":"{salt}","value":{value}}}%'
        conditions.append(_EVENTS.c.private.like(found, escape="\\"))
    if wanted.before_ms is not None:
        conditions.append(_EVENTS.c.occurred_at_ms < wanted.before_ms)
    return conditions
