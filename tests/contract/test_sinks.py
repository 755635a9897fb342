"""The contracts of ``SinkRepository`` and ``SinkPlaces``: kept as they are, inside walls, moved by one alone (P6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from keystead.adapters.walls import OutsideWallsError, ReadOnlyUnitError
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Cursor
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.kernel.paging import PageRequest
from keystead.sinks.model import (
    FIRST_LETTERS,
    DeadLetter,
    DueSink,
    Failure,
    FileDestination,
    Held,
    HttpDestination,
    Kind,
    Payload,
    Place,
    SealedSecrets,
    Sink,
    SinkState,
)
from keystead.tenants.model import Workspace
from tests.contract.stores import HOSTILE, ORIGIN, Stores, walls

LEASE_MS = 60_000
EVERY_KIND = (Kind.HTTP, Kind.FILE)
URL = "https://siem.example/events"


def sink_of(stores: Stores, workspace: Workspace, **fields: Any) -> Sink:
    """Make a sink of a workspace."""
    made = stores.make.plan(workspace)  # for its own moment and number
    sink = Sink(
        id=made.id.replace("pln_", "snk_"),
        workspace_id=workspace.id,
        name=made.name,
        destination=HttpDestination(URL),
        created_at_ms=made.created_at_ms,
        updated_at_ms=made.created_at_ms,
    )
    return replace(sink, **fields)


async def add(stores: Stores, sink: Sink, *, next_index: int = 0) -> Sink:
    """Store a sink."""
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.sinks.add(sink, next_index=next_index)
    return sink


async def begun(stores: Stores, events: int = 0, **fields: Any) -> Sink:
    """Make a workspace with a log and one sink."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    await happen(stores, workspace.id, events)
    return await add(stores, sink_of(stores, workspace, **fields))


async def happen(stores: Stores, workspace_id: str, count: int, *, place: bool = True) -> None:
    """Let so much happen in a workspace."""
    await stores.happened(*[stores.make.change(workspace_id) for _ in range(count)])
    while place and await stores.log.place(limit=1_000):
        continue


async def held(stores: Stores, sink: Sink, holder: str = "nod_1", *, lease_ms: int = LEASE_MS) -> Held:
    """Hold a sink, which must be possible."""
    found = await stores.sink_places.hold(sink.id, holder, lease_ms=lease_ms)
    assert found is not None
    return found


async def due(stores: Stores, *kinds: Kind, limit: int = 10) -> list[str]:
    """Return the sinks that have something to carry."""
    return [it.id for it in await stores.sink_places.due(kinds=kinds or EVERY_KIND, limit=limit)]


