"""The contract of ``EventLog``."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace

import pytest

from keystead.events.errors import CursorLostError
from keystead.events.model import Cursor, Event, commitment
from keystead.events.ports import UNPLACED_MAX
from keystead.kernel.change import Change
from tests.contract.stores import HOSTILE, ORIGIN, Stores


async def events(stores: Stores, cursor: Cursor | None = None) -> list[Event]:
    """Return every placed event after ``cursor``."""
    page = await stores.log.poll(cursor or Cursor(), limit=10_000)
    assert not page.more
    return list(page.placed)


async def test_a_change_becomes_one_event(stores: Stores) -> None:
    """An event tells what changed, who did it and from where, and hides personal data behind commitments (P6)."""
    change = Change(
        "wsp_1",
        stores.make.change("wsp_1").action,
        "key_1",
        touches=("key_1", HOSTILE),
        environment="live",
        owner_id="cust-1",
        changes={"name": (None, HOSTILE), "tags": (["a"], [])},
        reason=HOSTILE,
    )
    await stores.happened(change)
    (event,) = (await stores.log.poll(Cursor(), limit=10)).unplaced
    assert (event.workspace_id, event.environment, event.target, event.owner_id) == ("wsp_1", "live", "key_1", "cust-1")
    assert (event.action, event.actor_type, event.actor_id) == ("key.created", "key", "key_caller")
    assert (event.request_id, event.occurred_at_ms) == ("req_1", stores.clock.now_ms())
    assert event.touches == ("key_1", HOSTILE)
    assert (event.seq, event.leaf_index) == (None, None)
    record, private = json.loads(event.record), json.loads(event.private)
    assert record["changes"] == {"name": {"before": None, "after": HOSTILE}, "tags": {"before": ["a"], "after": []}}
    assert ORIGIN.client_ip not in event.record
    salt = bytes.fromhex(private["client_ip"]["salt"])
    assert record["committed"]["client_ip"] == commitment(salt, ORIGIN.client_ip)


async def test_placing_changes_nothing_but_the_place(stores: Stores) -> None:
    """A placed event is the event that was stored, byte for byte, with its place."""
    await stores.happened(stores.make.change("wsp_1"))
    (before,) = (await stores.log.poll(Cursor(), limit=10)).unplaced
    assert await stores.log.place(limit=10) == 1
    page = await stores.log.poll(Cursor(), limit=10)
    assert list(page.placed) == [replace(before, seq=1, leaf_index=0)]
    assert not page.unplaced


async def test_an_empty_log_has_the_zero_cursor(stores: Stores) -> None:
    """Nothing happened: the head is the zero cursor, nothing is to be read or placed."""
    assert await stores.log.head() == Cursor()
    assert await stores.log.place(limit=10) == 0
    page = await stores.log.poll(Cursor(), limit=10)
    assert (list(page.placed), list(page.unplaced), page.more) == ([], [], False)


async def test_places_follow_time_without_gaps(stores: Stores) -> None:
    """Events get 1, 2, 3, … in the order of their time, and each workspace counts its own from 0."""
    workspaces = ["wsp_a", "wsp_b", "wsp_a", "wsp_c", "wsp_a", "wsp_b"]
    for number, workspace_id in enumerate(workspaces):
        await stores.happened(stores.make.change(workspace_id, f"key_{number}"))
    assert [await stores.log.place(limit=4) for _ in range(3)] == [4, 2, 0]
    placed = await events(stores)
    assert [event.seq for event in placed] == [1, 2, 3, 4, 5, 6]
    assert [event.target for event in placed] == [f"key_{number}" for number in range(6)]
    assert [(event.workspace_id, event.leaf_index) for event in placed] == [
        ("wsp_a", 0),
        ("wsp_b", 0),
        ("wsp_a", 1),
        ("wsp_c", 0),
        ("wsp_a", 2),
        ("wsp_b", 1),
    ]
    assert await stores.log.head() == Cursor(6, placed[-1].leaf_hash)


async def test_events_of_one_unit_keep_their_order(stores: Stores) -> None:
    """What one unit recorded first stands first in the log, though all of it happened in the same millisecond."""
    await stores.happened(*[stores.make.change("wsp_1", f"key_{number}") for number in range(30)])
    await stores.log.place(limit=100)
    assert [event.target for event in await events(stores)] == [f"key_{number}" for number in range(30)]


async def test_an_event_that_commits_late_takes_a_later_place(stores: Stores) -> None:
    """Once placed, the past does not move: an older event that commits afterwards is placed after it."""
    held = stores.make.change("wsp_1", "key_late")
    async with stores.units.begin(None, ORIGIN) as unit:
        unit.record(held)
        await stores.happened(stores.make.change("wsp_1", "key_early"))
        await stores.log.place(limit=10)
    await stores.log.place(limit=10)
    assert [(event.seq, event.target) for event in await events(stores)] == [(1, "key_early"), (2, "key_late")]


async def test_a_reader_goes_on_from_his_cursor(stores: Stores) -> None:
    """Reading page by page with a cursor shows every event once and says when there is more."""
    await stores.happened(*[stores.make.change("wsp_1", f"key_{number}") for number in range(7)])
    await stores.log.place(limit=5)
    cursor, seen, more = Cursor(), [], []
    for _ in range(4):
        page = await stores.log.poll(cursor, limit=2)
        more.append(page.more)
        assert len(page.placed) <= 2
        assert len(page.unplaced) == 2
        for event in page.placed:
            seen.append(event.target)
            cursor = Cursor(event.seq or 0, event.leaf_hash)
    assert seen == [f"key_{number}" for number in range(5)]
    assert more == [True, True, False, False]


async def test_unplaced_events_are_bounded_too(stores: Stores) -> None:
    """A page holds a bounded number of events without a place, the oldest first, and says when some are hidden."""
    targets = [f"key_{number}" for number in range(UNPLACED_MAX)]
    await stores.happened(*[stores.make.change("wsp_1", target) for target in targets])
    page = await stores.log.poll(Cursor(), limit=3)
    assert [event.target for event in page.unplaced] == targets
    assert (list(page.placed), page.more, page.hidden) == ([], False, False)
    await stores.happened(*[stores.make.change("wsp_1", "late") for _ in range(3)])
    page = await stores.log.poll(Cursor(), limit=3)
    assert [event.target for event in page.unplaced][:UNPLACED_MAX] == targets
    assert (page.more, page.hidden) == (False, True)


async def test_events_that_touch_nothing_hide_none_that_do(stores: Stores) -> None:
    """However many refusals wait for their places, a revocation among them is heard of (P3)."""
    untouching = [replace(stores.make.change("wsp_1", "refused"), touches=()) for _ in range(UNPLACED_MAX + 10)]
    await stores.happened(*untouching)
    await stores.happened(stores.make.change("wsp_1", "key_revoked"))
    page = await stores.log.poll(Cursor(), limit=3)
    assert [event.target for event in page.unplaced] == ["refused", "key_revoked"]
    assert not page.hidden


@pytest.mark.parametrize("lost", (Cursor(2, b"\x00" * 32), Cursor(3, b"\x00" * 32), Cursor(99, b""), Cursor(1, b"")))
async def test_a_cursor_of_another_log_is_told_so(stores: Stores, lost: Cursor) -> None:
    """A cursor whose event is not there, or is another one, raises: the database was replaced by an older copy."""
    await stores.happened(stores.make.change("wsp_1"), stores.make.change("wsp_1"))
    await stores.log.place(limit=10)
    head = await stores.log.head()
    assert not (await stores.log.poll(head, limit=10)).placed
    with pytest.raises(CursorLostError):
        await stores.log.poll(lost, limit=10)


async def test_many_placers_make_one_history(stores: Stores) -> None:
    """Placers that run at the same time, while events arrive, number every event once and leave no gap."""
    finished = False

    async def arrive(workspace_id: str) -> None:
        for number in range(15):
            await stores.happened(stores.make.change(workspace_id, f"{workspace_id}-{number}"))

    async def place() -> int:
        count = 0
        while not finished:
            count += await stores.log.place(limit=3)
            await asyncio.sleep(0)
        return count

    placers = [asyncio.create_task(place()) for _ in range(3)]
    await asyncio.gather(*[arrive(f"wsp_{number}") for number in range(3)])
    finished = True
    counts = [await placer for placer in placers]
    while placed_now := await stores.log.place(limit=100):
        counts.append(placed_now)
    placed = await events(stores)
    assert sum(counts) == len(placed) == 45
    assert [event.seq for event in placed] == list(range(1, 46))
    for workspace_id, group in itertools.groupby(sorted(placed, key=lambda event: event.workspace_id), workspace_of):
        assert [event.leaf_index for event in group] == list(range(15)), workspace_id


async def test_a_reader_never_misses_what_is_being_placed(stores: Stores) -> None:
    """At every moment an event that has committed is in one of a page's lists: placing hides nothing (P3)."""
    everything = {f"key_{number}" for number in range(40)}
    await stores.happened(*[stores.make.change("wsp_1", target) for target in sorted(everything)])

    async def place() -> None:
        for _ in range(len(everything)):
            await stores.log.place(limit=2)
            await asyncio.sleep(0)

    placing = asyncio.create_task(place())
    while not placing.done():
        page = await stores.log.poll(Cursor(), limit=100)
        assert {event.target for event in (*page.placed, *page.unplaced)} == everything
        assert [event.seq for event in page.placed] == list(range(1, len(page.placed) + 1))
        await asyncio.sleep(0)
    await placing


def workspace_of(event: Event) -> str:
    """Return whose event it is."""
    return event.workspace_id
