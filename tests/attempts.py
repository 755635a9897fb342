"""Attempts to count, and stores to count them in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from keystead.adapters.files.attempts import MappedAttempts
from keystead.adapters.files.counter_pages import MappedPages
from keystead.adapters.files.counters import SLOTS_PER_PAGE
from keystead.adapters.files.journal import WhenFull
from keystead.adapters.files.slots import MINUTE_MS
from keystead.usage.model import Attempt, AttemptPage
from tests.fakes import ManualClock

JOURNAL_ID = "jrn_00000000000000000000000001"
# The beginning of a minute.
T0 = 1_700_000_040_000


class AttemptWorld:
    """Counters in a directory, with their clock."""

    def __init__(
        self, path: Path, *, slots_per_page: int = SLOTS_PER_PAGE, when_full: WhenFull = "refuse", now_ms: int = T0
    ) -> None:
        """Begin counters in ``path``."""
        self.path = path
        self.clock = ManualClock(now_ms)
        self.counters = MappedAttempts(path, journal_id=JOURNAL_ID, slots_per_page=slots_per_page, when_full=when_full)
        self.pages = MappedPages(self.counters, self.clock)

    def count(
        self,
        client_ip: str = "192.0.2.1",
        *,
        code: int = 3,
        brand: str = "acme",
        workspace_id: str = "wsp_1",
        environment: str = "live",
        secret_environment: str = "live",  # noqa: S107 -- the name of an environment
    ) -> None:
        """Count one."""
        self.counters.count(
            workspace_id=workspace_id,
            environment=environment,
            brand=brand,
            secret_environment=secret_environment,
            code=code,
            client_ip=client_ip,
            at_ms=self.clock.now_ms(),
        )

    def next(self) -> AttemptPage:
        """Return the page that must be there."""
        page = self.pages.next(JOURNAL_ID)
        assert page is not None
        return page

    def drained(self) -> list[AttemptPage]:
        """Take every page."""
        pages = []
        while (page := self.pages.next(JOURNAL_ID)) is not None:
            pages.append(page)
            self.pages.release(page)
        return pages


class NoCounters:
    """Pages of dead processes alone, as the next process finds them in ``path``."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Begin own counters in ``path``, and read what lies in ``folder``."""
        path.mkdir(exist_ok=True)
        self.own = MappedAttempts(path, journal_id="jrn_00000000000000000000000002", slots_per_page=4)
        self.pages = MappedPages(self.own, ManualClock(T0 + MINUTE_MS))
        self.folder = folder

    def found(self) -> list[AttemptPage]:
        """Return what a dead process left, page by page."""
        self.pages.take_over(JOURNAL_ID, self.folder)
        found = []
        while (page := self.pages.next(JOURNAL_ID)) is not None:
            found.append(page)
            self.pages.release(page)
        assert self.pages.finished(JOURNAL_ID)
        self.pages.forget(JOURNAL_ID)
        return found


def attempts_of(pages: Iterable[AttemptPage]) -> list[Attempt]:
    """Return the attempts of pages, in order."""
    return [attempt for page in pages for attempt in page.attempts]


def by_address(pages: Iterable[AttemptPage]) -> Counter[str]:
    """Return how many attempts came from each address."""
    counts: Counter[str] = Counter()
    for attempt in attempts_of(pages):
        counts[attempt.client_ip] += attempt.count
    return counts
