"""What the batch of outcomes on its way to another store guarantees: one at a time, and added once whoever fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from keystead.adapters.clickhouse.connection import ClickHouse, Lane
from keystead.adapters.clickhouse.outcomes import LEASE_MS, ClickHouseOutcomes
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.endings import Batch, Ending
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.outcome_batches import SqlOutcomeBatches
from keystead.adapters.sql.outcomes import SqlOutcomes
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import new_id
from keystead.usage.model import Call, Interval, Joined, Outcome
from tests import clickhouses
from tests.contract.usage_stores import EVER, OUR_KEY, OURS, T0, Writer

Answer = TypeVar("Answer")


class UnsureLane(Lane):
    """A lane that does the first thing it is asked for and says that nobody knows; then it does as asked."""

    def __init__(self, lane: Lane) -> None:
        """Work through ``lane``."""
        self._lane = lane
        self._unsure = True

    async def run(self, work: Callable[[Lane], Answer]) -> Answer:
        """Do ``work``."""
        answer = await self._lane.run(work)
        if self._unsure:
            self._unsure = False
            raise UnavailableError("The answer was lost.")
        return answer


class UnsureClickHouse(ClickHouse):
    """A ClickHouse whose first insert is answered with nothing."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        """Stand for ``clickhouse``."""
        self.target = clickhouse.target
        self.reader = clickhouse.reader
        self.writer = UnsureLane(clickhouse.writer)


@pytest.fixture
async def counted(clickhouse: ClickHouse, database: Database) -> AsyncIterator[ClickHouseUsage]:
    """Lend usage with one call, that was reported to have ended badly."""
    usage = ClickHouseUsage(clickhouse)
    it = Call(new_id("ver", now_ms=T0), T0, OUR_KEY, 1, 1, "read", "192.0.2.1")
    await usage.count(Writer().stretch(it))
    await SqlOutcomes(database).keep(OURS, [Outcome(it.verification_id, 503, 7)], at_ms=T0)
    yield usage
    await clickhouses.empty(clickhouse)


async def sums(usage: ClickHouseUsage) -> list[tuple[int, int, int]]:
    """Return calls, outcomes and errors by minute, hour and day."""
    points = [(await usage.series(OURS, EVER, interval=it, by=None, limit=9))[0] for it in Interval]
    return [(it.calls, it.outcomes, it.errors) for it in points]


async def test_what_nobody_saw_succeed_is_added_once(
    clickhouse: ClickHouse, database: Database, counted: ClickHouseUsage
) -> None:
    """After an insert without an answer the same process tries at once, and no sum has the outcome twice (P5)."""
    outcomes = ClickHouseOutcomes(UnsureClickHouse(clickhouse), database)
    with pytest.raises(UnavailableError):
        await outcomes.join(at_most=10, now_ms=T0)
    assert await outcomes.join(at_most=10, now_ms=T0) == Joined(joined=1)
    assert await sums(counted) == [(1, 1, 1)] * 3


async def test_another_process_goes_on_after_the_lease(
    clickhouse: ClickHouse, database: Database, counted: ClickHouseUsage
) -> None:
    """What a dead process had begun is finished by the next, but not while its insert might still be under way."""
    dead = ClickHouseOutcomes(UnsureClickHouse(clickhouse), database)
    with pytest.raises(UnavailableError):
        await dead.join(at_most=10, now_ms=T0)
    outcomes = ClickHouseOutcomes(clickhouse, database)
    assert await outcomes.join(at_most=10, now_ms=T0 + LEASE_MS - 1) == Joined()
    assert await outcomes.join(at_most=10, now_ms=T0 + LEASE_MS) == Joined(joined=1)
    assert await dead.join(at_most=10, now_ms=T0 + LEASE_MS) == Joined()
    assert await sums(counted) == [(1, 1, 1)] * 3


def batch(number: int, *names: str) -> Batch:
    """Make a batch that settles ``names``."""
    ending = Ending(
        "wsp_ours", T0, f"ver_{number}", "live", "key_a", "sec_a", "", "\N{FOX FACE}\n", 1, ("é",), 500, None
    )
    return Batch(f"btc_{number}", (ending,), tuple(("wsp_ours", name, "") for name in names), 0)


async def test_of_joiners_that_saw_the_same_one_goes_on(database: Database) -> None:
    """A joiner that was overtaken writes nothing down, takes nothing over and strikes nothing out."""
    batches = SqlOutcomeBatches(database)
    place = await batches.place()
    assert (place.number, place.batch) == (0, None)
    assert await batches.write_down(batch(1), number=0, held_until_ms=T0)
    assert not await batches.write_down(batch(2), number=0, held_until_ms=T0)
    assert not await batches.strike_out(number=0, settled=())
    place = await batches.place()
    assert (place.number, place.held_until_ms, place.batch) == (1, T0, batch(1))
    assert await batches.take_over(number=1, held_until_ms=T0 + 1)
    assert not await batches.take_over(number=1, held_until_ms=T0 + 2)
    assert not await batches.strike_out(number=1, settled=())
    assert (await batches.place()).held_until_ms == T0 + 1
    assert await batches.strike_out(number=2, settled=())
    assert (await batches.place()).batch is None
    assert not await batches.write_down(batch(3), number=2, held_until_ms=T0)


async def test_a_batch_ends_together_with_what_it_settles(database: Database) -> None:
    """Outcomes wait until the batch they are in is struck out, and those that are in none wait on."""
    batches, told = SqlOutcomeBatches(database), [Outcome(new_id("ver", now_ms=T0), 200, None) for _ in range(3)]
    await SqlOutcomes(database).keep(OURS, told, at_ms=T0)
    names = sorted(it.verification_id for it in told)
    assert await batches.write_down(batch(1, *names[:2]), number=0, held_until_ms=T0)
    assert [it.verification_id for it in await batches.waiting(after=None, at_most=9)] == names
    found = await batches.place()
    assert found.batch is not None
    assert not await batches.strike_out(number=0, settled=found.batch.settled)
    assert len(await batches.waiting(after=None, at_most=9)) == 3
    assert await batches.strike_out(number=1, settled=found.batch.settled)
    (left,) = await batches.waiting(after=None, at_most=9)
    assert left.verification_id == names[2]
    assert await batches.waiting(after=left.position, at_most=9) == []
    assert await batches.about([("wsp_ours", names[2]), ("wsp_theirs", names[2])]) == [left]
