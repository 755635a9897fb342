"""A process's blocks: what it may spend without asking, what it asks for once, and what it says."""

from __future__ import annotations

import asyncio

import pytest

from keystead.kernel.errors import UnavailableError
from keystead.kernel.limit import COUNT_MAX, Period
from keystead.limits.allowances import adjust, reset, take
from keystead.limits.blocks import AWAY_MS, BELIEVED_MS, FLIGHTS_MAX, RETURNED_AT_ONCE, TRIPS_MAX, Blocks
from keystead.limits.held import Held, Key
from keystead.limits.model import NEVER_US, Allowance, Decision, Level, Taken
from keystead.limits.periods import span_of
from tests.allowances import Line, Shop, credits_of, process, quota, remaining, spend, spend_all

DAY_MS = 86_400_000


async def others_take(shop: Shop, of: Allowance, amount: int) -> None:
    """Let another process take ``amount``."""
    async with shop.unit() as unit:
        assert (await take(unit, of, amount, shop.now_ms)).granted >= amount


async def held_up(line: Line) -> None:
    """Wait until a trip stands before the closed gate."""
    await asyncio.wait_for(line.arrived.wait(), 5)


def close(line: Line) -> None:
    """Hold up every trip from now on."""
    line.gate.clear()
    line.arrived.clear()


async def test_a_block_is_fetched_once_and_then_spent_without_asking() -> None:
    """The first call asks; the calls after it do not, until the block is spent."""
    shop = Shop()
    blocks, line = process(shop)
    of = (quota(1_000),)
    assert blocks.take_now(of, cost=1, peek=False) is None
    first = await blocks.take(of, cost=1, peek=False)
    assert (first.admitted, remaining(first)) == (True, [999])
    for count in range(49):
        decision = blocks.take_now(of, cost=1, peek=False)
        assert decision is not None
        assert remaining(decision) == [998 - count]
    assert blocks.take_now(of, cost=1, peek=False) is None
    assert (line.begun, line.read_only) == (1, 0)
    assert shop.amount(of[0]) == 50


async def test_exactly_the_limit_is_admitted() -> None:
    """A limit of a thousand admits a thousand, whatever calls cost, and says until when the rest must wait."""
    for of in (quota(1_000), credits_of(1_000)):
        shop = Shop()
        blocks, _ = process(shop)
        assert await spend_all(blocks, of, cost=3) == 333
        assert await spend_all(blocks, of) == 1
        assert await spend_all(blocks, of) == 0


async def test_all_or_nothing() -> None:
    """When one allowance denies, nothing is spent of the others, and each says how it stands for itself."""
    shop = Shop()
    blocks, _ = process(shop)
    plenty, little, balance = quota(1_000), quota(2, name="little"), credits_of(1_000)
    assert await spend_all(blocks, plenty, little, balance) == 2
    denied = await spend(blocks, plenty, little, balance)
    assert remaining(denied) == [998, 0, 998]
    ends_us = (span_of(little.kind, shop.now_ms).ends_at_ms - shop.now_ms) * 1_000
    assert [level.wait_us for level in denied.levels] == [0, ends_us, 0]
    assert remaining(await spend(blocks, plenty, balance, peek=True)) == [998, 998]


async def test_what_was_taken_can_be_put_back() -> None:
    """A call that was denied after all costs nothing."""
    shop = Shop()
    blocks, _ = process(shop)
    of = (quota(10), credits_of(10))
    taken = await spend(blocks, *of, cost=4)
    blocks.put_back(taken)
    assert remaining(await spend(blocks, *of, peek=True)) == [10, 10]
    blocks.put_back(Decision(admitted=False, levels=()))
    assert await spend_all(blocks, *of) == 10


async def test_what_is_put_back_late_is_not_added_to_the_next_period() -> None:
    """A call that began in one period and is denied in the next gives nothing to the next."""
    shop, of = Shop(), quota(10, Period.DAY)
    blocks, _ = process(shop)
    late = await spend(blocks, of, cost=10)
    shop.clock.advance(DAY_MS)
    assert await spend_all(blocks, of, cost=5) == 2
    blocks.put_back(late)
    assert await spend_all(blocks, of) == 0


async def test_a_period_that_ends_drops_its_block() -> None:
    """What was left of a period's block is gone with it, and so is what was known; clocks may also go back."""
    shop, of = Shop(), quota(320, Period.DAY)
    blocks, _ = process(shop)
    await spend(blocks, of)
    shop.clock.advance(DAY_MS)
    assert blocks.take_now([of], cost=1, peek=False) is None
    assert remaining(await spend(blocks, of)) == [319]
    shop.clock.set_wall(shop.now_ms - DAY_MS)
    assert remaining(await spend(blocks, of)) == [320 - 16 - 1]


