"""Forgetting what keys used and what was told to be billed: never what somebody may ask for, never what is not sent."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.ledger import SqlLedger
from keystead.adapters.sql.ledger_apart import SqlLedgerApart
from keystead.adapters.sql.retention import SqlUsageShelf
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.walls import TenantScope
from keystead.usage.meters import Gap, KnownMeter, UsedByOwner, UsedWindow, entries_of, parse_meters
from keystead.usage.retention import Kept
from tests.contract.usage_stores import DAY, HOUR, OUR_KEY, OURS, T0, THEIR_KEY, THEIRS, Writer, call

DAYS = 8
SPAN = {"from_ms": T0, "to_ms": T0 + DAYS * DAY}
METER = "api_calls"


class Books:
    """Usage of some days, and a ledger that was told of all of it."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self.database = database
        self.usage = SqlUsage(database)
        self.ledger = SqlLedger(database)
        self.shelf = SqlUsageShelf(database)
        self.writer = Writer()

    async def begin(self) -> list[str]:
        """Count a call of each owner a day and tell of it; return the ids of the events, the oldest first."""
        await self.ledger.begin(parse_meters(f"{METER}=calls"), since_ms=T0)
        for day in range(DAYS):
            await self.count(day)
        entries = entries_of(METER, await self.gaps())
        await self.ledger.record(entries, at_ms=T0)
        await self.ledger.told(METER, to_ms=T0 + DAYS * DAY)
        return [it.id for it in entries]

    async def count(self, day: int) -> None:
        """Count a call of each owner."""
        calls = [call(T0 + day * DAY + HOUR, subject) for subject in (OUR_KEY, THEIR_KEY)]
        await self.usage.count(self.writer.stretch(*calls))

    async def gaps(self) -> list[Gap]:
        """Return the gaps of the meter."""
        return await self.ledger.gaps(await self.meter(), **SPAN, limit=1_000)

    async def meter(self) -> KnownMeter:
        """Return the meter as it is known."""
        return (await self.ledger.meters())[0]

    async def told_days(self) -> list[int]:
        """Return the days of which there are events, one number an event."""
        async with self.database.statements.connect() as connection:
            rows = await connection.execute(text("SELECT begins_at_ms FROM entitlement_events ORDER BY begins_at_ms"))
            return [(row[0] - T0) // DAY for row in rows]

    async def forget(self, *, told_since_ms: int) -> list[int]:
        """Forget to the end; return what each step took."""
        steps = []
        while taken := await self.shelf.forget(Kept(0, 0, 0, 0, told_since_ms)):
            steps.append(taken)
        return steps


class Elsewhere:
    """Usage that is summed apart from the ledger: every day of one owner, as a meter of calls."""

    async def windows(
        self, meter: KnownMeter, *, from_ms: int, to_ms: int, after: UsedWindow | None, limit: int
    ) -> list[UsedWindow]:
        """Return one window a day, all on the first page."""
        assert (meter.name, after) == (METER, None)
        days = [T0 + day * DAY + HOUR for day in range(DAYS)]
        return [UsedWindow(OURS.workspace_id, "live", "customer-1", it, 1) for it in days if from_ms <= it < to_ms][
            :limit
        ]

    async def owners(
        self,
        scope: TenantScope,
        meter: KnownMeter,
        *,
        from_ms: int,
        to_ms: int,
        owner_id: str,
        after: UsedByOwner | None,
        limit: int,
    ) -> list[UsedByOwner]:
        """Nothing is compared here."""
        raise AssertionError((scope, meter, from_ms, to_ms, owner_id, after, limit))


@pytest.fixture
def books(database: Database) -> Books:
    """Lend empty books on each kind of database."""
    return Books(database)


async def test_what_was_told_long_ago_goes_and_is_not_billed_again(books: Books) -> None:
    """Acknowledged events of old hours go, of every platform. Usage of those hours that is still there, or comes now,
    makes no event: nobody knows any more what was told of it. Usage of later hours does.
    """
    ids = await books.begin()
    await books.ledger.acknowledge(ids, at_ms=T0)
    assert await books.forget(told_since_ms=T0 + 3 * DAY) == [6]
    assert await books.told_days() == [day for day in range(3, DAYS) for _ in range(2)]
    assert (await books.meter()).since_ms == T0 + 3 * DAY
    assert await books.gaps() == []
    await books.count(2)
    assert await books.gaps() == []
    await books.count(3)
    assert [(it.workspace_id, it.used, it.told, it.revisions) for it in await books.gaps()] == [
        (OURS.workspace_id, 2, 1, 1),
        (THEIRS.workspace_id, 2, 1, 1),
    ]


async def test_who_saw_a_gap_before_it_was_forgotten_bills_nothing_twice(books: Books) -> None:
    """A feed that works with the meter as it was before asks for old hours in vain."""
    ids = await books.begin()
    await books.ledger.acknowledge(ids, at_ms=T0)
    before = await books.meter()
    await books.forget(told_since_ms=T0 + 3 * DAY)
    assert await books.ledger.gaps(before, **SPAN, limit=1_000) == []


async def test_the_same_where_usage_is_counted_elsewhere(books: Books) -> None:
    """Sums of hours that another store still has make no event once it is forgotten what was told of them."""
    ids = await books.begin()
    await books.ledger.acknowledge(ids, at_ms=T0)
    before = await books.meter()
    apart = SqlLedgerApart(books.database, Elsewhere())
    assert await apart.gaps(before, **SPAN, limit=1_000) == []
    await books.forget(told_since_ms=T0 + 3 * DAY)
    assert await apart.gaps(before, **SPAN, limit=1_000) == []
    assert [it.used for it in await Elsewhere().windows(before, **SPAN, after=None, limit=9)] == [1] * DAYS


async def test_what_is_not_sent_or_not_told_stays(books: Books) -> None:
    """However old, an event waits until the receiver has it, and an hour until it is told."""
    ids = await books.begin()
    await books.ledger.acknowledge(ids[1:], at_ms=T0)
    assert await books.forget(told_since_ms=T0 + 20 * DAY) == [2 * DAYS - 1]
    assert (await books.meter()).since_ms == T0 + DAYS * DAY
    assert [it.id for it in await books.ledger.pending(now_ms=T0, limit=10)] == ids[:1]
    await books.ledger.acknowledge(ids, at_ms=T0)
    assert await books.forget(told_since_ms=T0 + 20 * DAY) == [1]


async def test_a_second_look_goes_on_where_hours_are_known(books: Books) -> None:
    """When hours are forgotten that were to be looked at once more, the look goes on behind them."""
    await books.begin()
    for asked_ms, expected_ms in ((T0 + 5 * DAY, T0 + 5 * DAY), (T0 + DAY, T0 + 3 * DAY)):
        await books.ledger.look_again(METER, from_ms=asked_ms)
        await books.forget(told_since_ms=T0 + 2 * DAY if asked_ms > T0 + 3 * DAY else T0 + 3 * DAY)
        assert (await books.meter()).again_from_ms == expected_ms


async def test_nothing_is_forgotten_that_is_kept(books: Books) -> None:
    """A retention that keeps everything changes nothing."""
    await books.begin()
    before = await books.meter()
    assert await books.forget(told_since_ms=T0) == []
    assert await books.meter() == before
    assert len(await books.told_days()) == 2 * DAYS


async def test_old_uses_go_and_others_stay(books: Books) -> None:
    """What keys used is looked through in bounded steps, and exactly what was last used before goes."""
    shelf = SqlUsageShelf(books.database, uses_at_once=7)
    random = Random(3)
    names = [f"key_{number:02d}" for number in range(40)]
    used = {name: T0 + random.randrange(10) * DAY for name in names}
    subjects = [(replace(OUR_KEY, key_id=name), at_ms) for name, at_ms in used.items()]
    subjects += [(replace(THEIR_KEY, key_id=name), at_ms) for name, at_ms in used.items()]
    await books.usage.count(
        books.writer.stretch(*[call(at_ms, subject, scope_expression="read:a") for subject, at_ms in subjects])
    )
    kept = Kept(0, 0, 0, T0 + 5 * DAY)
    steps = [await shelf.forget(kept) for _ in range(2 * 40 // 7 + 1)]
    assert max(steps) <= 7
    for scope in (OURS, THEIRS):
        left = await books.usage.used_expressions(scope, names, since_ms=T0)
        assert sorted(left) == sorted(name for name, at_ms in used.items() if at_ms >= T0 + 5 * DAY)
    assert await shelf.forget(kept) == 0
