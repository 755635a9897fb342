"""How refusals are counted, and where they wait until they are told."""

from __future__ import annotations

from typing import Protocol

from keystead.events.refusals import RefusalPage, Refusing


class RefusalCounters(Protocol):
    """Counts what is refused, in memory that outlives the process."""

    def room_for(self, refusing: Refusing, at_ms: int) -> int:
        """Return where to ``add`` one before anything is awaited; -1 when it is dropped, and nothing is counted yet.

        Raises ``JournalFullError`` when there is no room, and it must not be lost.
        """
        ...

    def add(self, place: int, at_ms: int) -> None:
        """Count one at a place, before its answer leaves; -1 is none."""
        ...


class RefusalPages(Protocol):
    """What was counted and is not staged yet: by this process and by those before it in the same place."""

    def journals(self) -> list[str]:
        """Return the ids of all journals that may have pages, this process's own first."""
        ...

    def next(self, journal_id: str) -> RefusalPage | None:
        """Return the next page of a journal, the same until it is released; None when there is nothing."""
        ...

    def release(self, page: RefusalPage) -> None:
        """Note that a page is staged for good; its room may be used again."""
        ...


class RefusalStore(Protocol):
    """Where refusals are summed by group and minute, until each sum is told as one event."""

    @property
    def alerts(self) -> int:
        """How many events about a passed threshold this process has made."""
        ...

    async def stage(self, page: RefusalPage) -> bool:
        """Add a page's groups exactly once, whole or not at all; return whether it was added by this call.

        A page whose number is not greater than that of the last one staged of its journal was staged before. Who passed
        the threshold with it is told in the same transaction. Raises ``UnavailableError`` when nobody knows whether it
        was done; asking again is safe.
        """
        ...

    async def tell(self, *, before_ms: int, limit: int) -> int:
        """Turn at most ``limit`` groups of minutes that began before ``before_ms`` into events; return how many.

        A group is gone and its event there in one transaction. Several may tell at once, and each group is told by one.
        """
        ...

    async def forget(self, *, before_ms: int) -> None:
        """Drop the sums of stretches that began before ``before_ms``, for which no alert is raised any more."""
        ...
