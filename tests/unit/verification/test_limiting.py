"""Limits in the way of a verification: all or nothing, a denial costs nothing, and an outage does what was chosen."""

from __future__ import annotations

import asyncio

import pytest

from keystead.kernel.limit import Credits, Limit, On, OutagePolicy, Period, Quota, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled
from keystead.limits.model import NEVER_US, Metered
from keystead.verification.limiting import AWAY_WAIT_US, Limited, LimitState
from tests.limiters import FakeLimiter

WINDOW = Limit("requests", On.KEY, SlidingWindow(100, 60_000))
BUCKET = Limit("burst", On.KEY, TokenBucket(10, 1_000, 20))
QUOTA = Limit("daily", On.KEY, Quota(1_000, Period.DAY))
CREDITS = Limit("credit", On.KEY, Credits(500, 10, 60_000, 900))
SUBJECT = Subject("wsp_1", "live", "owner", "key_1")


def metered(*limits: Limit, on_outage: OutagePolicy = OutagePolicy.DENY) -> Metered:
    """Prepare limits of one key."""
    return compiled(limits, SUBJECT, on_outage)


async def both(fake: FakeLimiter, limits: Metered, *, waits: bool, cost: int = 1, peek: bool = False) -> Limited:
    """Decide at once, or the long way when the store of rates has to be awaited."""
    fake.rates.waits = waits
    now = fake.limiter.decide_now(limits, cost=cost, peek=peek)
    if now is not None:
        return now
    return await fake.limiter.decide(limits, cost=cost, peek=peek)


@pytest.mark.parametrize("waits", (False, True))
async def test_an_admitted_call_spends_of_everything_and_is_told_where_it_stands(*, waits: bool) -> None:
    """In the order in which limits are written, with the one that has the least left as the binding one."""
    fake = FakeLimiter()
    fake.rates.left, fake.allowances.left = 50, 30
    limited = await both(fake, metered(QUOTA, WINDOW), waits=waits, cost=5)
    assert limited.admitted
    assert limited.states == (
        LimitState("daily", 1_000, 86_400, 25, 60_000_000, 0),
        LimitState("requests", 100, 60, 45, 7_000_000, 0),
    )
    assert (limited.binding, limited.by_rate, limited.retry_after_us) == ("daily", False, 0)
    assert fake.limiter.measures.admitted == 1


@pytest.mark.parametrize("waits", (False, True))
async def test_what_rates_deny_is_put_back_into_allowances(*, waits: bool) -> None:
    """A denied call spends nothing, whichever limit denied it (P4)."""
    fake = FakeLimiter()
    fake.rates.left, fake.allowances.left = 2, 30
    limited = await both(fake, metered(WINDOW, CREDITS), waits=waits, cost=3)
    assert (limited.admitted, limited.binding, limited.by_rate) == (False, "requests", True)
    assert limited.retry_after_us == 3_000_000
    assert (fake.rates.left, fake.allowances.left) == (2, 30)
    assert [state.remaining for state in limited.states] == [2, 30]
    assert fake.limiter.measures.denied == 1


@pytest.mark.parametrize("waits", (False, True))
async def test_what_an_allowance_denies_is_not_spent_of_rates(*, waits: bool) -> None:
    """The rates are only looked at, so that the answer tells of them too."""
    fake = FakeLimiter()
    fake.rates.left, fake.allowances.left = 50, 0
    limited = await both(fake, metered(BUCKET, QUOTA), waits=waits)
    assert (limited.admitted, limited.binding, limited.by_rate) == (False, "daily", False)
    assert limited.retry_after_us == 9_000_000
    assert fake.rates.asked == [(1, True)]
    assert fake.rates.left == 50


async def test_the_longest_wait_binds_and_for_ever_is_the_longest() -> None:
    """A client that waits as told is admitted by all of them."""
    fake = FakeLimiter()
    fake.rates.left = fake.allowances.left = 0
    assert (await both(fake, metered(WINDOW, QUOTA), waits=False)).retry_after_us == 9_000_000
    fake.allowances.wait_us = NEVER_US
    limited = await both(fake, metered(WINDOW, QUOTA), waits=False)
    assert (limited.binding, limited.retry_after_us) == ("daily", NEVER_US)


@pytest.mark.parametrize("waits", (False, True))
async def test_a_peek_spends_nothing(*, waits: bool) -> None:
    """It tells what would be, of a call that would pass and of one that would not."""
    fake = FakeLimiter()
    fake.rates.left = fake.allowances.left = 5
    assert (await both(fake, metered(WINDOW, QUOTA), waits=waits, cost=5, peek=True)).admitted
    fake.rates.left = 4
    assert not (await both(fake, metered(WINDOW, QUOTA), waits=waits, cost=5, peek=True)).admitted
    assert (fake.rates.left, fake.allowances.left) == (4, 5)


