"""Carrying to sinks: in order, without a gap, whatever the destination answers, and one sink never keeps another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.sinks import SinkVault
from keystead.adapters.memory.event_queries import MemoryAuditReader
from keystead.adapters.memory.sinks import MemorySinkPlaces
from keystead.events.model import Event, EventFilter, canonical
from keystead.kernel.change import Action
from keystead.kernel.errors import UnavailableError
from keystead.kernel.ids import dated_ms
from keystead.kernel.secret import Secret
from keystead.kernel.walls import TenantScope
from keystead.sinks.envelopes import BATCH_BYTES
from keystead.sinks.model import (
    FIRST_LETTERS,
    LETTERS_MAX,
    DeadLetter,
    HttpDestination,
    Kind,
    Payload,
    Place,
    SealedSecrets,
    SinkState,
)
from keystead.sinks.ports import Delivery, Reception
from keystead.sinks.service import Replay, Start
from keystead.worker.sink_upkeep import SinkUpkeep
from keystead.worker.sinks import AT_ONCE, AT_ONCE_OF_ONE, FIRST_WAIT_MS, WAIT_MAX_MS, wait_ms
from tests.sink_worlds import ACCEPTED, FAILED, REFUSED, URL, SinkWorld, settled
from tests.world import MASTER, ORIGIN


@pytest.fixture
async def world() -> SinkWorld:
    """Lend a workspace."""
    return await SinkWorld().begin()


async def test_everything_is_carried_in_order(world: SinkWorld) -> None:
    """The destination gets each event once, in the log's order, in batches of as many as it takes."""
    await world.happen(10)
    sink = await world.create()
    carrier = world.carrier()
    await settled(carrier)
    there = world.destinations["siem"]
    assert there.got == world.event_ids()
    assert [len(batch) for batch in there.batches] == [4, 4, 3]
    await world.happen(2)
    await settled(carrier)
    assert there.got == world.event_ids()
    progress = await world.progress(sink)
    assert (progress.next_index, progress.waiting_events, progress.lag_ms) == (13, 0, None)
    assert progress.delivered_at_ms == world.clock.now_ms()
    assert carrier.measures.delivered == {Kind.HTTP: 13}


async def test_checkpoints_follow_what_they_cover(world: SinkWorld) -> None:
    """A checkpoint goes out once, when everything that it covers has gone out."""
    await world.create(payload=Payload.OCSF)
    carrier = world.carrier()
    await world.happen(2)
    made = await world.checkpoint()
    there = world.destinations["siem"]
    await settled(carrier)
    await settled(carrier)
    assert there.got == [*world.event_ids(), f"{world.workspace_id}-checkpoint-{made.size}"]
    assert json.loads(there.batches[-1][-1].text)["data"]["checkpoint"] == made.note
    await world.happen(1)
    await settled(carrier)
    assert there.got[-1] == world.event_ids()[-1]


