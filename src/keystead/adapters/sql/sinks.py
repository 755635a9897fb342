"""Sinks in SQL as people see and change them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, exc, func, literal_column, select, true, update

from keystead.adapters.sink_texts import destination_from, destination_text
from keystead.adapters.sql import schema, sinks_schema
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.journals import clock_ms
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.walls import Walls
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError
from keystead.kernel.ids import dated_ms
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.sinks.model import (
    FIRST_LETTERS,
    LETTERS_MAX,
    DeadLetter,
    FileDestination,
    Held,
    Payload,
    Place,
    Progress,
    SealedSecrets,
    Sink,
    SinkState,
    StrictLag,
)

_TABLE = sinks_schema.sinks
_LETTERS = sinks_schema.sink_dead_letters
_EVENTS = schema.events
_HEADS = schema.log_heads
_STARTS_AMONG = 1_000
# Spelled out rather than bound, so that the planner sees that the index of strict sinks alone will do.
_STRICT: ColumnElement[bool] = literal_column("strict_lag_ms > 0")


class SqlSinks:
    """The ``SinkRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls
        self._now: ColumnElement[int] = clock_ms(session.database.kind)

    async def count(self, workspace_id: str) -> int:
        """Return how many a workspace has, and keep others from adding one until the unit ends."""
        self._walls.demand(workspace_id)
        workspace = select(schema.workspaces.c.id).where(schema.workspaces.c.id == workspace_id)
        await self._session.lock(workspace.with_for_update(key_share=True))
        rows = await self._session.read(select(func.count()).where(_TABLE.c.workspace_id == workspace_id))
        return int(rows[0][0])

    async def add(self, sink: Sink, *, next_index: int) -> None:
        """Store a new sink that begins at ``next_index``."""
        self._walls.demand(sink.workspace_id)
        values = _values(sink) | {
            "id": sink.id,
            "workspace_id": sink.workspace_id,
            "kind": str(sink.kind),
            "next_index": next_index,
            "checkpoint_size": next_index,
            "epoch": 0,
            "holder": "",
            "held_until_ms": 0,
            **_TRIED_AT_ONCE,
        }
        with demanding_workspace(sink.workspace_id):
            added = await self._session.write(self._session.database.insert_new(_TABLE).values(values))
        if not added:
            raise AlreadyExistsError("sink", sink.name)

    async def get(self, workspace_id: str, sink_id: str, *, lock: bool = False) -> Sink | None:
        """Return one, or None."""
        if not self._walls.admit(workspace_id):
            return None
        wanted = select(_TABLE).where(_TABLE.c.id == sink_id, _TABLE.c.workspace_id == workspace_id)
        rows = await (self._session.lock(wanted.with_for_update()) if lock else self._session.read(wanted))
        return sink_of(rows[0]) if rows else None

    async def save(self, sink: Sink, *, reason: str | None = None) -> None:
        """Store the new state of a sink, and have it tried at once; its place stays, ``reason`` is shown with it."""
        self._walls.demand(sink.workspace_id)
        change = update(_TABLE).where(*self._own(sink), _TABLE.c.version == sink.version - 1)
        told = {} if reason is None else {"last_error": reason}
        try:
            saved = await self._session.write(change.values(_values(sink) | {"due_at_ms": 0} | told))
        except exc.IntegrityError as error:
            raise AlreadyExistsError("sink", sink.name) from error
        if not saved:
            raise EtagMismatchError("sink", sink.name)

    async def delete(self, sink: Sink) -> None:
        """Delete a sink, its place and what it set aside."""
        self._walls.demand(sink.workspace_id)
        await self._session.write(delete(_TABLE).where(*self._own(sink)))

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Sink]:
        """Return one page by time of creation, which ids sort by."""
        self._walls.demand(workspace_id)
        wanted = select(_TABLE).where(_TABLE.c.workspace_id == workspace_id)
        rows = await self._session.read(after(wanted, request, (_TABLE.c.id,), request.position))
        return cut([sink_of(row) for row in rows], request.size, lambda sink: (sink.id,))

    async def start(self, workspace_id: str, at_ms: int | None) -> int:
        """Return the index of the first event at ``at_ms`` or later, or of the next one to be placed."""
        self._walls.demand(workspace_id)
        if at_ms is not None:
            since = select(_EVENTS.c.leaf_index).where(
                _EVENTS.c.workspace_id == workspace_id,
                _EVENTS.c.occurred_at_ms >= at_ms,
                _EVENTS.c.leaf_index.is_not(None),
            )
            some = since.order_by(_EVENTS.c.occurred_at_ms, _EVENTS.c.id).limit(_STARTS_AMONG).subquery()
            rows = await self._session.read(select(func.min(some.c.leaf_index)))
            if rows[0][0] is not None:
                return int(rows[0][0])
        return await self._size(workspace_id)

    async def progress(self, sink: Sink) -> Progress:
        """Return how far a sink has come, by the database's clock."""
        self._walls.demand(sink.workspace_id)
        row = (await self._session.read(select(_TABLE, self._now.label("now_ms")).where(_TABLE.c.id == sink.id)))[0]
        oldest = await self._session.read(oldest_waiting(sink.workspace_id, row.next_index))
        size = await self._size(sink.workspace_id)
        mine = _LETTERS.c.sink_id == sink.id
        letters = (await self._session.read(select(func.count()).where(mine)))[0][0]
        first = select(_LETTERS).where(mine).order_by(_LETTERS.c.leaf_index, _LETTERS.c.event_id).limit(FIRST_LETTERS)
        return Progress(
            next_index=row.next_index,
            waiting_events=max(0, size - row.next_index),
            lag_ms=max(0, row.now_ms - dated_ms(oldest[0].id)) if oldest else None,
            delivered_at_ms=row.delivered_at_ms,
            failures=row.failures,
            last_error=row.last_error,
            retry_at_ms=row.due_at_ms if row.failures and row.due_at_ms else None,
            dead_letters=letters,
            first_dead_letters=tuple(letter_of(it) for it in await self._session.read(first)),
        )

    async def go_back(self, sink: Sink, *, next_index: int) -> None:
        """Make a sink go on from ``next_index``; what was set aside from there on is carried with the rest."""
        self._walls.demand(sink.workspace_id)
        back = update(_TABLE).where(*self._own(sink))
        place = {"next_index": next_index, "checkpoint_size": next_index, "epoch": _TABLE.c.epoch + 1}
        await self._session.write(back.values(place | _TRIED_AT_ONCE))
        again = (_LETTERS.c.sink_id == sink.id, _LETTERS.c.leaf_index >= next_index)
        await self._session.write(delete(_LETTERS).where(*again))

    async def try_again(self, sink: Sink) -> int:
        """Have everything sent again that was set aside; return how much that is."""
        self._walls.demand(sink.workspace_id)
        marked = await self._session.write(update(_LETTERS).where(_LETTERS.c.sink_id == sink.id).values(again=true()))
        await self._session.write(update(_TABLE).where(*self._own(sink)).values(**_TRIED_AT_ONCE))
        return marked

    async def set_aside(self, held: Held, after: Place, letter: DeadLetter) -> bool:
        """Note that an event is refused, and go on after it; False, and nothing, when ``held`` holds no more."""
        self._walls.demand(held.sink.workspace_id)
        if not await self._session.write(still_held(held).values(moved(after))):
            return False
        row = letter_row(held.sink.id, letter)
        await self._session.write(self._session.database.insert_new(_LETTERS).values(row))
        return True

    async def is_full(self, sink: Sink) -> bool:
        """Say whether a sink has set aside as much as it may."""
        last = select(_LETTERS.c.leaf_index).where(_LETTERS.c.sink_id == sink.id).order_by(_LETTERS.c.leaf_index)
        return bool(await self._session.read(last.offset(LETTERS_MAX - 1).limit(1)))

    async def behind(self, workspace_id: str) -> StrictLag | None:
        """Return a sink in strict mode that is further behind than it may be; None when there is none."""
        strict = select(_TABLE.c.name, _TABLE.c.strict_lag_ms, _TABLE.c.next_index, self._now.label("now_ms"))
        rows = await self._session.read(strict.where(_TABLE.c.workspace_id == workspace_id, _STRICT))
        if not rows:
            return None
        # Neither the workspace nor the id is searched for: a planner would look through all events for one without a
        # place.
        unplaced = select(func.min(_EVENTS.c.id + "")).where(
            _EVENTS.c.seq.is_(None), _EVENTS.c.workspace_id + "" == workspace_id
        )
        without = (await self._session.read(unplaced))[0][0]
        for row in rows:
            waiting = await self._session.read(oldest_waiting(workspace_id, row.next_index))
            oldest = [dated_ms(it) for it in (without, *(it.id for it in waiting)) if it is not None]
            lag_ms = row.now_ms - min(oldest, default=row.now_ms)
            if lag_ms > row.strict_lag_ms:
                return StrictLag(row.name, lag_ms, row.strict_lag_ms)
        return None

    async def _size(self, workspace_id: str) -> int:
        rows = await self._session.read(select(_HEADS.c.size).where(_HEADS.c.workspace_id == workspace_id))
        return int(rows[0].size) if rows else 0

    @staticmethod
    def _own(sink: Sink) -> tuple[ColumnElement[bool], ...]:
        return _TABLE.c.id == sink.id, _TABLE.c.workspace_id == sink.workspace_id


