"""P4 at every store of rates, whichever counts: the process's own memory, or a Redis that processes share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from keystead.adapters.memory.rates import MemoryRates
from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.rates import RedisRates
from keystead.kernel.clock import SystemClock
from keystead.kernel.limit import Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled
from keystead.limits.model import NEVER_US, Decision, Level, Metered
from keystead.limits.ports import RateStore
from tests.services import PrivateRedis

BUCKET = TokenBucket(1, 86_400_000, 5)
WINDOW = SlidingWindow(5, 86_400_000)
_numbers = itertools.count(1)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RateStore]:
    """Lend each store; whatever it has counted already is of other subjects."""
    if request.param == "memory":
        yield MemoryRates(SystemClock())
        return
    server: PrivateRedis = request.getfixturevalue("redis")
    rates = RedisRates(RedisAddress.parse(server.url()), timeout_ms=5_000)  # a busy machine is not a failure
    await rates.start()
    yield rates
    await rates.close()


@pytest.fixture
def subject() -> Subject:
    """Name a key that nobody has used."""
    number = next(_numbers)
    return Subject(f"wsp_{number}", "live", "acme", f"key_{number}")


@pytest.fixture(params=["bucket", "window"])
def kind(request: pytest.FixtureRequest) -> TokenBucket | SlidingWindow:
    """Lend one limit of each kind: 5 at once, and long nothing more."""
    return BUCKET if request.param == "bucket" else WINDOW


async def decide(store: RateStore, metered: Metered, *, cost: int = 1, peek: bool = False) -> Decision:
    """Ask as a verifier does: without awaiting where that can be."""
    at_once = store.decide_now(metered, cost=cost, peek=peek)
    return at_once if at_once is not None else await store.decide(metered, cost=cost, peek=peek)


def on_key(subject: Subject, *kinds: TokenBucket | SlidingWindow) -> Metered:
    """Compile limits of a key."""
    return compiled([Limit(f"limit_{place}", On.KEY, kind) for place, kind in enumerate(kinds)], subject)


def remaining(decision: Decision) -> list[int]:
    """Return what is left of each limit."""
    return [level.remaining for level in decision.levels]


async def test_admits_its_limit_and_no_more(
    store: RateStore, subject: Subject, kind: TokenBucket | SlidingWindow
) -> None:
    """What is left counts down to 0; then calls are denied and told how long, and nothing is spent by that."""
    asked = on_key(subject, kind)
    for left in (4, 3, 2, 1, 0):
        decision = await decide(store, asked)
        assert (decision.admitted, remaining(decision), decision.levels[0].wait_us) == (True, [left], 0)
        assert decision.levels[0].reset_after_us > 0
    waits_us = []
    for _ in range(3):
        decision = await decide(store, asked)
        assert (decision.admitted, remaining(decision)) == (False, [0])
        assert 0 < decision.levels[0].wait_us <= decision.levels[0].reset_after_us
        waits_us.append(decision.levels[0].wait_us)
    assert waits_us == sorted(waits_us, reverse=True)


async def test_costs_what_it_costs(store: RateStore, subject: Subject, kind: TokenBucket | SlidingWindow) -> None:
    """A call spends its cost, whole or not at all; what costs more than there ever is waits for ever."""
    asked = on_key(subject, kind)
    assert remaining(await decide(store, asked, cost=3)) == [2]
    assert not (await decide(store, asked, cost=3)).admitted
    dear = await decide(store, asked, cost=6)
    assert (dear.admitted, dear.levels[0].wait_us) == (False, NEVER_US)
    assert remaining(await decide(store, asked, cost=2)) == [0]


async def test_all_limits_or_none(store: RateStore, subject: Subject) -> None:
    """One limit that denies keeps all others from spending; each says for itself whether it would have admitted."""
    small, large, other = SlidingWindow(2, 60_000), TokenBucket(1, 86_400_000, 9), SlidingWindow(7, 86_400_000)
    asked = on_key(subject, large, small, other)
    assert remaining(await decide(store, asked, cost=2)) == [7, 0, 5]
    denied = await decide(store, asked)
    assert (denied.admitted, remaining(denied)) == (False, [7, 0, 5])
    assert [level.wait_us > 0 for level in denied.levels] == [False, True, False]


async def test_a_peek_spends_nothing(store: RateStore, subject: Subject, kind: TokenBucket | SlidingWindow) -> None:
    """A peek tells what would be decided and how it stands now."""
    asked = on_key(subject, kind)
    for _ in range(3):
        assert await decide(store, asked, cost=5, peek=True) == Decision(True, (Level(5, 0),))
    assert not (await decide(store, asked, cost=6, peek=True)).admitted
    assert remaining(await decide(store, asked, cost=5)) == [0]
    assert not (await decide(store, asked, peek=True)).admitted


async def test_free_calls_pass(store: RateStore, subject: Subject, kind: TokenBucket | SlidingWindow) -> None:
    """A call that costs nothing passes, also when nothing is left."""
    asked = on_key(subject, kind)
    assert remaining(await decide(store, asked, cost=5)) == [0]
    free = await decide(store, asked, cost=0)
    assert (free.admitted, remaining(free)) == (True, [0])


@pytest.mark.parametrize("nothing", (SlidingWindow(0, 60_000), TokenBucket(0, 1_000, 5), TokenBucket(5, 1_000, 0)))
@pytest.mark.parametrize("cost", (0, 1))
async def test_a_limit_of_nothing_denies_always(
    store: RateStore, subject: Subject, nothing: TokenBucket | SlidingWindow, cost: int
) -> None:
    """A limit of 0 denies free calls as well, for ever, and spends nothing of what stands beside it."""
    asked = on_key(subject, WINDOW, nothing)
    decision = await decide(store, asked, cost=cost)
    assert decision == Decision(False, (Level(5, 0), Level(0, 0, NEVER_US)))


async def test_no_limits_admit(store: RateStore, subject: Subject) -> None:
    """A key without any rate is admitted, and nothing is told of any."""
    assert await decide(store, compiled([], subject)) == Decision(True, ())


async def test_numbers_may_change(store: RateStore, subject: Subject) -> None:
    """Another number keeps what was spent; another length starts anew."""
    assert remaining(await decide(store, on_key(subject, BUCKET, WINDOW), cost=3)) == [2, 2]
    more = on_key(subject, replace(BUCKET, rate=2, burst=9), replace(WINDOW, limit=9))
    assert remaining(await decide(store, more)) == [5, 5]
    less = await decide(store, on_key(subject, replace(BUCKET, burst=3), replace(WINDOW, limit=3)))
    assert (less.admitted, remaining(less)) == (False, [0, 0])
    anew = on_key(subject, replace(BUCKET, per_ms=3_600_000), replace(WINDOW, window_ms=3_600_000))
    assert remaining(await decide(store, anew)) == [4, 4]


async def test_each_counts_for_itself(store: RateStore, subject: Subject) -> None:
    """Keys and environments are apart; what is on an owner is shared by its keys."""
    mine = (Limit("mine", On.KEY, WINDOW), Limit("ours", On.OWNER, BUCKET))
    assert remaining(await decide(store, compiled(mine, subject), cost=3)) == [2, 2]
    sibling = replace(subject, key_id="key_other")
    assert remaining(await decide(store, compiled(mine, sibling), cost=2)) == [3, 0]
    assert remaining(await decide(store, compiled(mine, replace(subject, environment="test")))) == [4, 4]


async def test_a_reset_forgets_what_it_names(store: RateStore, subject: Subject) -> None:
    """A counter that was reset is whole at once; others keep what was spent."""
    asked = on_key(subject, BUCKET, WINDOW)
    assert remaining(await decide(store, asked, cost=5)) == [0, 0]
    await store.reset([asked.rates[0].counter])
    assert remaining(await decide(store, asked, cost=0)) == [5, 0]
    await store.reset([rate.counter for rate in asked.rates])
    assert remaining(await decide(store, asked, cost=5)) == [0, 0]
    await store.reset([])


async def test_callers_at_once_share_the_limit(
    store: RateStore, subject: Subject, kind: TokenBucket | SlidingWindow
) -> None:
    """However many ask in one moment, exactly as many are admitted as there is."""
    asked = on_key(subject, kind)
    decisions = await asyncio.gather(*[decide(store, asked) for _ in range(200)])
    assert sorted(remaining(one)[0] for one in decisions if one.admitted) == [0, 1, 2, 3, 4]
