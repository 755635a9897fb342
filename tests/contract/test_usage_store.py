"""What every store of usage guarantees: each verdict counted once, exact sums, and walls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import cycle
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.spans import Part, parts
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.paging import PageRequest
from keystead.usage.model import Call, Dimension, Interval, KeyTotals, Point, UsageFilter
from tests import clickhouses
from tests.contract.conftest import empty
from tests.contract.usage_stores import (
    DAY,
    EVER,
    HOUR,
    MINUTE,
    NOWHERE,
    OUR_KEY,
    OUR_TEST_KEY,
    OUR_TESTS,
    OURS,
    ROTATED,
    T0,
    THEIR_KEY,
    THEIRS,
    UNOWNED,
    WIDTH,
    Store,
    Writer,
    call,
    meant,
    order,
    questions,
    random_calls,
    recount,
    seen,
)

# What is ranked by these and has no name is left out.
OF_A_KEY = {Dimension.KEY, Dimension.SECRET, Dimension.OWNER}


@pytest.fixture
async def store(usage_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Lend the store of each kind, empty."""
    if usage_url == "memory":
        yield MemoryUsage()
        return
    if usage_url == "chdb":
        clickhouse = request.getfixturevalue("clickhouse")
        yield ClickHouseUsage(clickhouse)
        await clickhouses.empty(clickhouse)
        return
    database = Database.connect(usage_url)
    yield SqlUsage(database)
    await empty(database)


async def counted(store: Store, wanted: UsageFilter = EVER) -> tuple[int, int, int, int]:
    """Return how many of our calls are counted by minute, hour and day, and how many are kept raw."""
    sums = [
        sum(point.calls for point in await store.series(OURS, wanted, interval=interval, by=None, limit=10_000))
        for interval in Interval
    ]
    page = await store.calls(OURS, wanted, PageRequest(100_000))
    return (sums[0], sums[1], sums[2], len(page.items))


async def test_a_stretch_that_comes_twice_is_counted_once(store: Store) -> None:
    """A retry after a commit that nobody saw succeed changes nothing, in no sum and in no list (P5)."""
    writer = Writer()
    first, second = writer.stretch(call(), call(T0 + HOUR)), writer.stretch(call(T0 + DAY))
    assert await store.count(first)
    assert not await store.count(first)
    assert await store.count(second)
    assert not await store.count(first)
    assert not await store.count(second)
    assert await counted(store) == (3, 3, 3, 3)


async def test_a_stretch_after_a_gap_is_refused(store: Store) -> None:
    """A stretch that begins past the counted part is not counted, so nothing is ever counted out of order."""
    writer = Writer()
    first, second, third = writer.stretch(call()), writer.stretch(call()), writer.stretch(call())
    assert not await store.count(second)
    assert await store.complete_until() is None
    assert await store.count(first)
    assert not await store.count(third)
    assert await counted(store) == (1, 1, 1, 1)
    assert await store.count(second)
    assert await store.count(third)


async def test_a_stretch_that_overlaps_is_refused(store: Store) -> None:
    """A copy that cut its stretches otherwise counts nothing twice."""
    calls = [call(), call(), call()]
    assert await store.count(Writer().stretch(*calls[:2]))
    assert not await store.count(Writer().stretch(*calls))
    assert not await store.count(replace(Writer().stretch(calls[1]), begin=40, end=80))
    assert await counted(store) == (2, 2, 2, 2)


async def test_a_journal_is_counted_to_where_its_last_stretch_ended(store: Store) -> None:
    """Whoever reads a journal can ask where to go on, and journals do not know of one another."""
    one, other = Writer("jrn_1"), Writer("jrn_2")
    assert await store.counted_to("jrn_1") == 0
    await store.count(one.stretch(call(), call()))
    await store.count(other.stretch(call()))
    assert (await store.counted_to("jrn_1"), await store.counted_to("jrn_2")) == (80, 40)


async def test_of_two_counters_at_once_one_counts(store: Store) -> None:
    """Two processes that carry the same stretch at the same moment count it once."""
    stretch = Writer().stretch(*[call() for _ in range(50)])
    for known in (False, True):
        if known:
            stretch = replace(stretch, begin=stretch.end, end=stretch.end + 1)
        told = await asyncio.gather(*[store.count(stretch) for _ in range(4)])
        assert sorted(told) == [False, False, False, True]
    assert await counted(store) == (100, 100, 100, 100)


