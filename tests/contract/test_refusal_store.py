"""What every store of refusals guarantees: each page staged once, each group told once, sums exact (P6)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.refusals import MemoryRefusals
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.refusals import SqlRefusals
from keystead.adapters.sql.units import SqlUnits
from keystead.events.model import Cursor, Event
from keystead.events.refusals import (
    ALERTS_WITHIN_MS,
    MINUTE_MS,
    OTHER,
    STRETCH_MS,
    RefusalPage,
    Refused,
    Refusing,
)
from keystead.kernel.change import Action
from keystead.kernel.ids import IdSource
from keystead.keys.ports import Units
from tests.contract.conftest import empty
from tests.contract.stores import ORIGIN, Maker
from tests.fakes import ManualClock

T0 = 1_700_000_400_000
"""The beginning of a stretch of ten minutes."""

ADDRESS = "192.0.2.1"
FAILED = Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "NOT_FOUND", ADDRESS, presented="acme_live")
CALLED = Refusing("wsp_1", "all", Action.CALL_REFUSED, "scope", ADDRESS, actor_id="key_1", method="CreateKey")
EVER_MS = T0 + 10 * STRETCH_MS
THRESHOLD = 100


class Shop:
    """A store of refusals beside the log that they are told in."""

    def __init__(self, database: Database | None) -> None:
        """Open it, empty."""
        self.clock = ManualClock(T0 + MINUTE_MS)
        ids = IdSource(self.clock)
        self.log: MemoryEventLog | SqlEventLog
        self.refusals: MemoryRefusals | SqlRefusals
        if database is None:
            store = MemoryStore()
            self.units: Units = MemoryUnits(store, clock=self.clock, ids=ids)
            self.log = MemoryEventLog(store)
            self.refusals = MemoryRefusals(store, clock=self.clock, ids=ids, threshold=THRESHOLD)
        else:
            self.units = SqlUnits(database, clock=self.clock, ids=ids)
            self.log = SqlEventLog(database)
            self.refusals = SqlRefusals(database, clock=self.clock, ids=ids, threshold=THRESHOLD)

    async def events(self, action: Action) -> list[Event]:
        """Return the events of an action, as they happened."""
        while await self.log.place(limit=1_000):
            continue
        page = await self.log.poll(Cursor(), limit=100_000)
        return [event for event in page.placed if event.action == action]

    async def told(self, *, limit: int = 10_000) -> list[Event]:
        """Tell everything, and return every event about refusals there is."""
        while await self.refusals.tell(before_ms=EVER_MS, limit=limit):
            pass
        return await self.events(Action.AUTHENTICATION_FAILED) + await self.events(Action.CALL_REFUSED)

    async def alerts(self) -> list[tuple[str, str, int]]:
        """Return (key, address, failures) of every event about a passed threshold."""
        found = []
        for event in await self.events(Action.AUTHENTICATION_THRESHOLD_REACHED):
            address = json.loads(event.private).get("client_ip", {}).get("value", "")
            found.append((event.target, address, record(event)["changes"]["failed_attempts"]["after"]))
        return sorted(found)


@pytest.fixture
async def shop(stores_url: str) -> AsyncIterator[Shop]:
    """Lend the store of each kind, empty."""
    if not stores_url:
        yield Shop(None)
        return
    database = Database.connect(stores_url)
    yield Shop(database)
    await empty(database)


def record(event: Event) -> dict[str, Any]:
    """Read an event's record."""
    found: dict[str, Any] = json.loads(event.record)
    return found


def total(events: Iterable[Event]) -> int:
    """Add up what events tell."""
    return sum(record(event)["group"]["count"] for event in events)


def some(refusing: Refusing = FAILED, count: int = 1, *, at_ms: int = T0) -> Refused:
    """Make a group of one minute."""
    return Refused(refusing, at_ms - at_ms % MINUTE_MS, count, at_ms, at_ms + 5)


def page(number: int, *groups: Refused, journal_id: str = "jrn_1") -> RefusalPage:
    """Make a page."""
    return RefusalPage(journal_id, number, groups)


async def test_a_page_that_comes_twice_is_staged_once(shop: Shop) -> None:
    """A retry after a commit that nobody saw succeed changes nothing; numbers may be left out."""
    assert await shop.refusals.stage(page(1, some(count=3)))
    assert not await shop.refusals.stage(page(1, some(count=3)))
    assert await shop.refusals.stage(page(4, some(count=2)))
    assert not await shop.refusals.stage(page(3, some(count=9)))
    assert await shop.refusals.stage(page(1, some(count=1), journal_id="jrn_2"))
    assert total(await shop.told()) == 6


async def test_a_page_that_comes_from_several_at_once_is_staged_once(shop: Shop) -> None:
    """Of many that send the same page, one stages it."""
    staged = await asyncio.gather(*[shop.refusals.stage(page(1, some(count=3))) for _ in range(8)])
    assert sorted(staged) == [False] * 7 + [True]
    assert total(await shop.told()) == 3


