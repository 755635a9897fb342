"""Which events are meant, inside which walls, and the tail that tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from keystead.adapters.memory.event_queries import MemoryAuditReader
from keystead.adapters.memory.store import MemoryStore
from keystead.events.model import Event, EventFilter
from keystead.events.tail import EventTail
from keystead.kernel.change import Action
from keystead.kernel.walls import BOTH_ENVIRONMENTS, Environment, TenantScope

OURS = TenantScope("wsp_ours", BOTH_ENVIRONMENTS)
LIVE = TenantScope("wsp_ours", frozenset({Environment.LIVE}))
EVENT = Event(
    id="evt_1",
    workspace_id="wsp_ours",
    environment="live",
    action="key.revoked",
    target="key_1",
    owner_id="cus_1",
    actor_type="key",
    actor_id="key_9",
    request_id="req_1",
    occurred_at_ms=1_000,
    touches=("key_1",),
    record="{}",
    private="{}",
)


@pytest.mark.parametrize(
    "given",
    (
        {},
        {"key_id": "key_1"},
        {"target": "key_1"},
        {"owner_id": "cus_1"},
        {"actor_id": "key_9"},
        {"request_id": "req_1"},
        {"action": "key.revoked"},
        {"action": "key.*"},
        {"action": "*"},
        {"from_ms": 1_000},
        {"to_ms": 1_001},
        {"environment": Environment.LIVE},
    ),
)
def test_an_event_is_meant_when_all_that_is_asked_holds(given: dict[str, object]) -> None:
    """Each filter admits what it names; a time is within its beginning."""
    assert EventFilter(**given).admits(EVENT, OURS)  # type: ignore[arg-type]  # the names are checked at run time


@pytest.mark.parametrize(
    "given",
    (
        {"key_id": "key_2"},
        {"target": "key_1", "key_id": "key_2"},
        {"owner_id": "cus_2"},
        {"actor_id": "key_1"},
        {"request_id": "req"},
        {"action": "key.revoke"},
        {"action": "owner.*"},
        {"action": "nothing*"},
        {"from_ms": 1_001},
        {"to_ms": 1_000},
        {"to_ms": 0},
        {"environment": Environment.TEST},
    ),
)
def test_an_event_is_not_meant_when_anything_fails(given: dict[str, object]) -> None:
    """Each filter keeps out what it does not name; a time is without its end."""
    assert not EventFilter(**given).admits(EVENT, OURS)  # type: ignore[arg-type]  # the names are checked at run time


def test_a_star_stands_for_the_catalogue() -> None:
    """A pattern means all actions that begin so, in order; everything is no condition at all."""
    assert EventFilter(action="limits.*").actions == (Action.LIMITS_RESET,)
    assert EventFilter(action="owner.*").actions == tuple(sorted(it for it in Action if it.startswith("owner.")))
    assert EventFilter(action="nothing.*").actions == ()
    assert EventFilter(action="*").actions is None
    assert EventFilter().actions is None
    assert EventFilter(action="from.a.newer.version").actions == ("from.a.newer.version",)


@pytest.mark.parametrize(
    ("environment", "asked", "seen_by_live"),
    (("live", True, True), ("", True, True), ("all", True, False), ("test", False, False)),
)
def test_walls_stand_around_every_filter(environment: str, *, asked: bool, seen_by_live: bool) -> None:
    """A caller for one environment sees it and what concerns both, but not the keys for both, which he cannot see
    either; nobody sees another workspace (P8).
    """
    event = replace(EVENT, environment=environment)
    assert EventFilter().admits(event, OURS)
    assert EventFilter(environment=Environment.LIVE).admits(event, OURS) is asked
    for wanted in (EventFilter(), EventFilter(environment=Environment.LIVE)):
        assert wanted.admits(event, LIVE) is seen_by_live
        assert not wanted.admits(event, TenantScope("wsp_theirs", BOTH_ENVIRONMENTS))


class Log:
    """A log whose places are given by hand."""

    def __init__(self) -> None:
        """Begin empty."""
        self.store = MemoryStore()

    def place(self, *targets: str, workspace_id: str = "wsp_ours") -> None:
        """Add events about ``targets``, each with its place."""
        placed = self.store.committed.placed
        for target in targets:
            index = sum(event.workspace_id == workspace_id for event in placed)
            event = replace(EVENT, target=target, workspace_id=workspace_id, seq=len(placed) + 1, leaf_index=index)
            placed.append(event)

    def tail(self, wanted: EventFilter | None = None, part_size: int = 2) -> EventTail:
        """Begin a tail."""
        return EventTail(MemoryAuditReader(self.store), OURS, wanted or EventFilter(), part_size=part_size)


async def read(tail: EventTail) -> list[list[str]]:
    """Return the targets of the parts of one reading."""
    return [_targets(part) async for part in tail.read()]


def _targets(part: Sequence[Event]) -> list[str]:
    return [event.target for event in part]


async def test_a_tail_begins_at_the_end_and_tells_each_event_once() -> None:
    """What was there before is not told, what comes is told once in its order, and silence is a part of its own."""
    log = Log()
    log.place("before")
    tail = log.tail()
    assert await read(tail) == [[]]
    log.place("a", "b", "c", "d", "e")
    log.place("x", workspace_id="wsp_theirs")
    assert [it for part in await read(tail) for it in part] == ["a", "b", "c", "d", "e"]
    assert await read(tail) == [[]]
    log.place("f")
    assert await read(tail) == [["f"]]


@pytest.mark.parametrize("part_size", (1, 2, 3, 100))
async def test_a_narrow_tail_goes_past_what_is_not_meant(part_size: int) -> None:
    """Many events that are not meant are read over once, and hide none that is, whatever the size of the parts."""
    log = Log()
    tail = log.tail(EventFilter(key_id="key_1"), part_size)
    await read(tail)
    log.place("key_1", *["key_2"] * 9, "key_1", "key_1", "key_2")
    assert [it for part in await read(tail) for it in part] == ["key_1"] * 3
    assert await read(tail) == [[]]
    log.place("key_2")
    assert await read(tail) == [[]]
    log.place("key_1")
    assert await read(tail) == [["key_1"]]


async def test_a_log_that_was_replaced_is_told_from_its_end() -> None:
    """After a restore of an older copy the tail tells what comes, rather than waiting for the old size."""
    log = Log()
    log.place("a", "b", "c")
    tail = log.tail()
    assert await read(tail) == [[]]
    del log.store.committed.placed[1:]
    assert await read(tail) == [[]]
    log.place("d")
    assert await read(tail) == [["d"]]