async def test_a_cold_allowance_is_awaited_before_anything_is_spent() -> None:
    """Deciding at once says so, and leaves everything as it was."""
    fake = FakeLimiter()
    fake.allowances.cold = True
    assert fake.limiter.decide_now(metered(QUOTA), cost=1, peek=False) is None
    assert (await fake.limiter.decide(metered(QUOTA), cost=1, peek=False)).admitted
    assert fake.allowances.left == 999_999
    assert fake.limiter.decide_now(metered(QUOTA), cost=1, peek=False) is not None
    assert fake.allowances.left == 999_998


async def test_rates_that_must_be_awaited_leave_allowances_as_they_were() -> None:
    """Nothing is taken twice when the call goes the long way."""
    fake = FakeLimiter()
    fake.rates.waits = True
    assert fake.limiter.decide_now(metered(WINDOW), cost=1, peek=False) is None
    assert fake.limiter.decide_now(metered(WINDOW, QUOTA), cost=1, peek=False) is None
    assert fake.allowances.left == 1_000_000
    fake.allowances.left = 0
    assert fake.limiter.decide_now(metered(WINDOW, QUOTA), cost=1, peek=False) is None
    assert fake.allowances.left == 0


@pytest.mark.parametrize("limits", ((WINDOW, QUOTA), (WINDOW,)))
@pytest.mark.parametrize("peek", (False, True))
async def test_a_caller_who_leaves_takes_no_allowance_with_him(limits: tuple[Limit, ...], *, peek: bool) -> None:
    """What a cancelled call took is there for others."""
    fake = FakeLimiter()
    fake.rates.hold = asyncio.Event()
    call = asyncio.create_task(fake.limiter.decide(metered(*limits), cost=3, peek=peek))
    await asyncio.sleep(0)
    assert fake.allowances.left == (999_997 if QUOTA in limits and not peek else 1_000_000)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert fake.allowances.left == 1_000_000


@pytest.mark.parametrize("waits", (False, True))
async def test_away_denies_when_the_plan_says_so(*, waits: bool) -> None:
    """The call is told to come back, and the allowance it took is put back."""
    fake = FakeLimiter()
    fake.rates.away = True
    limited = await both(fake, metered(WINDOW, QUOTA), waits=waits)
    assert (limited.admitted, limited.degraded, limited.binding) == (False, True, "requests")
    assert limited.retry_after_us == AWAY_WAIT_US
    assert fake.allowances.left == 1_000_000
    assert fake.limiter.measures.denied_away == 1


@pytest.mark.parametrize("waits", (False, True))
async def test_away_admits_when_the_plan_says_so_but_allowances_hold(*, waits: bool) -> None:
    """Nothing is told of rates that nobody knows, and quotas have no exception."""
    fake = FakeLimiter()
    fake.rates.away = True
    limits = metered(WINDOW, QUOTA, on_outage=OutagePolicy.ALLOW)
    fake.allowances.left = 1
    limited = await both(fake, limits, waits=waits)
    assert (limited.admitted, limited.degraded, limited.binding) == (True, True, "daily")
    assert [state.name for state in limited.states] == ["daily"]
    assert not (await both(fake, limits, waits=waits)).admitted
    assert fake.limiter.measures.allowed_away == 2
    alone = await both(fake, metered(WINDOW, on_outage=OutagePolicy.ALLOW), waits=waits)
    assert (alone.admitted, alone.degraded, alone.binding, alone.states) == (True, True, "", ())


@pytest.mark.parametrize("waits", (False, True))
async def test_away_counts_a_share_here_when_the_plan_says_so(*, waits: bool) -> None:
    """Each process for itself, until its own share is spent or it cannot count either."""
    fake = FakeLimiter()
    fake.rates.away = True
    fake.local.left = 1
    limits = metered(WINDOW, on_outage=OutagePolicy.LOCAL)
    first, second = [await both(fake, limits, waits=waits) for _ in range(2)]
    assert (first.admitted, first.degraded, second.admitted, second.degraded) == (True, True, False, True)
    assert fake.shared == [limits, limits]
    fake.local.away = True
    third = await both(fake, limits, waits=waits)
    assert (third.admitted, third.degraded, third.retry_after_us) == (False, True, AWAY_WAIT_US)
    fake.local.away, fake.local.waits = False, True
    assert not (await both(fake, limits, waits=waits)).admitted
    assert (fake.limiter.measures.local_away, fake.limiter.measures.denied_away) == (4, 2)


async def test_what_was_counted_here_ends_with_the_outage() -> None:
    """The next outage begins empty again, however soon it comes; without one nothing is cleared."""
    fake = FakeLimiter()
    limits = metered(WINDOW, on_outage=OutagePolicy.LOCAL)
    for away in (False, True, True, False, False):
        fake.rates.away = away
        await both(fake, limits, waits=True)
    assert fake.local.forgotten == ["*"]


async def test_a_level_that_is_gone_when_it_is_looked_at_again_is_told_as_it_was() -> None:
    """What an allowance held may be fetched away between a denial and its answer; the answer is given all the same."""
    fake = FakeLimiter()
    fake.rates.left, fake.allowances.left, fake.allowances.unseen = 0, 5, True
    limited = await both(fake, metered(WINDOW, QUOTA), waits=False)
    assert [state.remaining for state in limited.states] == [0, 4]
    assert fake.allowances.left == 5
