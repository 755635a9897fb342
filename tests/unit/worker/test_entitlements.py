"""The feed, turn by turn: what is told when, and what each answer of the receiver leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from keystead.adapters.memory.ledger import MemoryLedger
from keystead.kernel.errors import UnavailableError
from keystead.usage.feed_ports import Delivery, Reception
from keystead.usage.meters import WINDOW_MS, LedgerEntry, parse_meters
from keystead.usage.model import VALID_NUMBER, Call, Subject
from keystead.worker.entitlements import BATCH_EVENTS, EntitlementsFeed, FeedBounds
from tests.fakes import ManualClock

T0 = 1_700_006_400_000
BOUNDS = FeedBounds(timeout_ms=1_000, retry_max_ms=60_000)
DOWN = Delivery(Reception.FAILED, "500")
BAD = Delivery(Reception.REFUSED, "400")
TAKEN = Delivery(Reception.ACCEPTED)
MINUTE = 60_000


class Service:
    """A receiver that keeps what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        """Begin well-behaved."""
        self.batches: list[tuple[str, ...]] = []
        self.billed: dict[str, int] = {}
        self.answer: Callable[[Sequence[LedgerEntry]], Delivery] = lambda _: TAKEN

    async def send(self, entries: Sequence[LedgerEntry]) -> Delivery:
        """Count each id once unless the answer is a refusal, as a service does that times out after accepting."""
        self.batches.append(tuple(entry.id for entry in entries))
        answer = self.answer(entries)
        if answer.reception is not Reception.REFUSED:
            self.billed |= {entry.id: entry.value for entry in entries}
        return answer

    @property
    def total(self) -> int:
        """What is billed."""
        return sum(self.billed.values())


class Counted:
    """Usage that is complete up to some moment."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.calls: list[Call] = []
        self.until_ms: int | None = None

    async def complete_until(self) -> int | None:
        """Return the moment."""
        return self.until_ms

    def use(self, at_ms: int, *, owner_id: str = "cust_1", calls: int = 1) -> None:
        """Count calls."""
        subject = Subject("wsp_1", "live", "key_1", "sec_1", owner_id)
        self.calls += [Call("ver_1", at_ms, subject, VALID_NUMBER, 1, "", "")] * calls


class World:
    """A feed of one meter and everything about it."""

    def __init__(self) -> None:
        """Begin at T0, ten hours after the meter's beginning; usage is complete up to now."""
        self.clock = ManualClock(T0 + 10 * WINDOW_MS)
        self.counted = Counted()
        self.counted.until_ms = self.clock.now_ms()
        self.ledger = MemoryLedger(lambda: self.counted.calls)
        self.service = Service()
        self.feed = self.process("nod_1")

    def process(self, name: str) -> EntitlementsFeed:
        """Start a process."""
        return EntitlementsFeed(
            ledger=self.ledger,
            usage=self.counted,
            receiver=self.service,
            clock=self.clock,
            holder=name,
            meters=["api_calls"],
            bounds=BOUNDS,
        )

    async def begin(self) -> None:
        """Make the meter known, and one that is not told any more."""
        await self.ledger.begin(parse_meters("api_calls=calls, retired=calls"), since_ms=T0)

    async def turns(self, count: int, *, apart_ms: int = 2_000) -> None:
        """Let the feed run for a while."""
        for _ in range(count):
            await self.feed.turn()
            self.clock.advance(apart_ms)


@pytest.fixture
async def world() -> World:
    """Lend a world that has begun."""
    lent = World()
    await lent.begin()
    return lent


async def test_an_hour_is_told_when_it_is_over_and_complete(world: World) -> None:
    """Nothing is told of an hour while a journal may hold more of it; then all of it, once."""
    world.counted.use(T0 + 9 * WINDOW_MS, calls=3)
    for until_ms in (None, T0 + 10 * WINDOW_MS - 1):
        world.counted.until_ms = until_ms
        await world.turns(1)
        assert world.service.batches == []
    world.counted.until_ms = T0 + 10 * WINDOW_MS
    await world.turns(3)
    assert len(world.service.batches) == 1
    assert world.service.total == 3
    assert (world.feed.status.acknowledged_events, world.feed.status.pending_events) == (1, 0)
    assert world.feed.status.told_to_ms == T0 + 10 * WINDOW_MS


async def test_meters_that_are_not_configured_are_not_told(world: World) -> None:
    """A meter that was left out stays as it was."""
    world.counted.use(T0)
    await world.turns(2)
    assert {meter.name: meter.told_to_ms for meter in await world.ledger.meters()} == {
        "api_calls": T0 + 10 * WINDOW_MS,
        "retired": T0,
    }