async def test_a_limit_of_zero_asks_nobody() -> None:
    """It denies always, also what costs nothing, and no wait helps."""
    shop, of = Shop(), quota(0, Period.DAY)
    blocks, line = process(shop)
    for cost in (0, 1):
        for peek in (False, True):
            decision = blocks.take_now([of], cost=cost, peek=peek)
            assert decision is not None
            assert not decision.admitted
            assert decision.levels[0].wait_us == NEVER_US
    shop.clock.advance(DAY_MS)
    denied = await spend(blocks, quota(5, name="other"), of)
    assert (denied.admitted, denied.levels[0].wait_us) == (False, 0)
    assert line.begun == 1
    await blocks.turn()
    await blocks.turn()
    assert len(blocks) == 0


async def test_what_costs_nothing_is_admitted() -> None:
    """A free call passes an allowance that is used up."""
    shop = Shop()
    blocks, _ = process(shop)
    of = (quota(2), credits_of(2))
    assert (await spend(blocks, *of, cost=0)).admitted
    assert await spend_all(blocks, *of) == 2
    assert (await spend(blocks, *of, cost=0)).admitted
    shop.clock.advance(BELIEVED_MS)
    assert (await spend(blocks, *of, cost=0, peek=True)).admitted


async def test_a_soft_quota_denies_nothing() -> None:
    """It counts beyond its limit, and nothing remains of it."""
    shop, of = Shop(), quota(10, soft=True)
    blocks, _ = process(shop)
    for _ in range(25):
        assert (await spend(blocks, of)).admitted
    assert remaining(await spend(blocks, of, cost=100, peek=True)) == [0]
    assert shop.levels() == [80, 100]
    assert shop.amount(of) == 25


async def test_waits_say_when_it_will_pass() -> None:
    """A quota waits for its period, credits for enough refills; what can never pass says so."""
    shop = Shop()
    blocks, _ = process(shop)
    monthly = quota(5)
    await spend(blocks, monthly, cost=5)
    ends_us = (span_of(monthly.kind, shop.now_ms).ends_at_ms - shop.now_ms) * 1_000
    assert (await spend(blocks, monthly, cost=5)).levels == (Level(0, ends_us, ends_us),)
    assert (await spend(blocks, monthly, cost=6)).levels == (Level(0, ends_us, NEVER_US),)
    never = credits_of(5, name="never")
    await spend(blocks, never, cost=5)
    assert (await spend(blocks, never)).levels == (Level(0, 0, NEVER_US),)
    refilled = credits_of(5, refill=2, refill_every_ms=1_000, maximum=6, name="refilled")
    assert (await spend(blocks, refilled, cost=5)).levels == (Level(0, 1_000_000),)
    shop.clock.advance(300)
    for cost, wait_us in ((1, 700_000), (2, 700_000), (3, 1_700_000), (6, 2_700_000), (7, NEVER_US)):
        assert (await spend(blocks, refilled, cost=cost)).levels == (Level(0, 700_000, wait_us),)
    shop.clock.advance(2_700)
    assert (await spend(blocks, refilled, cost=6)).admitted


async def test_a_refill_that_is_due_is_asked_for() -> None:
    """A call that waited exactly as long as it was told is admitted, however fresh what is known seems."""
    shop, of = Shop(), credits_of(1, refill=1, refill_every_ms=1_000)
    blocks, _ = process(shop)
    await spend(blocks, of)
    shop.clock.advance(990)
    assert (await spend(blocks, of)).levels == (Level(0, 10_000, 10_000),)
    shop.clock.advance(10)
    assert (await spend(blocks, of)).admitted


async def test_the_next_refill_is_known_without_asking() -> None:
    """A block that lasts over several refills says when the next is due."""
    shop, of = Shop(), credits_of(160, refill=1, refill_every_ms=1_000)
    blocks, _ = process(shop)
    await spend(blocks, of)
    shop.clock.advance(2_400)
    decision = blocks.take_now([of], cost=1, peek=False)
    assert decision is not None
    assert decision.levels[0].reset_after_us == 600_000


