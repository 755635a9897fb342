"""Waiting outcomes in SQL, for calls that are counted in another store: the one batch that is on its way there.

Its number is the one idea: each change demands the number that was read before and moves it on, in one statement, so
of several joiners one goes on and the others find that they were overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, literal, select, tuple_, update

from keystead.adapters.endings import Batch, Name, Waiting
from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.outcomes import forget
from keystead.adapters.sql.session import Session, transaction

_ASKED_AT_ONCE = 500

_WAITING = usage_schema.waiting_outcomes
_BATCHES = usage_schema.outcome_batches
_ONLY = "outcomes"
_POSITION = (_WAITING.c.kept_at_ms, _WAITING.c.workspace_id, _WAITING.c.verification_id, _WAITING.c.environment)
_ROW = tuple(_WAITING.c[name] for name in Waiting.__slots__)


@dataclass(frozen=True, slots=True)
class Place:
    """How far joining is: the number of its last change, and the batch that is on its way, if there is one."""

    number: int
    held_until_ms: int
    batch: Batch | None


class SqlOutcomeBatches:
    """What waits, and the batch that was made of it."""

    def __init__(self, database: Database) -> None:
        """Keep it in ``database``."""
        self._database = database

    async def place(self) -> Place:
        """Return how far joining is."""
        rows = await self._read(select(_BATCHES.c.number, _BATCHES.c.held_until_ms, _BATCHES.c.body))
        if not rows:
            return Place(0, 0, None)
        number, held_until_ms, body = rows[0]
        return Place(number, held_until_ms, Batch.read(body) if body else None)

    async def waiting(self, *, after: Sequence[Any] | None, at_most: int) -> list[Waiting]:
        """Return what waits, the longest waiting first, behind a position if it is given."""
        statement = select(*_ROW).order_by(*_POSITION).limit(at_most)
        if after is not None:
            statement = statement.where(_WAITING.c.kept_at_ms >= after[0])
            statement = statement.where(tuple_(*_POSITION) > tuple_(*map(literal, after)))
        return [Waiting(*row) for row in await self._read(statement)]

    async def about(self, calls: Sequence[Sequence[str]]) -> list[Waiting]:
        """Return all that waits for calls, named by workspace and id, the longest waiting first."""
        found: list[Waiting] = []
        for start in range(0, len(calls), _ASKED_AT_ONCE):
            ids: dict[str, list[str]] = {}
            for workspace_id, verification_id in calls[start : start + _ASKED_AT_ONCE]:
                ids.setdefault(workspace_id, []).append(verification_id)
            for workspace_id, mine in ids.items():
                named = _WAITING.c.workspace_id == workspace_id, _WAITING.c.verification_id.in_(mine)
                found += [Waiting(*row) for row in await self._read(select(*_ROW).where(*named))]
        return sorted(found, key=lambda it: it.position)

    async def write_down(self, batch: Batch, *, number: int, held_until_ms: int) -> bool:
        """Put a batch on its way if nothing changed since ``number``; it is the writer's until then."""
        async with transaction(self._database) as session:
            return await _move_on(session, number, held_until_ms=held_until_ms, body=batch.written())

    async def take_over(self, *, number: int, held_until_ms: int) -> bool:
        """Go on with the batch that is on its way, if nothing changed since ``number``."""
        async with transaction(self._database) as session:
            return await _move_on(session, number, held_until_ms=held_until_ms)

    async def strike_out(self, *, number: int, settled: Sequence[Name]) -> bool:
        """End the batch and the waiting of what it settles, in one step, if nothing changed since ``number``."""
        async with transaction(self._database) as session:
            moved = await _move_on(session, number, held_until_ms=0, body="")
            if moved:
                await forget(session, settled)
            return moved

    async def _read(self, statement: Executable) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)


async def _move_on(session: Session, number: int, **values: Any) -> bool:
    if number == 0:
        row = {"name": _ONLY, "number": 0, "held_until_ms": 0, "body": ""}
        await session.write(session.database.insert_new(_BATCHES), [row])
    mine = update(_BATCHES).where(_BATCHES.c.name == _ONLY, _BATCHES.c.number == number)
    return bool(await session.write(mine.values(number=number + 1, **values)))
