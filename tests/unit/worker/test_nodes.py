"""Heartbeats: they claim no more than is applied, and no lease outlives what was said with them (P3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.store import MemoryStore
from keystead.events.nodes import GONE_AFTER_MS, LogEnd, Node, NodeIdentity
from keystead.kernel.errors import UnavailableError
from keystead.verification.freshness import Lease, Touches
from keystead.worker.follower import LogFollower
from keystead.worker.nodes import BEAT_MS, NodeKeeper
from tests.fakes import ManualClock

BOUND_MS = 10_000
ME = NodeIdentity("nod_1", "here", "1", BOUND_MS, serves_stale=False)


class Register:
    """The nodes of a database whose clock is the test's; a heartbeat can be lost, or take its time either way."""

    def __init__(self, clock: ManualClock) -> None:
        """Know nobody."""
        self._clock = clock
        self.seen: dict[str, tuple[int, int]] = {}
        self.there_ms = self.back_ms = 0
        self.away = False
        self.sweeps = 0

    async def beat(self, identity: NodeIdentity, applied_seq: int) -> None:
        """Note it."""
        if self.away:
            raise UnavailableError("The database does not answer.")
        self._clock.advance(self.there_ms)
        self.seen[identity.id] = (self._clock.monotonic_ms(), applied_seq)
        self._clock.advance(self.back_ms)

    async def leave(self, node_id: str) -> None:
        """Forget it."""
        if self.away:
            raise UnavailableError("The database does not answer.")
        del self.seen[node_id]

    async def sweep(self) -> int:
        """Count."""
        self.sweeps += 1
        return 0

    async def all(self) -> Sequence[Node]:
        """Return them."""
        now_ms = self._clock.monotonic_ms()
        return [Node(ME, 0, at_ms, now_ms - at_ms, seq) for at_ms, seq in self.seen.values()]

    async def log_end(self) -> LogEnd:
        """Return the end of a log that nobody writes to."""
        return LogEnd(0, frozenset(), whole=True)


class Process:
    """A process that reads an empty log and says that it lives."""

    def __init__(self) -> None:
        """Begin."""
        self.clock = ManualClock()
        self.register = Register(self.clock)
        self.keeper = NodeKeeper(self.register, ME, self.clock)
        self.lease = Lease(BOUND_MS)
        self.follower = LogFollower(
            log=MemoryEventLog(MemoryStore()),
            touches=Touches(),
            lease=self.lease,
            clock=self.clock,
            dated_until_ms=self.keeper.dated_until_ms,
            on_applied=self.keeper.applied,
        )

    @property
    def gone_at_ms(self) -> int:
        """Return the moment from which who waits takes it for gone."""
        return self.register.seen[ME.id][0] + BOUND_MS + GONE_AFTER_MS


async def test_no_lease_is_earned_before_the_process_can_be_seen() -> None:
    """Who waits for a change must be able to see every process that has not read it."""
    process = Process()
    await process.follower.turn()
    assert not process.lease.holds(process.clock.monotonic_ms())
    await process.keeper.turn()
    await process.follower.turn()
    assert process.lease.holds(process.clock.monotonic_ms())


async def test_readings_go_on_and_heartbeats_do_not() -> None:
    """However often the log is read, the lease has lapsed by the time that the process is taken for gone."""
    process = Process()
    await process.keeper.turn()
    process.register.away = True
    for _ in range(4 * BOUND_MS // 100):
        await process.follower.turn()
        process.clock.advance(100)
        assert process.lease.ends_at_ms <= process.gone_at_ms - BEAT_MS
    assert not process.lease.holds(process.clock.monotonic_ms())


@pytest.mark.parametrize(("there_ms", "back_ms"), ((0, 0), (3_000, 0), (0, 3_000), (2_000, 2_000)))
async def test_a_slow_heartbeat_makes_no_lease_longer(there_ms: int, back_ms: int) -> None:
    """A heartbeat that is under way for long is dated here when it was sent and there when it came, so that who takes
    the process for gone never errs.
    """
    process = Process()
    process.register.there_ms, process.register.back_ms = there_ms, back_ms
    for _ in range(5):
        await process.keeper.turn()
        await process.follower.turn()
        assert process.lease.ends_at_ms <= process.gone_at_ms - BEAT_MS
        process.clock.advance(100)


async def test_steady_heartbeats_earn_whole_leases() -> None:
    """While all is well, a lease is no shorter than the bound from the reading on."""
    process = Process()
    for _ in range(10):
        await process.keeper.turn()
        process.clock.advance(BEAT_MS)
        sent_at_ms = process.clock.monotonic_ms()
        await process.follower.turn()
        assert process.lease.ends_at_ms == sent_at_ms + BOUND_MS


async def test_what_is_claimed_was_applied_when_the_heartbeat_left() -> None:
    """What is applied while a heartbeat is under way is claimed by the next one, which is sent before its time."""
    process = Process()
    news = []
    process.keeper.on_news = lambda: news.append(1)
    process.keeper.applied(3)
    assert news == [1]
    await process.keeper.turn()
    assert process.register.seen[ME.id][1] == 3
    process.keeper.applied(3)
    assert news == [1]
    process.keeper.applied(4)
    assert news == [1, 1]
    assert process.register.seen[ME.id][1] == 3
    await process.keeper.turn()
    assert process.register.seen[ME.id][1] == 4


async def test_a_process_that_ends_is_forgotten_or_taken_for_gone() -> None:
    """Leaving in good order spares others the wait; without a database there is nobody to tell."""
    process = Process()
    await process.keeper.turn()
    process.register.away = True
    await process.keeper.leave()
    assert ME.id in process.register.seen
    process.register.away = False
    await process.keeper.leave()
    assert process.register.seen == {}


async def test_old_rows_are_swept_now_and_then() -> None:
    """Dead processes do not pile up, and nobody sweeps at every heartbeat."""
    process = Process()
    for _ in range(10):
        await process.keeper.turn()
        process.clock.advance(10_000)
    assert process.register.sweeps == 2


async def test_a_dead_process_of_this_machine_is_forgotten_and_no_other() -> None:
    """A new start makes nobody wait for the one before it; a copied data directory makes nobody forget a live one."""
    process = Process()
    await process.keeper.turn()
    stranger = NodeKeeper(process.register, replace(ME, id="nod_2", host="elsewhere"), process.clock)
    assert await stranger.succeed(ME.id) == []
    assert ME.id in process.register.seen
    heir = NodeKeeper(process.register, replace(ME, id="nod_3"), process.clock)
    assert await heir.succeed("") == []
    assert ME.id in process.register.seen
    assert await heir.succeed(ME.id) == [ME.id]
    assert process.register.seen == {}
