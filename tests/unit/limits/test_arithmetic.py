"""The arithmetic of rates against an oracle that knows every admission, and the promises of P4 themselves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystead.kernel.limit import COUNT_MAX, EXACT_MAX, PER_MAX_MS, Limit, On, SlidingWindow, TokenBucket
from keystead.limits.arithmetic import (
    Bucket,
    Window,
    bucket_level,
    refilled,
    slid,
    spent_from_bucket,
    spent_from_window,
    window_level,
)
from keystead.limits.compiling import Subject, compiled, rate_of
from keystead.limits.model import NEVER_US, PARTS, BucketRate, Decision, Level, Metered, Rate, WindowRate
from tests.oracles import bucket_excess, window_excess
from tests.schedules import SCHEDULES, Step, played


class PlainRates:
    """A store made of nothing but the arithmetic, with ``now`` as a parameter."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self.states: dict[str, Bucket | Window] = {}

    def decide(self, metered: Metered, *, cost: int, peek: bool, now_us: int) -> Decision:
        """Decide all or nothing."""
        current = {rate: self.current(rate, now_us) for rate in metered.rates}
        levels = [level(state, rate, now_us, cost) for rate, state in current.items()]
        admitted = all(one.wait_us == 0 for one in levels)
        if not admitted or peek:
            return Decision(admitted, tuple(levels))
        spent = {rate: spend(state, rate, cost) for rate, state in current.items()}
        if cost:
            self.states.update({rate.counter: state for rate, state in spent.items()})
        return Decision(admitted, tuple(level(state, rate, now_us, 0) for rate, state in spent.items()))

    def current(self, rate: Rate, now_us: int) -> Bucket | Window:
        """Return what a counter has become by now."""
        state = self.states.get(rate.counter)
        if isinstance(rate, BucketRate):
            return refilled(state if isinstance(state, Bucket) else Bucket(), rate, now_us)
        return slid(state if isinstance(state, Window) else Window.empty(), rate, now_us)


def level(state: Bucket | Window, rate: Rate, now_us: int, cost: int) -> Level:
    """Say where a counter stands."""
    if isinstance(state, Bucket):
        assert isinstance(rate, BucketRate)
        return bucket_level(state, rate, cost)
    assert isinstance(rate, WindowRate)
    return window_level(state, rate, now_us, cost)


def spend(state: Bucket | Window, rate: Rate, cost: int) -> Bucket | Window:
    """Spend from a counter."""
    if isinstance(state, Bucket):
        assert isinstance(rate, BucketRate)
        return spent_from_bucket(state, rate, cost)
    return spent_from_window(state, cost)


@settings(max_examples=100, deadline=None)
@given(SCHEDULES)
def test_arithmetic_decides_as_the_list_of_all_admissions_does(steps: tuple[Step, ...]) -> None:
    """Every decision, remainder, reset and wait is what the full past says, whatever the clock and the numbers do."""
    store = PlainRates()
    for asked in played(steps):
        answer = store.decide(asked.metered, cost=asked.cost, peek=asked.peek, now_us=asked.now_us)
        assert answer == asked.expected


KINDS = st.one_of(
    st.builds(TokenBucket, st.integers(1, 50), st.sampled_from((1, 7, 1_000, 3_000)), st.integers(1, 40)),
    st.builds(SlidingWindow, st.integers(1, 40), st.sampled_from((1_000, 1_001, 3_000))),
)
# Pauses and costs of a client; most come in a rush, since that is when limits are met.
RUSHES = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 3_000), st.integers(0, 2_000_000)), st.integers(1, 6)),
    min_size=1,
    max_size=120,
)
SUBJECT = Subject("wsp_1", "live", "acme", "key_1")


def metered(*kinds: TokenBucket | SlidingWindow) -> Metered:
    """Compile limits of one key."""
    return compiled([Limit(f"limit_{place}", On.KEY, kind) for place, kind in enumerate(kinds)], SUBJECT)


