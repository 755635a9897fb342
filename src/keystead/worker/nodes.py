"""Says again and again that this process lives, and how far it has applied the log (P3, ``wait=true``).

Who waits for a change takes a process for gone that has been silent for longer than its ``staleness_bound`` and a
second, by the database's clock. That must mean that its lease has lapsed, whatever held it up: it was stopped, it lost
the database, or its heartbeat was under way for long. So a lease is dated by the heartbeat as well as by the reading:

A reading of the log, sent at ``p``, earns a lease until ``min(p, b + 0.5 s) + staleness_bound``, where ``b`` is when
the last heartbeat was sent that had been acknowledged before ``p``. Take a change that is committed at ``c``, and
somebody who looks at the processes at ``w``, after ``c``. A reading sent after ``c`` has seen the change, so only
leases earned by one from before ``c`` matter. Its heartbeat was acknowledged before that, so the look at ``w`` sees
it, or a later one, and the moment written there is not before ``b``: the database wrote it after it was sent. Silent
for longer than the bound and a second at ``w`` therefore means that ``w`` is later than ``b + 1 s +
staleness_bound``, half a second past the end of the lease. That half second is what the two clocks may differ by over
one bound: this process measures the lease by its monotonic clock, the database the silence by its own, and neither is
compared with the other.

The lease's clock goes on while the machine sleeps. A database that takes over from another must have the same time to
within that half second.

It does not matter how long a heartbeat travels: an early one that arrives late is dated when it was sent here and when
it arrived there, both of which err on the safe side. A process that was forgotten and comes back, or begins, is seen
again before it reads, and reads before it admits. And since a heartbeat is a write, no lease is earned from a database
that has become a mere copy.
"""

from __future__ import annotations

from collections.abc import Callable

from keystead.events.node_ports import Nodes
from keystead.events.nodes import GONE_AFTER_MS, NodeIdentity
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError

BEAT_MS = GONE_AFTER_MS // 2
"""How often at least; and for so long after a heartbeat a reading earns a whole lease."""
_SWEEP_EVERY_MS = 60_000


class NodeKeeper:
    """This process's row among those that serve."""

    def __init__(self, nodes: Nodes, identity: NodeIdentity, clock: Clock) -> None:
        """Keep the row of ``identity``; nothing is written before the first turn."""
        self._nodes = nodes
        self._identity = identity
        self._clock = clock
        self._applied_seq = 0
        self._told_seq = -1
        self._acknowledged_ms: int | None = None
        self._sweep_at_ms = 0
        self.on_news: Callable[[], None] = lambda: None
        """Called when there is something to say before its time."""

    def applied(self, seq: int) -> None:
        """Note that every event up to ``seq`` is applied in this process: never before it is."""
        self._applied_seq = seq
        if seq != self._told_seq:
            self.on_news()

    def dated_until_ms(self) -> int:
        """Return the moment (monotonic) that the lease of a reading sent now may be dated at the latest."""
        return 0 if self._acknowledged_ms is None else self._acknowledged_ms + BEAT_MS

    async def turn(self) -> None:
        """Say it; raise ``UnavailableError`` when nobody knows whether it was heard."""
        sent_at_ms = self._clock.monotonic_ms()
        seq = self._applied_seq
        await self._nodes.beat(self._identity, seq)
        self._acknowledged_ms = sent_at_ms
        self._told_seq = seq
        if sent_at_ms >= self._sweep_at_ms:
            self._sweep_at_ms = sent_at_ms + _SWEEP_EVERY_MS
            await self._nodes.sweep()

    async def succeed(self, node_id: str) -> list[str]:
        """Forget the process ``node_id``, which is known to be dead, if it was one of this machine; return its id then.

        A copy of its data directory on another machine proves nothing.
        """
        host = self._identity.host
        return await self._forget(lambda other: other.id == node_id and other.host == host)

    async def forget_others(self) -> list[str]:
        """Forget every other process: this one holds the only place that any could serve from, so they are dead.

        Returns their ids.
        """
        return await self._forget(lambda other: other.id != self._identity.id)

    async def _forget(self, is_dead: Callable[[NodeIdentity], bool]) -> list[str]:
        dead = [node.identity.id for node in await self._nodes.all() if is_dead(node.identity)]
        for node_id in dead:
            await self._nodes.leave(node_id)
        return dead

    async def leave(self) -> None:
        """Be forgotten, once nothing is answered any more; without the database it is taken for gone soon."""
        try:
            await self._nodes.leave(self._identity.id)
        except UnavailableError:
            return