_TRIED_AT_ONCE: dict[str, object] = {"batch": 0, "refusals": 0, "failures": 0, "last_error": "", "due_at_ms": 0}


def oldest_waiting(workspace_id: str, next_index: int) -> Select[Any]:
    """Ask for the event that a sink carries next: its id tells when it came into the log.

    When it happened may be long before: a refusal is told when it has been counted, and a dead node's much later.
    """
    waiting = select(_EVENTS.c.id).where(_EVENTS.c.workspace_id == workspace_id, _EVENTS.c.leaf_index >= next_index)
    return waiting.order_by(_EVENTS.c.leaf_index).limit(1)


def still_held(held: Held) -> Any:
    """Change a sink's row, if its holder has it yet and it stands where it stood."""
    place = held.place
    return update(_TABLE).where(
        _TABLE.c.id == held.sink.id,
        _TABLE.c.holder == held.holder,
        _TABLE.c.epoch == place.epoch,
        _TABLE.c.next_index == place.next_index,
        _TABLE.c.checkpoint_size == place.checkpoint_size,
    )


def moved(place: Place) -> dict[str, object]:
    """Return what a row says of a sink that stands at ``place``."""
    return {
        "next_index": place.next_index,
        "checkpoint_size": place.checkpoint_size,
        "batch": place.batch,
        "refusals": place.refusals,
        "failures": 0,
        "last_error": "",
        "due_at_ms": 0,
    }


