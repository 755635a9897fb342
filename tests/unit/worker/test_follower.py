"""Following the log (P3): what another process changed is heard of in one turn, and a lease is earned by reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.snapshots import MemorySnapshots
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.events.model import Cursor
from keystead.events.ports import EventLog, LogPage
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import IdSource
from keystead.kernel.secret import Secret
from keystead.keys.model import Key
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from keystead.verification.errors import StaleError
from keystead.verification.freshness import Lease, Touches
from keystead.worker.follower import PAGE_EVENTS, LogFollower
from tests.fakes import ManualClock
from tests.world import STALENESS_MS, OnCommit, Ports, World

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE, create_owner=True)


class Log:
    """A log over another one, that can be made slow, deaf to placing, or unavailable."""

    def __init__(self, inner: EventLog) -> None:
        """Stand before ``inner``."""
        self.inner = inner
        self.before_poll: Callable[[], object] = lambda: None
        self.places = True
        self.reads = True
        self.polls = 0

    async def head(self) -> Cursor:
        """Return the head."""
        return await self.inner.head()

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Read, when reading works."""
        self.polls += 1
        self.before_poll()
        if not self.reads:
            raise UnavailableError("The database does not answer.")
        return await self.inner.poll(cursor, limit=limit)

    async def place(self, *, limit: int) -> int:
        """Place, when placing works."""
        if not self.places:
            raise UnavailableError("The database does not answer.", internal="no lock")
        return await self.inner.place(limit=limit)


class TwoProcesses:
    """Two processes over one store; the second follows the log."""

    def __init__(self) -> None:
        """Begin with an empty store, the second process having read it once it is asked to."""
        self.store = MemoryStore()
        self.one, self.two = World(self._open), World(self._open)
        self.log = Log(MemoryEventLog(self.store))
        self.follower = LogFollower(log=self.log, touches=self.two.touches, lease=self.two.lease, clock=self.two.clock)

    def _open(self, clock: ManualClock, ids: IdSource, on_commit: OnCommit) -> Ports:
        units = MemoryUnits(self.store, clock=clock, ids=ids, on_commit=on_commit)
        return Ports(units, MemorySnapshots(self.store, clock=clock))

    async def key(self) -> tuple[Principal, Key, Secret]:
        """Make a key by the first process, and let the second verify it."""
        _, caller, _ = await self.one.workspace()
        key, secret = await self.one.create(caller, DRAFT)
        await self.follower.turn()
        assert await self.two.code(caller, secret) == "VALID"
        return caller, key, secret

    async def revoke(self, caller: Principal, key: Key) -> None:
        """Revoke by the first process."""
        await self.one.change(caller, lambda unit: self.one.keys.revoke(unit, caller, key.id, reason=""))


@pytest.fixture
def both() -> TwoProcesses:
    """Lend two processes."""
    return TwoProcesses()


async def test_a_revocation_elsewhere_is_heard_of_in_one_turn(both: TwoProcesses) -> None:
    """The process that served it refuses at once, the other one after its next turn."""
    caller, key, secret = await both.key()
    await both.revoke(caller, key)
    assert await both.one.code(caller, secret) == "REVOKED"
    assert await both.two.code(caller, secret) == "VALID"
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "REVOKED"


async def test_a_stuck_sequencer_delays_no_revocation(both: TwoProcesses) -> None:
    """Events that nobody has placed are read as well, and the lease is still earned."""
    caller, key, secret = await both.key()
    both.log.places = False
    await both.revoke(caller, key)
    both.two.clock.advance(STALENESS_MS)
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "REVOKED"


async def test_a_lease_is_dated_when_the_poll_was_sent(both: TwoProcesses) -> None:
    """A slow answer earns less: what happened after it was asked for is not in it."""
    caller, _, secret = await both.key()
    both.log.before_poll = lambda: both.two.clock.advance(10_000)
    await both.follower.turn()
    both.two.clock.advance(STALENESS_MS - 10_001)
    assert await both.two.code(caller, secret) == "VALID"
    both.two.clock.advance(1)
    with pytest.raises(StaleError):
        await both.two.code(caller, secret)


async def test_without_an_answer_no_lease_is_earned(both: TwoProcesses) -> None:
    """Cut off from the database, a process vouches until ``staleness_bound`` and no longer."""
    caller, _, secret = await both.key()
    both.log.reads = False
    both.two.clock.advance(STALENESS_MS - 1)
    with pytest.raises(UnavailableError):
        await both.follower.turn()
    assert await both.two.code(caller, secret) == "VALID"
    both.two.clock.advance(1)
    with pytest.raises(StaleError):
        await both.two.code(caller, secret)
    both.log.reads = True
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "VALID"


async def test_more_than_a_page_is_read_to_the_end(both: TwoProcesses) -> None:
    """However much happened: one turn hears of all of it before the lease is renewed."""
    caller, key, secret = await both.key()
    keys = both.one.keys
    for _ in range(PAGE_EVENTS // 2 + 1):
        await both.one.change(caller, lambda unit: keys.suspend(unit, caller, key.id, reason=""))
        await both.one.change(caller, lambda unit: keys.resume(unit, caller, key.id))
    await both.revoke(caller, key)
    polls = both.log.polls
    await both.follower.turn()
    assert both.log.polls == polls + 2
    assert await both.two.code(caller, secret) == "REVOKED"


async def test_a_log_that_was_replaced_makes_everything_read_anew(both: TwoProcesses) -> None:
    """After a restore from an older copy the cursor does not fit: nothing cached is believed, and the turn goes on."""
    caller, key, secret = await both.key()
    both.store.committed.placed.clear()
    both.store.committed.keys[key.id] = replace(both.store.committed.keys[key.id], allowed_ips=("192.0.2.1",))
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "IP_NOT_ALLOWED"


async def test_a_log_that_grows_too_fast_earns_no_lease() -> None:
    """When a turn never reaches the end, the process does not claim that it has."""

    class Endless(Log):
        async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
            return replace(await super().poll(cursor, limit=limit), more=True)

    clock, lease = ManualClock(), Lease(STALENESS_MS)
    log = Endless(MemoryEventLog(MemoryStore()))
    await LogFollower(log=log, touches=Touches(), lease=lease, clock=clock).turn()
    assert not lease.holds(clock.monotonic_ms())
    assert log.polls == 100


async def test_what_is_read_while_the_log_is_found_again_is_not_lost(both: TwoProcesses) -> None:
    """A fill between losing the log and finding its head again is read once more, so no revocation is missed (P3)."""
    caller, key, secret = await both.key()

    class Gap(Log):
        async def head(self) -> Cursor:
            assert await both.two.code(caller, secret) == "VALID"
            await both.revoke(caller, key)
            await self.inner.place(limit=100)
            return await self.inner.head()

    both.follower._log = Gap(both.log.inner)
    both.store.committed.placed.clear()
    await both.follower.turn()
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "REVOKED"
