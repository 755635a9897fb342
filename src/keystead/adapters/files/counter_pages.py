"""Pages of counters that are not in the store yet: of this process, and of those before it in the same directory.

A dead process changes nothing any more, so whatever its two pages hold is fixed, also the one it was counting in. Who
reads journals says when one is taken over, and lets none go whose pages still wait here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic

from keystead.adapters.files.counters import MappedCounters
from keystead.adapters.files.journal_directory import read_file
from keystead.adapters.files.slots import ItemT, PageT, SlotReading
from keystead.kernel.clock import Clock


class MappedPages(Generic[ItemT, PageT]):
    """The pages of this process's counters, and of all that dead processes left. ``damaged`` slots were left out."""

    def __init__(self, own: MappedCounters[ItemT, PageT], clock: Clock) -> None:
        """Begin with ``own`` alone."""
        self.damaged = 0
        self._own = own
        self._clock = clock
        self._left: dict[str, list[tuple[PageT, int]]] = {}

    def take_over(self, journal_id: str, folder: Path) -> None:
        """Read what a dead process left in its journal's ``folder``, which this process has locked."""
        layout = self._own.layout
        reading = SlotReading(layout, journal_id)
        reading.read(memoryview(read_file(folder / layout.name) or b""))
        self.damaged += reading.damaged
        self._left[journal_id] = [
            (reading.page(number), min(item.first_at_ms for item in items))
            for number, items in sorted(reading.items.items())
        ]

    def seen_until_ms(self) -> int:
        """Return up to when everything is in the store: now, or the moment of the first that is not."""
        waiting = [self._own.since_ms, *(since_ms for pages in self._left.values() for _, since_ms in pages)]
        return min(it for it in (self._clock.now_ms(), *waiting) if it is not None)

    def journals(self) -> list[str]:
        """Return the ids of all journals that may have pages, this process's own first."""
        return [self._own.journal_id, *self._left]

    def next(self, journal_id: str) -> PageT | None:
        """Return the next page of a journal, the same until it is released; None when there is nothing."""
        if journal_id == self._own.journal_id:
            return self._own.next()
        return next((page for page, _ in self._left.get(journal_id, ())), None)

    def release(self, page: PageT) -> None:
        """Note that a page is in the store for good."""
        if page.journal_id == self._own.journal_id:
            self._own.release(page)
            return
        left = self._left.get(page.journal_id)
        if left and left[0][0] is page:
            del left[0]

    def finished(self, journal_id: str) -> bool:
        """Say whether all pages of a journal are in the store and no more come."""
        if journal_id == self._own.journal_id:
            return self._own.closed and self._own.since_ms is None
        return not self._left.get(journal_id)

    def forget(self, journal_id: str) -> None:
        """Let go of a journal that is deleted, or left to others."""
        if journal_id == self._own.journal_id:
            self._own.let_go()
        self._left.pop(journal_id, None)
