"""The contract of ``AuditReader``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from random import Random

import pytest

from keystead.events import merkle
from keystead.events.model import Cursor, Event, EventFilter
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.paging import PageRequest
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from tests.contract.stores import HOSTILE, Stores

OURS = TenantScope("wsp_ours", BOTH_ENVIRONMENTS)
THEIRS = TenantScope("wsp_theirs", BOTH_ENVIRONMENTS)
OUR_LIVE = TenantScope("wsp_ours", frozenset({Environment.LIVE}))
OUR_TESTS = TenantScope("wsp_ours", frozenset({Environment.TEST}))
SCOPES = (OURS, THEIRS, OUR_LIVE, OUR_TESTS)
ACTIONS = (Action.KEY_CREATED, Action.KEY_REVOKED, Action.OWNER_CREATED, Action.PLAN_UPDATED)


async def happen(stores: Stores, random: Random, number: int, *, placed: int = 0) -> list[Event]:
    """Make events of every kind, many in the same millisecond, place so many, and return all as they are stored."""
    for _ in range(number):
        actor = Actor(random.choice((ActorType.KEY, ActorType.SYSTEM)), random.choice(("key_m", "housekeeping")))
        origin = Origin(actor, client_ip="192.0.2.7", request_id=random.choice(("", "req_1", HOSTILE)))
        async with stores.units.begin(None, origin) as unit:
            for _ in range(random.choice((1, 1, 3))):
                unit.record(
                    Change(
                        random.choice(("wsp_ours", "wsp_theirs")),
                        random.choice(ACTIONS),
                        random.choice(("key_a", "key_b", HOSTILE)),
                        touches=("key_a",),
                        environment=random.choice(("", "live", "test", "all")),
                        owner_id=random.choice(("", "cus_1", "cus_2")),
                    )
                )
        stores.clock.advance(random.choice((0, 0, 1, 5)))
    if placed:
        await stores.log.place(limit=placed)
    page = await stores.log.poll(Cursor(), limit=10_000)
    return [*page.placed, *page.unplaced]


def questions(begin_ms: int) -> Iterator[EventFilter]:
    """Yield filters of every kind, alone and together."""
    fields: list[dict[str, object]] = [
        {},
        {"key_id": "key_a"},
        {"target": HOSTILE},
        {"key_id": "key_a", "target": "key_a"},
        {"key_id": "key_a", "target": "key_b"},
        {"owner_id": "cus_1"},
        {"owner_id": "cus_1", "request_id": HOSTILE, "actor_id": "key_m"},
        {"actor_id": "housekeeping"},
        {"actor_id": "key_m", "action": "key.*"},
        {"request_id": "req_1"},
        {"action": "key.created"},
        {"action": "key.*"},
        {"action": "*"},
        {"action": "nothing.*"},
        {"action": "nothing.such"},
        {"action": "p*", "from_ms": begin_ms + 10},
        {"from_ms": begin_ms + 5, "to_ms": begin_ms + 20},
        {"action": "key.*", "to_ms": begin_ms + 20},
        {"environment": Environment.LIVE},
        {"environment": Environment.TEST, "owner_id": "cus_2"},
        {"owner_id": "nobody"},
    ]
    for given in fields:
        yield EventFilter(**given)  # type: ignore[arg-type]  # the names are checked at run time


def meant(event: Event, wanted: EventFilter, scope: TenantScope) -> bool:
    """Say once more, in the simplest way, whether an event is to be told."""
    if event.workspace_id != scope.workspace_id:
        return False
    alone = {Environment.LIVE: ("live", ""), Environment.TEST: ("test", "")}
    for environment, worlds in alone.items():
        if scope.environments == {environment} and event.environment not in worlds:
            return False
        if wanted.environment is environment and event.environment not in (*worlds, "all"):
            return False
    if wanted.action.endswith("*"):
        named = event.action.startswith(wanted.action[:-1])
    else:
        named = wanted.action in {"", event.action}
    if wanted.from_ms is not None and event.occurred_at_ms < wanted.from_ms:
        return False
    if wanted.to_ms is not None and event.occurred_at_ms >= wanted.to_ms:
        return False
    return (
        named
        and wanted.key_id in {"", event.target}
        and wanted.target in {"", event.target}
        and wanted.owner_id in {"", event.owner_id}
        and wanted.actor_id in {"", event.actor_id}
        and wanted.request_id in {"", event.request_id}
    )


async def pages(
    stores: Stores, scope: TenantScope, wanted: EventFilter, request: PageRequest
) -> AsyncIterator[list[Event]]:
    """Yield pages to the last."""
    while True:
        page = await stores.audit.page(scope, wanted, request)
        yield list(page.items)
        if page.next_position is None:
            return
        assert len(page.items) == request.size
        request = replace(request, position=page.next_position)


@pytest.mark.parametrize("ascending", (True, False))
async def test_a_list_is_what_is_meant_inside_the_walls(stores: Stores, *, ascending: bool) -> None:
    """Whatever is asked, by whomever, exactly that is told, whole, in the order of time, in pages of any size (P8)."""
    begin_ms = stores.clock.now_ms()
    known = await happen(stores, Random(5), 60, placed=40)
    assert {event.leaf_index is None for event in known} == {True, False}
    told = 0
    for scope in SCOPES:
        for wanted in questions(begin_ms):
            expected = [event for event in known if meant(event, wanted, scope)]
            expected.sort(key=lambda event: (event.occurred_at_ms, event.id), reverse=not ascending)
            request = PageRequest(7, ascending=ascending)
            found = [event async for page in pages(stores, scope, wanted, request) for event in page]
            assert found == expected, (scope, wanted)
            told += len(found)
    assert told > 200


@pytest.mark.parametrize("ascending", (True, False))
async def test_paging_is_stable_while_events_come_and_are_placed(stores: Stores, *, ascending: bool) -> None:
    """What was there when the first page was asked for is told exactly once, whatever happens between the pages."""
    random = Random(9)
    known = await happen(stores, random, 40, placed=10)
    there = [event.id for event in known if event.workspace_id == "wsp_ours"]
    told: list[str] = []
    async for page in pages(stores, OURS, EventFilter(), PageRequest(3, ascending=ascending)):
        told += [event.id for event in page]
        if len(told) < len(there):
            stores.clock.advance(1)
            await happen(stores, random, 1, placed=5)
    assert len(told) == len(set(told))
    assert [event_id for event_id in told if event_id in there] == sorted(there, reverse=not ascending)
    assert (set(told) == set(there)) is not ascending


async def test_placed_events_follow_one_another(stores: Stores) -> None:
    """From any place on, what is meant is told in the order of the tree, and nothing that has no place yet."""
    known = await happen(stores, Random(7), 40, placed=45)
    placed = sorted((it for it in known if it.leaf_index is not None), key=lambda event: event.leaf_index or 0)
    assert len(placed) == 45 < len(known)
    for scope in SCOPES:
        for wanted in questions(0):
            for after_index, limit in ((-1, 1_000), (4, 3)):
                expected = [it for it in placed if meant(it, wanted, scope) and (it.leaf_index or 0) > after_index][
                    :limit
                ]
                assert list(await stores.audit.since(scope, wanted, after_index, limit)) == expected, (scope, wanted)


async def test_leaves_and_edge_are_those_of_the_tree(stores: Stores) -> None:
    """The head's frontier is that of the leaves, each workspace has a tree of its own, and an unknown one is empty."""
    known = await happen(stores, Random(3), 30, placed=30)
    for workspace_id in ("wsp_ours", "wsp_theirs", "wsp_nobody"):
        own = [it for it in known if it.workspace_id == workspace_id and it.leaf_index is not None]
        leaves = [it.leaf_hash for it in sorted(own, key=lambda event: event.leaf_index or 0)]
        size, frontier = await stores.audit.head(workspace_id)
        edge = b""
        for count, leaf in enumerate(leaves):
            edge = merkle.append(edge, count, leaf)
        assert (size, frontier) == (len(leaves), edge)
        assert list(await stores.audit.leaf_hashes(workspace_id, 0, 1_000)) == leaves
        assert list(await stores.audit.leaf_hashes(workspace_id, 3, 2)) == leaves[3:5]