async def test_who_is_denied_costs_no_trip_each() -> None:
    """An allowance that is used up is remembered for half a second, then looked at once, without writing."""
    shop = Shop()
    for of in (quota(3), credits_of(3)):
        blocks, line = process(shop)
        await spend_all(blocks, of)
        begun = line.begun
        for _ in range(100):
            assert blocks.take_now([of], cost=1, peek=False) is not None
        shop.clock.advance(BELIEVED_MS)
        assert not (await spend(blocks, of)).admitted
        assert (line.begun, line.read_only) == (begun, 1)


async def test_what_others_change_is_seen_within_half_a_second() -> None:
    """Credits that were added, a quota that was reset or raised, and what somebody gave back are found (P3)."""
    shop, of, balance = Shop(), quota(4), credits_of(4)
    blocks, _ = process(shop)
    other, _ = process(shop)
    await spend(other, of, balance)
    assert await spend_all(blocks, of, balance) == 3
    assert (await spend(blocks, quota(5))).admitted
    async with shop.unit() as unit:
        await adjust(unit, balance, 2, shop.now_ms, target="key_1")
        await reset(unit, of, shop.now_ms)
    assert not (await spend(blocks, of, balance)).admitted
    shop.clock.advance(BELIEVED_MS)
    assert await spend_all(blocks, of, balance) == 2
    await spend(other, of)
    other.put_back(await spend(other, of))
    await other.release_all()
    shop.clock.advance(BELIEVED_MS)
    assert await spend_all(blocks, of) == 1


async def test_what_this_process_changes_is_seen_at_once() -> None:
    """A process that is told of a change does not wait until what it knows is old."""
    shop, balance = Shop(), credits_of(1)
    blocks, _ = process(shop)
    await spend_all(blocks, balance)
    async with shop.unit() as unit:
        await adjust(unit, balance, 2, shop.now_ms, target="key_1")
    blocks.ask_again([balance, quota(4)])
    assert await spend_all(blocks, balance) == 2


async def test_a_lowered_limit_hands_out_nothing_more() -> None:
    """A block that was taken by a higher number is not spent by a lower one that is reached; it can be by others."""
    shop = Shop()
    blocks, _ = process(shop)
    await others_take(shop, quota(1_000), 600)
    await spend(blocks, quota(1_000))
    assert not (await spend(blocks, quota(500))).admitted
    assert blocks.take_now([quota(1_000)], cost=1, peek=False) is not None


async def test_a_peek_spends_nothing() -> None:
    """It tells what would be, takes nothing from anybody, and is at most half a second old."""
    shop, of = Shop(), quota(100)
    blocks, line = process(shop)
    assert remaining(await spend(blocks, of, peek=True)) == [100]
    assert shop.row(of) is None
    assert blocks.take_now([of], cost=100, peek=True) is not None
    assert not (await spend(blocks, of, cost=101, peek=True)).admitted
    await others_take(shop, of, 40)
    shop.clock.advance(BELIEVED_MS)
    assert remaining(await spend(blocks, of, peek=True)) == [60]
    assert (line.begun, line.read_only) == (0, 2)
    await spend(blocks, of)
    shop.clock.advance(BELIEVED_MS)
    line.away = True
    assert (await spend(blocks, of, peek=True)).admitted
    shop.clock.advance(AWAY_MS)
    with pytest.raises(UnavailableError):
        await spend(blocks, of, cost=99, peek=True)


async def test_calls_that_wait_share_one_trip() -> None:
    """A hundred calls that find nothing ask once, for all of them."""
    shop = Shop()
    of = (quota(1_000), credits_of(1_000))
    blocks, line = process(shop)
    decisions = await asyncio.gather(*[blocks.take(of, cost=2, peek=False) for _ in range(100)])
    assert all(decision.admitted for decision in decisions)
    assert line.begun == 2
    assert shop.amount(of[0]) == 200


async def test_of_calls_that_wait_as_many_pass_as_can() -> None:
    """When there is not enough for all, what is left is shared out: a dear call is not in the way of a cheap one."""
    shop, of = Shop(), quota(10)
    blocks, _ = process(shop)
    decisions = await asyncio.gather(*[blocks.take([of], cost=cost, peek=False) for cost in (50, 4, 4, 4)])
    assert [decision.admitted for decision in decisions] == [False, True, True, False]
    assert shop.amount(of) == 10


async def test_a_call_that_comes_during_a_trip_takes_the_next() -> None:
    """A trip brings what was wanted when it left; who came later goes again."""
    shop, of = Shop(), quota(10)
    blocks, line = process(shop)
    close(line)
    early = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    await held_up(line)
    late = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    peek = asyncio.create_task(blocks.take([of], cost=1, peek=True))
    await asyncio.sleep(0)
    line.gate.set()
    assert [decision.admitted for decision in await asyncio.gather(early, late, peek)] == [True] * 3
    assert (line.begun, shop.amount(of)) == (2, 2)


