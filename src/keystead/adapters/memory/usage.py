"""Usage in memory: the calls themselves, and every question answered by going through them.

Nothing awaits between the first look and the last change, so each method is a transaction.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from keystead.adapters.memory import usage_uses
from keystead.adapters.memory.journals import opened
from keystead.adapters.memory.latencies import latency_points
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.texts import SCOPES_CHARACTERS_MAX, call_position, countable
from keystead.adapters.walls import Walls
from keystead.kernel.clock import Clock, SystemClock
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.tenants.model import TenantScope
from keystead.usage.journals import JournalState, KnownJournal
from keystead.usage.model import (
    ERROR_STATUS,
    INTERVAL_MS,
    RANKED_BY_NAME,
    VALID_NUMBER,
    Call,
    Dimension,
    Interval,
    KeyTotals,
    LatencyPoint,
    Outcome,
    Point,
    SecretUse,
    Stretch,
    UsageFilter,
)

_GROUPS_OF: dict[Dimension, Callable[[Call], tuple[str, ...]]] = {
    Dimension.KEY: lambda call: (call.subject.key_id,),
    Dimension.SECRET: lambda call: (call.subject.secret_id,),
    Dimension.OWNER: lambda call: (call.subject.owner_id,),
    Dimension.OPERATION: lambda call: (call.operation,),
    Dimension.CODE: lambda call: (str(call.code),),
    Dimension.ENVIRONMENT: lambda call: (call.subject.environment,),
    Dimension.TAG: lambda call: call.tags,
}


class MemoryUsage:
    """The ``UsageStore`` of one process."""

    def __init__(self, store: MemoryStore | None = None, *, clock: Clock | None = None) -> None:
        """Begin with nothing counted; journals are those of ``store``, whose clock is ``clock``."""
        self._store = store or MemoryStore()
        self._clock = clock or SystemClock()
        self._calls: list[Call] = []
        self._attempts: list[Call] = []

    def everything(self) -> Sequence[Call]:
        """Return every call that was counted, for what is summed up beside usage."""
        return self._calls

    def add_attempts(self, attempt: Call, count: int) -> None:
        """Sum ``count`` more calls that no key made; they are in no list of calls."""
        self._attempts += [attempt] * count

    async def register(self, journal_id: str, *, at_ms: int, node: str = "") -> None:
        """Make a journal known; one that was closed, and is here again on a copied disk, is open again."""
        async with self._store.lock:
            known = self._journals.get(journal_id) or opened(journal_id, at_ms)
            state = JournalState.OPEN if known.state is JournalState.CLOSED else known.state
            self._keep(replace(known, node=known.node or node, state=state))

    async def count(self, stretch: Stretch) -> bool:
        """Count a stretch exactly once, whole or not at all; return whether it was counted by this call."""
        async with self._store.lock:
            journal = self._journals.get(stretch.journal_id)
            if journal is None:
                first_ms = min((call.at_ms for call in stretch.calls), default=stretch.seen_at_ms or 0)
                journal = opened(stretch.journal_id, first_ms)
            if journal.counted_to != stretch.begin:
                return False
            self._add(stretch)
            back = journal.state is JournalState.LOST and stretch.seen_at_ms is not None
            counted = replace(journal, counted_to=stretch.end, state=JournalState.OPEN if back else journal.state)
            until_ms = max(journal.complete_until_ms, stretch.seen_at_ms or 0)
            self._keep(replace(counted, complete_until_ms=until_ms))
        return True

    def _add(self, stretch: Stretch) -> None:
        self._calls += [
            replace(
                call,
                operation=countable(call.operation),
                client_ip=countable(call.client_ip),
                scope_expression=countable(call.scope_expression, SCOPES_CHARACTERS_MAX),
            )
            for call in stretch.calls
        ]

    @property
    def _journals(self) -> dict[str, KnownJournal]:
        return self._store.committed.journals

    def _keep(self, journal: KnownJournal) -> None:
        """Keep how far a journal is counted, and that it was reported now."""
        self._journals[journal.id] = replace(journal, seen_at_ms=self._clock.now_ms())

    async def counted_to(self, journal_id: str) -> int:
        """Return the place up to which a journal is counted; 0 for one of which nothing is."""
        journal = self._journals.get(journal_id)
        return journal.counted_to if journal else 0

    async def close(self, journal_id: str) -> None:
        """Note that a journal is counted to its end; again, or for one that is not known, changes nothing."""
        async with self._store.lock:
            if journal_id in self._journals:
                self._keep(replace(self._journals[journal_id], state=JournalState.CLOSED))

    async def complete_until(self) -> int | None:
        """Return the least of the open journals; None when there is none."""
        waited_for = [it.complete_until_ms for it in self._journals.values() if it.state is JournalState.OPEN]
        return min(waited_for, default=None)

    async def journals(self, *, closed: bool, limit: int) -> list[KnownJournal]:
        """Return at most ``limit`` journals, those opened last first; closed ones only when ``closed``."""
        known = sorted(self._journals.values(), key=lambda it: (it.opened_at_ms, it.id), reverse=True)
        asked = [it for it in known if closed or it.state is not JournalState.CLOSED]
        return [replace(it, now_ms=self._clock.now_ms()) for it in asked[:limit]]

    async def series(
        self,
        scope: TenantScope,
        wanted: UsageFilter,
        *,
        interval: Interval,
        by: Dimension | None,
        limit: int,
        days: Sequence[int] = (),
    ) -> list[Point]:
        """Return sums of the intervals that begin inside the filter's span, whole; at most ``limit`` points."""
        groups_of = _GROUPS_OF[by] if by else lambda _call: ("",)
        step_ms = INTERVAL_MS[Interval.HOUR if days and (by is Dimension.TAG or wanted.tag) else interval]
        points = _points(
            ((_begins(call, step_ms, days), group), call)
            for call in self._seen(scope, wanted, step_ms)
            for group in _asked(groups_of(call), by, wanted)
        )
        return sorted(points, key=lambda point: (point.begins_at_ms, _order(by, point.group)))[:limit]

    async def latencies(
        self,
        scope: TenantScope,
        wanted: UsageFilter,
        *,
        interval: Interval,
        by: Dimension | None,
        limit: int,
        days: Sequence[int] = (),
    ) -> list[LatencyPoint]:
        """Return sketches of the whole hours that begin inside the filter's span; of labels there are none."""
        if by is Dimension.TAG or wanted.tag:
            return []
        hours = self._seen(scope, wanted, INTERVAL_MS[Interval.HOUR])
        calls = [(call, _GROUPS_OF[by](call)[0] if by else "") for call in hours]
        return latency_points(calls, interval=interval, limit=limit, order=partial(_order, by), days=days)

    async def key_totals(self, scope: TenantScope, wanted: UsageFilter) -> KeyTotals:
        """Return what one key did in the minutes that begin inside the filter's span; its last use is a valid call."""
        calls = self._seen(scope, wanted, INTERVAL_MS[Interval.MINUTE])
        last = max((call for call in calls if call.code == VALID_NUMBER), key=call_position, default=None)
        return KeyTotals(
            calls=len(calls),
            cost=sum(call.cost for call in calls),
            by_code=dict(Counter(call.code for call in calls)),
            last_used_at_ms=last.at_ms if last else None,
            last_used_ip=last.client_ip if last else "",
            last_operation=last.operation if last else "",
            outcomes=sum(call.http_status is not None for call in calls),
            errors=sum((call.http_status or 0) >= ERROR_STATUS for call in calls),
        )

    async def top(self, scope: TenantScope, wanted: UsageFilter, *, by: Dimension, limit: int) -> list[Point]:
        """Return the groups with the most calls in the minutes that begin inside the filter's span, ties by group."""
        by_tag = by is Dimension.TAG or bool(wanted.tag)
        step_ms = INTERVAL_MS[Interval.HOUR if by_tag else Interval.MINUTE]
        span = replace(wanted, from_ms=wanted.from_ms // step_ms * step_ms) if by_tag else wanted
        points = _points(
            ((wanted.from_ms, group), call)
            for call in self._seen(scope, span, step_ms)
            for group in _asked(_GROUPS_OF[by](call), by, wanted)
            if group or by not in RANKED_BY_NAME
        )
        return sorted(points, key=lambda point: (-point.calls, _order(by, point.group)))[:limit]

    async def calls(self, scope: TenantScope, wanted: UsageFilter, request: PageRequest) -> Page[Call]:
        """Return raw calls of the span to the millisecond, the newest first unless ``request`` says otherwise."""
        seen = [call for call in self._seen(scope, wanted, 1) if call.verification_id]
        calls = sorted(seen, key=call_position, reverse=not request.ascending)
        if request.position and request.ascending:
            calls = [call for call in calls if call_position(call) > request.position]
        elif request.position:
            calls = [call for call in calls if call_position(call) < request.position]
        return cut(calls[: request.size + 1], request.size, call_position)

    async def secret_uses(self, scope: TenantScope, key_id: str, *, since_ms: int) -> list[SecretUse]:
        """Return what was done with each secret of a key in the day from then on, to the minute, by secret."""
        minute_ms = INTERVAL_MS[Interval.MINUTE]
        begin_ms = since_ms - since_ms % minute_ms
        day = UsageFilter(begin_ms, begin_ms + INTERVAL_MS[Interval.DAY] + minute_ms, key_id=key_id)
        return usage_uses.secret_uses(self._seen(scope, day, minute_ms))

    async def used_expressions(
        self, scope: TenantScope, key_ids: Sequence[str], *, since_ms: int
    ) -> Mapping[str, frozenset[str]]:
        """Return which scope expressions the valid calls of keys asked for since the hour of ``since_ms``."""
        workspace_id = Walls.around(scope).demand_workspace()
        calls = [call for call in self._calls if call.subject.workspace_id == workspace_id]
        return usage_uses.used_expressions(
            (call for call in calls if call.subject.key_id in key_ids), since_ms=since_ms
        )

    def end(self, workspace_id: str, environment: str, outcome: Outcome) -> bool | None:
        """Note how a call of an environment, or any when that is empty, ended; say whether it was not known before.

        None stands for no such call.
        """
        for place, call in enumerate(self._calls):
            subject = call.subject
            named = (subject.workspace_id, call.verification_id) == (workspace_id, outcome.verification_id)
            if not named or environment not in {"", subject.environment}:
                continue
            if call.http_status is not None:
                return False
            self._calls[place] = replace(call, http_status=outcome.http_status, latency_us=outcome.latency_us)
            return True
        return None

    def _seen(self, scope: TenantScope, wanted: UsageFilter, step_ms: int) -> list[Call]:
        """Return the calls inside the walls that are meant, by the beginning of their intervals of ``step_ms``."""
        walls = Walls.around(scope)
        return [
            call
            for call in (*self._calls, *self._attempts)
            if walls.admit(call.subject.workspace_id)
            and (walls.environments is None or call.subject.environment in walls.environments)
            and wanted.from_ms <= call.at_ms - call.at_ms % step_ms < wanted.to_ms
            and _meant(call, wanted)
        ]


def _begins(call: Call, step_ms: int, days: Sequence[int]) -> int:
    """Return when the interval of ``step_ms`` begins that a call is in, or the day in which that begins."""
    begins_at_ms = call.at_ms - call.at_ms % step_ms
    return days[bisect_right(days, begins_at_ms) - 1] if days else begins_at_ms


def _asked(groups: tuple[str, ...], by: Dimension | None, wanted: UsageFilter) -> tuple[str, ...]:
    """Return the groups of a call that are asked for: of its labels the one that is filtered by, if any."""
    return (wanted.tag,) if wanted.tag and by is Dimension.TAG else groups


def _order(by: Dimension | None, group: str) -> tuple[int, str]:
    """Return where a group stands: codes by their numbers, everything else byte by byte."""
    return (int(group), "") if by is Dimension.CODE else (0, group)


def _meant(call: Call, wanted: UsageFilter) -> bool:
    return (
        wanted.key_id in {"", call.subject.key_id}
        and wanted.secret_id in {"", call.subject.secret_id}
        and wanted.owner_id in {"", call.subject.owner_id}
        and (wanted.operation is None or countable(wanted.operation) == call.operation)
        and wanted.code in {None, call.code}
        and (not wanted.tag or wanted.tag in call.tags)
    )


def _points(placed: Iterable[tuple[tuple[int, str], Call]]) -> list[Point]:
    sums: dict[tuple[int, str], list[int]] = {}
    for place, call in placed:
        outcome = call.http_status is not None
        error = call.http_status is not None and call.http_status >= ERROR_STATUS
        added = (1, call.cost, outcome, error)
        sums[place] = [before + more for before, more in zip(sums.get(place, [0] * len(added)), added, strict=True)]
    return [Point(*place, *those) for place, those in sums.items()]