async def test_groups_that_meet_are_one_record(shop: Shop) -> None:
    """Of several pages and processes: the sum, the first and the last time, and everything that tells groups apart."""
    early, late = some(count=2, at_ms=T0 + 10), some(count=3, at_ms=T0 + 100)
    assert await shop.refusals.stage(page(1, late, early, some(CALLED, 7, at_ms=T0 + 20)))
    assert await shop.refusals.stage(page(1, some(count=1, at_ms=T0 + 50), journal_id="jrn_2"))
    failed, called = await shop.told()
    assert record(failed)["group"] == {
        "count": 6,
        "first_at_ms": T0 + 10,
        "last_at_ms": T0 + 105,
        "method": "",
        "presented": "acme_live",
    }
    assert (failed.occurred_at_ms, failed.actor_type, failed.actor_id) == (T0 + 105, "anonymous", "")
    assert (failed.environment, failed.target, record(failed)["reason"]) == ("live", "", "NOT_FOUND")
    assert record(called)["group"]["method"] == "CreateKey"
    assert (called.actor_type, called.actor_id, called.touches) == ("key", "key_1", ())
    assert {record(event)["result"] for event in (failed, called)} == {"refused"}


async def test_an_address_is_private(shop: Shop) -> None:
    """Where somebody came from stands beside the record, and in it only behind a salt: it can be erased."""
    await shop.refusals.stage(page(1, some(count=THRESHOLD + 1), some(CALLED)))
    events = await shop.told() + await shop.events(Action.AUTHENTICATION_THRESHOLD_REACHED)
    assert len(events) == 3
    assert all(ADDRESS not in event.record and ADDRESS in event.private for event in events)


async def test_only_what_is_over_is_told(shop: Shop) -> None:
    """Groups of minutes that began before a moment become events and are gone; the others wait."""
    await shop.refusals.stage(page(1, *[some(at_ms=T0 + number * MINUTE_MS) for number in range(3)]))
    assert await shop.refusals.tell(before_ms=T0, limit=10) == 0
    assert await shop.refusals.tell(before_ms=T0 + MINUTE_MS + 1, limit=10) == 2
    assert await shop.refusals.tell(before_ms=T0 + MINUTE_MS + 1, limit=10) == 0
    assert [event.occurred_at_ms for event in await shop.told()] == [T0 + n * MINUTE_MS + 5 for n in range(3)]


async def test_a_late_page_makes_a_further_record(shop: Shop) -> None:
    """What comes after its minute was told is told as well, and nothing that was told is changed."""
    await shop.refusals.stage(page(1, some(count=2)))
    before = await shop.told()
    await shop.refusals.stage(page(1, some(count=3), journal_id="jrn_2"))
    after = await shop.told()
    assert (len(before), len(after), total(after)) == (1, 2, 5)
    assert before[0] in after


async def test_two_tellers_at_once_tell_everything_once(shop: Shop) -> None:
    """However many nodes tell in small steps while others stage: the records add up to what was refused."""
    groups = [some(FAILED._replace(client_ip=f"10.0.0.{number}"), number + 1) for number in range(120)]
    pages = [page(1, *groups[start : start + 30], journal_id=f"jrn_{start}") for start in range(0, 120, 30)]
    tellers = [shop.refusals.tell(before_ms=EVER_MS, limit=7) for _ in range(20)]
    await asyncio.gather(*[shop.refusals.stage(it) for it in pages], *tellers)
    assert total(await shop.told(limit=7)) == sum(it.count for it in groups)
    ids = [event.id for event in await shop.told()]
    assert len(ids) == len(set(ids)) == 120


@pytest.mark.parametrize("seed", range(2))
async def test_sums_are_exact(shop: Shop, seed: int) -> None:
    """Whatever comes, and whenever it is told: records add up, by workspace, address and reason."""
    random = Random(seed)
    expected: Counter[tuple[str, str, str]] = Counter()
    for number in range(1, 21):
        groups = [
            some(
                FAILED._replace(
                    workspace_id=random.choice(("wsp_1", "wsp_2")),
                    reason=random.choice(("NOT_FOUND", "REVOKED", "naïve")),
                    client_ip=random.choice((ADDRESS, "::1", OTHER, "")),
                ),
                random.randrange(1, 9),
                at_ms=T0 + random.randrange(3 * MINUTE_MS),
            )
            for _ in range(30)
        ]
        for it in groups:
            expected[it.refusing.workspace_id, it.refusing.client_ip, it.refusing.reason] += it.count
        await shop.refusals.stage(page(number, *groups))
        await shop.refusals.tell(before_ms=T0 + random.randrange(3 * MINUTE_MS), limit=random.randrange(1, 30))
    found: Counter[tuple[str, str, str]] = Counter()
    for event in await shop.told():
        address = json.loads(event.private).get("client_ip", {}).get("value", "")
        found[event.workspace_id, address, record(event)["reason"]] += record(event)["group"]["count"]
    assert found == expected