async def test_a_call_that_is_cancelled_harms_no_other() -> None:
    """Callers share a trip, and none can cancel it for another; what it brings is not lost."""
    shop, of = Shop(), quota(10)
    blocks, line = process(shop)
    close(line)
    first = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    second = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    await held_up(line)
    first.cancel()
    line.gate.set()
    assert (await second).admitted
    assert blocks.take_now([of], cost=1, peek=False) is not None


async def test_a_block_is_spent_while_the_database_is_away() -> None:
    """What a process holds may be spent; after that a call fails as unavailable, and is never let through (P10)."""
    shop, of = Shop(), quota(1_000)
    blocks, line = process(shop)
    await spend(blocks, of)
    line.away = True
    for _ in range(49):
        assert (await spend(blocks, of)).admitted
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await spend(blocks, of)
    assert line.begun == 2
    line.away = False
    shop.clock.advance(AWAY_MS)
    assert (await spend(blocks, of)).admitted
    assert blocks.measures.failures == 1


async def test_an_answer_that_was_lost_stays_spent() -> None:
    """Nobody knows whether a commit without an answer happened, so it is not spent here and not given back."""
    shop, of = Shop(), quota(1_000)
    blocks, line = process(shop)
    line.loses_answers = True
    with pytest.raises(UnavailableError):
        await spend(blocks, of)
    line.loses_answers = False
    shop.clock.advance(AWAY_MS)
    await spend(blocks, of)
    assert shop.amount(of) == 50 + 46
    line.loses_answers = True
    assert await blocks.release_all() == 0
    assert shop.amount(of) == 50 + 1
    assert await blocks.release_all() == 0


async def test_a_process_that_stops_gives_everything_back() -> None:
    """After a clean stop all that was not spent can be had by others, in bounded batches; this one takes no more."""
    shop = Shop()
    count = RETURNED_AT_ONCE + 20
    all_of = [quota(100, name=f"q{number}") for number in range(count)]
    blocks, line = process(shop, counters_max=1_000)
    for of in all_of:
        await spend(blocks, of)
    begun = line.begun
    assert await blocks.release_all() == count * 4
    assert line.begun - begun == 2
    assert {shop.amount(of) for of in all_of} == {1}
    assert len(blocks) == 0
    with pytest.raises(UnavailableError, match="stopping"):
        await spend(blocks, all_of[0])


async def test_stopping_waits_for_trips_under_way() -> None:
    """What a trip brings while the process stops is given back as well."""
    shop, of = Shop(), quota(100)
    blocks, line = process(shop)
    close(line)
    call = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    await held_up(line)
    stop = asyncio.create_task(blocks.release_all())
    await asyncio.sleep(0)
    line.gate.set()
    await asyncio.wait([call, stop])
    assert shop.amount(of) == (1 if call.exception() is None else 0)


async def test_what_nobody_uses_is_given_back() -> None:
    """A block that was not used between two turns goes back; one that was stays."""
    shop, idle, busy = Shop(), quota(100, name="idle"), quota(100, name="busy")
    blocks, _ = process(shop)
    await spend(blocks, idle, busy)
    await blocks.turn()
    await spend(blocks, busy)
    await blocks.turn()
    assert (shop.amount(idle), shop.amount(busy), len(blocks)) == (1, 5, 1)
    measures = blocks.measures
    assert (measures.trips, measures.failures, measures.taken, measures.given_back) == (3, 0, 10, 4)


async def test_what_cannot_be_given_back_is_kept() -> None:
    """While the database is away nothing is lost: an idle block stays here and may be spent."""
    shop = Shop()
    all_of = [quota(100, name=f"q{number}") for number in range(RETURNED_AT_ONCE + 5)]
    blocks, line = process(shop, counters_max=1_000)
    for of in all_of:
        await spend(blocks, of)
    line.away = True
    await blocks.turn()
    with pytest.raises(UnavailableError):
        await blocks.turn()
    assert blocks.measures.failures == 1
    assert len(blocks) == len(all_of)
    for of in all_of:
        for _ in range(4):
            assert blocks.take_now([of], cost=1, peek=False) is not None
    line.away = False
    await blocks.turn()
    await blocks.turn()
    assert {shop.amount(of) for of in all_of} == {5}


