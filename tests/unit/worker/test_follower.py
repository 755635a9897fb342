"""Following the log (P3): what another process changed is heard of in one turn, and a lease is earned by reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.snapshots import MemorySnapshots
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.events.model import Cursor
from keystead.events.ports import UNPLACED_MAX, EventLog, LogPage
from keystead.kernel.change import Action, Change
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import IdSource
from keystead.kernel.secret import Secret
from keystead.keys.model import Key
from keystead.keys.ports import Unit
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
        self.hangs = False
        self.polls = 0
        self.placings = 0

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
        self.placings += 1
        if self.hangs:
            await asyncio.Event().wait()
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


async def test_a_sequencer_that_waits_for_somebody_holds_up_no_reading(both: TwoProcesses) -> None:
    """A revocation is heard of in a moment while placing hangs, turn after turn, and closing ends what hangs (P3)."""
    caller, key, secret = await both.key()
    both.log.hangs = True
    placings = both.log.placings
    await both.revoke(caller, key)
    for _ in range(2):
        async with asyncio.timeout(1):
            await both.follower.turn()
        assert await both.two.code(caller, secret) == "REVOKED"
    assert both.log.placings == placings + 1
    await both.follower.close()
    both.log.hangs = False
    await both.follower.turn()
    assert both.follower.unplaced == 0


async def test_what_is_hidden_earns_no_lease_and_is_not_asked_for_at_once(both: TwoProcesses) -> None:
    """While more waits for its place than is read, the process claims nothing, and reads again in its own time."""
    caller, _, secret = await both.key()
    both.log.places = False
    many = [Change(caller.workspace_id, Action.KEY_UPDATED, "key_x", touches=("key_x",))] * (UNPLACED_MAX + 1)

    async def happen(unit: Unit) -> None:
        for change in many:
            unit.record(change)

    await both.one.change(caller, happen)
    polls = both.log.polls
    both.two.clock.advance(STALENESS_MS)
    await both.follower.turn()
    assert both.log.polls == polls + 1
    with pytest.raises(StaleError):
        await both.two.code(caller, secret)


async def test_an_event_that_gets_its_place_makes_nothing_old_again(both: TwoProcesses) -> None:
    """What was read since the event was first heard of is good, and read once alone."""
    caller, key, secret = await both.key()
    both.log.places = False
    await both.one.change(caller, lambda unit: both.one.keys.suspend(unit, caller, key.id, reason=""))
    await both.follower.turn()
    assert await both.two.code(caller, secret) == "SUSPENDED"
    epoch = both.two.touches.epoch
    both.log.places = True
    await both.follower.turn()
    await both.follower.turn()
    assert both.follower.unplaced == 0
    assert both.two.touches.epoch == epoch
    await both.revoke(caller, key)
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
    assert both.log.polls == polls + 3  # one to hear, then a page and what is left, in their places
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


async def test_how_long_an_event_took_is_measured_at_its_first_reading(both: TwoProcesses) -> None:
    """What is read before it has its place and again afterwards counts once, with the shorter of the two times; a clock
    that goes behind that of the process that made it counts as no time.
    """
    caller, key, _ = await both.key()
    took = both.follower.propagation
    before, so_far_ns = took.count, took.sum_ns
    both.log.places = False
    await both.revoke(caller, key)
    both.two.clock.advance(2_000)
    await both.follower.turn()
    assert (took.count, took.sum_ns - so_far_ns) == (before + 1, 2_000_000_000)
    both.log.places = True
    both.two.clock.advance(60_000)
    await both.follower.turn()
    assert took.count == before + 1
    both.one.clock.advance(3_600_000)
    await both.one.owner(caller, "customer-2")
    await both.follower.turn()
    assert took.count == before + 2
    assert took.sum_ns - so_far_ns == 2_000_000_000


async def test_others_are_told_of_places_that_were_given(both: TwoProcesses) -> None:
    """Who has heard of an event without its place hears at once when it has one; with nothing placed nobody is woken,
    and what is applied is said after every complete turn.
    """
    placed: list[int] = []
    applied: list[int] = []
    follower = LogFollower(
        log=both.log,
        touches=both.two.touches,
        lease=both.two.lease,
        clock=both.two.clock,
        on_placed=lambda: placed.append(1),
        on_applied=applied.append,
    )
    await follower.turn()
    await both.one.workspace()
    both.log.places = False
    await follower.turn()
    assert placed == []
    both.log.places = True
    await follower.turn()
    assert placed == [1]
    assert applied[0] == applied[1] == 0
    assert applied[-1] == follower.applied_seq > 0