async def test_counters_that_meet_in_the_same_sums_lose_nothing(store: Store) -> None:
    """Journals of several processes that add to the same sums at once neither block one another nor lose a call."""
    random = Random(7)
    writers = [Writer(f"jrn_{number}") for number in range(4)]
    cells = [call(T0 + minute * MINUTE, subject) for minute in range(5) for subject in (OUR_KEY, UNOWNED, ROTATED)]

    async def carry(writer: Writer) -> None:
        for _ in range(8):
            assert await store.count(writer.stretch(*random.sample(cells, len(cells))))

    await asyncio.gather(*[carry(writer) for writer in writers])
    everything = 4 * 8 * len(cells)
    assert await counted(store) == (everything,) * 4


async def test_an_empty_stretch_moves_the_time_alone(store: Store) -> None:
    """A journal with nothing in it still says up to when usage is complete."""
    await store.register("jrn_1", at_ms=T0)
    assert await store.count(Writer().stretch(seen_at_ms=T0 + 5))
    assert await store.count(Writer().stretch(seen_at_ms=T0 + 9))
    assert await store.complete_until() == T0 + 9
    assert await store.counted_to("jrn_1") == 0


async def test_complete_until_waits_for_every_open_journal(store: Store) -> None:
    """Usage is never called complete past a journal that may hold more; a closed one is no longer waited for."""
    assert await store.complete_until() is None
    slow, quick = Writer("jrn_slow"), Writer("jrn_quick")
    await store.register("jrn_slow", at_ms=T0)
    await store.register("jrn_quick", at_ms=T0 + 10)
    assert await store.complete_until() == T0
    await store.count(quick.stretch(call(T0 + 20), seen_at_ms=T0 + 500))
    assert await store.complete_until() == T0
    await store.count(slow.stretch(call(T0 + 30)))
    assert await store.complete_until() == T0  # its end was not reached
    await store.count(slow.stretch(call(T0 + 40), seen_at_ms=T0 + 100))
    assert await store.complete_until() == T0 + 100
    await store.close("jrn_slow")
    assert await store.complete_until() == T0 + 500
    await store.close("jrn_quick")
    await store.close("jrn_unknown")
    assert await store.complete_until() is None


async def test_complete_until_never_goes_back(store: Store) -> None:
    """A clock that was set back, or a registration that comes again, takes back nothing that was said."""
    writer = Writer()
    await store.register("jrn_1", at_ms=T0)
    await store.count(writer.stretch(call(), seen_at_ms=T0 + 100))
    await store.register("jrn_1", at_ms=T0 + 1)
    await store.count(writer.stretch(call(), seen_at_ms=T0 + 50))
    assert await store.complete_until() == T0 + 100
    assert await store.counted_to("jrn_1") == 80


async def test_a_journal_nobody_registered_is_waited_for_from_its_first_call(store: Store) -> None:
    """A journal that becomes known by its first stretch holds completeness back to what it held."""
    assert await store.count(Writer().stretch(call(T0 + 70), call(T0 + 60)))
    assert await store.complete_until() == T0 + 60


async def test_late_calls_land_in_their_own_intervals(store: Store) -> None:
    """A verdict that is counted hours later, by another journal, stands in the minute in which it was given."""
    await store.count(Writer("jrn_1").stretch(call(T0 + DAY + 5)))
    await store.count(Writer("jrn_2").stretch(call(T0 + DAY - 1), call(T0 + DAY + 5 * MINUTE), call(T0 + DAY)))
    minutes = await store.series(OURS, EVER, interval=Interval.MINUTE, by=None, limit=10)
    assert minutes == [
        Point(T0 + DAY - MINUTE, "", 1, 1),
        Point(T0 + DAY, "", 2, 2),
        Point(T0 + DAY + 5 * MINUTE, "", 1, 1),
    ]
    hours = await store.series(OURS, EVER, interval=Interval.HOUR, by=None, limit=10)
    assert [(point.begins_at_ms, point.calls) for point in hours] == [(T0 + DAY - HOUR, 1), (T0 + DAY, 3)]
    days = await store.series(OURS, EVER, interval=Interval.DAY, by=None, limit=10)
    assert [(point.begins_at_ms, point.calls) for point in days] == [(T0, 1), (T0 + DAY, 3)]


