"""The stores of usage behind their port, and what tests count in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.ids import IdSource
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from keystead.usage.model import Call, Dimension, Interval, Point, Stretch, Subject, UsageFilter
from tests.fakes import ManualClock

Store = MemoryUsage | SqlUsage | ClickHouseUsage

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WIDTH = {Interval.MINUTE: MINUTE, Interval.HOUR: HOUR, Interval.DAY: DAY}
# The beginning of a day.
T0 = 1_700_006_400_000
EVER = UsageFilter(T0 - DAY, T0 + 40 * DAY)
OURS = TenantScope("wsp_ours", BOTH_ENVIRONMENTS)
THEIRS = TenantScope("wsp_theirs", BOTH_ENVIRONMENTS)
OUR_TESTS = TenantScope("wsp_ours", frozenset({Environment.TEST}))
NOWHERE = TenantScope("wsp_ours", frozenset())

OUR_KEY = Subject("wsp_ours", "live", "key_a", "sec_a1", "customer-1")
ROTATED = replace(OUR_KEY, secret_id="sec_a2")
UNOWNED = Subject("wsp_ours", "live", "key_b", "sec_b1", "")
OUR_TEST_KEY = Subject("wsp_ours", "test", "key_c", "sec_c1", "customer-1")
# The same ids as ours, for walls must not depend on ids being unique.
THEIR_KEY = Subject("wsp_theirs", "live", "key_a", "sec_a1", "customer-1")
SUBJECTS = (OUR_KEY, ROTATED, UNOWNED, OUR_TEST_KEY, THEIR_KEY)

GROUPS: dict[Dimension, Callable[[Call], str]] = {
    Dimension.KEY: lambda call: call.subject.key_id,
    Dimension.SECRET: lambda call: call.subject.secret_id,
    Dimension.OWNER: lambda call: call.subject.owner_id,
    Dimension.OPERATION: lambda call: call.operation,
    Dimension.CODE: lambda call: str(call.code),
    Dimension.ENVIRONMENT: lambda call: call.subject.environment,
}

_ids = IdSource(ManualClock())


def call(
    at_ms: int = T0,
    subject: Subject = OUR_KEY,
    *,
    code: int = 1,
    cost: int = 1,
    operation: str = "read",
    client_ip: str = "192.0.2.1",
    scope_expression: str = "",
    tags: tuple[str, ...] = (),
) -> Call:
    """Make a verdict with an id of its own."""
    return Call(_ids.new("ver"), at_ms, subject, code, cost, operation, client_ip, scope_expression, tags)


class Writer:
    """Makes stretches of one journal, each beginning where the one before it ended."""

    def __init__(self, journal_id: str = "jrn_1") -> None:
        """Begin at the journal's first place."""
        self.journal_id = journal_id
        self.place = 0

    def stretch(self, *calls: Call, seen_at_ms: int | None = None) -> Stretch:
        """Make the next stretch; one without calls is as long as nothing."""
        begin = self.place
        self.place += 40 * len(calls)
        return Stretch(self.journal_id, begin, self.place, calls, seen_at_ms)


def random_calls(random: Random, number: int, *, days: int = 3) -> list[Call]:
    """Make verdicts of all subjects, in no order, many of them in the same minutes."""
    minutes = [T0 + random.randrange(days * DAY) for _ in range(20)]
    return [
        call(
            random.choice(minutes) + random.randrange(MINUTE),
            random.choice(SUBJECTS),
            code=random.choice((1, 1, 1, 3, 11, 12)),
            cost=random.choice((0, 1, 7, 2**32 - 1)),
            operation=random.choice(("", "read", "écrire", "\N{FOX FACE}", "READ")),
            scope_expression=random.choice(("", "read:invoices", "read:a OR write:b")),
            tags=random.choice(((), (), ("eu",), ("EU", "eu"), ("a:b", "eu_", "émile"))),
        )
        for _ in range(number)
    ]


def seen(calls: Iterable[Call], scope: TenantScope) -> list[Call]:
    """Return the calls that ``scope`` may see."""
    return [
        it
        for it in calls
        if it.subject.workspace_id == scope.workspace_id and it.subject.environment in scope.environments
    ]


def recount(calls: Sequence[Call], interval: Interval, by: Dimension | None, *, tag: str = "") -> list[Point]:
    """Sum ``calls`` once more, in the simplest way, in the order that a series has."""
    counts: Counter[tuple[int, str]] = Counter()
    costs: Counter[tuple[int, str]] = Counter()
    for it in calls:
        begins_at_ms = it.at_ms // WIDTH[interval] * WIDTH[interval]
        for group in (tag,) if tag and by is Dimension.TAG else groups_of(it, by):
            counts[begins_at_ms, group] += 1
            costs[begins_at_ms, group] += it.cost
    return [Point(*place, counts[place], costs[place]) for place in sorted(counts, key=lambda place: order(place, by))]


def groups_of(it: Call, by: Dimension | None) -> tuple[str, ...]:
    """Return the groups a call is in: with labels it may be none or several."""
    if by is Dimension.TAG:
        return it.tags
    return (GROUPS[by](it) if by else "",)


def order(place: tuple[int, str], by: Dimension | None) -> tuple[int, object]:
    """Return where a point stands in a series: codes by their numbers, other groups byte by byte."""
    return (place[0], int(place[1]) if by is Dimension.CODE else place[1].encode())


def questions() -> Iterator[tuple[TenantScope, UsageFilter]]:
    """Yield filters of every kind for callers of every kind."""
    fields: list[dict[str, object]] = [
        {},
        {"key_id": "key_a"},
        {"secret_id": "sec_a2"},
        {"owner_id": "customer-1"},
        {"operation": ""},
        {"operation": "read", "code": 11},
        {"key_id": "key_a", "code": 1},
        {"key_id": "key_missing"},
        {"tag": "eu"},
        {"tag": "eu_", "key_id": "key_a", "code": 1},
    ]
    for scope in (OURS, THEIRS, OUR_TESTS, NOWHERE):
        for given in fields:
            yield scope, replace(EVER, **given)  # type: ignore[arg-type] # the names are checked at run time


def meant(it: Call, wanted: UsageFilter) -> bool:
    """Say whether ``wanted`` asks for a call, times aside."""
    asked = (
        (wanted.key_id or None, it.subject.key_id),
        (wanted.secret_id or None, it.subject.secret_id),
        (wanted.owner_id or None, it.subject.owner_id),
        (wanted.operation, it.operation),
        (wanted.code, it.code),
    )
    if wanted.tag and wanted.tag not in it.tags:
        return False
    return all(expected in {None, found} for expected, found in asked)
