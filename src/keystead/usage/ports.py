"""Where verdicts are written down, and where they are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from keystead.kernel.paging import Page, PageRequest
from keystead.kernel.walls import TenantScope
from keystead.usage.journals import KnownJournal
from keystead.usage.model import (
    AttemptPage,
    Call,
    Dimension,
    Interval,
    Joined,
    KeyTotals,
    LatencyPoint,
    Outcome,
    Point,
    SecretUse,
    Stretch,
    UsageFilter,
)


class Counted(Protocol):
    """Whose verdict is written down. ``journal_mark`` is the journal's own note and begins as 0."""

    journal_mark: int

    @property
    def workspace_id(self) -> str:
        """The platform."""
        ...

    @property
    def environment(self) -> str:
        """The key's environment."""
        ...

    @property
    def key_id(self) -> str:
        """The key."""
        ...

    @property
    def secret_id(self) -> str:
        """The secret that was presented."""
        ...

    @property
    def owner_id(self) -> str:
        """The key's owner, or an empty text."""
        ...


class Journal(Protocol):
    """Verdicts of this process, in memory that outlives it."""

    def append(
        self,
        counted: Counted,
        *,
        code: int,
        at_ms: int,
        ordinal: int,
        cost: int,
        operation: str,
        client_ip: str,
        scope_expression: str,
        tags: str,
    ) -> None:
        """Write one verdict down before its answer leaves; raise ``JournalFullError`` when it cannot be and must be.

        ``tags`` are parted by line ends.
        """
        ...


class Stretches(Protocol):
    """What was written down and not counted yet: by this process and by those before it in the same place."""

    def next(self, journal_id: str, *, at_most: int) -> Stretch | None:
        """Return the next stretch of a journal, the same until it is released; None when there is nothing."""
        ...

    def release(self, stretch: Stretch) -> None:
        """Note that a stretch is counted for good; its room may be used again."""
        ...

    def idle(self, journal_id: str) -> Stretch | None:
        """Return an empty stretch that says up to when a journal held nothing more; None when it holds something."""
        ...

    def resume(self, journal_id: str, *, place: int) -> None:
        """Go on at the place up to which the store has counted; what was handed out is forgotten."""
        ...

    def finished(self, journal_id: str) -> bool:
        """Say whether a journal is counted to its end and gets no more verdicts; then close it in the store."""
        ...

    def remove(self, journal_id: str) -> None:
        """Delete a finished journal, after the store has closed it."""
        ...

    def journals(self) -> list[str]:
        """Return the ids of all journals here, this process's own first."""
        ...


class Journals(Protocol):
    """The journals that a store knows."""

    async def journals(self, *, closed: bool, limit: int) -> list[KnownJournal]:
        """Return at most ``limit`` journals, those opened last first; closed ones only when ``closed``."""
        ...


class JournalRegister(Protocol):
    """The journals' own rows, in a unit of work."""

    async def find(self, journal_id: str) -> KnownJournal | None:
        """Return a journal, which nobody else changes until the unit ends; None when it is not known."""
        ...

    async def lose(self, journal: KnownJournal) -> None:
        """Wait for a journal no more, until it is here again and counted; make it known when it is not."""
        ...


