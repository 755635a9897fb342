"""Which node does what one does for all: the row's lock lets one alone begin a turn."""

from __future__ import annotations

from sqlalchemy import update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import transaction

_TURNS = schema.turns


async def begin_turn(database: Database, name: str, *, now_ms: int, every_ms: int) -> bool:
    """Say whether a turn of the work ``name`` is due, and note that it is begun."""
    due = update(_TURNS).where(_TURNS.c.name == name, _TURNS.c.begun_at_ms <= now_ms - every_ms)
    async with transaction(database) as session:
        if await session.write(due.values(begun_at_ms=now_ms)):
            return True
        first = database.insert_new(_TURNS).values(name=name, begun_at_ms=now_ms)
        return await session.write(first) > 0