async def test_ten_thousand_calls_are_one_stretch(store: Store) -> None:
    """The largest stretches are counted whole, with every sum exact."""
    calls = random_calls(Random(1), 10_000)
    assert await store.count(Writer().stretch(*calls))
    ours = seen(calls, OURS)
    assert await counted(store) == (len(ours),) * 4
    points = await store.series(OURS, EVER, interval=Interval.MINUTE, by=Dimension.SECRET, limit=10_000)
    assert points == recount(ours, Interval.MINUTE, Dimension.SECRET)


async def check_sums(store: Store, calls: list[Call]) -> None:
    """Demand that every question gets what an independent recount of ``calls`` gives."""
    for (scope, wanted), interval in zip(questions(), cycle(Interval), strict=False):
        mine = [it for it in seen(calls, scope) if meant(it, wanted)]
        for by in (None, *Dimension):
            width = Interval.HOUR if interval is Interval.MINUTE and (wanted.tag or by is Dimension.TAG) else interval
            points = await store.series(scope, wanted, interval=width, by=by, limit=10_000)
            assert points == recount(mine, width, by, tag=wanted.tag), (scope, wanted, interval, by)
        for by in Dimension:
            named = [it for it in total(mine, by, wanted.tag) if it.group or by not in OF_A_KEY]
            ranked = sorted(
                [replace(point, begins_at_ms=wanted.from_ms) for point in named],
                key=lambda point, by=by: (-point.calls, order((0, point.group), by)),  # type: ignore[misc] # a default
            )
            assert await store.top(scope, wanted, by=by, limit=100) == ranked
            assert await store.top(scope, wanted, by=by, limit=2) == ranked[:2]
        if not wanted.tag:  # nothing asks for a key's totals by label
            assert await store.key_totals(scope, wanted) == totals_of(mine)


def total(calls: list[Call], by: Dimension, tag: str) -> list[Point]:
    """Sum ``calls`` over all of time."""
    return recount([replace(it, at_ms=T0) for it in calls], Interval.DAY, by, tag=tag)


def totals_of(calls: list[Call]) -> KeyTotals:
    """Sum ``calls`` as a key's totals."""
    last = max([it for it in calls if it.code == 1], key=lambda it: (it.at_ms, it.verification_id), default=None)
    return KeyTotals(
        calls=len(calls),
        cost=sum(it.cost for it in calls),
        by_code=Counter(it.code for it in calls),
        last_used_at_ms=last.at_ms if last else None,
        last_used_ip=last.client_ip if last else "",
        last_operation=last.operation if last else "",
    )


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 60), max_size=4))
async def test_sums_are_those_of_an_independent_recount(store: Store, seed: int, cuts: list[int]) -> None:
    """However verdicts are cut into stretches, every sum by every group and filter is what a recount gives."""
    store = await emptied(store)
    calls = random_calls(Random(seed), 60)
    writer = Writer()
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        assert await store.count(writer.stretch(*calls[begin:end]))
    await check_sums(store, calls)


async def emptied(store: Store) -> Store:
    """Return the store without what an earlier example left in it."""
    if isinstance(store, MemoryUsage):
        return MemoryUsage()
    if isinstance(store, ClickHouseUsage):
        await clickhouses.empty(store._clickhouse)
        return ClickHouseUsage(store._clickhouse)
    async with store._database.writers.begin() as connection:
        for table in (
            "journals",
            "usage_minutes",
            "usage_hours",
            "usage_days",
            "usage_tags",
            "used_expressions",
            "calls",
        ):
            await connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 -- the names above
    return store


