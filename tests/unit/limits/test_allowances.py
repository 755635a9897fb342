"""Handing out quotas and credits: never over, in blocks that meet the thresholds exactly, and given back once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import COUNT_MAX, Credits, Period
from keystead.limits.allowances import BLOCK_MAX, adjust, give_back, look, reset, take
from keystead.limits.model import Allowance, Taken
from keystead.limits.periods import FOR_EVER_MS, span_of
from tests.allowances import Shop, credits_of, quota
from tests.fakes import WORKSPACE_ID

DAY_MS = 86_400_000


async def taken(shop: Shop, of: Allowance, wanted: int = 1, *, least: int = 0) -> Taken:
    """Take in a unit of its own."""
    async with shop.unit() as unit:
        return await take(unit, of, wanted, shop.now_ms, least=least)


async def looked(shop: Shop, of: Allowance) -> Taken:
    """Look in a unit of its own."""
    async with shop.units.read(None) as unit:
        return await look(unit, of, shop.now_ms)


async def given_back(shop: Shop, of: Allowance, block: Taken, amount: int) -> bool:
    """Give back in a unit of its own."""
    async with shop.unit() as unit:
        return await give_back(unit, of, block, amount, shop.now_ms)


async def adjusted(shop: Shop, of: Allowance, delta: int, reason: str = "") -> int:
    """Adjust in a unit of its own."""
    async with shop.unit() as unit:
        return await adjust(unit, of, delta, shop.now_ms, target="key_1", reason=reason)


async def was_reset(shop: Shop, of: Allowance) -> None:
    """Reset in a unit of its own."""
    async with shop.unit() as unit:
        await reset(unit, of, shop.now_ms)


async def exhausted(shop: Shop, of: Allowance) -> list[int]:
    """Take singly until nothing is left; return the sizes of the blocks."""
    blocks = []
    while granted := (await taken(shop, of)).granted:
        blocks.append(granted)
    return blocks


async def test_a_block_is_a_sixteenth_of_what_is_left_before_the_threshold() -> None:
    """Blocks shrink towards 80 % and towards 100 %, sum up to the limit exactly, and end with single units."""
    shop, of = Shop(), quota(1_000)
    blocks = await exhausted(shop, of)
    assert blocks[0] == 50
    assert sum(blocks) == 1_000 == shop.amount(of)
    reached = [sum(blocks[:count]) for count in range(len(blocks) + 1)]
    assert {0, 799, 800, 999, 1_000} <= set(reached)
    first_after = blocks[reached.index(800)]
    assert first_after == 200 // 16
    assert await taken(shop, of) == Taken(0, 0, *span_of(of.kind, shop.now_ms))


async def test_a_block_is_bounded_and_at_least_what_is_wanted() -> None:
    """No block is greater than ten thousand, unless calls want more than that themselves."""
    shop, of = Shop(), quota(COUNT_MAX)
    assert (await taken(shop, of)).granted == BLOCK_MAX
    assert (await taken(shop, of, 25_000)).granted == 25_000
    assert (await taken(shop, credits_of(COUNT_MAX))).granted == BLOCK_MAX
    assert (await taken(shop, quota(5, name="small"), 3)).granted == 3


async def test_what_is_left_is_taken_when_it_helps_somebody() -> None:
    """Calls that wait together get what is left, if it is enough for the cheapest of them; else it stays."""
    shop = Shop()
    for of in (quota(10), credits_of(10)):
        assert (await taken(shop, of, 11)).granted == 0
        assert (await taken(shop, of, 11, least=11)).granted == 0
        assert (await taken(shop, of, 30, least=10)).granted == 10
        assert (await taken(shop, of)).granted == 0


async def test_each_threshold_is_told_of_once() -> None:
    """80 % and 100 % are told of in the transaction that reaches them, whatever happens after in the same period."""
    shop, of = Shop(), quota(10)
    for _ in range(7):
        await taken(shop, of)
    assert shop.levels() == []
    block = await taken(shop, of)
    assert shop.levels() == [80]
    change = shop.changes[-1]
    assert (change.action, change.target, change.owner_id) == (Action.QUOTA_THRESHOLD_REACHED, of.counter, "o")
    assert (change.workspace_id, change.environment) == (WORKSPACE_ID, "live")
    assert change.changes["taken"] == (None, 8)
    assert await given_back(shop, of, block, 1)
    await taken(shop, of)
    assert shop.levels() == [80]
    await exhausted(shop, of)
    assert shop.levels() == [80, 100]
    await exhausted(shop, quota(20))
    assert shop.levels() == [80, 100]


async def test_a_call_may_cross_both_thresholds() -> None:
    """One that takes everything raises both events, in their order."""
    shop = Shop()
    await taken(shop, quota(10), 10)
    assert shop.levels() == [80, 100]


async def test_a_unit_that_fails_tells_of_nothing_and_takes_nothing() -> None:
    """The event and what was taken are one: both or neither (P6)."""
    shop, of = Shop(), quota(1)

    async def fail() -> None:
        async with shop.unit() as unit:
            await take(unit, of, 1, shop.now_ms)
            raise RuntimeError("too late")

    with pytest.raises(RuntimeError):
        await fail()
    assert (shop.changes, shop.row(of)) == ([], None)


async def test_the_next_period_begins_with_nothing_taken() -> None:
    """What was taken counts until the period ends, and its events come again in the next."""
    shop, of = Shop(), quota(3, Period.DAY)
    await exhausted(shop, of)
    shop.clock.advance(DAY_MS)
    assert (await looked(shop, of)).left == 3
    await exhausted(shop, of)
    assert shop.levels() == [80, 100, 80, 100]


async def test_changing_the_number_keeps_what_was_spent() -> None:
    """A lowered limit hands out nothing more, one that is raised the difference; ``left`` says so."""
    shop = Shop()
    await exhausted(shop, quota(10))
    assert (await taken(shop, quota(5))).left == -5
    assert (await taken(shop, quota(5))).granted == 0
    assert sum(await exhausted(shop, quota(12))) == 2


async def test_a_soft_quota_never_ends() -> None:
    """It hands out whatever is wanted, counts beyond its limit, and tells of its thresholds; also when it is 0."""
    shop, of = Shop(), quota(100, soft=True)
    for _ in range(200):
        await taken(shop, of)
    assert shop.amount(of) > 200
    assert shop.levels() == [80, 100]
    assert (await looked(shop, of)).left == 100 - shop.amount(of)
    none = quota(0, soft=True, name="none")
    assert (await taken(shop, none, 7)).granted == 7
    assert shop.levels() == [80, 100, 80, 100]


async def test_a_quota_of_nothing_hands_out_nothing() -> None:
    """A limit of 0 denies always."""
    shop = Shop()
    assert (await taken(shop, quota(0))).granted == 0
    assert (await taken(shop, credits_of(0))).granted == 0
    assert shop.changes == []


async def test_looking_takes_nothing() -> None:
    """A look leaves no row behind, and tells what a take would find, refills included."""
    shop, of = Shop(), credits_of(5, refill=2, refill_every_ms=1_000)
    assert await looked(shop, of) == Taken(0, 5, 0, FOR_EVER_MS, refills_at_ms=shop.now_ms + 1_000)
    assert shop.row(of) is None
    await taken(shop, of)
    shop.clock.advance(1_500)
    assert await looked(shop, of) == Taken(0, 6, 0, FOR_EVER_MS, refills_at_ms=shop.now_ms + 500)
    assert shop.amount(of) == 4


async def test_what_is_given_back_can_be_had_again() -> None:
    """Quotas and credits take back what was not spent; a quota of which less was taken begins at nothing again."""
    shop = Shop()
    for of in (quota(10), credits_of(10)):
        block = await taken(shop, of, 10)
        assert await given_back(shop, of, block, 4)
        assert (await looked(shop, of)).left == 4
    one = quota(10)
    assert await given_back(shop, one, await taken(shop, one), 50)
    assert shop.amount(one) == 0
    much = credits_of(COUNT_MAX, name="much")
    assert await given_back(shop, much, await taken(shop, much), COUNT_MAX)
    assert shop.amount(much) == COUNT_MAX


async def test_what_is_over_cannot_be_given_back() -> None:
    """A period that ended, a row that is gone and a counter that was reset meanwhile take nothing back."""
    shop, of = Shop(), quota(10, Period.DAY)
    block = await taken(shop, of, 5)
    assert not await given_back(shop, of, replace_period(block), 5)
    await was_reset(shop, of)
    await taken(shop, of, 7)
    assert not await given_back(shop, of, block, 5)
    assert shop.amount(of) == 7
    shop.clock.advance(DAY_MS)
    assert not await given_back(shop, of, block, 5)


def replace_period(block: Taken) -> Taken:
    """Make a block of the next period of the same length."""
    length_ms = block.ends_at_ms - block.begins_at_ms
    return block._replace(begins_at_ms=block.ends_at_ms, ends_at_ms=block.ends_at_ms + length_ms)


async def test_a_reset_begins_anew() -> None:
    """A quota is whole again, credits have their first balance, and thresholds are told of again."""
    shop, of, balance = Shop(), quota(10), credits_of(10)
    for each in (of, balance):
        await exhausted(shop, each)
        await was_reset(shop, each)
        assert sum(await exhausted(shop, each)) == 10
    assert shop.levels() == [80, 100, 80, 100]
    untouched = quota(10, name="untouched")
    await was_reset(shop, untouched)
    assert (await looked(shop, untouched)).left == 10


async def test_refills_come_whole_and_on_time() -> None:
    """A refill comes every so often since the first use, however seldom somebody asks, and not above the maximum."""
    shop, of = Shop(), credits_of(10, refill=3, refill_every_ms=1_000, maximum=12)
    await exhausted(shop, of)
    shop.clock.advance(999)
    assert (await taken(shop, of)).granted == 0
    shop.clock.advance(1)
    assert sum(await exhausted(shop, of)) == 3
    shop.clock.advance(2_999)
    assert sum(await exhausted(shop, of)) == 6
    shop.clock.advance(1)
    assert sum(await exhausted(shop, of)) == 3
    shop.clock.advance(1_000_000)
    assert (await looked(shop, of)).left == 12
    shop.clock.set_wall(shop.now_ms - 5_000_000)
    assert (await looked(shop, of)).left == 0


async def test_a_maximum_takes_nothing_away() -> None:
    """A balance that was adjusted above the maximum stays; without a maximum it is bounded by the greatest count."""
    shop = Shop()
    of = credits_of(10, refill=3, refill_every_ms=1_000, maximum=12)
    assert await adjusted(shop, of, 90) == 100
    shop.clock.advance(5_000)
    assert (await looked(shop, of)).left == 100
    endless = credits_of(10, refill=COUNT_MAX, refill_every_ms=1_000, name="endless")
    await taken(shop, endless)
    shop.clock.advance(100_000)
    assert (await looked(shop, endless)).left == COUNT_MAX


async def test_a_refill_that_is_added_later_does_not_reach_into_the_past() -> None:
    """Time without a refill is gone when one is added."""
    shop = Shop()
    await taken(shop, credits_of(10))
    shop.clock.advance(100_000)
    await taken(shop, credits_of(10))
    shop.clock.advance(1_500)
    assert (await looked(shop, credits_of(10, refill=5, refill_every_ms=1_000))).left == 8 + 5


@given(
    waits_ms=st.lists(st.integers(0, 5_000), max_size=20),
    every_ms=st.integers(1_000, 3_000),
    refill=st.integers(1, 20),
)
def test_no_time_is_lost_between_refills(waits_ms: list[int], every_ms: int, refill: int) -> None:
    """Whenever somebody asked, the sum of refills is what the whole time since the first use brings."""

    async def check() -> None:
        shop, of = Shop(), credits_of(0, refill, every_ms)
        got = sum(await exhausted(shop, of))
        await was_reset(shop, of)
        for wait_ms in waits_ms:
            shop.clock.advance(wait_ms)
            got += (await taken(shop, of, 7, least=1)).granted
        got += (await taken(shop, of, COUNT_MAX, least=1)).granted
        assert got == sum(waits_ms) // every_ms * refill

    asyncio.run(check())


async def test_adjusting_credits() -> None:
    """A balance is added to and taken from within its bounds, and the change is told with both balances."""
    shop, of = Shop(), credits_of(10)
    assert await adjusted(shop, of, 5, "goodwill") == 15
    assert await adjusted(shop, of, -15) == 0
    change = shop.changes[0]
    assert (change.action, change.target, change.reason) == (Action.CREDITS_ADJUSTED, "key_1", "goodwill")
    assert (change.owner_id, change.environment) == ("o", "live")
    assert change.changes == {"name": (None, "credits"), "balance": (10, 15)}
    for wrong, field in ((-1, "delta"), (COUNT_MAX + 1, "delta")):
        with pytest.raises(InvalidRequestError) as refusal:
            await adjusted(shop, of, wrong)
        assert [it.field for it in refusal.value.violations] == [field]
    with pytest.raises(InvalidRequestError, match="reason"):
        await adjusted(shop, of, 1, "r" * 501)
    with pytest.raises(InvalidRequestError, match="credits"):
        await adjusted(shop, quota(10), 1)
    assert len(shop.changes) == 2


async def test_an_adjustment_counts_refills_that_were_due() -> None:
    """What is due is in the balance that an adjustment begins from."""
    shop, of = Shop(), replace(credits_of(0), kind=Credits(0, 5, 1_000))
    await taken(shop, of)
    shop.clock.advance(2_000)
    assert await adjusted(shop, of, 1) == 11
