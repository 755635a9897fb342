"""Waiting until a change holds in every process (P3, ``wait=true``).

The one idea: whatever was committed before the wait began is in the log, so it is enough to wait until every process
that may still admit something has applied the log up to where it stood then. It does not matter which of its events
are ours, so a reply that is repeated for a retry waits in the same way. Nor does it matter who waits: the database is
asked once for all of them, however many they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from keystead.events.errors import NotPropagatedError
from keystead.events.node_ports import Nodes
from keystead.events.nodes import LogEnd, Node
from keystead.kernel.errors import UnavailableError

BEYOND_THE_BOUND_MS = 5_000
"""By then every process that is not heard of is gone, and the others have had time to say what they know."""
_LOOK_EVERY_S = 0.015
_ANSWER_MS_MAX = 200
_ANSWER_SHARE = 5

Pause = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Look:
    """What the database said of the log and of the processes, both asked after somebody began to wait."""

    end: LogEnd
    nodes: Sequence[Node]


class Looks:
    """Looks at the database for all who wait: one at a time, with a pause between two, and none while nobody waits."""

    def __init__(self, nodes: Nodes, pause: Pause) -> None:
        """Look at ``nodes``; ``pause`` waits for seconds."""
        self._nodes = nodes
        self._pause = pause
        self._next: asyncio.Future[Look | None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def next(self) -> Look | None:
        """Return a look that begins after this call; None when the database did not answer."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="wait for all processes")
        return await asyncio.shield(self._next)

    async def _look_on(self) -> None:
        try:
            while (promised := self._next) is not None:
                self._next = None
                promised.set_result(await self._look())
                await self._pause(_LOOK_EVERY_S)
        finally:
            self._looking = None

    async def _look(self) -> Look | None:
        """Ask; that the database does not answer says nothing of a change that is made already."""
        try:
            return Look(await self._nodes.log_end(), await self._nodes.all())
        except UnavailableError:
            return None


class Propagation:
    """Waits for all processes of a deployment."""

    def __init__(
        self, nodes: Nodes, *, staleness_bound_ms: int, wake: Callable[[], None], pause: Pause = asyncio.sleep
    ) -> None:
        """Look at ``nodes``; ``wake`` makes every process read the log now; ``pause`` waits for seconds."""
        self._looks = Looks(nodes, pause)
        self._limit_ms = staleness_bound_ms + BEYOND_THE_BOUND_MS
        self._wake = wake

    async def wait(self, remaining_ms: int | None) -> None:
        """Return when no process admits by what was so before what is committed by now.

        Waits for ``remaining_ms`` at most, a little less so that the answer arrives, and never for longer than a
        process may be silent. Then raises ``NotPropagatedError``, also when the database cannot say: the change holds.
        """
        limit_ms = self._limit_ms
        if remaining_ms is not None:
            limit_ms = min(limit_ms, remaining_ms - min(_ANSWER_MS_MAX, remaining_ms // _ANSWER_SHARE))
        waiting = _Waiting()
        self._wake()
        try:
            async with asyncio.timeout(limit_ms / 1_000):
                while not waiting.is_over(await self._looks.next()):
                    continue
        except TimeoutError:
            lagging = [f"{node.identity.host} ({node.identity.id})" for node in waiting.lagging]
            raise NotPropagatedError(lagging) from None


class _Waiting:
    """What one caller waits for: first the places of all that is committed, then the processes."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.lagging: list[Node] = []
        self._pending: frozenset[str] | None = None
        self._seq: int | None = None

    def is_over(self, look: Look | None) -> bool:
        """Say whether everybody who may admit something has applied what was committed before the first look."""
        if look is None:
            return False
        if self._seq is None and look.end.whole:
            unplaced = look.end.unplaced
            self._pending = unplaced if self._pending is None else self._pending & unplaced
            self._seq = None if self._pending else look.end.seq
        if self._seq is None:
            return False
        seq = self._seq
        self.lagging = [node for node in look.nodes if node.applied_seq < seq and node.may_admit]
        return not self.lagging