async def test_spans_with_ragged_ends_are_exact_to_the_minute(store: Store) -> None:
    """Totals of a span count the minutes that begin in it, whichever tables the sums come from."""
    random = Random(3)
    calls = random_calls(random, 300, days=4)
    await store.count(Writer().stretch(*calls))
    for _ in range(25):
        from_ms, to_ms = sorted(T0 + random.randrange(4 * DAY) // MINUTE * MINUTE for _ in range(2))
        wanted = UsageFilter(from_ms, to_ms, key_id="key_a")
        mine = [it for it in seen(calls, OURS) if meant(it, wanted) and from_ms <= it.at_ms < to_ms]
        assert await store.key_totals(OURS, wanted) == totals_of(mine)
        everything = replace(wanted, key_id="")
        found = await store.top(OURS, everything, by=Dimension.KEY, limit=10)
        inside = [it for it in seen(calls, OURS) if from_ms <= it.at_ms < to_ms]
        assert {point.group: point.calls for point in found} == Counter(it.subject.key_id for it in inside)


@pytest.mark.parametrize("interval", tuple(Interval))
async def test_an_interval_belongs_to_the_span_in_which_it_begins(store: Store, interval: Interval) -> None:
    """An interval is told whole or not at all, and spans that follow one another tell each exactly once."""
    width = WIDTH[interval]
    await store.count(Writer().stretch(*[call(T0 + number * width // 2) for number in range(8)]))
    for key_id in ("", "key_a"):
        told = [
            await store.series(OURS, UsageFilter(begin, end, key_id=key_id), interval=interval, by=None, limit=10)
            for begin, end in (
                (T0, T0 + 1),
                (T0 + 1, T0 + width),
                (T0 + 1, T0 + width + 1),
                (T0 + width + 1, T0 + DAY * 9),
            )
        ]
        assert [[point.begins_at_ms for point in points] for points in told] == [
            [T0],
            [],
            [T0 + width],
            [T0 + 2 * width, T0 + 3 * width],
        ]


async def test_a_span_that_holds_nothing_is_empty(store: Store) -> None:
    """A span that is empty or turned around has sums of nothing rather than an error."""
    await store.count(Writer().stretch(call()))
    for wanted in (UsageFilter(T0, T0), UsageFilter(T0 + DAY, T0), UsageFilter(T0 + 1, T0 + 2)):
        assert await store.series(OURS, wanted, interval=Interval.HOUR, by=None, limit=10) == []
        assert await store.top(OURS, wanted, by=Dimension.KEY, limit=10) == []
        assert await store.key_totals(OURS, wanted) == KeyTotals()
        assert (await store.calls(OURS, wanted, PageRequest(10))).items == []


async def test_at_most_so_many_points_are_told(store: Store) -> None:
    """A series stops at its limit, with the earliest points and in order."""
    await store.count(Writer().stretch(*[call(T0 + n * MINUTE, code=n % 3 + 1) for n in range(9)]))
    points = await store.series(OURS, EVER, interval=Interval.HOUR, by=Dimension.CODE, limit=2)
    assert [(point.group, point.calls) for point in points] == [("1", 3), ("2", 3)]
    assert len(await store.series(OURS, EVER, interval=Interval.MINUTE, by=None, limit=4)) == 4


async def test_nothing_is_seen_through_a_wall(store: Store) -> None:
    """No question shows another workspace's usage, or another environment's, also when ids are the same (P8)."""
    await store.count(Writer().stretch(call(subject=THEIR_KEY), call(subject=OUR_TEST_KEY), call(subject=THEIR_KEY)))
    for scope, calls in ((OURS, 1), (THEIRS, 2), (OUR_TESTS, 1), (NOWHERE, 0)):
        series = await store.series(scope, EVER, interval=Interval.DAY, by=None, limit=10)
        top = await store.top(scope, EVER, by=Dimension.KEY, limit=10)
        page = await store.calls(scope, EVER, PageRequest(10))
        assert sum(point.calls for point in series) == sum(point.calls for point in top) == len(page.items) == calls
        assert (await store.key_totals(scope, EVER)).calls == calls
    theirs = replace(EVER, key_id=THEIR_KEY.key_id)
    for scope in (OURS, OUR_TESTS, NOWHERE):
        assert await store.series(scope, theirs, interval=Interval.HOUR, by=Dimension.SECRET, limit=10) == []
        assert await store.key_totals(scope, theirs) == KeyTotals()
        assert await store.top(scope, theirs, by=Dimension.ENVIRONMENT, limit=10) == []
        assert (await store.calls(scope, theirs, PageRequest(10))).items == []
    live = replace(EVER, key_id=OUR_TEST_KEY.key_id)
    assert (await store.key_totals(OUR_TESTS, live)).calls == 1


async def test_last_use_is_the_last_valid_call(store: Store) -> None:
    """A key was last used when it last got in: denials since then, however many, do not count, nor do later spans."""
    await store.count(
        Writer().stretch(
            call(T0 + 5, ROTATED, operation="late", client_ip="2001:db8::1"),
            call(T0 + 1, operation="early"),
            *[call(T0 + DAY + number, code=4) for number in range(30)],
            call(T0 + 2 * DAY, UNOWNED),
        )
    )
    totals = await store.key_totals(OURS, replace(EVER, key_id="key_a"))
    assert (totals.last_used_at_ms, totals.last_used_ip, totals.last_operation) == (T0 + 5, "2001:db8::1", "late")
    assert totals.by_code == {1: 2, 4: 30}
    old_secret = await store.key_totals(OURS, replace(EVER, key_id="key_a", secret_id="sec_a1"))
    assert (old_secret.last_used_at_ms, old_secret.last_operation) == (T0 + 1, "early")
    later = await store.key_totals(OURS, UsageFilter(T0 + DAY, T0 + 2 * DAY, key_id="key_a"))
    assert (later.calls, later.last_used_at_ms) == (30, None)
    assert (await store.key_totals(OURS, replace(EVER, key_id="key_a", code=4))).last_used_at_ms is None


async def test_raw_calls_come_back_as_they_were(store: Store) -> None:
    """Who used which key, when, from where and for what is kept to the last field, and told the newest first."""
    calls = [call(T0 + number, code=number % 13, cost=2**32 - 1, operation=f"op {number}") for number in range(10)]
    await store.count(Writer().stretch(*calls))
    page = await store.calls(OURS, EVER, PageRequest(100))
    assert list(page.items) == calls[::-1]
    assert page.next_position is None
    assert list((await store.calls(OURS, EVER, PageRequest(100, ascending=True))).items) == calls
    exactly = await store.calls(OURS, UsageFilter(T0 + 3, T0 + 5), PageRequest(100))
    assert list(exactly.items) == [calls[4], calls[3]]


@pytest.mark.parametrize("ascending", (False, True))
async def test_pages_stay_whole_while_calls_are_counted(store: Store, ascending: bool) -> None:  # noqa: FBT001 -- pytest passes it by name
    """Reading page by page tells each call that was there exactly once, whatever is counted meanwhile."""
    writer, random = Writer(), Random(5)
    there = [call(T0 + number // 3) for number in range(50)]
    random.shuffle(there)
    await store.count(writer.stretch(*there))
    told: list[Call] = []
    position: tuple[str, ...] | None = ()
    while position is not None:
        page = await store.calls(OURS, EVER, PageRequest(7, position, ascending=ascending))
        told += page.items
        position = page.next_position
        await store.count(writer.stretch(call(T0 - 5), call(T0 + 8), call(T0 + 900)))
    assert len(told) == len({it.verification_id for it in told})
    old = [it for it in told if it in there]
    expected = sorted(there, key=lambda it: (it.at_ms, it.verification_id), reverse=not ascending)
    assert old == expected


@pytest.mark.parametrize(
    "wanted",
    (
        replace(EVER, key_id="key_a"),
        replace(EVER, secret_id="sec_a2"),
        replace(EVER, owner_id="customer-1"),
        replace(EVER, operation=""),
        replace(EVER, code=11),
    ),
)
async def test_raw_calls_are_filtered_by_everything(store: Store, wanted: UsageFilter) -> None:
    """A filter of raw calls means the same as one of sums."""
    calls = random_calls(Random(11), 80)
    await store.count(Writer().stretch(*calls))
    page = await store.calls(OURS, wanted, PageRequest(100))
    expected = [it.verification_id for it in seen(calls, OURS) if meant(it, wanted)]
    assert sorted(it.verification_id for it in page.items) == sorted(expected)
    assert expected


async def test_no_text_keeps_a_stretch_from_being_counted(store: Store) -> None:
    """What no database takes, or no index, is counted in a shorter form rather than tried for ever."""
    hostile = ["a\0b", "x" * 5_000, "\N{FOX FACE}" * 400, "'; DROP TABLE calls; --"]
    assert await store.count(Writer().stretch(*[call(operation=it, client_ip=it) for it in hostile]))
    top = await store.top(OURS, EVER, by=Dimension.OPERATION, limit=10)
    assert {point.group for point in top} == {
        "a\N{REPLACEMENT CHARACTER}b",
        "x" * 256,
        "\N{FOX FACE}" * 256,
        "'; DROP TABLE calls; --",
    }
    for it in hostile:
        assert (await store.key_totals(OURS, replace(EVER, operation=it))).calls == 1


@pytest.mark.parametrize("table", ("usage_minutes", "usage_hours", "usage_days", "calls", "journals"))
async def test_a_failure_in_the_middle_leaves_nothing(database: Database, table: str) -> None:
    """When any step of counting fails, no other step is seen, and the same stretch is counted whole afterwards."""
    store, writer = SqlUsage(database), Writer()
    assert await store.count(writer.stretch(call(), seen_at_ms=T0 + 1))
    stretch = writer.stretch(call(), call(T0 + DAY), seen_at_ms=T0 + 2)
    hidden = "counted_to" if table == "journals" else "cost"
    async with database.writers.begin() as connection:
        await connection.execute(text(f"ALTER TABLE {table} RENAME COLUMN {hidden} TO hidden"))
    with pytest.raises(Exception, match="column"):
        await store.count(stretch)
    async with database.writers.begin() as connection:
        await connection.execute(text(f"ALTER TABLE {table} RENAME COLUMN hidden TO {hidden}"))
    assert await counted(store) == (1, 1, 1, 1)
    assert (await store.counted_to("jrn_1"), await store.complete_until()) == (40, T0 + 1)
    assert await store.count(stretch)
    assert await counted(store) == (3, 3, 3, 3)


def test_a_span_is_cut_into_few_parts() -> None:
    """A year costs days and at most two ragged ends, and every minute of a span is in exactly one part."""
    year = [*parts(T0 + 61 * MINUTE, T0 + 365 * DAY + 90 * MINUTE)]
    assert year == [
        Part(Interval.MINUTE, T0 + 61 * MINUTE, T0 + 2 * HOUR),
        Part(Interval.HOUR, T0 + 2 * HOUR, T0 + DAY),
        Part(Interval.DAY, T0 + DAY, T0 + 365 * DAY),
        Part(Interval.HOUR, T0 + 365 * DAY, T0 + 365 * DAY + HOUR),
        Part(Interval.MINUTE, T0 + 365 * DAY + HOUR, T0 + 365 * DAY + 90 * MINUTE),
    ]


@given(begin=st.integers(0, 4 * DAY), length=st.integers(0, 4 * DAY))
def test_the_parts_of_a_span_follow_one_another(begin: int, length: int) -> None:
    """The parts of a span cover the minutes that begin in it, without gap or overlap, and are whole intervals."""
    pieces = [*parts(begin, begin + length)]
    first, last = -(-begin // MINUTE) * MINUTE, -(-(begin + length) // MINUTE) * MINUTE
    assert [piece.begin_ms for piece in pieces] + [last] * bool(pieces) == [first] * bool(pieces) + [
        piece.end_ms for piece in pieces
    ]
    assert bool(pieces) == (first < last)
    for piece in pieces:
        assert piece.begin_ms % WIDTH[piece.interval] == piece.end_ms % WIDTH[piece.interval] == 0
        assert piece.begin_ms < piece.end_ms


async def test_no_question_reads_a_whole_table(migrated_file: object) -> None:
    """One key's series searches for each interval, and no question goes through a table from end to end."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    asked: set[tuple[str, tuple[object, ...]]] = set()

    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.add((statement, parameters))

    event.listen(database.statements.sync_engine, "before_cursor_execute", note)
    store = SqlUsage(database)
    for scope, wanted in questions():
        await store.series(scope, wanted, interval=Interval.HOUR, by=Dimension.CODE, limit=10)
        await store.top(scope, wanted, by=Dimension.KEY, limit=10)
        await store.key_totals(scope, replace(wanted, tag=""))
        await store.calls(scope, wanted, PageRequest(10, (f"{T0:015d}", "ver_x")))
    assert len(asked) > 50
    for statement, parameters in asked:
        steps = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {statement}", *parameters)]
        tables = ("usage_minutes", "usage_hours", "usage_days", "calls")
        assert not [step for step in steps if step.startswith(tuple(f"SCAN {table}" for table in tables))], steps
        if "key_id = ?" in statement and "usage_hours" in statement and "json_each" in statement:
            assert [step for step in steps if "begins_at_ms=? AND key_id=?" in step], steps
        if "FROM calls" in statement:
            assert not [step for step in steps if "TEMP B-TREE" in step], steps
    await database.close()