async def test_sinks_are_kept_as_they_are(stores: Stores) -> None:
    """Every field comes back, also what is odd, and a change replaces what may change and leaves the place."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    http = HttpDestination(URL, 7, "PEM\n", "CA\n", signed=True, timeout_ms=1_234)
    whole = sink_of(
        stores,
        workspace,
        name=HOSTILE,
        destination=http,
        payload=Payload.OCSF,
        state=SinkState.PAUSED,
        strict_lag_ms=5_000,
        secrets=SealedSecrets("0a0b0c0d", bytes(range(256))),
    )
    file = sink_of(stores, workspace, destination=FileDestination("a.jsonl", 2**40, 9))
    for sink in (whole, file):
        await add(stores, sink, next_index=3)
    changed = replace(file, name="other", destination=FileDestination("b"), state=SinkState.PAUSED, version=2)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        assert await unit.sinks.get(workspace.id, whole.id) == whole
        await unit.sinks.save(changed)
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.sinks.get(workspace.id, file.id) == changed
        assert (await unit.sinks.progress(file)).next_index == 3
        page = await unit.sinks.page(workspace.id, PageRequest(1, ascending=True))
        assert list(page.items) == [whole]
        page = await unit.sinks.page(workspace.id, PageRequest(1, page.next_position or (), ascending=True))
        assert (list(page.items), page.next_position) == ([changed], None)


async def test_names_and_files_are_taken_once(stores: Stores) -> None:
    """Neither a name nor a file is shared inside a workspace; another workspace has its own."""
    one, other = stores.make.workspace(), stores.make.workspace()
    await stores.add(one, other)
    await add(stores, sink_of(stores, one, name="a", destination=FileDestination("f")))
    second = await add(stores, sink_of(stores, one, name="b"))
    third = await add(stores, sink_of(stores, one, name="c", destination=FileDestination("g")))
    await add(stores, sink_of(stores, other, name="a", destination=FileDestination("f")))
    for taken in ({"name": "a"}, {"destination": FileDestination("f")}):
        with pytest.raises(AlreadyExistsError):
            await add(stores, sink_of(stores, one, **taken))
    for wrong in (replace(second, name="a", version=2), replace(third, destination=FileDestination("f"), version=2)):
        with pytest.raises(AlreadyExistsError):
            await save(stores, wrong)
    with pytest.raises(EtagMismatchError):
        await save(stores, replace(second, name="z", version=3))
    with pytest.raises(NotFoundError):
        await add(stores, sink_of(stores, replace(one, id="wsp_gone")))


async def save(stores: Stores, sink: Sink) -> None:
    """Store a changed sink."""
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.sinks.save(sink)


async def test_sinks_are_inside_walls(stores: Stores) -> None:
    """Another workspace's sink is not found, and nothing is stored outside the walls (P8)."""
    sink = await begun(stores)
    other = stores.make.workspace()
    await stores.add(other)
    async with stores.units.begin(walls(other), ORIGIN) as unit:
        assert await unit.sinks.get(sink.workspace_id, sink.id) is None
        assert await unit.sinks.get(other.id, sink.id) is None
        for forbidden in (
            unit.sinks.add(sink, next_index=0),
            unit.sinks.save(sink),
            unit.sinks.delete(sink),
            unit.sinks.progress(sink),
            unit.sinks.count(sink.workspace_id),
            unit.sinks.page(sink.workspace_id, PageRequest(1)),
            unit.sinks.start(sink.workspace_id, None),
        ):
            with pytest.raises(OutsideWallsError):
                await forbidden
    async with stores.units.read(None) as unit:
        with pytest.raises(ReadOnlyUnitError):
            await unit.sinks.delete(sink)


async def test_counting_keeps_others_from_adding(stores: Stores) -> None:
    """Many who count before they add never come to more than they may be, all at once."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    sinks = [sink_of(stores, workspace) for _ in range(6)]

    async def add_one(sink: Sink) -> None:
        async with stores.units.begin(None, ORIGIN) as unit:
            if await unit.sinks.count(workspace.id) < 2:
                await unit.sinks.add(sink, next_index=0)

    await asyncio.gather(*map(add_one, sinks))
    async with stores.units.read(None) as unit:
        assert len((await unit.sinks.page(workspace.id, PageRequest(10))).items) == 2


async def test_sinks_go_with_their_workspace(stores: Stores) -> None:
    """Nothing is carried for a workspace that is gone."""
    sink = await begun(stores, events=1)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.delete(sink.workspace_id)
    assert await due(stores) == []
    assert await stores.sink_places.hold(sink.id, "nod_1", lease_ms=LEASE_MS) is None


async def test_where_to_begin(stores: Stores) -> None:
    """A time leads to the first event from then on; none, or one to come, to the next that is placed."""
    sink = await begun(stores, events=5)
    async with stores.units.read(None) as unit:
        placed = await stores.log.poll(Cursor(), limit=10)
        times = [event.occurred_at_ms for event in placed.placed]
        assert await unit.sinks.start(sink.workspace_id, None) == 5
        assert await unit.sinks.start(sink.workspace_id, 0) == 0
        assert await unit.sinks.start(sink.workspace_id, times[-1] + 1) == 5
        assert await unit.sinks.start("wsp_without_events", None) == 0


async def test_what_the_dead_held_is_free_at_once(stores: Stores) -> None:
    """Every sink of one holder is given back, and no other's; whoever held it moves nothing any more."""
    mine, others = await begun(stores), await begun(stores)
    for sink, holder in ((mine, "nod_dead"), (others, "nod_alive")):
        await happen(stores, sink.workspace_id, 1)
        at = await stores.sink_places.hold(sink.id, holder, lease_ms=LEASE_MS)
        assert at is not None
        if sink is mine:
            late = at
    assert await due(stores) == []
    await stores.sink_places.free("nod_dead")
    assert await due(stores) == [mine.id]
    assert await stores.sink_places.hold(others.id, "nod_new", lease_ms=LEASE_MS) is None
    assert not await stores.sink_places.carried(late, late.place.past(0, None))