async def test_a_failure_is_tried_again_with_the_same_events(world: World) -> None:
    """A receiver that accepts and then fails is sent the same ids, ever more rarely, and bills once."""
    world.counted.use(T0, calls=2)
    world.counted.use(T0 + WINDOW_MS, calls=5)
    world.service.answer = lambda _: DOWN
    sent_at_ms = []
    for _ in range(400):
        seen = len(world.service.batches)
        await world.feed.turn()
        if len(world.service.batches) > seen:
            sent_at_ms.append(world.clock.monotonic_ms())
        world.clock.advance(1_000)
    pauses = [(after - before) // 1_000 for before, after in pairwise(sent_at_ms)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(set(world.service.batches)) == 1
    assert (world.feed.status.failing_since_ms, world.feed.status.pending_events) == (T0 + 10 * WINDOW_MS, 2)
    world.service.answer = lambda _: TAKEN
    await world.turns(61, apart_ms=1_000)
    assert (world.service.total, world.feed.status.pending_events) == (7, 0)
    assert world.feed.status.failing_since_ms is None


async def test_the_receiver_says_how_long_to_wait(world: World) -> None:
    """Its retry-after is kept, up to the bound."""
    world.counted.use(T0)
    for asked_ms, waited_ms in ((5_000, 5_000), (3_600_000, BOUNDS.retry_max_ms)):
        world.service.answer = lambda _, asked_ms=asked_ms: Delivery(Reception.FAILED, "429", asked_ms)  # type: ignore[misc]  # a default is how a loop's value is kept
        sent = len(world.service.batches)
        await world.feed.turn()
        world.clock.advance(waited_ms - 1)
        await world.feed.turn()
        assert len(world.service.batches) == sent + 1
        world.clock.advance(1)


async def test_one_bad_event_is_found_and_waits_alone(world: World) -> None:
    """A batch that is refused is halved until the event at fault is known; it is tried again in an hour."""
    for number in range(20):
        world.counted.use(T0, owner_id=f"cust_{number}")
    world.service.answer = lambda entries: BAD if any(it.owner_id == "cust_7" for it in entries) else TAKEN
    await world.turns(2)
    assert (world.service.total, world.feed.status.pending_events, world.feed.status.refused_events) == (19, 1, 1)
    sent = len(world.service.batches)
    await world.turns(10, apart_ms=5 * MINUTE)
    assert len(world.service.batches) == sent
    world.service.answer = lambda _: TAKEN
    await world.turns(3, apart_ms=5 * MINUTE)
    assert (world.service.total, world.feed.status.pending_events) == (20, 0)


async def test_late_usage_of_two_days_is_found_within_minutes(world: World) -> None:
    """Whatever is counted for a window of the last 48 hours is told as a further event, without being asked for."""
    world.clock.advance(100 * WINDOW_MS)
    world.counted.until_ms = world.clock.now_ms()
    begins = [T0 + hour * WINDOW_MS for hour in range(62, 110)]
    for begins_at_ms in begins:
        world.counted.use(begins_at_ms)
    await world.turns(1)
    assert world.service.total == 48
    for begins_at_ms in begins:
        world.counted.use(begins_at_ms, calls=2)
    world.counted.use(T0 + 10 * WINDOW_MS)
    await world.turns(150)
    assert world.clock.now_ms() - T0 - 110 * WINDOW_MS < 6 * MINUTE
    assert (world.service.total, len(world.service.billed)) == (48 * 3, 48 * 2)


async def test_a_second_look_is_taken_when_it_is_asked_for(world: World) -> None:
    """Usage that is later than two days is told when somebody reconciles, however far back it is."""
    world.clock.advance(200 * WINDOW_MS)
    world.counted.until_ms = world.clock.now_ms()
    await world.turns(5)
    world.counted.use(T0)
    world.counted.use(T0 + 100 * WINDOW_MS)
    await world.turns(150)
    assert world.service.total == 0
    await world.ledger.look_again("api_calls", from_ms=T0)
    await world.turns(12)
    assert world.service.total == 2
    assert [meter.again_from_ms for meter in await world.ledger.meters()] == [None, None]


async def test_a_large_backlog_goes_out_in_bounded_batches(world: World) -> None:
    """However much there is to tell, no batch is larger than its bound and everything arrives."""
    for number in range(BATCH_EVENTS * 10 + 1):
        world.counted.use(T0, owner_id=f"cust_{number}")
    await world.turns(3)
    assert [len(batch) for batch in world.service.batches] == [BATCH_EVENTS] * 10 + [1]
    assert world.service.total == BATCH_EVENTS * 10 + 1


async def test_one_process_sends(world: World) -> None:
    """Of two processes one tells and sends; when it stops the other goes on at once, when it dies after a while."""
    other = world.process("nod_2")
    world.counted.use(T0)
    await world.feed.turn()
    await other.turn()
    assert (world.feed.status.sending, other.status.sending) == (True, False)
    await world.feed.stop()
    await other.turn()
    assert other.status.sending
    world.clock.advance(2 * (BOUNDS.timeout_ms + 2_000))
    third = world.process("nod_3")
    await third.turn()
    assert third.status.sending
    await other.turn()
    assert not other.status.sending


async def test_stopping_does_not_need_the_database(world: World) -> None:
    """A process whose database is away still stops; its place is free by itself later."""

    class Away(MemoryLedger):
        """A ledger that cannot be reached."""

        async def let_go(self, holder: str) -> None:  # noqa: ARG002 -- the port's
            """Fail."""
            raise UnavailableError("away")

    world.ledger = Away(list)
    await world.process("nod_9").stop()
    assert await world.ledger.hold("nod_1", now_ms=0, until_ms=1)