async def test_who_passes_the_threshold_is_told_once(shop: Shop) -> None:
    """An address and a key that fail more than so often in ten minutes make one event each, at once; not before, not
    again in the same stretch, and anew in the next.
    """
    known = FAILED._replace(target="key_9", reason="REVOKED", client_ip="")
    await shop.refusals.stage(page(1, some(count=THRESHOLD), some(known, THRESHOLD)))
    assert await shop.alerts() == []
    await shop.refusals.stage(page(2, some(count=1, at_ms=T0 + 2 * MINUTE_MS), some(known, 5)))
    once = [("", ADDRESS, THRESHOLD + 1), ("key_9", "", THRESHOLD + 5)]
    assert await shop.alerts() == once
    await shop.refusals.stage(page(3, some(count=10 * THRESHOLD), some(known, 10 * THRESHOLD)))
    assert await shop.alerts() == once
    await shop.refusals.stage(page(4, some(count=THRESHOLD + 3, at_ms=T0 + STRETCH_MS)))
    assert await shop.alerts() == sorted([*once, ("", ADDRESS, THRESHOLD + 3)])
    assert shop.refusals.alerts == 3


async def test_the_threshold_is_passed_once_whoever_counts(shop: Shop) -> None:
    """Many processes that see the same address at once make one event between them."""
    pages = [page(1, some(count=30), journal_id=f"jrn_{number}") for number in range(12)]
    assert all(await asyncio.gather(*[shop.refusals.stage(it) for it in pages]))
    ((target, address, failures),) = await shop.alerts()
    assert (target, address) == ("", ADDRESS)
    assert THRESHOLD < failures <= THRESHOLD + 30


async def test_what_raises_no_alert(shop: Shop) -> None:
    """Refused calls, sums of many addresses, other environments and workspaces, and what comes an hour late."""
    apart = (CALLED, FAILED._replace(client_ip=OTHER), FAILED._replace(client_ip=""))
    await shop.refusals.stage(page(1, *[some(it, 9 * THRESHOLD) for it in apart]))
    for number, other in enumerate((FAILED, FAILED._replace(environment="test"), FAILED._replace(workspace_id="w"))):
        await shop.refusals.stage(page(2 + number, some(other, THRESHOLD)))
    shop.clock.advance(STRETCH_MS + ALERTS_WITHIN_MS)
    await shop.refusals.stage(page(5, some(count=9 * THRESHOLD)))
    assert await shop.alerts() == []


async def test_old_sums_are_forgotten(shop: Shop) -> None:
    """What is held against a subject goes when no alert is raised for its stretch any more, and nothing else goes."""
    await shop.refusals.stage(page(1, some(count=THRESHOLD)))
    await shop.refusals.forget(before_ms=T0)
    await shop.refusals.stage(page(2, some(count=1)))
    assert len(await shop.alerts()) == 1
    await shop.refusals.forget(before_ms=T0 + 1)
    await shop.refusals.stage(page(3, some(count=THRESHOLD)))
    assert len(await shop.alerts()) == 1
    await shop.refusals.stage(page(4, replace(some(), count=1)))
    assert len(await shop.alerts()) == 2


async def test_what_is_about_a_key_is_about_its_owner_too(shop: Shop) -> None:
    """Failed attempts and alerts name the owner of the key that failed, so that they are found, and erased, by owner;
    an address and a key that nobody knows have none.
    """
    make = Maker(shop.clock)
    workspace = make.workspace()
    mine, nobodys = replace(make.key(workspace), owner_id="cus_42"), replace(make.key(workspace), owner_id="")
    async with shop.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.add(workspace)
        for key in (mine, nobodys):
            await unit.keys.add(key)
    failed = FAILED._replace(workspace_id=workspace.id, reason="REVOKED")
    await shop.refusals.stage(
        page(1, *[some(failed._replace(target=it), THRESHOLD + 1) for it in (mine.id, nobodys.id, "key_gone", "")])
    )
    events = await shop.told() + await shop.events(Action.AUTHENTICATION_THRESHOLD_REACHED)
    owners = {(str(event.action), event.target): (event.owner_id, record(event)["owner_id"]) for event in events}
    failures, alerts = str(Action.AUTHENTICATION_FAILED), str(Action.AUTHENTICATION_THRESHOLD_REACHED)
    assert {place for place in owners if owners[place] != ("", "")} == {(failures, mine.id), (alerts, mine.id)}
    assert owners[failures, mine.id] == owners[alerts, mine.id] == ("cus_42", "cus_42")
    assert {(failures, nobodys.id), (failures, "key_gone"), (failures, ""), (alerts, "")} < owners.keys()
