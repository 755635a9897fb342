"""The script of the shared limiter on a real Redis, at times that the tests choose: P4 to the last microsecond."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from keystead.adapters.redis.rates import KEY_PREFIX
from keystead.kernel.limit import COUNT_MAX, EXACT_MAX, Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import compiled
from keystead.limits.model import BucketRate, Decision, Level, Metered, WindowRate
from tests.rate_scripts import ScriptedRates
from tests.schedules import BEGINNING_US, SCHEDULES, SUBJECTS, Step, played
from tests.services import PrivateRedis

DAY_US = 86_400_000_000
BATCH = 2_000


@pytest.fixture(scope="module")
def script(redis: PrivateRedis) -> ScriptedRates:
    """Lend the script on a database of its own."""
    return ScriptedRates(redis.url(7))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=SCHEDULES)
def test_the_script_decides_as_the_oracle(script: ScriptedRates, steps: tuple[Step, ...]) -> None:
    """Every decision and every number told with it is what the list of all admissions says it must be."""
    script.client.flushdb()
    answered = [one for one in played(steps) if one.metered.rates]
    decided = script.decide_all([(one.metered, one.cost, one.peek, one.now_us) for one in answered])
    assert decided == [one.expected for one in answered]


@pytest.mark.parametrize(
    ("kind", "every_us", "calls"),
    (
        pytest.param(SlidingWindow(100, 3_600_000), 37_500_000, 23_040, id="window at 96 %"),
        pytest.param(SlidingWindow(24, 3_600_000), 156_250_000, 5_529, id="window of few"),
        pytest.param(TokenBucket(100, 3_600_000, 1), 36_000_000, 24_000, id="bucket at 100 %"),
        pytest.param(TokenBucket(7, 1_000_000, 1), 142_857_143, 6_048, id="bucket with a fraction"),
    ),
)
def test_steady_traffic_always_passes(
    script: ScriptedRates, kind: TokenBucket | SlidingWindow, every_us: int, calls: int
) -> None:
    """Ten days at 96 % of a window, or at exactly a bucket's rate: not one call is denied."""
    script.client.flushdb()
    assert every_us * calls > 9.99 * DAY_US
    metered = one_limit(kind)
    for begin in range(0, calls, BATCH):
        numbers = range(begin, min(calls, begin + BATCH))
        decided = script.decide_all([(metered, 1, False, BEGINNING_US + number * every_us) for number in numbers])
        assert [number for number, one in zip(numbers, decided, strict=True) if not one.admitted] == []


def test_the_greatest_numbers_are_exact(script: ScriptedRates) -> None:
    """Nothing is rounded where doubles end: a bucket of 2^53 units is short of exactly what was taken."""
    script.client.flushdb()
    size = EXACT_MAX - EXACT_MAX % COUNT_MAX
    metered = Metered([BucketRate("greatest", "greatest", COUNT_MAX, size // COUNT_MAX, 1, size)], [], order=[0])
    first = script.decide(metered, cost=COUNT_MAX - 1, peek=False, now_us=BEGINNING_US)
    assert first == Decision(True, (Level(1, size - size // COUNT_MAX),))
    denied = script.decide(metered, cost=2, peek=False, now_us=BEGINNING_US + 5)
    assert denied == Decision(False, (Level(1, size - size // COUNT_MAX - 5, size // COUNT_MAX - 5),))
    window = Metered([WindowRate("all", "all", COUNT_MAX, 31_250)], [], order=[0])
    assert script.decide(window, cost=COUNT_MAX, peek=False, now_us=BEGINNING_US).levels[0].remaining == 0
    assert not script.decide(window, cost=1, peek=False, now_us=BEGINNING_US).admitted


def test_what_denies_leaves_no_trace(script: ScriptedRates) -> None:
    """A denied call, a peek and a free call write nothing, so that nobody fills Redis by being denied."""
    script.client.flushdb()
    both = compiled(
        (Limit("a", On.KEY, TokenBucket(1, 1_000, 5)), Limit("b", On.KEY, SlidingWindow(3, 60_000))), SUBJECTS[0]
    )
    assert not script.decide(both, cost=4, peek=False, now_us=BEGINNING_US).admitted
    assert script.decide(both, cost=3, peek=True, now_us=BEGINNING_US).admitted
    assert script.decide(both, cost=0, peek=False, now_us=BEGINNING_US).admitted
    assert script.client.dbsize() == 0
    assert script.decide(both, cost=3, peek=False, now_us=BEGINNING_US).admitted
    before = {counter: script.client.dump(counter) for counter in script.client.scan_iter()}
    assert len(before) == 2
    assert not script.decide(both, cost=1, peek=False, now_us=BEGINNING_US + 999).admitted
    assert {counter: script.client.dump(counter) for counter in script.client.scan_iter()} == before


@pytest.mark.parametrize("back_us", (0, 3_600_000_000))
@pytest.mark.parametrize(
    ("kind", "whole_after_us"),
    (
        pytest.param(TokenBucket(1, 1_000, 60), 30_000_000, id="bucket"),
        pytest.param(SlidingWindow(60, 32_000), 33_000_000, id="window"),
    ),
)
def test_counters_outlive_what_they_remember(
    script: ScriptedRates, kind: TokenBucket | SlidingWindow, whole_after_us: int, back_us: int
) -> None:
    """A counter is kept until it is whole again by its own clock, also after the clock went back, and little longer."""
    script.client.flushdb()
    metered = one_limit(kind)
    script.decide(metered, cost=15, peek=False, now_us=BEGINNING_US)
    script.decide(metered, cost=15, peek=False, now_us=BEGINNING_US - back_us)
    kept_ms = script.client.pttl(KEY_PREFIX + metered.rates[0].counter)
    assert 0 < kept_ms - (whole_after_us + back_us) / 1_000 < 6_000


def one_limit(kind: TokenBucket | SlidingWindow) -> Metered:
    """Compile one limit on a key."""
    return compiled((Limit("steady", On.KEY, kind),), SUBJECTS[0])