def letter_row(sink_id: str, letter: DeadLetter) -> dict[str, object]:
    """Return the row of what was set aside."""
    return {
        "sink_id": sink_id,
        "event_id": letter.event_id,
        "leaf_index": letter.index,
        "is_checkpoint": letter.is_checkpoint,
        "at_ms": letter.at_ms,
        "error": letter.error,
        "again": False,
    }


def letter_of(row: Row[Any]) -> DeadLetter:
    """Read the row of what was set aside."""
    return DeadLetter(row.leaf_index, row.event_id, row.at_ms, row.error, row.is_checkpoint)


def sink_of(row: Row[Any]) -> Sink:
    """Read a sink's row, without its place."""
    return Sink(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        destination=destination_from(row.kind, row.destination),
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        payload=Payload(row.payload),
        state=SinkState(row.state),
        strict_lag_ms=row.strict_lag_ms,
        secrets=None if row.sealed is None else SealedSecrets(row.master_id, row.sealed),
        version=row.version,
    )


def _values(sink: Sink) -> dict[str, object]:
    destination = sink.destination
    return {
        "name": sink.name,
        "file_name": destination.name if isinstance(destination, FileDestination) else "",
        "destination": destination_text(destination),
        "payload": str(sink.payload),
        "state": str(sink.state),
        "strict_lag_ms": sink.strict_lag_ms,
        "sealed": None if sink.secrets is None else sink.secrets.sealed,
        "master_id": "" if sink.secrets is None else sink.secrets.master_id,
        "created_at_ms": sink.created_at_ms,
        "updated_at_ms": sink.updated_at_ms,
        "version": sink.version,
    }