async def test_an_event_is_found_inside_the_walls_alone(stores: Stores) -> None:
    """An event of another workspace or environment answers as one that does not exist (P8)."""
    known = await happen(stores, Random(2), 30, placed=15)
    for scope in SCOPES:
        for event in known:
            expected = event if meant(event, EventFilter(), scope) else None
            assert await stores.audit.find(scope, event.id) == expected
        assert await stores.audit.find(scope, "evt_none") is None


async def test_a_reader_of_places_misses_nothing_while_they_are_given(stores: Stores) -> None:
    """Whatever is below the size that was told can be read: who goes on from there misses no event (P6)."""
    known = await happen(stores, Random(4), 60)

    async def place() -> None:
        for _ in known:
            await stores.log.place(limit=3)
            await asyncio.sleep(0)

    placing = asyncio.create_task(place())
    reached = 0
    while not placing.done() or reached < (await stores.audit.head("wsp_ours"))[0]:
        size, _ = await stores.audit.head("wsp_ours")
        part = await stores.audit.since(OURS, EventFilter(), reached - 1, 1_000)
        assert [event.leaf_index for event in part] == list(range(reached, reached + len(part)))
        assert reached + len(part) >= size
        reached += len(part)
        await asyncio.sleep(0)
    await placing
    assert reached > 20
