"""The journals that usage waits for, and when one may be given up.

Usage is complete up to the least of the open journals. One whose disk is gone would hold that back for ever, so people
may declare it lost; but never one that somebody still counts, for its calls would be told as missing while they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from keystead.kernel.change import Action, Change
from keystead.usage.errors import JournalAliveError, JournalClosedError

ALIVE_MS = 300_000
"""A journal that was reported within so long is alive. Whoever counts it reports every second."""


class JournalState(StrEnum):
    """What is known of a journal: waited for, counted to its end, or given up."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class KnownJournal:
    """How far a journal is counted. ``node`` is the host that opened it, or empty when that is not known.

    Its calls are counted up to ``complete_until_ms``, ``counted_to`` as a place in it. ``seen_at_ms`` is when its
    counting was last reported, and ``now_ms`` when this was read, both by the store's clock.
    """

    id: str
    node: str
    opened_at_ms: int
    seen_at_ms: int
    complete_until_ms: int
    counted_to: int
    state: JournalState
    now_ms: int

    @property
    def silent_ms(self) -> int:
        """For how long nobody has reported it. A node of an earlier version is heard of by what it counts alone."""
        return max(0, self.now_ms - max(self.seen_at_ms, self.complete_until_ms))

    @property
    def behind_ms(self) -> int:
        """How far its counting is behind; 0 when nobody waits for it."""
        return max(0, self.now_ms - self.complete_until_ms) if self.state is JournalState.OPEN else 0


@dataclass(frozen=True, slots=True)
class JournalSummary:
    """What an operator watches: how many are open or lost, and for how long the quietest open one has been silent."""

    open: int = 0
    lost: int = 0
    silent_ms: int = 0


def summary_of(journals: Iterable[KnownJournal]) -> JournalSummary:
    """Sum up ``journals``."""
    known = list(journals)
    waited_for = [it for it in known if it.state is JournalState.OPEN]
    lost = sum(it.state is JournalState.LOST for it in known)
    return JournalSummary(len(waited_for), lost, max((it.silent_ms for it in waited_for), default=0))


def demand_dead(journal: KnownJournal) -> None:
    """Raise ``JournalAliveError`` or ``JournalClosedError`` unless a journal may be declared lost."""
    if journal.state is JournalState.CLOSED:
        raise JournalClosedError(journal.id)
    if journal.silent_ms < ALIVE_MS:
        raise JournalAliveError(journal.id, silent_ms=journal.silent_ms, alive_ms=ALIVE_MS)


def journal_lost(journal: KnownJournal, workspace_id: str, *, reason: str) -> Change:
    """Tell a workspace that its numbers may be short of calls that ``journal`` held and nobody counted."""
    return Change(
        workspace_id,
        Action.JOURNAL_DECLARED_LOST,
        journal.id,
        touches=(),
        changes={
            "state": (str(JournalState.OPEN), str(JournalState.LOST)),
            "counted_to": (None, journal.counted_to),
            "short_from_ms": (None, journal.complete_until_ms),
        },
        reason=reason,
    )