class UsageStore(Journals, Protocol):
    """Where verdicts are counted. Everything is kept apart by workspace; readers see one, and its environments."""

    async def register(self, journal_id: str, *, at_ms: int, node: str = "") -> None:
        """Make a journal of a ``node`` known, before its first verdict, so that ``complete_until`` waits for it.

        One that was declared lost is not waited for until it is counted up to the present, or to its end.
        """
        ...

    async def count(self, stretch: Stretch) -> bool:
        """Count a stretch exactly once, whole or not at all; return whether it was counted by this call.

        A stretch that does not begin where the journal's counted part ends was counted before (or is a copy's): nothing
        changes. Rollups by minute, hour and day, raw calls and the journal's place are one transaction. A journal that
        was declared lost is open again when a stretch is its last for the present.
        """
        ...

    async def counted_to(self, journal_id: str) -> int:
        """Return the place up to which a journal is counted; 0 for one of which nothing is."""
        ...

    async def close(self, journal_id: str) -> None:
        """Note that a journal is counted to its end and gets no more verdicts."""
        ...

    async def complete_until(self) -> int | None:
        """Return up to when everything is counted: the least of the open journals; None when none is known."""
        ...

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
        """Return sums per interval (and group), by time and then group; at most ``limit`` points.

        With ``days``, the beginnings of days of some time zone in order, the intervals are summed up into those; the
        last one ends where the filter's span does. Tags are summed by hours and days alone.
        """
        ...

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
        """Return sketches of how long answers took, per hour or day (and group but for tags), as ``series`` does.

        ``limit`` bounds the buckets of all points together. Whole hours are meant, by their beginning.
        """
        ...

    async def key_totals(self, scope: TenantScope, wanted: UsageFilter) -> KeyTotals:
        """Return what one key (``wanted.key_id``) did."""
        ...

    async def top(self, scope: TenantScope, wanted: UsageFilter, *, by: Dimension, limit: int) -> list[Point]:
        """Return the ``limit`` groups with the most calls; ``begins_at_ms`` is the filter's own beginning.

        Calls that are of no key, secret or owner are no group where those are ranked.
        """
        ...

    async def calls(self, scope: TenantScope, wanted: UsageFilter, request: PageRequest) -> Page[Call]:
        """Return raw calls, the newest first; the position is ``(at_ms, verification_id)``, padded to 15 digits."""
        ...

    async def secret_uses(self, scope: TenantScope, key_id: str, *, since_ms: int) -> list[SecretUse]:
        """Return what was done with each secret of a key in the day from then on, to the minute, by secret.

        At most 20 addresses each, the most frequent first; they may be those of its latest calls alone.
        """
        ...

    async def used_expressions(
        self, scope: TenantScope, key_ids: Sequence[str], *, since_ms: int
    ) -> Mapping[str, frozenset[str]]:
        """Return which scope expressions the ``VALID`` calls of keys asked for since then; keys without are left out.

        An empty expression is among them: its call asked for none.
        """
        ...


class WaitingOutcomes(Protocol):
    """Outcomes that were reported and wait for their calls."""

    async def join(self, *, at_most: int, now_ms: int) -> Joined:
        """Join so many waiting outcomes to calls inside their reporters' walls and add them to sums, in one step.

        Return what became of those that are not waiting any more. One whose call has an outcome already changes
        nothing; one whose call did not come within an hour is dropped.
        """
        ...


class OutcomeStore(WaitingOutcomes, Protocol):
    """How calls ended, joined to the calls by their verification ids, whichever comes first."""

    async def keep(self, scope: TenantScope, outcomes: Sequence[Outcome], *, at_ms: int) -> None:
        """Keep what was reported until it is joined, durably; of several reports about one call the first counts."""
        ...


class AttemptCounters(Protocol):
    """Counts verdicts about no key, in memory that outlives the process."""

    def count(
        self,
        *,
        workspace_id: str,
        environment: str,
        brand: str,
        secret_environment: str,
        code: int,
        client_ip: str,
        at_ms: int,
    ) -> None:
        """Count one before its answer leaves; raise ``JournalFullError`` when it cannot be and must be."""
        ...


class AttemptPages(Protocol):
    """What was counted and is not in the store yet: by this process and by those before it in the same place."""

    def journals(self) -> list[str]:
        """Return the ids of all journals that may have pages, this process's own first."""
        ...

    def next(self, journal_id: str) -> AttemptPage | None:
        """Return the next page of a journal, the same until it is released; None when there is nothing."""
        ...

    def release(self, page: AttemptPage) -> None:
        """Note that a page is counted for good; its room may be used again."""
        ...


class AttemptStore(Protocol):
    """Where attempts are summed: by group and minute, and as calls of no key in the sums of usage."""

    async def count_attempts(self, page: AttemptPage) -> bool:
        """Count a page exactly once, whole or not at all; return whether it was counted by this call.

        A page whose number is not greater than that of the last one counted of its journal was counted before. Numbers
        may be left out: a page of which nothing can be read is never sent.
        """
        ...

    async def attempts_counted_to(self, journal_id: str) -> int:
        """Return the number of the last page of a journal that is counted; 0 for one of which none is."""
        ...