async def test_a_sink_is_due_when_something_waits(stores: Stores) -> None:
    """Events, checkpoints and what is to be sent again make a sink due; pausing, holding and waiting do not."""
    sink = await begun(stores)
    assert await due(stores) == []
    await happen(stores, sink.workspace_id, 3)
    assert await due(stores) == [sink.id]
    assert await due(stores, Kind.FILE) == []
    at = await held(stores, sink)
    assert await due(stores) == []
    assert await stores.sink_places.carried(at, at.place.past(2, None))
    await stores.sink_places.let_go("nod_other", sink.id)
    assert await stores.sink_places.hold(sink.id, "nod_other", lease_ms=LEASE_MS) is None
    await stores.sink_places.let_go("nod_1", sink.id)
    assert await due(stores) == []
    kept = KeptCheckpoint(sink.workspace_id, 2, b"\0" * 32, "note", 1)
    assert await stores.checkpoints.keep(kept, after=None)
    assert await due(stores) == [sink.id]
    assert await stores.sink_places.checkpoints(sink.workspace_id, after=0, to=3, limit=5) == [kept]
    assert await stores.sink_places.checkpoints(sink.workspace_id, after=2, to=3, limit=5) == []
    assert await stores.sink_places.checkpoints(sink.workspace_id, after=0, to=1, limit=5) == []
    await save(stores, replace(sink, state=SinkState.PAUSED, version=2))
    assert await due(stores) == []
    assert await stores.sink_places.hold(sink.id, "nod_1", lease_ms=LEASE_MS) is None


async def test_one_process_carries_a_sink(stores: Stores) -> None:
    """Of many who ask one holds a sink, until he lets go or his time is over; then he moves nothing any more."""
    sink = await begun(stores, events=5)
    found = await asyncio.gather(
        *[stores.sink_places.hold(sink.id, f"nod_{number}", lease_ms=LEASE_MS) for number in range(8)]
    )
    first = [it for it in found if it is not None]
    assert len(first) == 1
    again = await held(stores, sink, first[0].holder, lease_ms=0)
    second = await held(stores, sink, "nod_other")
    late = again.place.past(1, None)
    assert not await stores.sink_places.carried(again, late)
    assert not await stores.sink_places.failed(again, Failure("late", 1, 1))
    assert not await stores.sink_places.taken(again, ["evt_1"])
    letter = DeadLetter(0, "evt_1", 1, "no")
    assert not await stores.sink_places.refused(again, letter)
    async with stores.units.begin(None, ORIGIN) as unit:
        assert not await unit.sinks.set_aside(again, late, letter)
    assert await stores.sink_places.carried(second, second.place.past(4, 2))
    at = (await held(stores, sink, "nod_other")).place
    assert (at.next_index, at.checkpoint_size) == (5, 2)
    assert not await stores.sink_places.carried(second, second.place.past(2, None)), "a place moved twice"


async def test_failures_are_kept_until_something_is_taken(stores: Stores) -> None:
    """What keeps a sink is shown, it waits as long as it is told to, and a success forgets all of it."""
    sink = await begun(stores, events=2)
    at = await held(stores, sink)
    assert await stores.sink_places.failed(at, Failure("503 " + HOSTILE, 600_000, 4, batch=2, refusals=1))
    assert (await held(stores, sink)).place == replace(at.place, failures=4, batch=2, refusals=1)
    async with stores.units.read(None) as unit:
        shown = await unit.sinks.progress(sink)
    assert (shown.failures, shown.last_error, shown.waiting_events) == (4, "503 " + HOSTILE, 2)
    assert shown.retry_at_ms is not None
    assert shown.lag_ms is not None
    await stores.sink_places.let_go("nod_1", sink.id)
    assert await due(stores) == []
    await save(stores, replace(sink, name="mended", version=2))
    found = await stores.sink_places.due(kinds=EVERY_KIND, limit=1)
    assert found == [DueSink(sink.id, sink.workspace_id, fails=True)], "a change is tried at once"
    at = await held(stores, sink)
    assert await stores.sink_places.carried(at, at.place.past(0, None))
    async with stores.units.read(None) as unit:
        shown = await unit.sinks.progress(sink)
    assert (shown.failures, shown.last_error, shown.retry_at_ms, shown.next_index) == (0, "", None, 1)
    assert shown.delivered_at_ms is not None


