"""Outcomes in SQL: what was reported waits in a table until its call is counted, and is joined to it exactly once.

The waiting row is the one idea: adding an outcome to the sums, writing it to its call and deleting the row are one
transaction, so whatever is killed, either the row still waits or everything is done. Whoever joins locks the row and
its call, and passes over what another one holds, so several join side by side and never wait in a circle.

What waits is looked for without a lock and in bounded windows, each after the last one: outcomes whose calls never come
cost a look now and then for their hour, and hold nothing up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, Text, and_, exists, func, literal, or_, select, tuple_

from keystead.adapters.sql import usage_queries, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL, SQLITE
from keystead.adapters.sql.outcome_rows import OutcomeTally
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.usage_rows import Row
from keystead.adapters.sql.usage_sums import add_sums
from keystead.adapters.walls import reporting_environments
from keystead.kernel.ids import dated_ms
from keystead.tenants.model import TenantScope
from keystead.usage.model import OUTCOME_WAITS_MAX_MS, Joined, Outcome

WINDOW_ROWS = 5_000
WINDOWS_MAX = 10
"""How many that wait are looked at in one piece, and how many pieces in one step."""

_WAITING = usage_schema.waiting_outcomes
_CALLS = usage_schema.calls
_NAME = (_WAITING.c.workspace_id, _WAITING.c.verification_id, _WAITING.c.environment)
_POSITION = (_WAITING.c.kept_at_ms, *_NAME)
_ITS_CALL = and_(
    _CALLS.c.workspace_id == _WAITING.c.workspace_id,
    _CALLS.c.at_ms == _WAITING.c.called_at_ms,
    _CALLS.c.verification_id == _WAITING.c.verification_id,
    or_(_WAITING.c.environment == "", _WAITING.c.environment == _CALLS.c.environment),
)

_REPORTED = (
    _WAITING.c.environment.label("reporter"),
    _WAITING.c.http_status.label("reported_status"),
    _WAITING.c.latency_us.label("reported_us"),
)
_CALLED = [column for column in _CALLS.c if column.name not in {"workspace_id", "verification_id"}]

_END = {
    SQLITE: "UPDATE calls SET http_status = ?, latency_us = ? "
    "WHERE workspace_id = ? AND at_ms = ? AND verification_id = ?",
    POSTGRESQL: "UPDATE calls SET http_status = ended.http_status, latency_us = ended.latency_us "
    "FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[]) "
    "AS ended(http_status, latency_us, workspace_id, at_ms, verification_id) "
    "WHERE calls.workspace_id = ended.workspace_id AND calls.at_ms = ended.at_ms "
    "AND calls.verification_id = ended.verification_id",
}
_FORGET = {
    SQLITE: "DELETE FROM waiting_outcomes WHERE workspace_id = ? AND verification_id = ? AND environment = ?",
    POSTGRESQL: "DELETE FROM waiting_outcomes USING unnest($1::text[], $2::text[], $3::text[]) "
    "AS settled(workspace_id, verification_id, environment) "
    "WHERE waiting_outcomes.workspace_id = settled.workspace_id "
    "AND waiting_outcomes.verification_id = settled.verification_id "
    "AND waiting_outcomes.environment = settled.environment",
}

_Name = tuple[str, str, str]


class SqlOutcomes:
    """The ``OutcomeStore`` of one database."""

    def __init__(self, database: Database, *, window_rows: int = WINDOW_ROWS, windows_max: int = WINDOWS_MAX) -> None:
        """Keep and join in ``database``, looking at ``window_rows`` at once and at so many ``windows_max`` times."""
        self._database = database
        self._window_rows = window_rows
        self._windows_max = windows_max
        self._passed: tuple[Any, ...] | None = None

    async def keep(self, scope: TenantScope, outcomes: Sequence[Outcome], *, at_ms: int) -> None:
        """Keep what was reported until it is joined, durably; of several reports about one call the first counts.

        The rows go in one order, so that reporters of the same calls never wait in a circle.
        """
        rows: dict[_Name, Row] = {}
        for environment in reporting_environments(scope):
            for it in outcomes:
                name = (scope.workspace_id, it.verification_id, environment)
                called_at_ms = dated_ms(it.verification_id)
                rows.setdefault(name, (*name, called_at_ms, it.http_status, it.latency_us, at_ms))
        if rows:
            async with transaction(self._database) as session:
                columns = [column.name for column in _WAITING.c]
                kept = [dict(zip(columns, rows[name], strict=True)) for name in sorted(rows)]
                await session.write(self._database.insert_new(_WAITING), kept)

    async def join(self, *, at_most: int, now_ms: int) -> Joined:
        """Join so many waiting outcomes to their calls, the longest waiting first; drop what waited for an hour.

        It looks at a bounded number of those that wait and goes on there the next time.
        """
        overdue_ms = now_ms - OUTCOME_WAITS_MAX_MS
        candidates = await self._candidates(at_most=at_most, overdue_ms=overdue_ms)
        come = sorted({(*row[1:3], row.called_at_ms) for row in candidates if row.has_come})
        overdue = [tuple(row[1:4]) for row in candidates if not row.has_come]
        if not candidates:
            return Joined()
        async with transaction(self._database) as session:
            found = await session.lock(self._locked(come)) if come else []
            joined = await _join(session, found)
            dropped = await session.lock(self._dropped(overdue)) if overdue else []
            settled = {tuple(row[:3]) for row in (*found, *dropped)}
            await forget(session, sorted(settled))
        return Joined(joined, len(settled) - joined - len(dropped), len(dropped))

    async def _candidates(self, *, at_most: int, overdue_ms: int) -> Sequence[Any]:
        """Find outcomes whose calls have come, and those that waited too long; nothing is locked.

        When it finds none by the end, it goes on from the beginning unless it had begun there.
        """
        candidates: list[Any] = []
        unseen = self._passed is not None
        for _ in range(self._windows_max):
            end = await self._window_end()
            found = await self._read(self._in_window(end, at_most - len(candidates), overdue_ms))
            candidates += found
            self._passed = tuple(found[-1][:4]) if len(candidates) == at_most else end
            at_the_end = self._passed is None
            if len(candidates) == at_most or (at_the_end and (candidates or not unseen)):
                break
            unseen = unseen and not at_the_end
        return candidates

    async def _window_end(self) -> tuple[Any, ...] | None:
        """Return the place of the window's last row; None when all rows that are left fit into it."""
        ends = await self._read(self._after(select(*_POSITION)).offset(self._window_rows - 1).limit(1))
        return tuple(ends[0]) if ends else None

    def _in_window(self, end: tuple[Any, ...] | None, at_most: int, overdue_ms: int) -> Select[Any]:
        has_come = exists().where(_ITS_CALL)
        window = self._after(select(*_POSITION, _WAITING.c.called_at_ms, has_come.label("has_come")))
        if end is not None:
            window = window.where(tuple_(*_POSITION) <= tuple_(*map(literal, end)))
        return window.where(or_(has_come, _WAITING.c.kept_at_ms < overdue_ms)).limit(at_most)

    def _after(self, statement: Select[Any]) -> Select[Any]:
        """Take what waits in order, from where the last window ended."""
        if self._passed is not None:
            statement = statement.where(_WAITING.c.kept_at_ms >= self._passed[0])
            statement = statement.where(tuple_(*_POSITION) > tuple_(*map(literal, self._passed)))
        return statement.order_by(*_POSITION)

    def _locked(self, calls: Sequence[tuple[Any, ...]]) -> Select[Any]:
        """Lock calls and all that was reported about them, the first report first, but for what somebody else holds.

        ``calls`` are workspaces, verification ids and times.
        """
        workspace_id, verification_id, at_ms = self._listed(calls)
        named = and_(_NAME[0] == workspace_id, _NAME[1] == verification_id, _CALLS.c.workspace_id == workspace_id)
        # Said of both tables, so that no database comes to read all calls of a workspace first.
        dated = and_(_CALLS.c.verification_id == verification_id, _CALLS.c.at_ms == at_ms)
        statement = select(*_NAME[:2], *_REPORTED, *_CALLED).join(_CALLS, _ITS_CALL).where(named, dated)
        return statement.order_by(*_POSITION).with_for_update(skip_locked=True, of=[_WAITING, _CALLS])

    def _dropped(self, names: Sequence[tuple[Any, ...]]) -> Select[Any]:
        """Lock outcomes whose calls did not come, but for those that somebody else holds."""
        named = [column == part for column, part in zip(_NAME, self._listed(names), strict=True)]
        return select(*_NAME).where(*named).with_for_update(skip_locked=True, of=_WAITING)

    def _listed(self, rows: Sequence[tuple[Any, ...]]) -> list[ColumnElement[Any]]:
        """Make the columns of a table of ``rows``."""
        if self._database.kind == POSTGRESQL:
            arrays = [
                literal([*part], ARRAY(Text if isinstance(part[0], str) else BigInteger))
                for part in zip(*rows, strict=True)
            ]
            names = [f"part_{place}" for place in range(len(arrays))]
            return [*func.unnest(*arrays).table_valued(*names, name="listed").render_derived().c]
        value = func.json_each(json.dumps(rows)).table_valued("value").c.value
        return [func.json_extract(value, f"$[{place}]") for place in range(len(rows[0]))]

    async def _read(self, statement: Any) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)


