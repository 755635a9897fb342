"""The places of sinks in SQL: a lease in the sink's own row, and a cursor that moves by compare-and-set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)

from keystead.adapters.sql import schema, sinks_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.journals import clock_ms
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.sinks import letter_of, moved, sink_of, still_held
from keystead.events.checkpoints import KeptCheckpoint
from keystead.kernel.ids import dated_ms
from keystead.sinks.model import DeadLetter, DueSink, Failure, Held, Kind, Place, SealedSecrets, SinkState, Summary

_SINKS = sinks_schema.sinks
_LETTERS = sinks_schema.sink_dead_letters
_EVENTS = schema.events
_HEADS = schema.log_heads
_CHECKPOINTS = schema.checkpoints
_KEPT = (
    _CHECKPOINTS.c.workspace_id,
    _CHECKPOINTS.c.size,
    _CHECKPOINTS.c.frontier,
    _CHECKPOINTS.c.note,
    _CHECKPOINTS.c.made_at_ms,
)


class SqlSinkPlaces:
    """The ``SinkPlaces`` of one database."""

    def __init__(self, database: Database) -> None:
        """Keep them in ``database``, by its clock."""
        self._database = database
        self._now: ColumnElement[int] = clock_ms(database.kind)

    async def due(self, *, kinds: Collection[Kind], limit: int) -> Sequence[DueSink]:
        """Return sinks that have something to carry now and are held by nobody; those that do not fail first."""
        fails = _SINKS.c.failures > 0
        turn = case((fails, _SINKS.c.due_at_ms), else_=func.coalesce(_SINKS.c.delivered_at_ms, 0))
        wanted = (
            select(_SINKS.c.id, _SINKS.c.workspace_id, fails.label("fails"))
            .outerjoin(_HEADS, _HEADS.c.workspace_id == _SINKS.c.workspace_id)
            .where(
                _SINKS.c.state == SinkState.ACTIVE,
                _SINKS.c.kind.in_(sorted(kinds)),
                _SINKS.c.due_at_ms <= self._now,
                _SINKS.c.held_until_ms <= self._now,
                _something_waits(),
            )
            .order_by(fails, turn, _SINKS.c.id)
            .limit(limit)
        )
        return [DueSink(row.id, row.workspace_id, bool(row.fails)) for row in await self._read(wanted)]

    async def hold(self, sink_id: str, holder: str, *, lease_ms: int) -> Held | None:
        """Take or keep a sink for ``lease_ms``; None when another has it, or it is gone or paused."""
        free = or_(_SINKS.c.holder == holder, _SINKS.c.held_until_ms <= self._now)
        taken = update(_SINKS).where(_SINKS.c.id == sink_id, _SINKS.c.state == SinkState.ACTIVE, free)
        async with transaction(self._database) as session:
            until_ms = self._now + literal_column(str(int(lease_ms)))
            if not await session.write(taken.values(holder=holder, held_until_ms=until_ms)):
                return None
            rows = await session.read(select(_SINKS).where(_SINKS.c.id == sink_id))
        row = rows[0]
        place = Place(row.next_index, row.checkpoint_size, row.epoch, row.batch, row.refusals, row.failures)
        return Held(sink_of(row), place, holder)

    async def let_go(self, holder: str, sink_id: str) -> None:
        """Give a sink back, if ``holder`` has it."""
        held = update(_SINKS).where(_SINKS.c.id == sink_id, _SINKS.c.holder == holder)
        await self._write(held.values(holder="", held_until_ms=0))

    async def free(self, holder: str) -> None:
        """Give every sink back that ``holder`` has: it is dead."""
        await self._write(update(_SINKS).where(_SINKS.c.holder == holder).values(holder="", held_until_ms=0))

    async def checkpoints(self, workspace_id: str, *, after: int, to: int, limit: int) -> Sequence[KeptCheckpoint]:
        """Return the checkpoints of a size past ``after``, and up to ``to``, the smallest first."""
        size = _CHECKPOINTS.c.size
        wanted = select(*_KEPT).where(_CHECKPOINTS.c.workspace_id == workspace_id, size > after, size <= to)
        rows = await self._read(wanted.order_by(size).limit(limit))
        return [KeptCheckpoint(**row._asdict()) for row in rows]

    async def again(self, sink_id: str, *, limit: int) -> Sequence[DeadLetter]:
        """Return what is to be sent again, in the log's order."""
        wanted = select(_LETTERS).where(_LETTERS.c.sink_id == sink_id, _LETTERS.c.again == true())
        rows = await self._read(wanted.order_by(_LETTERS.c.leaf_index, _LETTERS.c.event_id).limit(limit))
        return [letter_of(row) for row in rows]

    async def carried(self, held: Held, after: Place) -> bool:
        """Note that the sink stands at ``after`` and does not fail."""
        return await self._write(still_held(held).values(moved(after) | {"delivered_at_ms": self._now}))

    async def taken(self, held: Held, event_ids: Collection[str]) -> bool:
        """Forget what was set aside and has been taken now."""
        gone = delete(_LETTERS).where(_LETTERS.c.sink_id == held.sink.id, _LETTERS.c.event_id.in_(sorted(event_ids)))
        async with transaction(self._database) as session:
            told = still_held(held).values(moved(held.place.past(None, None)) | {"delivered_at_ms": self._now})
            if not await session.write(told):
                return False
            await session.write(gone)
        return True

    async def refused(self, held: Held, letter: DeadLetter) -> bool:
        """Set aside once more what was tried again."""
        mine = (_LETTERS.c.sink_id == held.sink.id, _LETTERS.c.event_id == letter.event_id)
        async with transaction(self._database) as session:
            if not await session.write(still_held(held).values(moved(held.place.past(None, None)))):
                return False
            aside = update(_LETTERS).where(*mine)
            await session.write(aside.values(again=false(), error=letter.error, at_ms=letter.at_ms))
        return True

    async def failed(self, held: Held, failure: Failure) -> bool:
        """Note a failure, and when to try again."""
        due_at_ms = self._now + literal_column(str(int(failure.wait_ms))) if failure.wait_ms else 0
        return await self._write(
            still_held(held).values(
                batch=failure.batch,
                refusals=failure.refusals,
                failures=failure.failures,
                last_error=failure.error,
                due_at_ms=due_at_ms,
            )
        )

    async def summary(self) -> Mapping[Kind, Summary]:
        """Say how the sinks do, by their kind."""
        next_one = and_(_EVENTS.c.workspace_id == _SINKS.c.workspace_id, _EVENTS.c.leaf_index == _SINKS.c.next_index)
        letters = select(func.count()).where(_LETTERS.c.sink_id == _SINKS.c.id).correlate(_SINKS).scalar_subquery()
        each = (
            select(_SINKS.c.kind, _EVENTS.c.id.label("event_id"), letters.label("letters"))
            .select_from(_SINKS)
            .outerjoin(_EVENTS, next_one)
            .subquery()
        )
        wanted = select(
            each.c.kind,
            func.count().label("sinks"),
            func.min(each.c.event_id).label("oldest"),
            func.sum(each.c.letters).label("letters"),
            self._now.label("now_ms"),
        ).group_by(each.c.kind)
        rows = await self._read(wanted)
        return {
            Kind(row.kind): Summary(
                sinks=row.sinks,
                lag_ms=0 if row.oldest is None else max(0, row.now_ms - dated_ms(row.oldest)),
                dead_letters=int(row.letters or 0),
            )
            for row in rows
        }

    async def sealed_under_others(
        self, master_id: str, *, after: str = "", limit: int
    ) -> Sequence[tuple[str, SealedSecrets]]:
        """Return sinks past the id ``after`` whose secrets are sealed under another master, by id."""
        wanted = select(_SINKS.c.id, _SINKS.c.master_id, _SINKS.c.sealed).where(
            _SINKS.c.sealed.is_not(None), _SINKS.c.master_id != master_id, _SINKS.c.id > after
        )
        rows = await self._read(wanted.order_by(_SINKS.c.id).limit(limit))
        return [(row.id, SealedSecrets(row.master_id, row.sealed)) for row in rows]

    async def seal_anew(self, sink_id: str, secrets: SealedSecrets, *, was: SealedSecrets) -> None:
        """Store the same secrets sealed anew, unless they have changed since."""
        same = update(_SINKS).where(_SINKS.c.id == sink_id, _SINKS.c.sealed == was.sealed)
        await self._write(same.values(sealed=secrets.sealed, master_id=secrets.master_id))

    async def least_next_index(self, workspace_id: str) -> int | None:
        """Return the least index that a sink of the workspace carries next, or has set aside; None without sinks."""
        places = select(func.min(_SINKS.c.next_index)).where(_SINKS.c.workspace_id == workspace_id)
        aside = (
            select(func.min(_LETTERS.c.leaf_index))
            .join(_SINKS, _SINKS.c.id == _LETTERS.c.sink_id)
            .where(_SINKS.c.workspace_id == workspace_id, _LETTERS.c.is_checkpoint == false())
        )
        found = [(await self._read(each))[0][0] for each in (places, aside)]
        return min((int(it) for it in found if it is not None), default=None)

    async def _read(self, statement: Executable) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)

    async def _write(self, statement: Executable) -> bool:
        async with transaction(self._database) as session:
            return bool(await session.write(statement))


def _something_waits() -> ColumnElement[bool]:
    """Say that a sink has an event, a checkpoint or something set aside to send."""
    checkpoint = exists().where(
        _CHECKPOINTS.c.workspace_id == _SINKS.c.workspace_id,
        _CHECKPOINTS.c.size > _SINKS.c.checkpoint_size,
        _CHECKPOINTS.c.size <= _SINKS.c.next_index,
    )
    again = exists().where(_LETTERS.c.sink_id == _SINKS.c.id, _LETTERS.c.again == true())
    return or_(_HEADS.c.size > _SINKS.c.next_index, checkpoint, again)
