"""The log as its tenants see it, in SQL: which index answers, and how little of it is read.

Lists are in the order of time, and so are the indexes, each behind one thing that may be asked for. The narrowest of
what is asked leads, and only it may be searched for; the rest is looked at row by row. Several actions are several
short lists that are merged, since no index holds them in one order.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, literal_column, select, tuple_, union_all

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.log_shelf import ROW_LEAVES_MAX, kept_hashes
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.events.model import Event, EventFilter
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.kernel.walls import BOTH_ENVIRONMENTS, TenantScope

_EVENTS = schema.events
_HEADS = schema.log_heads
_CUTS = schema.log_cuts
_LEAVES = schema.cut_leaves
_NAMES = tuple(field.name for field in fields(Event))
_COLUMNS = tuple(_EVENTS.c[name] for name in _NAMES)
_TOUCHES = _NAMES.index("touches")

# What may lead, the narrowest first: a request makes few events, an actor may have made most of them.
_LEADING = ("request_id", "target", "owner_id", "actor_id")
# What most events leave empty; the index holds the others alone, and is used where a question says so.
_SPARSE = frozenset({"request_id", "owner_id"})


class SqlAuditReader:
    """The ``AuditReader`` of one database."""

    def __init__(self, database: Database) -> None:
        """Read the events in ``database``."""
        self._database = database

    async def page(self, scope: TenantScope, wanted: EventFilter, request: PageRequest) -> Page[Event]:
        """Return events by (``occurred_at_ms``, id), also those that have no place yet."""
        statement = page_statement(scope, wanted, request)
        rows = [] if statement is None else await self._read(statement)
        return cut([_event(row) for row in rows], request.size, lambda event: (str(event.occurred_at_ms), event.id))

    async def since(self, scope: TenantScope, wanted: EventFilter, after_index: int, limit: int) -> Sequence[Event]:
        """Return at most ``limit`` placed events after ``after_index``, by leaf index."""
        return [_event(row) for row in await self._read(since_statement(scope, wanted, after_index, limit))]

    async def leaf_hashes(self, workspace_id: str, start: int, limit: int) -> Sequence[bytes]:
        """Return the hashes of at most ``limit`` leaves from ``start`` on, also of events that are gone."""
        rows = await self._read(hashes_statement(workspace_id, start, limit))
        if rows and rows[0].leaf_index == start:
            return [row.leaf_hash for row in rows]
        # Read after the events: what was swept in between is found here, and what is found twice is the same.
        swept = kept_hashes(await self._read(swept_statement(workspace_id, start, limit)), start, start + limit)
        known = {row.leaf_index: row.leaf_hash for row in rows} | swept
        return [known[index] for index in itertools.takewhile(known.__contains__, range(start, start + limit))]

    async def first_index(self, workspace_id: str) -> int:
        """Return the index of the first event that is kept."""
        rows = await self._read(select(_CUTS.c.size).where(_CUTS.c.workspace_id == workspace_id))
        return rows[0].size if rows else 0

    async def head(self, workspace_id: str) -> tuple[int, bytes]:
        """Return how many events have their place, and the frontier of their tree."""
        heads = select(_HEADS.c.size, _HEADS.c.frontier).where(_HEADS.c.workspace_id == workspace_id)
        rows = await self._read(heads)
        return (rows[0].size, rows[0].frontier) if rows else (0, b"")

    async def find(self, scope: TenantScope, event_id: str) -> Event | None:
        """Return an event inside the walls; None when there is none."""
        rows = await self._read(_inside(scope, EventFilter()).where(_EVENTS.c.id == event_id))
        return _event(rows[0]) if rows else None

    async def _read(self, statement: Any) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)


def page_statement(scope: TenantScope, wanted: EventFilter, request: PageRequest) -> Select[Any] | None:
    """Ask for one page and one event more; None when no action is meant that there is."""
    given = _given(wanted)
    leading = next((name for name in _LEADING if name in given), "")
    actions = wanted.actions
    if actions == ():
        return None
    if leading or actions is None:
        return _list(scope, wanted, request, [*_asked(given, leading), *_of_actions(actions)])
    lists = [_list(scope, wanted, request, [_EVENTS.c.action == action]) for action in actions]
    if len(lists) == 1:
        return lists[0]
    merged = union_all(*[select(*it.subquery().c) for it in lists]).subquery()
    return after(select(*merged.c), request, (merged.c.occurred_at_ms, merged.c.id), ())


def since_statement(scope: TenantScope, wanted: EventFilter, after_index: int, limit: int) -> Select[Any]:
    """Ask for placed events in their order; everything but the place is looked at row by row."""
    place = _EVENTS.c.leaf_index
    statement = _inside(scope, wanted).where(*_asked(_given(wanted), ""), *_of_actions(wanted.actions))
    return statement.where(place > after_index).order_by(place).limit(limit)


def hashes_statement(workspace_id: str, start: int, limit: int) -> Select[Any]:
    """Ask for the hashes of leaves in their order."""
    place = _EVENTS.c.leaf_index
    own = select(place, _EVENTS.c.leaf_hash).where(_EVENTS.c.workspace_id == workspace_id, place >= start)
    return own.order_by(place).limit(limit)


def swept_statement(workspace_id: str, start: int, limit: int) -> Select[Any]:
    """Ask for the rows that hold hashes of leaves whose events are gone."""
    first = _LEAVES.c.first_index
    near = (first > start - ROW_LEAVES_MAX, first < start + limit)
    return select(_LEAVES).where(_LEAVES.c.workspace_id == workspace_id, *near).order_by(first)


def _given(wanted: EventFilter) -> dict[str, str]:
    """Return what is asked for by column; a key is asked for as a target."""
    asked = {
        "request_id": wanted.request_id,
        "target": wanted.target or wanted.key_id,
        "owner_id": wanted.owner_id,
        "actor_id": wanted.actor_id,
    }
    return {name: value for name, value in asked.items() if value}


def _asked(given: dict[str, str], leading: str) -> Iterator[ColumnElement[bool]]:
    for name, value in given.items():
        column = _EVENTS.c[name]
        if name != leading:
            yield _unsearched(column) == value
            continue
        yield column == value
        if name in _SPARSE:
            yield column != literal_column("''")  # a parameter would hide that the index holds the row


def _of_actions(actions: Sequence[str] | None) -> Iterator[ColumnElement[bool]]:
    if actions is not None:
        yield _unsearched(_EVENTS.c.action).in_(actions)


def _unsearched(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Keep a column from leading: without knowing the rows, a planner may well search for the wrong one."""
    return column + ""