async def forget(session: Session, names: Sequence[Sequence[Any]]) -> None:
    """Let outcomes wait no more; ``names`` are workspaces, verification ids and environments, sorted."""
    await _for_each(session, _FORGET, names)


async def _join(session: Session, found: Sequence[Any]) -> int:
    """Write the first report of each call to it and to the sums; return how many calls that were."""
    tally, ended = OutcomeTally(), {}
    for row in found:
        call = (row.workspace_id, row.at_ms, row.verification_id)
        if row.http_status is None and call not in ended:
            ended[call] = (row.reported_status, row.reported_us, *call)
            tally.add(row, http_status=row.reported_status, latency_us=row.reported_us)
    await _for_each(session, _END, [*ended.values()])
    for interval, rows in tally.rows():
        await add_sums(session, usage_queries.ROLLUPS[interval], rows)
    await add_sums(session, usage_schema.usage_tags, tally.tag_rows())
    await add_sums(session, usage_schema.latencies, tally.latency_rows())
    return len(ended)


async def _for_each(session: Session, statements: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each of ``rows``, straight on the driver; on PostgreSQL it takes columns."""
    if not rows:
        return
    statement = statements[session.database.kind]
    if session.database.kind == POSTGRESQL:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await session.on_driver(lambda driver: driver.execute(statement, *columns))
    else:
        await session.on_driver(lambda driver: driver.executemany(statement, rows))
