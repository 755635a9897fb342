"""Usage as it is counted: every call that is meant once, in the order of time.

Nothing is told before it is complete. Each reading asks first up to when everything is counted and reads the calls from
the end of the last reading up to there, so a call that a slower process counts late is late for the whole tail.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace

from keystead.kernel.paging import PAGE_SIZE_MAX, PageRequest
from keystead.kernel.walls import TenantScope
from keystead.usage.model import Call, UsageFilter
from keystead.usage.ports import UsageStore

PART_CALLS_MAX = 200
"""So many are written at once, in JSON about 10 ms of a process that also verifies."""


@dataclass(frozen=True, slots=True)
class Told:
    """Calls by (``at_ms``, id); with those told before, all before ``complete_until_ms``, which never goes back.

    It is None while no process has said up to when its calls are counted.
    """

    calls: Sequence[Call]
    complete_until_ms: int | None


class Tail:
    """One reader's place."""

    def __init__(
        self,
        store: UsageStore,
        scope: TenantScope,
        wanted: UsageFilter,
        *,
        page_size: int = PAGE_SIZE_MAX,
        part_size: int = PART_CALLS_MAX,
    ) -> None:
        """Begin at ``wanted.from_ms``; its end does not count. Pages are asked for, parts are told."""
        self._store = store
        self._scope = scope
        self._wanted = wanted
        self._page_size = page_size
        self._part_size = part_size
        self._known_ms: int | None = None

    async def read(self) -> AsyncGenerator[Told, None]:
        """Yield what was counted since the last reading, in at least one part; the next one begins where it ended."""
        complete_until_ms = await self._store.complete_until()
        if complete_until_ms is not None:
            self._known_ms = max(complete_until_ms, self._known_ms or 0)
        if self._known_ms is None or self._known_ms <= self._wanted.from_ms:
            yield Told((), self._known_ms)
            return
        wanted = replace(self._wanted, to_ms=self._known_ms)
        self._wanted = replace(self._wanted, from_ms=self._known_ms)
        request = PageRequest(self._page_size, ascending=True)
        while (page := await self._store.calls(self._scope, wanted, request)).next_position is not None:
            for told in self._parts(page.items, page.items[-1].at_ms):
                yield told
            request = replace(request, position=page.next_position)
        for told in self._parts(page.items, wanted.to_ms):
            yield told

    def _parts(self, calls: Sequence[Call], complete_until_ms: int) -> Iterator[Told]:
        """Cut calls up; after a part that is not the last, all before its last call is complete."""
        for begin in range(0, len(calls) - self._part_size, self._part_size):
            part = calls[begin : begin + self._part_size]
            yield Told(part, part[-1].at_ms)
        left = len(calls) % self._part_size or min(len(calls), self._part_size)
        yield Told(calls[len(calls) - left :], complete_until_ms)
