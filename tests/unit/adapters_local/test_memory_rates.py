"""Rates counted in this process: what the oracle says, within bounded memory, and from nothing when so asked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystead.adapters.memory.rates import MemoryRates
from keystead.kernel.limit import PER_MAX_MS, Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled
from keystead.limits.errors import LimiterAwayError
from keystead.limits.local import share_of
from keystead.limits.model import NEVER_US, Decision, Level, Metered
from tests.oracles import Call, Oracle, bucket_excess, window_excess
from tests.schedules import BEGINNING_US, SCHEDULES, Step, SteppingClock, played, schedules

Kind = TokenBucket | SlidingWindow
DAYS_US = 10 * 86_400_000_000


def metered(*kinds: Kind, key: str = "key_1") -> Metered:
    """Compile limits of one key."""
    limits = [Limit(f"limit_{place}", On.KEY, kind) for place, kind in enumerate(kinds)]
    return compiled(limits, Subject("wsp_1", "live", "acme", key))


def spend(store: MemoryRates, asked: Metered, cost: int = 1) -> Decision:
    """Ask to spend."""
    return store.decide_now(asked, cost=cost, peek=False)


@settings(max_examples=100, deadline=None)
@given(SCHEDULES)
def test_it_decides_as_the_list_of_all_admissions_does(steps: tuple[Step, ...]) -> None:
    """Every decision, remainder, reset and wait is what the full past says, also when the clock steps back."""
    clock = SteppingClock()
    store = MemoryRates(clock)
    for asked in played(steps, steady=True):
        clock.now_us = asked.now_us
        assert store.decide_now(asked.metered, cost=asked.cost, peek=asked.peek) == asked.expected


@settings(max_examples=100, deadline=None)
@given(schedules(changing=False, limits_max=3), st.integers(1, 5))
def test_forgetting_never_grants_more(steps: tuple[Step, ...], capacity: int) -> None:
    """However small the store, it answers as one that forgets nothing, or not at all; then nothing was spent."""
    clock = SteppingClock()
    store = MemoryRates(clock, capacity=capacity)
    oracle = Oracle()
    refused = 0
    for step in steps:
        clock.now_us += max(0, step.pause_us)
        limits = tuple(limit for limit in step.limits if limit.on is not On.OWNER or step.subject.owner_id)
        asked = compiled(limits, step.subject)
        try:
            answer = store.decide_now(asked, cost=step.cost, peek=step.peek)
        except LimiterAwayError:
            refused += 1
        else:
            assert answer == oracle.decide(Call(clock.now_us, step.subject, limits, step.cost, step.peek))
        assert store.held <= capacity
    assert store.refused == refused


@pytest.mark.parametrize("kind", (TokenBucket(1, 1_000, 2), SlidingWindow(2, 1_000)))
def test_whole_counters_make_room(kind: Kind) -> None:
    """Keys that come and go leave nothing behind: what is held is what is in use, and no more than the capacity."""
    clock = SteppingClock()
    store = MemoryRates(clock, capacity=10)
    for number in range(1_000):
        assert spend(store, metered(kind, key=f"key_{number}")).admitted
        assert store.held <= 10
        clock.now_us += 250_000
    assert store.refused == 0


def test_counters_in_use_for_long_do_not_hide_those_that_are_whole() -> None:
    """Old counters that stay in use are passed over, so the room behind them is found."""
    clock = SteppingClock()
    store = MemoryRates(clock, capacity=12)
    for number in range(5):
        assert spend(store, metered(SlidingWindow(1, PER_MAX_MS), key=f"long_{number}")).admitted
    for number in range(200):
        assert spend(store, metered(SlidingWindow(1, 1_000), key=f"key_{number}")).admitted
        clock.now_us += 500_000
    assert store.refused == 0
    for number in range(5):
        assert not spend(store, metered(SlidingWindow(1, PER_MAX_MS), key=f"long_{number}")).admitted


def test_a_window_is_whole_after_any_pause_of_its_length() -> None:
    """What left it is gone, however many sub-windows have passed and whichever it was spent in."""
    for passed in range(33, 100):
        clock = SteppingClock()
        store = MemoryRates(clock)
        for _ in range(33):
            assert spend(store, metered(SlidingWindow(33, 1_000))).admitted
            clock.now_us += 31_250
        clock.now_us += (passed - 1) * 31_250
        assert store.decide_now(metered(SlidingWindow(33, 1_000)), cost=33, peek=True) == Decision(
            True, (Level(33, 0),)
        )


@pytest.mark.parametrize("kind", (TokenBucket(1, 1_000, 1), SlidingWindow(1, 1_000)))
def test_counters_in_use_are_never_forgotten(kind: Kind) -> None:
    """A store full of them refuses who is new, counts that, and goes on to serve those it holds."""
    clock = SteppingClock()
    store = MemoryRates(clock, capacity=2)
    for key in ("key_1", "key_2"):
        assert spend(store, metered(kind, key=key)).admitted
    for refused in range(1, 10):
        with pytest.raises(LimiterAwayError, match="all 2 counters"):
            spend(store, metered(kind, key="key_3"))
        assert store.refused == refused
    assert not spend(store, metered(kind, key="key_1")).admitted
    clock.now_us += 1_031_250
    assert spend(store, metered(kind, key="key_3")).admitted
    assert store.held <= 2


def test_of_several_limits_all_are_held_or_none() -> None:
    """A call whose counters do not all fit spends from none of them."""
    store = MemoryRates(SteppingClock(), capacity=2)
    bucket, window = TokenBucket(1, 60_000, 5), SlidingWindow(5, 60_000)
    assert spend(store, metered(bucket)).admitted
    with pytest.raises(LimiterAwayError) as caught:
        spend(store, metered(bucket, window, window))
    assert not caught.value.spent
    assert store.held == 1
    assert spend(store, metered(bucket)).levels[0].remaining == 3


@pytest.mark.parametrize("kind", (TokenBucket(1, 1_000, 1), SlidingWindow(1, 1_000)))
def test_what_spends_nothing_is_not_held(kind: Kind) -> None:
    """Peeks, free calls and calls that cost more than the limit take no memory."""
    store = MemoryRates(SteppingClock())
    assert store.decide_now(metered(kind), cost=1, peek=True).admitted
    assert spend(store, metered(kind), 0).admitted
    assert spend(store, metered(kind), 2).levels == (Level(1, 0, NEVER_US),)
    assert store.held == 0


def test_without_limits_every_call_is_admitted() -> None:
    """The enterprise plan asks nothing of the store."""
    assert spend(MemoryRates(SteppingClock()), metered()) == Decision(True, ())


@pytest.mark.parametrize("kind", (TokenBucket(0, 1_000, 3), TokenBucket(0, 1_000, 0), SlidingWindow(0, 1_000)))
def test_a_limit_of_0_denies_what_was_admitted_before(kind: Kind) -> None:
    """Lowering a limit to 0 stops everything at once, free calls as well."""
    store = MemoryRates(SteppingClock())
    other = metered(SlidingWindow(5, 9_000))
    before = TokenBucket(1, 1_000, 3) if isinstance(kind, TokenBucket) else SlidingWindow(3, 1_000)
    assert spend(store, metered(before)).admitted
    for cost in (0, 1):
        assert spend(store, metered(kind), cost) == Decision(False, (Level(0, 0, NEVER_US),))
    both = Metered((*metered(kind).rates, *other.rates), (), order=(0, 1))
    assert not spend(store, both).admitted
    assert spend(store, other).levels[0].remaining == 4
    assert not spend(store, both).admitted
    assert store.decide_now(other, cost=0, peek=True).levels[0].remaining == 4


async def test_a_reset_forgets_what_was_spent() -> None:
    """Counters named in a reset begin anew, others keep what was spent."""
    store = MemoryRates(SteppingClock())
    one, other = metered(SlidingWindow(1, 1_000)), metered(TokenBucket(1, 1_000, 1))
    for asked in (one, other):
        assert (await store.decide(asked, cost=1, peek=False)).admitted
    await store.reset([one.rates[0].counter, "unknown"])
    assert spend(store, one).admitted
    assert not spend(store, other).admitted
    store.clear()
    assert store.held == 0
    assert spend(store, other).admitted


@pytest.mark.parametrize("kind", (TokenBucket(3, 1_000, 4), SlidingWindow(33, 3_300), SlidingWindow(5, 1_000)))
def test_a_store_that_begins_empty_gives_gradually(kind: Kind) -> None:
    """A counter first seen has nothing left, and never more than what came back since, as a peek says exactly."""
    clock = SteppingClock()
    store = MemoryRates(clock, begins_empty=True)
    asked = metered(kind)
    amount, per_us = (
        (kind.rate, kind.per_ms * 1_000) if isinstance(kind, TokenBucket) else (kind.limit, kind.window_ms * 1_000)
    )
    began_us = clock.now_us
    admitted = 0
    first = spend(store, asked)
    assert first.levels[0].remaining == 0
    while clock.now_us < began_us + 20_000_000:
        wait_us = store.decide_now(asked, cost=1, peek=True).levels[0].wait_us
        assert wait_us > 0 or admitted
        if wait_us:
            clock.now_us += wait_us - 1
            assert not spend(store, asked).admitted
            clock.now_us += 1
        assert spend(store, asked).admitted
        admitted += 1
        assert admitted * per_us <= amount * (clock.now_us - began_us)
    assert admitted * per_us >= 0.9 * amount * 20_000_000


@pytest.mark.parametrize("kind", (TokenBucket(0, 1_000, 3), TokenBucket(0, 1_000, 0), SlidingWindow(0, 1_000)))
def test_a_store_that_begins_empty_holds_nothing_for_a_limit_of_0(kind: Kind) -> None:
    """A limit that denies always needs no counter to do so."""
    store = MemoryRates(SteppingClock(), begins_empty=True)
    assert spend(store, metered(kind)) == Decision(False, (Level(0, 0, NEVER_US),))
    assert store.held == 0


def test_a_store_that_begins_empty_is_bounded_as_well() -> None:
    """Counters that wait to be whole count as in use."""
    store = MemoryRates(SteppingClock(), capacity=1, begins_empty=True)
    assert not spend(store, metered(SlidingWindow(1, 1_000))).admitted
    with pytest.raises(LimiterAwayError):
        spend(store, metered(SlidingWindow(1, 1_000), key="key_2"))


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(TokenBucket, st.integers(1, 50), st.sampled_from((1, 7, 1_000)), st.integers(1, 40)),
        st.builds(SlidingWindow, st.integers(1, 40), st.sampled_from((1_000, 1_001))),
    ),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 4), st.integers(1, 3)), max_size=100),
)
def test_all_nodes_together_keep_to_the_limit_by_their_shares(
    kind: Kind, nodes: int, calls: list[tuple[int, int, int]]
) -> None:
    """While each of the expected nodes counts alone, no interval holds more than the limit allows all of them."""
    clock = SteppingClock()
    stores = [MemoryRates(clock, begins_empty=True) for _ in range(nodes)]
    asked = metered(kind)
    admitted = []
    for pause_us, node, cost in calls:
        clock.now_us += pause_us
        if spend(stores[node % nodes], share_of(asked, nodes), cost).admitted:
            admitted.append((clock.now_us, cost))
    excess = bucket_excess(kind, admitted) if isinstance(kind, TokenBucket) else window_excess(kind, admitted)
    assert excess <= 0


@dataclass(frozen=True)
class Steady:
    """Traffic of ``calls`` each ``per_us``, evenly, in steps of ``cost``."""

    kind: Kind
    calls: int
    per_us: int
    cost: int


@pytest.mark.parametrize(
    "steady",
    (
        Steady(TokenBucket(7, 60_000, 2), 7, 60_000_000, 1),
        Steady(TokenBucket(7, 3_000, 14), 7, 3_000_000, 7),
        Steady(TokenBucket(3, 1_000, 6), 3, 1_000_000, 4),
        Steady(TokenBucket(100, 60_000, 100), 100, 60_000_000, 9),
        Steady(TokenBucket(1, 31 * 86_400_000, 2), 1, 31 * 86_400_000_000, 1),
        Steady(SlidingWindow(7, 60_000), 7 * 96, 6_000_000_000, 1),
        Steady(SlidingWindow(7, 3_000), 7 * 96, 300_000_000, 7),
        Steady(SlidingWindow(3, 7_001), 3 * 96, 700_100_000, 3),
        Steady(SlidingWindow(100, 60_000), 96, 60_000_000, 10),
        Steady(SlidingWindow(1, 31 * 86_400_000), 96, 3_100 * 86_400_000_000, 1),
    ),
    ids=lambda steady: str(steady.kind),
)
def test_steady_traffic_is_never_denied(steady: Steady) -> None:
    """In ten days, at 100 % of a bucket and 96 % of a window, every call is admitted."""
    clock = SteppingClock()
    store = MemoryRates(clock)
    asked = metered(steady.kind)
    decide = store.decide_now
    last = max(100, DAYS_US * steady.calls // steady.per_us // steady.cost)
    denied = 0
    for number in range(last):
        clock.now_us = BEGINNING_US + number * steady.cost * steady.per_us // steady.calls
        denied += not decide(asked, cost=steady.cost, peek=False).admitted
    assert denied == 0
