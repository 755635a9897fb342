"""Refusals in SQL: pages become sums by group and minute, and each sum one event, exactly once.

A page is added in a transaction that holds its journal's row, which says what was added last. A sum is deleted in the
transaction that stores its event, so a kill loses and doubles nothing; what comes for a minute later is a further sum,
and a further event. Rows are changed in one order everywhere, and whoever tells waits for no row.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, bindparam, delete, literal, select, update

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.events import insert_events
from keystead.adapters.sql.refusal_schema import failures, refusal_pages, refusals
from keystead.adapters.sql.schema import keys
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.usage_rows import Row
from keystead.adapters.sql.usage_sums import add_spans, add_sums
from keystead.events.model import Event, RandomBytes, make_event
from keystead.events.refusals import (
    Failing,
    Failures,
    RefusalPage,
    Refused,
    Refusing,
    Subject,
    Tally,
    alert,
    owned,
    passed,
    told,
)
from keystead.kernel.change import Action, Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource

# So much is worked out before the event loop gets its turn.
_AT_ONCE = 100
_KEY = [column.name for column in refusals.primary_key.columns]


class SqlRefusals:
    """The ``RefusalStore`` of one database. ``alerts`` is how many events about the threshold this process has made."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        ids: IdSource,
        threshold: int,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        """Tell when an address or a key fails more than ``threshold`` times in ten minutes; 0 is never."""
        self.alerts = 0
        self._database = database
        self._clock = clock
        self._ids = ids
        self._threshold = threshold
        self._random_bytes = random_bytes

    async def stage(self, page: RefusalPage) -> bool:
        """Add a page's groups exactly once, whole or not at all; return whether it was added by this call."""
        tally = Tally(now_ms=self._clock.now_ms())
        for start in range(0, len(page.groups), _AT_ONCE):
            tally.add(page.groups[start : start + _AT_ONCE])
            await asyncio.sleep(0)
        rows: list[Row] = sorted(map(_row, tally.groups.values()))
        async with transaction(self._database) as session:
            if not await _is_next(session, page):
                return False
            await add_spans(session, refusals, rows)
            alerts = await self._held_against(session, tally.failures if self._threshold else {})
            await self._store(session, alerts)
        self.alerts += len(alerts)
        return True

    async def _held_against(
        self, session: Session, failed: Mapping[Subject, Failures]
    ) -> list[tuple[Change, Origin, int]]:
        """Add failures to what their subjects failed before; return what is to be told, and of when."""
        if not failed:
            return []
        await add_sums(session, failures, [(*_row_of(it), failed[it].count) for it in sorted(failed)])
        # Whoever has passed it just now is past it by no more than was added; these rows are ours until the end, so
        # nobody else sees the same number passed.
        at_most = self._threshold + max(it.count for it in failed.values())
        asked = select(failures).where(
            failures.c.stretch_ms.in_(sorted({it.stretch_ms for it in failed})),
            failures.c["count"] > self._threshold,
            failures.c["count"] <= at_most,
        )
        alerts = []
        for row in await session.lock(asked):
            stretch_ms, workspace_id, environment, kind, name, count = cast("tuple[Any, ...]", row)
            subject = Subject(stretch_ms, workspace_id, environment, Failing(kind), name)
            added = failed.get(subject)
            if added is not None and passed(count - added.count, added.count, self._threshold):
                now = Failures(count, added.last_at_ms)
                alerts.append((*alert(subject, now, self._threshold), added.last_at_ms))
        return alerts

    async def tell(self, *, before_ms: int, limit: int) -> int:
        """Turn at most ``limit`` groups of minutes that began before ``before_ms`` into events; return how many."""
        if not await self._any(refusals.c.minute_ms < before_ms):
            return 0
        over = (
            select(refusals)
            .where(refusals.c.minute_ms < before_ms)
            .order_by(refusals.c.minute_ms)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with transaction(self._database) as session:
            rows: Sequence[Any] = await session.lock(over)
            if rows:
                gone = delete(refusals).where(*[refusals.c[name] == bindparam(f"the_{name}") for name in _KEY])
                await session.write(gone, [{f"the_{name}": getattr(row, name) for name in _KEY} for row in rows])
                groups = [_refused(row) for row in rows]
                await self._store(session, [(*told(it), it.last_at_ms) for it in groups])
        return len(rows)

    async def forget(self, *, before_ms: int) -> None:
        """Drop the sums of stretches that began before ``before_ms``."""
        if await self._any(failures.c.stretch_ms < before_ms):
            async with transaction(self._database) as session:
                await session.write(delete(failures).where(failures.c.stretch_ms < before_ms))

    async def _any(self, condition: ColumnElement[bool]) -> bool:
        """Say whether there is such a row, without a lock: most of the time there is nothing to do."""
        found = select(literal(1)).where(condition).limit(1)
        return bool(await Session(self._database, read_only=False).read(found))

    async def _store(self, session: Session, facts: Sequence[tuple[Change, Origin, int]]) -> None:
        for start in range(0, len(facts), _AT_ONCE):
            some = facts[start : start + _AT_ONCE]
            owners = await _owners(session, {change.target for change, *_ in some})
            events = [self._event(owned(change, owners), origin, at_ms) for change, origin, at_ms in some]
            await insert_events(session, events)

    def _event(self, change: Change, origin: Origin, at_ms: int) -> Event:
        name = self._ids.new("evt")
        return make_event(change, origin, event_id=name, occurred_at_ms=at_ms, random_bytes=self._random_bytes)


async def _is_next(session: Session, page: RefusalPage) -> bool:
    """Say whether a page was not staged yet, and note that it is; nobody else can until the transaction ends."""
    first = {"journal_id": page.journal_id, "staged_to": 0}
    await session.write(session.database.insert_new(refusal_pages).values(first))
    mine = (refusal_pages.c.journal_id == page.journal_id, refusal_pages.c.staged_to < page.number)
    return await session.write(update(refusal_pages).where(*mine).values(staged_to=page.number)) == 1


async def _owners(session: Session, key_ids: Collection[str]) -> dict[str, str]:
    """Return the owners of those of ``key_ids`` that have one."""
    found = select(keys.c.id, keys.c.owner_id).where(keys.c.id.in_(sorted(key_ids)), keys.c.owner_id != "")
    return {row.id: row.owner_id for row in await session.read(found)} if any(key_ids) else {}


def _row(it: Refused) -> Row:
    refusing = it.refusing
    return (it.minute_ms, *refusing[:2], str(refusing.action), *refusing[3:], it.count, it.first_at_ms, it.last_at_ms)


def _row_of(subject: Subject) -> tuple[Any, ...]:
    return (*subject[:3], str(subject.kind), subject.name)


def _refused(row: Any) -> Refused:
    minute_ms, workspace_id, environment, action, *rest, count, first_at_ms, last_at_ms = row
    refusing = Refusing(workspace_id, environment, Action(action), *rest)
    return Refused(refusing, minute_ms, count, first_at_ms, last_at_ms)
