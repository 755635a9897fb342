"""The breaker before the store of rates: nobody waits for one that is away, and one call finds out when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from keystead.limits.breaker import BreakerState, BreakingRates
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Decision, Metered
from tests.fakes import ManualClock

ADMITTED = Decision(True, ())
METERED = Metered((), (), order=())


class Store:
    """A store of rates that is away or not, and that can keep a call waiting."""

    def __init__(self) -> None:
        """Begin well."""
        self.away = False
        self.broken = False
        self.asked = 0
        self.held: asyncio.Event | None = None

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision | None:
        """Answer at once what is free."""
        assert metered is METERED
        return None if cost or peek else ADMITTED

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Answer, or be away, as it was when the call came."""
        assert (metered, cost, peek) == (METERED, 1, False)
        await self._answer()
        return ADMITTED

    async def reset(self, counters: Sequence[str]) -> None:
        """Answer, or be away."""
        assert counters == ["one"]
        await self._answer()

    async def _answer(self) -> None:
        self.asked += 1
        away = self.away
        if self.held is not None:
            await self.held.wait()
        if self.broken:
            raise ValueError("a bug")
        if away:
            raise LimiterAwayError("no answer in time", spent=True)


class Rig:
    """A breaker over a store."""

    def __init__(self) -> None:
        """Begin closed."""
        self.clock = ManualClock()
        self.store = Store()
        self.rates = BreakingRates(self.store, self.clock)

    def state(self) -> BreakerState:
        """Return the state of now; a call, since a type checker takes a property for what it was."""
        return self.rates.state

    async def ask(self) -> Decision:
        """Ask for a decision."""
        return await self.rates.decide(METERED, cost=1, peek=False)

    async def fail(self, times: int) -> None:
        """Ask so often and be told each time that the store is away."""
        for _ in range(times):
            with pytest.raises(LimiterAwayError):
                await self.ask()

    async def open(self) -> None:
        """Let the store go away until the breaker is open."""
        self.store.away = True
        await self.fail(3)
        assert self.state() is BreakerState.OPEN


@pytest.fixture
def rig() -> Rig:
    """Make a closed breaker."""
    return Rig()


async def test_a_store_that_answers_is_always_asked(rig: Rig) -> None:
    """A closed breaker changes nothing."""
    for _ in range(10):
        assert await rig.ask() is ADMITTED
    await rig.rates.reset(["one"])
    assert rig.store.asked == 11
    assert (rig.rates.state, rig.rates.openings, rig.rates.failures, rig.rates.refused) == ("closed", 0, 0, 0)


def test_what_is_answered_without_awaiting_passes_through(rig: Rig) -> None:
    """A store in this process is never away, and one that has to be awaited says so."""
    assert rig.rates.decide_now(METERED, cost=0, peek=False) is ADMITTED
    assert rig.rates.decide_now(METERED, cost=1, peek=False) is None


async def test_it_opens_after_failures_in_a_row(rig: Rig) -> None:
    """Two failures are bad luck; the third in a row is an outage, and from then on nobody waits for the store."""
    rig.store.away = True
    await rig.fail(2)
    rig.store.away = False
    await rig.ask()
    rig.store.away = True
    await rig.fail(2)
    assert (rig.state(), rig.rates.openings) == (BreakerState.CLOSED, 0)
    await rig.fail(1)
    assert (rig.state(), rig.rates.openings) == (BreakerState.OPEN, 1)
    asked = rig.store.asked
    with pytest.raises(LimiterAwayError) as caught:
        await rig.ask()
    assert not caught.value.spent
    with pytest.raises(LimiterAwayError):
        await rig.rates.reset(["one"])
    assert rig.store.asked == asked
    assert (rig.rates.failures, rig.rates.refused) == (5, 2)


async def test_one_answer_closes_it(rig: Rig) -> None:
    """After a second the next call tries; when the store is back, everybody asks it again."""
    await rig.open()
    rig.store.away = False
    rig.clock.advance(999)
    await rig.fail(1)
    rig.clock.advance(1)
    assert rig.state() is BreakerState.HALF_OPEN
    await rig.ask()
    assert rig.state() is BreakerState.CLOSED
    rig.store.away = True
    await rig.fail(2)
    assert rig.state() is BreakerState.CLOSED


async def test_a_try_that_fails_opens_it_again(rig: Rig) -> None:
    """While the store stays away it is asked once a second, and all that is one outage."""
    await rig.open()
    for tries in range(1, 6):
        rig.clock.advance(1_000)
        await rig.fail(4)
        assert rig.state() is BreakerState.OPEN
        assert rig.store.asked == 3 + tries
    assert rig.rates.openings == 1
    rig.clock.advance(1_000)
    rig.store.away = False
    await rig.ask()
    await rig.open()
    assert rig.rates.openings == 2


async def test_one_call_tries_at_a_time(rig: Rig) -> None:
    """A store that comes back is not met by all callers at once, and who does not try is not kept waiting."""
    await rig.open()
    rig.clock.advance(1_000)
    rig.store.away = False
    rig.store.held = asyncio.Event()
    trying = asyncio.create_task(rig.ask())
    await asyncio.sleep(0)
    await rig.fail(2)
    assert rig.store.asked == 4
    rig.store.held.set()
    assert await trying is ADMITTED
    assert rig.state() is BreakerState.CLOSED


async def test_a_try_that_is_given_up_proves_nothing(rig: Rig) -> None:
    """When its caller goes away or an error comes out, the next call tries."""
    await rig.open()
    rig.clock.advance(1_000)
    rig.store.away = False
    rig.store.held = asyncio.Event()
    trying = asyncio.create_task(rig.ask())
    await asyncio.sleep(0)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert rig.state() is BreakerState.HALF_OPEN
    rig.store.held.set()
    rig.store.broken = True
    with pytest.raises(ValueError, match="a bug"):
        await rig.ask()
    assert rig.state() is BreakerState.HALF_OPEN
    rig.store.broken = False
    await rig.ask()
    assert rig.state() is BreakerState.CLOSED


async def test_calls_that_were_under_way_neither_open_it_again_nor_keep_it_open(rig: Rig) -> None:
    """What fails late was asked before the opening, and is part of the same outage."""
    rig.store.away = True
    rig.store.held = asyncio.Event()
    late = [asyncio.create_task(rig.ask()) for _ in range(5)]
    await asyncio.sleep(0)
    rig.store.held.set()
    assert [type(error) for error in await asyncio.gather(*late, return_exceptions=True)] == [LimiterAwayError] * 5
    assert (rig.state(), rig.rates.openings, rig.rates.failures) == (BreakerState.OPEN, 1, 5)
    rig.clock.advance(1_000)
    assert rig.state() is BreakerState.HALF_OPEN