def _list(
    scope: TenantScope, wanted: EventFilter, request: PageRequest, conditions: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    """Ask for events in the order of time, from where the last page ended.

    The position bounds the span of time, which is searched for; within its millisecond ids are compared one by one. To
    search for both at once SQLite would rather take the index of time alone, whatever else is asked.
    """
    at_ms = _EVENTS.c.occurred_at_ms
    if request.position:
        wanted = _narrowed(wanted, int(request.position[0]), ascending=request.ascending)
        here = tuple_(at_ms + 0, _EVENTS.c.id)
        last = tuple_(literal(int(request.position[0]), at_ms.type), literal(request.position[1], _EVENTS.c.id.type))
        conditions = [*conditions, here > last if request.ascending else here < last]
    return after(_inside(scope, wanted).where(*conditions), request, (at_ms, _EVENTS.c.id), ())


def _narrowed(wanted: EventFilter, at_ms: int, *, ascending: bool) -> EventFilter:
    if ascending:
        return replace(wanted, from_ms=max(at_ms, wanted.from_ms or 0))
    return replace(wanted, to_ms=at_ms + 1 if wanted.to_ms is None else min(at_ms + 1, wanted.to_ms))


def _inside(scope: TenantScope, wanted: EventFilter) -> Select[Any]:
    """Ask for what is inside the walls and within the times."""
    columns = _EVENTS.c
    statement = select(*_COLUMNS).where(columns.workspace_id == scope.workspace_id)
    if wanted.key_id and wanted.target:
        statement = statement.where(_unsearched(columns.target) == wanted.key_id)
    worlds = wanted.worlds(scope)
    if not worlds >= BOTH_ENVIRONMENTS:
        statement = statement.where(columns.environment.in_(sorted(worlds)))
    if wanted.from_ms is not None:
        statement = statement.where(columns.occurred_at_ms >= wanted.from_ms)
    if wanted.to_ms is not None:
        statement = statement.where(columns.occurred_at_ms < wanted.to_ms)
    return statement


def _event(row: Sequence[Any]) -> Event:
    values = list(row)
    values[_TOUCHES] = tuple(json.loads(values[_TOUCHES]))
    return Event(*values)
