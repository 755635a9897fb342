"""The questions about usage as SQL: which table answers, and how little of it is read.

A span is cut into minutes at its ragged ends, hours next to them and days between, so its sums cost about the same for
a day and for a year. One key's intervals are searched for one by one, for the interval comes before the key in the
tables; everything else reads a range of time. An interval counts when it begins inside the span.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    any_,
    func,
    literal,
    select,
    union_all,
)

from keystead.adapters.spans import NARROWER, Part, ceiling, parts
from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.paging import after
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.usage_rows import CALL_COLUMNS
from keystead.adapters.texts import countable
from keystead.adapters.walls import Walls
from keystead.kernel.paging import PageRequest
from keystead.usage.model import (
    INTERVAL_MS,
    RANKED_BY_NAME,
    VALID_NUMBER,
    Call,
    Dimension,
    Interval,
    KeyTotals,
    Point,
    Subject,
    UsageFilter,
)
from keystead.usage.records import split_tags

ROLLUPS = {
    Interval.MINUTE: usage_schema.usage_minutes,
    Interval.HOUR: usage_schema.usage_hours,
    Interval.DAY: usage_schema.usage_days,
}
# One key's intervals are searched for one by one up to so many (ten weeks of minutes).
SEARCHED_MAX = 100_000

_CALLS = usage_schema.calls
SUMS = ("calls", "cost", "outcomes", "errors")
ENDED_COLUMNS = ("http_status", "latency_us")
COLUMN_OF = {
    Dimension.KEY: "key_id",
    Dimension.SECRET: "secret_id",
    Dimension.OWNER: "owner_id",
    Dimension.OPERATION: "operation",
    Dimension.CODE: "code",
    Dimension.ENVIRONMENT: "environment",
    Dimension.TAG: "tag",
}


class Question:
    """What is asked of one workspace's usage, inside ``walls``, of a database of one ``kind``."""

    def __init__(self, kind: str, walls: Walls, wanted: UsageFilter) -> None:
        """Everything in ``wanted`` must hold."""
        self._kind = kind
        self._walls = walls
        self.wanted = wanted
        self.parts = [*parts(wanted.from_ms, wanted.to_ms)]
        """The span of sums; empty when no minute begins in it, and then there are no sums to ask for."""

    def about(self, wanted: UsageFilter) -> Question:
        """Return the question about something else inside the same walls."""
        return Question(self._kind, self._walls, wanted)

    def series(self, interval: Interval, *, by: Dimension | None, limit: int) -> Select[Any]:
        """Ask for begin, group, calls and cost, in order."""
        table = self.table(interval, by)
        columns = table.c
        begins: ColumnElement[int] = columns.begins_at_ms
        part = Part(interval, self.wanted.from_ms, self.wanted.to_ms)
        if table is usage_schema.usage_tags and interval is Interval.DAY:
            begins = begins - begins % INTERVAL_MS[interval]
            part = replace(part, interval=Interval.HOUR)
        keys = [begins] if by is None else [begins, columns[COLUMN_OF[by]]]
        group = literal("") if by is None else keys[1]
        sums = [func.sum(columns[name]) for name in SUMS]
        statement = self._inside(select(begins, group, *sums), table)
        return statement.where(self._during(part, table)).group_by(*keys).order_by(*keys).limit(limit)

    def top(self, *, by: Dimension, limit: int) -> Select[Any]:
        """Ask for group, calls and cost of the span, the most calls first."""
        statement, calls = self._sums(by)
        return statement.order_by(calls.desc(), statement.selected_columns[0]).limit(limit)

    def by_code(self) -> Select[Any]:
        """Ask for code, calls and cost of the span."""
        return self._sums(Dimension.CODE)[0]

    def latest(self, part: Part) -> Select[Any]:
        """Ask for the beginning of the last interval of ``part`` in which there is anything."""
        table = ROLLUPS[part.interval]
        return self._inside(select(func.max(table.c.begins_at_ms)), table).where(self._during(part, table))

    def calls(self, request: PageRequest) -> Select[Any]:
        """Ask for one page of raw calls, and one more."""
        at_ms = _CALLS.c.at_ms
        statement = self._inside(select(*[_CALLS.c[name] for name in (*CALL_COLUMNS, *ENDED_COLUMNS)]), _CALLS)
        from_ms, to_ms = self.wanted.from_ms, self.wanted.to_ms
        position = (int(request.position[0]), request.position[1]) if request.position else ()
        if position:  # the span begins where the last page ended, or SQLite walks over all pages before this one
            if request.ascending:
                from_ms = max(from_ms, position[0])
            else:
                to_ms = min(to_ms, position[0] + 1)
        statement = statement.where(at_ms >= from_ms, at_ms < to_ms)
        return after(statement, request, (at_ms, _CALLS.c.verification_id), position)

    def _sums(self, by: Dimension) -> tuple[Select[Any], ColumnElement[Any]]:
        """Sum the parts of the span, each from its own table."""
        pieces = []
        for part in self._parts_of(by):
            table = self.table(part.interval, by)
            group = table.c[COLUMN_OF[by]]
            sums = [func.sum(table.c[name]).label(name) for name in SUMS]
            piece = self._inside(select(group.label("of"), *sums), table).where(self._during(part, table))
            if by in RANKED_BY_NAME:
                piece = piece.where(group != "")
            pieces.append(piece.group_by(group))
        whole = union_all(*pieces).subquery()
        calls, *others = [func.sum(whole.c[name]) for name in SUMS]
        return select(whole.c.of, calls, *others).group_by(whole.c.of), calls

    def table(self, interval: Interval, by: Dimension | None) -> Table:
        """Return the table whose sums answer; labels are summed by hours alone."""
        return usage_schema.usage_tags if self.wanted.tag or by is Dimension.TAG else ROLLUPS[interval]

    def _parts_of(self, by: Dimension) -> Sequence[Part]:
        if self.table(Interval.HOUR, by) is not usage_schema.usage_tags:
            return self.parts
        hour_ms = INTERVAL_MS[Interval.HOUR]
        return [Part(Interval.HOUR, self.wanted.from_ms // hour_ms * hour_ms, self.wanted.to_ms)]

    def _inside(self, statement: Select[Any], table: Table) -> Select[Any]:
        """Keep of ``statement`` what is inside the walls and what the filter asks for, times aside."""
        columns, wanted = table.c, self.wanted
        statement = statement.where(columns.workspace_id == self._walls.demand_workspace())
        if self._walls.environments is not None:
            statement = statement.where(columns.environment.in_(sorted(self._walls.environments)))
        for name in ("key_id", "secret_id", "owner_id"):
            if getattr(wanted, name):
                statement = statement.where(columns[name] == getattr(wanted, name))
        if wanted.operation is not None:
            statement = statement.where(columns.operation == countable(wanted.operation))
        if wanted.code is not None:
            statement = statement.where(columns.code == wanted.code)
        if wanted.tag:
            statement = statement.where(self._has_tag(table))
        return statement

    def _has_tag(self, table: Table) -> ColumnElement[bool]:
        """Say that a row of sums is the label's, or that a call has it; labels are parted by line ends there."""
        tag = self.wanted.tag
        if table is usage_schema.usage_tags:
            return table.c.tag == tag
        place = func.instr if self._kind == SQLITE else func.strpos
        return place("\n" + table.c.tags + "\n", f"\n{tag}\n") > 0

    def _during(self, part: Part, table: Table) -> ColumnElement[bool]:
        begins = table.c.begins_at_ms
        step_ms = INTERVAL_MS[part.interval]
        ticks = range(ceiling(part.begin_ms, step_ms), part.end_ms, step_ms)
        if not self.wanted.key_id or len(ticks) > SEARCHED_MAX:
            return begins.between(part.begin_ms, part.end_ms - 1)
        if self._kind == SQLITE:
            listed = func.json_each(json.dumps(list(ticks))).table_valued("value")
            return begins.in_(select(listed.c.value))
        return begins == any_(literal(list(ticks), ARRAY(BigInteger)))


def points_of(rows: Sequence[Any], *, begins_at_ms: int | None = None) -> list[Point]:
    """Make points of rows that say begin (unless it is given), group, calls and cost; a code is its number, as text."""
    if begins_at_ms is None:
        return [Point(row[0], str(row[1]), *map(int, row[2:])) for row in rows]
    return [Point(begins_at_ms, str(row[0]), *map(int, row[1:])) for row in rows]


async def key_totals(session: Session, question: Question) -> KeyTotals:
    """Answer from one moment of the database: what a key did, and its last valid call."""
    if not question.parts:
        return KeyTotals()
    rows: Sequence[Any] = await session.read(question.by_code())
    last = await _last_valid(session, question)
    return KeyTotals(
        calls=sum(int(row[1]) for row in rows),
        cost=sum(int(row[2]) for row in rows),
        by_code={row[0]: int(row[1]) for row in rows},
        last_used_at_ms=last.at_ms if last else None,
        last_used_ip=last.client_ip if last else "",
        last_operation=last.operation if last else "",
        outcomes=sum(int(row[3]) for row in rows),
        errors=sum(int(row[4]) for row in rows),
    )


async def _last_valid(session: Session, question: Question) -> Call | None:
    """Find the last valid call by way of the sums, so that no flood of denials has to be read past."""
    wanted = question.wanted
    if wanted.code not in {None, VALID_NUMBER}:
        return None
    valid = question.about(replace(wanted, code=VALID_NUMBER))
    for part in reversed(question.parts):
        interval, begins_at_ms = part.interval, (await session.read(valid.latest(part)))[0][0]
        if begins_at_ms is None:
            continue
        while interval in NARROWER:
            cell = Part(NARROWER[interval], begins_at_ms, begins_at_ms + INTERVAL_MS[interval])
            interval, begins_at_ms = cell.interval, (await session.read(valid.latest(cell)))[0][0]
        minute = replace(valid.wanted, from_ms=begins_at_ms, to_ms=begins_at_ms + INTERVAL_MS[interval])
        rows = await session.read(question.about(minute).calls(PageRequest(1)))
        return call_of(rows[0])
    return None


def call_of(row: Sequence[Any]) -> Call:
    """Make a call of a row in the order of ``CALL_COLUMNS`` and ``ENDED_COLUMNS``."""
    workspace_id, environment, at_ms, verification_id, key_id, secret_id, owner_id, *said, tags, status, latency = row
    operation, code, cost, client_ip, scope_expression = said
    subject = Subject(workspace_id, environment, key_id, secret_id, owner_id)
    labels = split_tags(tags)
    return Call(
        verification_id, at_ms, subject, code, cost, operation, client_ip, scope_expression, labels, status, latency
    )