async def test_what_could_not_be_given_back_joins_what_was_fetched_since() -> None:
    """A block that comes back while a new one is held is added to it, or dropped when it is of another period."""
    shop, of, daily = Shop(), quota(100), quota(100, Period.DAY)
    blocks, line = process(shop)
    await spend(blocks, of, daily)
    await blocks.turn()
    close(line)
    turn = asyncio.create_task(blocks.turn())
    await held_up(line)
    assert len(blocks) == 0
    shop.clock.advance(DAY_MS)
    blocks._held.update([(held.key, held) for held in await fresh(shop, of, daily)])
    line.away = True
    line.gate.set()
    with pytest.raises(UnavailableError):
        await turn
    assert sorted(held.unspent for held in blocks._held.values()) == [4, 4 + 4]


async def fresh(shop: Shop, *of: Allowance) -> list[Held]:
    """Fetch blocks in another process and take them from it."""
    other, _ = process(shop)
    await spend(other, *of)
    held = list(other._held.values())
    for block in held:
        block.unspent = 4
    return held


async def test_what_is_held_is_bounded() -> None:
    """Whoever was not used lately makes room and is given back, those in use last longer."""
    shop = Shop()
    blocks, _ = process(shop, counters_max=3)
    favourite = quota(100, name="favourite")
    for number in range(20):
        await spend(blocks, favourite, quota(100, name=f"q{number}"))
        assert len(blocks) <= 3
        await blocks.turn()
    assert shop.amount(favourite) <= 30
    assert sum(shop.amount(quota(100, name=f"q{number}")) == 1 for number in range(20)) >= 17


async def test_what_leaves_is_bounded_too() -> None:
    """When the database takes nothing back, what does not fit any more stays spent rather than filling the memory."""
    shop = Shop()
    blocks, line = process(shop, counters_max=2)
    for number in range(10):
        await spend(blocks, quota(100, name=f"q{number}"))
    assert len(blocks._leaving) == 2
    line.away = True
    with pytest.raises(UnavailableError):
        await blocks.turn()
    assert len(blocks) + len(blocks._leaving) <= 4


async def test_a_reset_elsewhere_drops_the_block() -> None:
    """What was taken before a reset is dropped with the next trip, and never given back after it."""
    shop, of = Shop(), quota(1_000)
    blocks, _ = process(shop)
    await spend(blocks, of)
    async with shop.unit() as unit:
        await reset(unit, of, shop.now_ms)
    await spend(blocks, of, cost=60)
    await blocks.release_all()
    assert shop.amount(of) == 60


async def test_too_many_trips_are_shed() -> None:
    """However many counters are asked for at once, the calls that wait are bounded."""
    shop = Shop()
    blocks, line = process(shop)
    close(line)
    waiting = [
        asyncio.create_task(blocks.take([quota(9, name=f"q{number}")], cost=1, peek=False))
        for number in range(FLIGHTS_MAX)
    ]
    await held_up(line)
    with pytest.raises(UnavailableError, match="More is asked"):
        await blocks.take([quota(9)], cost=1, peek=False)
    line.away = True
    line.gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnavailableError}
    assert line.begun == TRIPS_MAX


async def test_who_is_always_robbed_gives_up() -> None:
    """A call whose units others spend each time before it wakes ends with an error, not in a circle."""
    shop, of = Shop(), credits_of(COUNT_MAX)
    blocks = Robbed(shop.units, shop.clock)
    with pytest.raises(UnavailableError, match="More is asked"):
        await spend(blocks, of)


class Robbed(Blocks):
    """Blocks from which others spend everything that arrives."""

    def _arrive(self, key: Key, allowance: Allowance, taken: Taken, seen_ms: int) -> None:
        super()._arrive(key, allowance, taken._replace(granted=0), seen_ms)


async def test_a_process_whose_task_is_cancelled_loses_nothing_it_held() -> None:
    """A turn that is cancelled before its commit keeps what it was to give back; its trips end without noise."""
    shop, of = Shop(), quota(100)
    blocks, line = process(shop)
    await spend(blocks, of)
    await blocks.turn()
    close(line)
    turn = asyncio.create_task(blocks.turn())
    await held_up(line)
    turn.cancel()
    await asyncio.wait([turn])
    assert blocks.take_now([of], cost=4, peek=False) is not None
    call = asyncio.create_task(blocks.take([of], cost=1, peek=False))
    line.arrived.clear()
    await held_up(line)
    for flight in blocks._flights.values():
        flight.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
