"""The processes that serve, and when one of them can admit nothing any more.

A process is gone when the database has not heard of it for longer than it may vouch for what it knows. Everything here
is measured by the database's clock, so that no two machines need to agree on the time.
"""

from __future__ import annotations

from dataclasses import dataclass

GONE_AFTER_MS = 1_000
"""How much longer than its ``staleness_bound_ms`` a process must have been silent to be gone."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What a process says of itself: an id that no other start of it has, its machine, and what it may answer from.

    ``staleness_bound_ms`` is how long it vouches for keys without reading the log, ``serves_stale`` whether it goes on
    to answer after that.
    """

    id: str
    host: str
    version: str
    staleness_bound_ms: int
    serves_stale: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A process as the database saw it last; both moments, and how long it has been silent, by the database's clock.

    ``applied_seq`` is the place in the log up to which it has applied every event.
    """

    identity: NodeIdentity
    started_at_ms: int
    seen_at_ms: int
    silent_ms: int
    applied_seq: int

    @property
    def gone(self) -> bool:
        """Whether what it last knew has lapsed, whatever became of it."""
        return self.silent_ms > self.identity.staleness_bound_ms + GONE_AFTER_MS

    @property
    def may_admit(self) -> bool:
        """Whether it may still answer from what it last knew: also one that is gone, when it serves stale answers."""
        return self.identity.serves_stale or not self.gone


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What the log holds at one moment: the last ``seq``, and the ids of at most so many events without a place.

    ``whole`` says that there are no others.
    """

    seq: int
    unplaced: frozenset[str]
    whole: bool