async def test_what_fails_comes_behind_what_works(stores: Stores) -> None:
    """However many sinks fail, those that work are found first."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    await happen(stores, workspace.id, 1)
    sinks = [await add(stores, sink_of(stores, workspace)) for _ in range(3)]
    for sink in sinks[:2]:
        assert await stores.sink_places.failed(await held(stores, sink), Failure("no", 0, 1))
        await stores.sink_places.let_go("nod_1", sink.id)
    found = await stores.sink_places.due(kinds=EVERY_KIND, limit=9)
    assert [(it.id, it.fails) for it in found] == [(sinks[2].id, False), (sinks[0].id, True), (sinks[1].id, True)]
    assert await due(stores, limit=1) == [sinks[2].id]


async def test_each_has_his_turn(stores: Stores) -> None:
    """Where there is more to carry than there is room for, the sink comes next that was carried longest ago."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    await happen(stores, workspace.id, 9)
    sinks = [await add(stores, sink_of(stores, workspace)) for _ in range(3)]
    assert await due(stores) == [sink.id for sink in sinks]
    at = await held(stores, sinks[0])
    assert await stores.sink_places.carried(at, at.place.past(0, None))
    await stores.sink_places.let_go("nod_1", sinks[0].id)
    assert await due(stores) == [sinks[1].id, sinks[2].id, sinks[0].id]


async def test_what_is_set_aside_is_kept_and_sent_again(stores: Stores) -> None:
    """What a destination refuses is kept in the log's order; what it takes later is forgotten, and nothing else."""
    sink = await begun(stores, events=40)
    letters = [DeadLetter(index, f"evt_{index:02}", 1_000 + index, HOSTILE) for index in range(30)]
    for letter in letters:
        at = await held(stores, sink)
        async with stores.units.begin(None, ORIGIN) as unit:
            assert await unit.sinks.set_aside(at, at.place.past(letter.index, None), letter)
    async with stores.units.begin(None, ORIGIN) as unit:
        shown = await unit.sinks.progress(sink)
        assert (shown.dead_letters, shown.next_index) == (30, 30)
        assert shown.first_dead_letters == tuple(letters[:FIRST_LETTERS])
        assert await stores.sink_places.again(sink.id, limit=5) == []
        assert await unit.sinks.try_again(sink) == 30
    assert await stores.sink_places.again(sink.id, limit=5) == letters[:5]
    at = await held(stores, sink)
    assert await stores.sink_places.taken(at, [letters[0].event_id, letters[2].event_id])
    assert await stores.sink_places.refused(at, replace(letters[1], error="still not", at_ms=9))
    assert await stores.sink_places.again(sink.id, limit=2) == letters[3:5]
    async with stores.units.begin(None, ORIGIN) as unit:
        shown = await unit.sinks.progress(sink)
        assert shown.dead_letters == 28
        assert shown.first_dead_letters[0] == replace(letters[1], error="still not", at_ms=9)
        await unit.sinks.go_back(sink, next_index=5)
    async with stores.units.read(None) as unit:
        shown = await unit.sinks.progress(sink)
    assert [it.index for it in shown.first_dead_letters] == [1, 3, 4]
    moved = (await held(stores, sink)).place
    assert (moved.next_index, moved.checkpoint_size, moved.epoch) == (5, 5, at.place.epoch + 1)
    assert not await stores.sink_places.carried(at, at.place.past(39, None)), "who was under way undid a replay"