async def test_an_unavailable_destination_gets_the_same_again(world: SinkWorld) -> None:
    """What was not taken is sent again, later and later, and nothing is left out; what keeps it is shown."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()
    there.answering = lambda _: FAILED
    waits = []
    for attempt in range(1, 5):
        await settled(carrier)
        progress = await world.progress(sink)
        assert (progress.failures, progress.last_error, there.tried) == (attempt, "503 later", attempt)
        waits.append((progress.retry_at_ms or 0) - world.clock.now_ms())
        await settled(carrier)
        assert there.tried == attempt, "it was tried before its time"
        world.clock.advance(waits[-1])
    assert waits == sorted(waits)
    there.answering = lambda _: ACCEPTED
    await settled(carrier)
    assert there.got == world.event_ids()
    progress = await world.progress(sink)
    assert (progress.failures, progress.last_error, progress.retry_at_ms) == (0, "", None)
    assert carrier.measures.failures == {Kind.HTTP: 4}


def test_waits_are_spread_doubled_and_bounded() -> None:
    """Many sinks of one destination do not come back at the same moment, and none waits longer than five minutes."""
    random = Random(3)
    waits = [wait_ms(Place(failures=failures), FAILED, random) for failures in range(30)]
    for failures, found in enumerate(waits):
        most = min(FIRST_WAIT_MS * 2**failures, WAIT_MAX_MS)
        assert most // 2 <= found <= most
    asked = replace(FAILED, retry_after_ms=20_000)
    assert wait_ms(Place(), asked, random) == 20_000
    assert wait_ms(Place(), replace(asked, retry_after_ms=10**7), random) == WAIT_MAX_MS
    assert wait_ms(Place(failures=20), REFUSED, random) <= FIRST_WAIT_MS, "halving a batch is no row of failures"


async def until_quiet(world: SinkWorld, turns: int = 30) -> None:
    """Let a process carry, and time pass between its turns."""
    carrier = world.carrier()
    for _ in range(turns):
        await settled(carrier)
        world.clock.advance(5_000)


async def test_what_is_refused_by_itself_is_set_aside(world: SinkWorld) -> None:
    """One event that a destination refuses holds up no others; it is shown, recorded, and never dropped."""
    bad = (await world.happen(9))[3]
    sink = await world.create()
    there = world.destinations["siem"]
    there.answering = lambda batch: REFUSED if bad in {it.id for it in batch} else ACCEPTED
    await until_quiet(world)
    events = world.event_ids()
    assert there.got == [event for event in events if event != bad]
    progress = await world.progress(sink)
    assert [(it.index, it.event_id, it.error) for it in progress.first_dead_letters] == [(3, bad, "422 not that")]
    assert progress.last_error == ""
    told = [change for change in world.changes if change.action is Action.SINK_EVENT_SET_ASIDE]
    assert [(it.target, dict(it.changes)) for it in told] == [(sink.id, {"index": (None, 3), "event_id": (None, bad)})]


async def test_it_takes_three_tries_to_be_set_aside(world: SinkWorld) -> None:
    """A destination that refuses by mistake and is mended within a moment loses nothing."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()
    there.answering = lambda _: REFUSED
    for _ in range(2):
        await settled(carrier)
        world.clock.advance(FIRST_WAIT_MS * 4)
    there.answering = lambda _: ACCEPTED
    await settled(carrier)
    assert there.got == world.event_ids()
    assert (await world.progress(sink)).dead_letters == 0


async def test_refusing_everything_comes_to_an_end(world: SinkWorld) -> None:
    """An event about what was set aside, or a checkpoint, is set aside quietly: no event makes another for ever."""
    await world.happen(3)
    sink = await world.create()
    await world.checkpoint()
    world.destinations["siem"].answering = lambda _: REFUSED
    await until_quiet(world, 60)
    await world.log.place(limit=100)
    await until_quiet(world, 60)
    told = [change for change in world.changes if change.action is Action.SINK_EVENT_SET_ASIDE]
    assert len(told) == 4
    progress = await world.progress(sink)
    assert (progress.waiting_events, progress.dead_letters) == (0, 9)
    assert len(progress.first_dead_letters) <= FIRST_LETTERS


async def replayed(world: SinkWorld, sink_id: str, replay: Replay) -> None:
    """Replay in a unit of its own."""
    async with world.units.begin(world.scope, ORIGIN) as unit:
        await world.service.replay(unit, world.workspace_id, sink_id, replay)
    await world.log.place(limit=100)


async def test_what_was_set_aside_comes_first_when_replayed(world: SinkWorld) -> None:
    """A replay sends what was refused, in the log's order and before anything new, and forgets what was taken."""
    bad = set((await world.happen(9))[2:5])
    sink = await world.create()
    there = world.destinations["siem"]
    there.answering = lambda batch: REFUSED if bad & {it.id for it in batch} else ACCEPTED
    await until_quiet(world)
    await world.log.place(limit=100)
    await until_quiet(world)
    events = world.event_ids()
    still_bad = events[3]
    bad.intersection_update({still_bad})
    before = len(there.got)
    await replayed(world, sink.id, Replay())
    await until_quiet(world)
    assert there.got[before:] == [events[2], events[4], world.event_ids()[-1]]
    assert [it.event_id for it in (await world.progress(sink)).first_dead_letters] == [still_bad]
    bad.clear()
    await replayed(world, sink.id, Replay())
    await until_quiet(world)
    assert (await world.progress(sink)).dead_letters == 0
    assert sorted(set(there.got)) == sorted(world.event_ids())


