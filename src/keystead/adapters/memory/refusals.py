"""Refusals in memory: sums by group and minute, and events in the log of the memory twin."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.events.model import RandomBytes, make_event
from keystead.events.refusals import (
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
from keystead.kernel.change import Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource


class MemoryRefusals:
    """The ``RefusalStore`` of one memory store. ``groups`` is what waits, ``failures`` what is held against whom."""

    def __init__(
        self,
        store: MemoryStore,
        *,
        clock: Clock,
        ids: IdSource,
        threshold: int,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        """Tell when an address or a key fails more than ``threshold`` times in ten minutes; 0 is never."""
        self.alerts = 0
        self.groups: dict[tuple[Refusing, int], Refused] = {}
        self.failures: dict[Subject, int] = {}
        self._store = store
        self._clock = clock
        self._ids = ids
        self._threshold = threshold
        self._random_bytes = random_bytes
        self._staged_to: dict[str, int] = {}

    async def stage(self, page: RefusalPage) -> bool:
        """Add a page's groups exactly once; return whether it was added by this call."""
        if self._staged_to.get(page.journal_id, 0) >= page.number:
            return False
        self._staged_to[page.journal_id] = page.number
        tally = Tally(now_ms=self._clock.now_ms())
        tally.add(page.groups)
        for place, it in tally.groups.items():
            before = self.groups.get(place)
            self.groups[place] = it if before is None else before.joined(it)
        alerts = []
        for subject, added in sorted(tally.failures.items(), key=lambda item: item[0]):
            before_count = self.failures.get(subject, 0)
            self.failures[subject] = before_count + added.count
            if passed(before_count, added.count, self._threshold):
                now = Failures(before_count + added.count, added.last_at_ms)
                alerts.append((*alert(subject, now, self._threshold), added.last_at_ms))
        await self._keep(alerts)
        self.alerts += len(alerts)
        return True

    async def tell(self, *, before_ms: int, limit: int) -> int:
        """Turn at most ``limit`` groups of minutes that began before ``before_ms`` into events; return how many."""
        over = sorted((it for it in self.groups.values() if it.minute_ms < before_ms), key=lambda it: it.minute_ms)
        found = over[:limit]
        for it in found:
            del self.groups[it.refusing, it.minute_ms]
        await self._keep([(*told(it), it.last_at_ms) for it in found])
        return len(found)

    async def forget(self, *, before_ms: int) -> None:
        """Drop the sums of stretches that began before ``before_ms``."""
        self.failures = {it: count for it, count in self.failures.items() if it.stretch_ms >= before_ms}

    async def _keep(self, facts: Sequence[tuple[Change, Origin, int]]) -> None:
        staging = Staging(self._store, read_only=False)
        state = await staging.begin()
        owners = {key.id: key.owner_id for key in state.keys.values()}
        for change, origin, at_ms in facts:
            event_id = self._ids.new("evt")
            whose = owned(change, owners)
            state.unplaced.append(
                make_event(whose, origin, event_id=event_id, occurred_at_ms=at_ms, random_bytes=self._random_bytes)
            )
        staging.commit()