async def test_secrets_are_sealed_anew_once(stores: Stores) -> None:
    """Secrets under another master are found and replaced, unless they were changed meanwhile; and count as in use."""
    old, new, given = (SealedSecrets(f"0{it}0{it}0{it}0{it}", it.encode()) for it in "abc")
    sink = await begun(stores, secrets=old)
    await begun(stores)
    if stores.database is not None:
        assert old.master_id in await stores.masters.in_use()
    assert await stores.sink_places.sealed_under_others("0b0b0b0b", limit=5) == [(sink.id, old)]
    assert await stores.sink_places.sealed_under_others("0a0a0a0a", limit=5) == []
    await stores.sink_places.seal_anew(sink.id, new, was=given)
    assert await stores.sink_places.sealed_under_others("0b0b0b0b", limit=5) == [(sink.id, old)]
    await stores.sink_places.seal_anew(sink.id, new, was=old)
    async with stores.units.read(None) as unit:
        found = await unit.sinks.get(sink.workspace_id, sink.id)
    assert found == replace(sink, secrets=new)


async def test_strict_sinks_that_are_behind_are_found(stores: Stores) -> None:
    """A strict sink is behind as long as an old event was not carried, placed or not; others never are."""
    sink = await begun(stores, events=2, strict_lag_ms=1_000)
    workspace = Workspace(sink.workspace_id, "", "", 0, 0)
    loose = await add(stores, sink_of(stores, workspace))
    stores.clock.advance(5_000)

    async def behind() -> str | None:
        async with stores.units.read(None) as unit:
            found = await unit.sinks.behind(sink.workspace_id)
            assert await unit.sinks.behind("wsp_other") is None
        assert found is None or found.lag_ms > found.strict_lag_ms == 1_000
        return None if found is None else found.name

    assert await behind() == sink.name
    at = await held(stores, sink)
    assert await stores.sink_places.carried(at, at.place.past(1, None))
    assert await behind() is None
    await happen(stores, sink.workspace_id, 1, place=False)
    stores.clock.advance(5_000)
    assert await behind() == sink.name
    await happen(stores, sink.workspace_id, 0)
    assert await behind() == sink.name
    at = await held(stores, sink)
    assert await stores.sink_places.carried(at, at.place.past(2, None))
    assert await behind() is None
    assert (await held(stores, loose)).place == Place()


async def test_a_summary_is_of_all_sinks(stores: Stores) -> None:
    """An operator sees how many sinks there are, the largest lag, and everything that was set aside."""
    assert await stores.sink_places.summary() == {}
    sink = await begun(stores, events=3)
    await begun(stores, destination=FileDestination("f"))
    at = await held(stores, sink)
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.sinks.set_aside(at, at.place.past(0, None), DeadLetter(0, "evt_0", 1, "no"))
    stores.clock.advance(7_000)
    found = await stores.sink_places.summary()
    assert (found[Kind.HTTP].sinks, found[Kind.HTTP].dead_letters) == (1, 1)
    assert found[Kind.HTTP].lag_ms >= 7_000
    assert (found[Kind.FILE].sinks, found[Kind.FILE].lag_ms, found[Kind.FILE].dead_letters) == (1, 0, 0)


async def test_what_was_not_carried_is_not_forgotten(stores: Stores) -> None:
    """Retention asks which event the slowest sink still needs, paused or not, and what was set aside counts."""
    places = stores.sink_places
    assert await places.least_next_index("wsp_without") is None
    sink = await begun(stores, events=9)
    at = await held(stores, sink)
    assert await places.least_next_index(sink.workspace_id) == 0
    assert await stores.sink_places.carried(at, at.place.past(4, None))
    assert await places.least_next_index(sink.workspace_id) == 5
    at = await held(stores, sink)
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.sinks.set_aside(at, at.place.past(5, None), DeadLetter(5, "evt_5", 1, "no"))
    at = await held(stores, sink)
    assert await stores.sink_places.carried(at, at.place.past(8, None))
    await save(stores, replace(sink, state=SinkState.PAUSED, version=2))
    assert await places.least_next_index(sink.workspace_id) == 5