def admissions(kind: TokenBucket | SlidingWindow, rush: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what was admitted of a rush."""
    store = PlainRates()
    now_us = 0
    admitted = []
    for pause_us, cost in rush:
        now_us += pause_us
        if store.decide(metered(kind), cost=cost, peek=False, now_us=now_us).admitted:
            admitted.append((now_us, cost))
    return admitted


@settings(deadline=None)
@given(KINDS, RUSHES)
def test_no_interval_is_ever_over(kind: TokenBucket | SlidingWindow, rush: list[tuple[int, int]]) -> None:
    """Whoever calls however often: no interval at all holds more than P4 allows."""
    admitted = admissions(kind, rush)
    excess = bucket_excess(kind, admitted) if isinstance(kind, TokenBucket) else window_excess(kind, admitted)
    assert excess <= 0


@settings(deadline=None)
@given(KINDS, RUSHES, st.integers(1, 6))
def test_waits_are_exact(kind: TokenBucket | SlidingWindow, rush: list[tuple[int, int]], cost: int) -> None:
    """A client that waits as long as it was told is admitted; one that waits a microsecond less is not."""
    store = PlainRates()
    asked = metered(kind)
    now_us = 0
    for pause_us, one in rush:
        now_us += pause_us
        store.decide(asked, cost=one, peek=False, now_us=now_us)
    (told,) = store.decide(asked, cost=cost, peek=True, now_us=now_us).levels
    most = kind.burst if isinstance(kind, TokenBucket) else kind.limit
    assert (told.wait_us == NEVER_US) == (cost > most)
    if told.wait_us > 0:
        assert not store.decide(asked, cost=cost, peek=True, now_us=now_us + told.wait_us - 1).admitted
    if told.wait_us >= 0:
        assert store.decide(asked, cost=cost, peek=True, now_us=now_us + told.wait_us).admitted
    if told.reset_after_us:
        nearly = store.decide(asked, cost=0, peek=True, now_us=now_us + told.reset_after_us - 1).levels[0]
        assert nearly.reset_after_us == 1
    assert store.decide(asked, cost=most, peek=True, now_us=now_us + told.reset_after_us).admitted


@settings(deadline=None)
@given(KINDS, KINDS, RUSHES)
def test_a_denied_call_and_a_peek_change_nothing(
    one: TokenBucket | SlidingWindow, other: TokenBucket | SlidingWindow, rush: list[tuple[int, int]]
) -> None:
    """Of two limits either both are spent from or none; what is only asked is never spent."""
    store = PlainRates()
    asked = metered(one, other)
    now_us = 0
    for pause_us, cost in rush:
        now_us += pause_us
        before = dict(store.states)
        peeked = store.decide(asked, cost=cost, peek=True, now_us=now_us)
        assert store.states == before
        decision = store.decide(asked, cost=cost, peek=False, now_us=now_us)
        assert decision.admitted == peeked.admitted
        if not decision.admitted:
            assert store.states == before
            assert decision == peeked
        elif before:
            assert all(store.states[counter] != state for counter, state in before.items())


@pytest.mark.parametrize(
    ("kind", "answer"),
    (
        (TokenBucket(0, 1_000, 5), Level(0, 0, NEVER_US)),
        (TokenBucket(0, 1_000, 0), Level(0, 0, NEVER_US)),
        (SlidingWindow(0, 60_000), Level(0, 0, NEVER_US)),
        (TokenBucket(5, 1_000, 5), Level(5, 0)),
        (SlidingWindow(5, 60_000), Level(5, 0)),
    ),
)
def test_a_free_call_is_admitted_unless_a_limit_is_0(kind: TokenBucket | SlidingWindow, answer: Level) -> None:
    """A cost of 0 needs nothing to be left, but a limit of 0 denies always."""
    decision = PlainRates().decide(metered(kind), cost=0, peek=False, now_us=0)
    assert decision == Decision(answer.wait_us == 0, (answer,))


@pytest.mark.parametrize("kind", (TokenBucket(2, 1_000, 2), SlidingWindow(2, 1_000)))
def test_a_free_call_passes_when_nothing_is_left(kind: TokenBucket | SlidingWindow) -> None:
    """A limit that is spent denies what costs something, and nothing else."""
    store = PlainRates()
    assert store.decide(metered(kind), cost=2, peek=False, now_us=0).admitted
    assert not store.decide(metered(kind), cost=1, peek=False, now_us=0).admitted
    assert store.decide(metered(kind), cost=0, peek=False, now_us=0).admitted


def test_changing_the_numbers_of_a_bucket_keeps_what_was_spent() -> None:
    """A bigger bucket has only its growth left, a smaller one owes, and another rate counts from then on."""
    store = PlainRates()
    assert store.decide(metered(TokenBucket(1, 1_000, 10)), cost=10, peek=False, now_us=0).admitted
    bigger, smaller = TokenBucket(1, 1_000, 12), TokenBucket(1, 1_000, 4)
    faster, awkward = TokenBucket(10, 1_000, 10), TokenBucket(7, 1_000, 10)
    for kind, level_now in (
        (bigger, Level(2, 10_000_000)),
        (smaller, Level(0, 10_000_000)),
        (faster, Level(0, 1_000_000)),
        (awkward, Level(0, 1_428_572)),
    ):
        assert store.decide(metered(kind), cost=0, peek=True, now_us=0).levels == (level_now,)
    assert store.decide(metered(smaller), cost=1, peek=True, now_us=6_999_999).levels[0].wait_us == 1


def test_what_is_missing_stays_exact_in_any_units() -> None:
    """Debts of a changed bucket are kept below 2^53 units, which every store counts exactly."""
    debt = Bucket(COUNT_MAX, 1, 0)
    slow = rate_of("slow", TokenBucket(1, PER_MAX_MS, 3), "lead")
    assert isinstance(slow, BucketRate)
    assert refilled(debt, slow, 0).missing_units == EXACT_MAX


def test_changing_the_limit_of_a_window_keeps_what_was_spent() -> None:
    """A higher limit has only its growth left, and a lower one owes until enough has left the window."""
    store = PlainRates()
    for at_us in (0, 500_000):
        assert store.decide(metered(SlidingWindow(10, 1_000)), cost=5, peek=False, now_us=at_us).admitted
    higher = store.decide(metered(SlidingWindow(12, 1_000)), cost=1, peek=True, now_us=500_000)
    assert higher == Decision(True, (Level(2, 1_031_250),))
    lower = store.decide(metered(SlidingWindow(5, 1_000)), cost=1, peek=True, now_us=500_000)
    assert lower == Decision(False, (Level(0, 1_031_250, 1_031_250),))
    middle = store.decide(metered(SlidingWindow(6, 1_000)), cost=1, peek=True, now_us=500_000)
    assert middle == Decision(False, (Level(0, 1_031_250, 531_250),))


def test_time_that_steps_back_brings_nothing_back() -> None:
    """What was remembered later than now counts as now, so no clock that is set back grants anything twice."""
    store = PlainRates()
    bucket, window = metered(TokenBucket(1, 1_000, 1)), metered(SlidingWindow(1, 1_000))
    assert store.decide(bucket, cost=1, peek=False, now_us=5_000_000).admitted
    assert store.decide(window, cost=1, peek=False, now_us=5_000_000).admitted
    assert store.decide(bucket, cost=1, peek=True, now_us=1_000_000).levels[0].wait_us == 1_000_000
    assert store.decide(window, cost=1, peek=True, now_us=1_000_000).levels[0].wait_us == 33 * 31_250


def test_a_window_is_whole_after_any_pause_of_its_length() -> None:
    """What left it is gone, however many sub-windows have passed and whichever it was spent in."""
    rate = rate_of("any", SlidingWindow(33, 1_000), "lead")
    assert isinstance(rate, WindowRate)
    full = Window(32, [1] * 33)
    for index in range(65, 165):
        assert window_level(slid(full, rate, index * 31_250), rate, index * 31_250, 33) == Level(33, 0)


def test_a_window_is_cut_so_that_no_part_is_lost() -> None:
    """32 sub-windows reach at least as far as the window, also when its length cannot be divided by 32."""
    for window_ms in (1_000, 1_001, 1_023, 60_000, PER_MAX_MS):
        rate = rate_of("any", SlidingWindow(1, window_ms), "lead")
        assert isinstance(rate, WindowRate)
        assert 0 <= rate.width_us * PARTS - window_ms * 1_000 < PARTS