async def test_a_checkpoint_that_was_set_aside_is_sent_again(world: SinkWorld) -> None:
    """A checkpoint comes back as any event does; one that is no longer kept stays set aside and says so."""
    sink = await world.create()
    made = await world.checkpoint()
    name = f"{world.workspace_id}-checkpoint-{made.size}"
    there = world.destinations["siem"]
    there.answering = lambda batch: REFUSED if name in {it.id for it in batch} else ACCEPTED
    await until_quiet(world)
    assert [it.event_id for it in (await world.progress(sink)).first_dead_letters] == [name]
    there.answering = lambda _: ACCEPTED
    await replayed(world, sink.id, Replay())
    await until_quiet(world)
    assert name in there.got
    there.answering = lambda batch: REFUSED if name in {it.id for it in batch} else ACCEPTED
    await replayed(world, sink.id, Replay(index=0))
    await until_quiet(world)
    await world.checkpoint()
    there.answering = lambda _: ACCEPTED
    await replayed(world, sink.id, Replay())
    await until_quiet(world)
    assert [it.error for it in (await world.progress(sink)).first_dead_letters] == ["It is no longer kept."]


async def test_a_replay_carries_everything_again(world: SinkWorld) -> None:
    """A sink that goes back carries from there on, the same bytes as before."""
    await world.happen(5)
    sink = await world.create(start=Start(now=True))
    there, carrier = world.destinations["siem"], world.carrier()
    await settled(carrier)
    assert there.got == world.event_ids()[5:]
    await replayed(world, sink.id, Replay(index=2))
    await settled(carrier)
    assert there.got[1:] == world.event_ids()[2:]
    assert there.batches[-1][-1].text != there.batches[0][0].text
    assert {it.text for batch in there.batches for it in batch if it.id == there.got[0]} == {there.batches[0][0].text}


async def test_a_replay_overtakes_what_is_under_way(world: SinkWorld) -> None:
    """A batch that was sent before a sink went back moves it nowhere."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()
    there.gate.close()
    await settled(carrier)
    await replayed(world, sink.id, Replay(index=0))
    there.gate.open()
    await settled(carrier)
    await settled(carrier)
    assert there.got == [world.event_ids()[0], *world.event_ids()]


async def test_a_frozen_process_moves_nothing(world: SinkWorld) -> None:
    """Who wakes up after another has taken over changes no place; what he sends comes twice and is known by its id."""
    await world.happen(3)
    sink = await world.create()
    there, frozen, other = world.destinations["siem"], world.carrier("nod_1"), world.carrier("nod_2")
    there.gate.close()
    await settled(frozen)
    await settled(other)
    assert there.tried == 1, "two carry at once"
    world.clock.advance(60_000)
    world.destinations.by_name["siem"] = taken_over = type(there)()
    await settled(other)
    assert taken_over.got == world.event_ids()
    at = world.store.committed.sinks[sink.id].place
    there.gate.open()
    await settled(frozen)
    assert there.got == world.event_ids()
    assert world.store.committed.sinks[sink.id].place == at


async def test_a_paused_sink_keeps_its_place(world: SinkWorld) -> None:
    """A sink that waits carries nothing and loses nothing."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()
    await world.update(sink, {"state"}, state=SinkState.PAUSED)
    await world.log.place(limit=9)
    await settled(carrier)
    assert there.tried == 0
    await world.update(sink, {"state"}, state=SinkState.ACTIVE)
    await world.log.place(limit=9)
    await settled(carrier)
    assert there.got == world.event_ids()


async def test_a_change_is_followed_at_the_next_batch(world: SinkWorld) -> None:
    """A sink that was changed or deleted while a batch was under way sends no other to where it was."""
    await world.happen(9)
    sink = await world.create(bearer_token=Secret("old"))
    there, carrier = world.destinations["siem"], world.carrier()
    there.gate.close()
    await settled(carrier)
    await world.update(sink, {"http"}, destination=sink.destination, bearer_token=Secret("new"))
    await world.log.place(limit=9)
    there.gate.open()
    await settled(carrier)
    assert there.tried == 1
    await settled(carrier)
    assert there.got == world.event_ids()
    assert there.secrets is not None
    assert there.secrets.bearer_token.reveal() == "new"


