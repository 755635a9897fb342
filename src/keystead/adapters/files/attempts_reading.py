"""Pages of attempts that are not counted yet: of this process, and of those before it in the same directory.

A dead process changes nothing any more, so whatever its two pages hold is fixed, also the one it was counting in. Who
reads journals says when one is taken over, and lets none go whose attempts still wait here.
"""

from __future__ import annotations

from pathlib import Path

from keystead.adapters.files.attempt_slots import SlotReading
from keystead.adapters.files.attempts import MappedAttempts
from keystead.adapters.files.journal_directory import attempts_file, read_file
from keystead.kernel.clock import Clock
from keystead.usage.model import AttemptPage


class MappedAttemptPages:
    """The pages of this process's attempts, and of all that dead processes left. ``damaged`` slots were left out."""

    def __init__(self, own: MappedAttempts, clock: Clock) -> None:
        """Begin with ``own`` alone."""
        self.damaged = 0
        self._own = own
        self._clock = clock
        self._left: dict[str, list[AttemptPage]] = {}

    def take_over(self, journal_id: str, folder: Path) -> None:
        """Read what a dead process left in its journal's ``folder``, which this process has locked."""
        reading = SlotReading(journal_id)
        reading.read(memoryview(read_file(attempts_file(folder)) or b""))
        self.damaged += reading.damaged
        self._left[journal_id] = [
            AttemptPage(journal_id, number, tuple(attempts)) for number, attempts in sorted(reading.pages.items())
        ]

    def seen_until_ms(self) -> int:
        """Return up to when every attempt is counted: now, or the moment of the first one that is not."""
        waiting = [self._own.since_ms, *(_since_ms(pages) for pages in self._left.values())]
        return min(it for it in (self._clock.now_ms(), *waiting) if it is not None)

    def journals(self) -> list[str]:
        """Return the ids of all journals that may have pages, this process's own first."""
        return [self._own.journal_id, *self._left]

    def next(self, journal_id: str) -> AttemptPage | None:
        """Return the next page of a journal, the same until it is released; None when there is nothing."""
        if journal_id == self._own.journal_id:
            return self._own.next()
        return next(iter(self._left.get(journal_id, ())), None)

    def release(self, page: AttemptPage) -> None:
        """Note that a page is counted for good."""
        if page.journal_id == self._own.journal_id:
            self._own.release(page)
            return
        left = self._left.get(page.journal_id)
        if left and left[0] is page:
            del left[0]

    def finished(self, journal_id: str) -> bool:
        """Say whether all attempts of a journal are counted and no more come."""
        if journal_id == self._own.journal_id:
            return self._own.closed and self._own.since_ms is None
        return not self._left.get(journal_id)

    def forget(self, journal_id: str) -> None:
        """Let go of a journal that is deleted, or left to others."""
        if journal_id == self._own.journal_id:
            self._own.let_go()
        self._left.pop(journal_id, None)


def _since_ms(pages: list[AttemptPage]) -> int | None:
    return min((attempt.first_at_ms for page in pages for attempt in page.attempts), default=None)
