"""Erasing what is private beside events, over every store: the salts go, the records and their hashes stay (P6)."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from keystead.events.erasure import Erased, erase
from keystead.events.model import Erasure, Event, EventFilter
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.paging import PageRequest
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope
from tests.contract.stores import Stores

ACTOR = Origin(Actor(ActorType.KEY, "key_eraser"), client_ip="192.0.2.99", user_agent="curl/8")


@dataclass(frozen=True)
class Told:
    """An event to make."""

    owner_id: str
    target: str
    actor_id: str
    client_ip: str
    workspace_id: str = "wsp_1"


TOLD = (
    Told("owner-1", "key_a", "key_m", "192.0.2.1"),
    Told("owner-1", "key_b", "key_m", "192.0.2.2"),
    Told("owner-2", "key_c", "key_a", "2001:db8::1"),
    Told("owner-2", "key_c", "key_m", "192.0.2.1"),
    Told("owner-1", "key_a", "key_m", "192.0.2.1", workspace_id="wsp_2"),
)


async def happened(stores: Stores) -> list[int]:
    """Let everything happen, a second apart, and get its place; return when."""
    moments = []
    for told in TOLD:
        origin = Origin(Actor(ActorType.KEY, told.actor_id), client_ip=told.client_ip, user_agent=told.client_ip)
        change = Change(told.workspace_id, Action.KEY_UPDATED, told.target, touches=(), owner_id=told.owner_id)
        moments.append(stores.clock.advance(1_000))
        async with stores.units.begin(None, origin) as unit:
            unit.record(change)
    await stores.log.place(limit=10)
    return moments


async def events(stores: Stores, workspace_id: str = "wsp_1") -> list[Event]:
    """Return all events of a workspace, the oldest first."""
    scope = TenantScope(workspace_id, BOTH_ENVIRONMENTS)
    page = await stores.audit.page(scope, EventFilter(), PageRequest(100, (), ascending=True))
    return list(page.items)


async def erased(stores: Stores, wanted: Erasure, *, at_most: int = 100) -> Erased:
    """Erase in the first workspace."""
    async with stores.units.begin(TenantScope("wsp_1", BOTH_ENVIRONMENTS), ACTOR) as unit:
        return await erase(unit, "wsp_1", wanted, reason="asked to", at_most=at_most)


@pytest.mark.parametrize(
    ("wanted", "gone"),
    (
        (Erasure(owner_id="owner-1"), [0, 1]),
        (Erasure(key_id="key_a"), [0, 2]),
        (Erasure(client_ip="192.0.2.1"), [0, 3]),
        (Erasure(client_ip="2001:db8::1"), [2]),
        (Erasure(client_ip="192.0.2.%"), []),
        (Erasure(client_ip="192.0.2.3"), []),
        (Erasure(owner_id="owner-2", client_ip="192.0.2.1"), [3]),
        (Erasure(owner_id="owner-9"), []),
    ),
)
async def test_what_is_meant_is_erased_and_nothing_else(stores: Stores, wanted: Erasure, gone: list[int]) -> None:
    """Addresses and user agents go with their salts; records, hashes and other workspaces stay as they are."""
    await happened(stores)
    before = await events(stores)
    assert await erased(stores, wanted) == Erased(len(gone), more=False)
    after = (await events(stores))[: len(before)]
    assert [json.loads(event.private) == {} for event in after] == [index in gone for index in range(len(before))]
    assert [(it.id, it.record, it.leaf_hash) for it in after] == [(it.id, it.record, it.leaf_hash) for it in before]
    assert all(json.loads(event.private) for event in await events(stores, "wsp_2"))


async def test_events_before_a_time_are_meant(stores: Stores) -> None:
    """The moment itself is not before it."""
    moments = await happened(stores)
    assert await erased(stores, Erasure(before_ms=moments[2])) == Erased(2, more=False)


async def test_one_call_erases_a_bounded_part_the_oldest_first(stores: Stores) -> None:
    """Whoever calls until there is no more has erased everything, each once."""
    await happened(stores)
    wanted = Erasure(before_ms=stores.clock.now_ms() + 1)
    assert await erased(stores, wanted, at_most=3) == Erased(3, more=True)
    assert [json.loads(event.private) == {} for event in await events(stores)] == [True, True, True, False, False]
    await stores.log.place(limit=10)
    assert await erased(stores, wanted, at_most=3) == Erased(2, more=False)  # one more, and the first call's own event
    assert await erased(stores, Erasure(before_ms=stores.clock.now_ms())) == Erased(0, more=False)


async def test_the_erasure_is_an_event_that_keeps_no_address(stores: Stores) -> None:
    """It says who, why, how many and what was asked for, but not the address; with nothing erased there is none."""
    await happened(stores)
    await erased(stores, Erasure(owner_id="owner-2", client_ip="192.0.2.1"))
    told = (await events(stores))[-1]
    record = json.loads(told.record)
    assert (told.action, told.actor_id, told.owner_id) == (Action.AUDIT_DATA_ERASED, "key_eraser", "owner-2")
    assert record["reason"] == "asked to"
    assert {name: change["after"] for name, change in record["changes"].items()} == {"by_address": True, "events": 1}
    assert "192.0.2.1" not in told.record
    count = len(await events(stores))
    await erased(stores, Erasure(owner_id="owner-9"))
    assert len(await events(stores)) == count


async def test_an_event_without_a_place_is_left_to_the_sequencer(stores: Stores) -> None:
    """Whoever calls again a moment later finds it; nobody waits for the other's rows."""
    await stores.happened(stores.make.change("wsp_1", target="key_a"))
    assert await erased(stores, Erasure(key_id="key_a")) == Erased(0, more=False)
    await stores.log.place(limit=10)
    assert await erased(stores, Erasure(key_id="key_a")) == Erased(1, more=False)