async def test_sinks_that_hang_keep_no_other(world: SinkWorld) -> None:
    """Sinks that hang keep no other, until a workspace has all its own room full of them; another's has room still."""
    for number in range(AT_ONCE_OF_ONE - 1):
        await world.create(f"hanging {number}")
        world.destinations[f"hanging {number}"].gate.close()
    await world.create("works")
    carrier = world.carrier()
    await settled(carrier)
    await world.happen(3)
    await settled(carrier)
    assert world.destinations["works"].got == world.event_ids()
    world.destinations["works"].gate.close()
    await world.happen(1)
    await settled(carrier)
    await world.create("one too many")
    await settled(carrier)
    assert world.destinations["one too many"].tried == 0
    first, events = world.workspace_id, len(world.event_ids())
    world.workspace_id = world.ids.new("wsp")
    await world.begin(brand="other")
    await world.create("of another")
    await settled(carrier)
    assert world.destinations["of another"].got == world.event_ids()[events:]
    world.workspace_id = first
    await carrier.stop()
    assert {it.holder for it in world.store.committed.sinks.values()} == {""}


async def test_sinks_that_fail_leave_half_the_room(world: SinkWorld) -> None:
    """However many sinks fail slowly, those that do not fail have half of all the room."""
    carrier = world.carrier()
    failing = []
    for number in range(AT_ONCE // 2 + 8):
        if number % AT_ONCE_OF_ONE == 0:
            world.workspace_id = world.ids.new("wsp")
            await world.begin(brand=f"brand{number}")
        failing.append(await world.create(f"fails {number}"))
        world.destinations[f"fails {number}"].gate.close()
    for sink in failing:
        stored = world.store.committed.sinks[sink.id]
        world.moved(sink, place=replace(stored.place, failures=1))
    await settled(carrier)
    assert sum(world.destinations[f"fails {number}"].tried for number in range(len(failing))) == AT_ONCE // 2
    world.workspace_id = world.ids.new("wsp")
    await world.begin(brand="works")
    await world.create("works")
    await settled(carrier)
    assert world.destinations["works"].tried == 1
    await carrier.stop()


async def test_a_sink_that_cannot_be_opened_says_why(world: SinkWorld) -> None:
    """What is wrong with a sink itself is shown with it, and it is tried again in a while."""
    sink = await world.create()
    world.destinations.broken.add("siem")
    await settled(world.carrier())
    progress = await world.progress(sink)
    assert (progress.failures, progress.last_error) == (1, "the certificate cannot be read")
    assert progress.retry_at_ms == world.clock.now_ms() + 30_000


async def test_a_log_with_a_hole_is_not_carried(world: SinkWorld) -> None:
    """Nothing is passed over in silence: a sink stops before an event that is missing, and says so."""
    await world.happen(5)
    sink = await world.create()
    del world.store.committed.placed[2]
    await settled(world.carrier())
    assert world.destinations["siem"].got == []
    assert "event 0 or a later one is missing" in (await world.progress(sink)).last_error


async def test_what_was_cut_off_is_passed_over(world: SinkWorld) -> None:
    """A sink that begins before the first event kept begins with that one."""
    await world.happen(5)
    await world.create()
    world.store.committed.log_cuts[world.workspace_id] = 3
    await settled(world.carrier())
    assert world.destinations["siem"].got == world.event_ids()[3:]


async def test_secrets_follow_the_master_key(world: SinkWorld) -> None:
    """After a rotation of the master key every sink's secrets are sealed under the new one, so the old one can go."""
    sink = await world.create(bearer_token=Secret("t0ken"))
    world.vault = SinkVault(MasterKeyring([b"n" * 32, MASTER]))
    await world.upkeep().turn()
    stored = world.store.committed.sinks[sink.id].sink
    assert stored.secrets is not None
    assert stored.secrets.master_id == world.vault.current_id
    assert SinkVault(MasterKeyring([b"n" * 32])).open(sink.id, stored.secrets).bearer_token.reveal() == "t0ken"


async def test_secrets_that_nobody_can_open_are_told(world: SinkWorld) -> None:
    """A sink whose master key is gone carries nothing, and says what to do."""
    sink = await world.create(bearer_token=Secret("t0ken"))
    world.vault = SinkVault(MasterKeyring([b"n" * 32]))
    await settled(world.carrier())
    assert world.destinations["siem"].tried == 0
    assert "give them anew" in (await world.progress(sink)).last_error


async def test_measures_are_of_the_deployment(world: SinkWorld) -> None:
    """An operator sees the largest lag of each kind, of whichever node he asks."""
    await world.create()
    world.destinations["siem"].answering = lambda _: Delivery(Reception.FAILED, "no")
    carrier = world.carrier()
    await settled(carrier)
    world.clock.advance(12_345)
    assert carrier.measures.summary == {}, "what may take long is in the way of what is carried"
    await world.upkeep(carrier).turn()
    assert carrier.measures.summary[Kind.HTTP].lag_ms == 12_345
    assert carrier.measures.summary[Kind.HTTP].sinks == 1


class _SpottingReader:
    """Reads as another does, and notes how much was asked for at once."""

    def __init__(self, reader: MemoryAuditReader) -> None:
        self._reader = reader
        self.limits: list[int] = []

    async def since(self, scope: TenantScope, wanted: EventFilter, after_index: int, limit: int) -> Sequence[Event]:
        """Return at most ``limit`` events."""
        self.limits.append(limit)
        return await self._reader.since(scope, wanted, after_index, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


async def test_long_events_are_read_and_sent_a_few_at_once(world: SinkWorld) -> None:
    """No batch is longer than its bytes, nor are more events read at once than hold nobody else up."""
    await world.happen(200)
    placed = world.store.committed.placed
    placed[:100] = [replace(it, private=canonical({"comment": "x" * 40_000})) for it in placed[:100]]
    world.reader = spotting = _SpottingReader(world.reader)  # type: ignore[assignment]  # forwards the rest
    sink = await world.create(destination=HttpDestination(URL, batch_max=1_000))
    there, carrier = world.destinations["siem"], world.carrier()
    await settled(carrier)
    await settled(carrier)
    assert there.got == world.event_ids()
    assert len(there.batches) >= 8
    assert max(sum(len(it.text.encode()) for it in batch) for batch in there.batches) <= BATCH_BYTES
    assert max(spotting.limits) == 64
    stored = world.store.committed.sinks[sink.id]
    letters = tuple((DeadLetter(it.leaf_index or 0, it.id, 1, "no"), True) for it in placed[:30])
    world.moved(sink, letters=letters, place=replace(stored.place, failures=0))
    before = len(there.batches)
    await settled(carrier)
    await settled(carrier)
    assert [it.id for batch in there.batches[before:] for it in batch] == world.event_ids()[:30]
    assert max(sum(len(it.text.encode()) for it in batch) for batch in there.batches) <= BATCH_BYTES
    assert (await world.progress(sink)).dead_letters == 0


async def test_what_nobody_expected_waits_as_a_failure_does(world: SinkWorld) -> None:
    """Whatever carrying one sink raises is shown with it by its kind alone, and is tried again later and later."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()

    def broken(_: object) -> Delivery:
        raise RuntimeError("of t0ken")

    there.answering = broken
    waits = []
    for attempt in (1, 2, 3):
        await settled(carrier)
        await settled(carrier)
        assert there.tried == attempt, "it was tried again without a wait"
        progress = await world.progress(sink)
        assert (progress.failures, "RuntimeError" in progress.last_error) == (attempt, True)
        assert "t0ken" not in progress.last_error
        waits.append((progress.retry_at_ms or 0) - world.clock.now_ms())
        world.clock.advance(waits[-1])
    assert waits[0] >= FIRST_WAIT_MS // 2
    assert waits[2] > waits[0]
    there.answering = lambda _: ACCEPTED
    await settled(carrier)
    assert there.got == world.event_ids()


async def test_what_is_told_late_is_not_late(world: SinkWorld) -> None:
    """An event that tells of what was long ago, as counted refusals do, makes no sink behind before its time."""
    sink = await world.create(strict_lag_ms=60_000)
    carrier = world.carrier()
    await settled(carrier)
    [event] = await world.happen(1)
    placed = world.store.committed.placed
    placed[-1] = replace(placed[-1], occurred_at_ms=placed[-1].occurred_at_ms - 3_600_000)
    world.clock.advance(50_000)
    async with world.units.read(world.scope) as unit:
        assert await unit.sinks.behind(world.workspace_id) is None
        assert (await unit.sinks.progress(sink)).lag_ms == 50_000
        assert (await world.places.summary())[Kind.HTTP].lag_ms == 50_000
        world.clock.advance(10_001)
        behind = await unit.sinks.behind(world.workspace_id)
        assert behind is not None
        assert behind.lag_ms == world.clock.now_ms() - dated_ms(event) == 60_001


async def test_a_sink_that_is_refused_everything_is_paused(world: SinkWorld) -> None:
    """What is set aside has a bound: the sink is paused then, it and the log say why, and it goes on when resumed."""
    await world.happen(5)
    sink = await world.create()
    there = world.destinations["siem"]
    there.answering = lambda _: REFUSED
    letters = tuple((DeadLetter(0, f"evt_{number}", 1, "no"), False) for number in range(LETTERS_MAX - 2))
    world.moved(sink, letters=letters)
    await until_quiet(world)
    progress = await world.progress(sink)
    assert (progress.dead_letters, progress.next_index) == (LETTERS_MAX, 2)
    assert "10,000" in progress.last_error
    paused = world.store.committed.sinks[sink.id].sink
    assert (paused.state, paused.version) == (SinkState.PAUSED, 2)
    [told] = [change for change in world.changes if change.action is Action.SINK_UPDATED]
    assert (told.target, dict(told.changes)) == (sink.id, {"state": ("active", "paused")})
    tried = there.tried
    await until_quiet(world)
    assert there.tried == tried
    there.answering = lambda _: ACCEPTED
    await world.update(paused, {"state"}, state=SinkState.ACTIVE)
    await world.log.place(limit=100)
    await until_quiet(world)
    assert there.got == world.event_ids()[2:]
    assert world.store.committed.sinks[sink.id].sink.state is SinkState.ACTIVE


async def test_a_sink_is_not_paused_twice(world: SinkWorld) -> None:
    """Whoever pauses a sink while the last event it may set aside is under way is not overruled."""
    sink = await world.create()
    there, carrier = world.destinations["siem"], world.carrier()
    there.answering = lambda _: REFUSED
    stored = world.store.committed.sinks[sink.id]
    letters = tuple((DeadLetter(0, f"evt_{number}", 1, "no"), False) for number in range(LETTERS_MAX))
    world.moved(sink, letters=letters, place=replace(stored.place, refusals=2))
    there.gate.close()
    await settled(carrier)
    await world.update(sink, {"state"}, state=SinkState.PAUSED)
    there.gate.open()
    await settled(carrier)
    assert (await world.progress(sink)).next_index == 1
    assert world.store.committed.sinks[sink.id].sink.version == 2


class _AwayOnce(MemorySinkPlaces):
    """Is away when the third secret is stored."""

    stored = 0

    async def seal_anew(self, sink_id: str, secrets: SealedSecrets, *, was: SealedSecrets) -> None:
        """Store the same secrets sealed anew, but for once."""
        self.stored += 1
        if self.stored == 3:
            raise UnavailableError("The database is away.")
        await super().seal_anew(sink_id, secrets, was=was)


async def test_every_secret_follows_however_many_there_are(world: SinkWorld) -> None:
    """Sealing anew ends when no sink is left, passes by what nobody can open, and is begun again when cut off."""
    sinks = [await world.create(f"sink {number}", bearer_token=Secret("t0ken")) for number in range(5)]
    stored = world.store.committed.sinks[sinks[1].id]
    lost = replace(stored, sink=replace(stored.sink, secrets=SealedSecrets("0a0b0c0d", b"lost")))
    world.store.committed.sinks[sinks[1].id] = lost
    world.vault = SinkVault(MasterKeyring([b"n" * 32, MASTER]))
    places = _AwayOnce(world.store, world.clock)
    upkeep = SinkUpkeep(places, world.vault, world.carrier().measures, at_once=2)
    with pytest.raises(UnavailableError):
        await upkeep.turn()
    await upkeep.turn()
    left = await world.places.sealed_under_others(world.vault.current_id, limit=9)
    assert [sink_id for sink_id, _ in left] == [sinks[1].id]
