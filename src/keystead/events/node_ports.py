"""Where the processes that serve are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from keystead.events.nodes import LogEnd, Node, NodeIdentity


class Nodes(Protocol):
    """The processes that serve from one database."""

    async def beat(self, identity: NodeIdentity, applied_seq: int) -> None:
        """Note that a process lives, and that it has applied every event up to ``applied_seq``; returns once it lasts.

        Raises ``UnavailableError`` when nobody knows whether it was noted.
        """
        ...

    async def leave(self, node_id: str) -> None:
        """Forget a process that answers nothing any more."""
        ...

    async def sweep(self) -> int:
        """Forget who has been silent for an hour, or for a day if it serves stale answers; return how many."""
        ...

    async def all(self) -> Sequence[Node]:
        """Return every process that is not forgotten, the oldest first, also those that are gone."""
        ...

    async def log_end(self) -> LogEnd:
        """Return what the log holds, in one consistent read."""
        ...
