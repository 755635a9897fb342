"""Sinks in memory, as people see and change them, and as they are carried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from keystead.adapters.memory.sink_rows import StoredSink
from keystead.adapters.memory.store import MemoryStore, Staging, State
from keystead.adapters.memory.tenants import page_of
from keystead.adapters.walls import Walls
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Event
from keystead.kernel.clock import Clock
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.kernel.ids import dated_ms
from keystead.kernel.paging import Page, PageRequest
from keystead.sinks.model import (
    FIRST_LETTERS,
    LETTERS_MAX,
    DeadLetter,
    DueSink,
    Failure,
    FileDestination,
    Held,
    Kind,
    Place,
    Progress,
    SealedSecrets,
    Sink,
    SinkState,
    StrictLag,
    Summary,
)

_AT_ONCE: dict[str, Any] = {"batch": 0, "refusals": 0, "failures": 0}


class MemorySinks:
    """The ``SinkRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls, clock: Clock) -> None:
        """See what ``walls`` admit, at the time of ``clock``."""
        self._staging = staging
        self._walls = walls
        self._clock = clock

    async def count(self, workspace_id: str) -> int:
        """Return how many a workspace has, and keep others from adding one until the unit ends."""
        self._walls.demand(workspace_id)
        await self._staging.begin()
        return len(self._inside(workspace_id))

    async def add(self, sink: Sink, *, next_index: int) -> None:
        """Store a new sink that begins at ``next_index``."""
        self._walls.demand(sink.workspace_id)
        state = await self._staging.begin()
        if sink.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", sink.workspace_id)
        self._demand_names(sink)
        state.sinks[sink.id] = StoredSink(sink, Place(next_index, next_index))

    async def get(self, workspace_id: str, sink_id: str, *, lock: bool = False) -> Sink | None:
        """Return one, or None."""
        if lock:
            await self._staging.begin()
        return next((it.sink for it in self._inside(workspace_id) if it.sink.id == sink_id), None)

    async def save(self, sink: Sink, *, reason: str | None = None) -> None:
        """Store the new state of a sink, and have it tried at once; its place stays, ``reason`` is shown with it."""
        self._walls.demand(sink.workspace_id)
        state = await self._staging.begin()
        stored = state.sinks.get(sink.id)
        if stored is None or stored.sink.version != sink.version - 1:
            raise EtagMismatchError("sink", sink.name)
        self._demand_names(sink)
        told = stored.last_error if reason is None else reason
        state.sinks[sink.id] = replace(stored, sink=sink, last_error=told, due_at_ms=0)

    async def delete(self, sink: Sink) -> None:
        """Delete a sink, its place and what it set aside."""
        self._walls.demand(sink.workspace_id)
        (await self._staging.begin()).sinks.pop(sink.id, None)

    async def page(self, workspace_id: str, request: PageRequest) -> Page[Sink]:
        """Return one page by time of creation."""
        self._walls.demand(workspace_id)
        return page_of([it.sink for it in self._inside(workspace_id)], request, lambda sink: (sink.id,))

    async def start(self, workspace_id: str, at_ms: int | None) -> int:
        """Return the index of the first event at ``at_ms`` or later, or of the next one to be placed."""
        self._walls.demand(workspace_id)
        placed = _leaves(self._staging.state, workspace_id)
        since = [it.leaf_index or 0 for it in placed if at_ms is not None and it.occurred_at_ms >= at_ms]
        return min(since, default=self._staging.state.leaves.get(workspace_id, 0))

    async def progress(self, sink: Sink) -> Progress:
        """Return how far a sink has come."""
        self._walls.demand(sink.workspace_id)
        state = self._staging.state
        stored = state.sinks[sink.id]
        place = stored.place
        waiting = [it for it in _leaves(state, sink.workspace_id) if (it.leaf_index or 0) >= place.next_index]
        letters = sorted((it for it, _ in stored.letters), key=_in_order)
        return Progress(
            next_index=place.next_index,
            waiting_events=len(waiting),
            lag_ms=max(0, self._clock.now_ms() - dated_ms(waiting[0].id)) if waiting else None,
            delivered_at_ms=stored.delivered_at_ms,
            failures=place.failures,
            last_error=stored.last_error,
            retry_at_ms=stored.due_at_ms if place.failures and stored.due_at_ms else None,
            dead_letters=len(letters),
            first_dead_letters=tuple(letters[:FIRST_LETTERS]),
        )

    async def go_back(self, sink: Sink, *, next_index: int) -> None:
        """Make a sink go on from ``next_index``; what was set aside from there on is carried with the rest."""
        sinks = (await self._staging.begin()).sinks
        stored = sinks[sink.id]
        place = replace(
            stored.place, next_index=next_index, checkpoint_size=next_index, epoch=stored.place.epoch + 1, **_AT_ONCE
        )
        letters = tuple(it for it in stored.letters if it[0].index < next_index)
        sinks[sink.id] = replace(stored, place=place, letters=letters, last_error="", due_at_ms=0)

    async def try_again(self, sink: Sink) -> int:
        """Have everything sent again that was set aside; return how much that is."""
        sinks = (await self._staging.begin()).sinks
        stored = sinks[sink.id]
        letters = tuple((letter, True) for letter, _ in stored.letters)
        place = replace(stored.place, **_AT_ONCE)
        sinks[sink.id] = replace(stored, place=place, letters=letters, last_error="", due_at_ms=0)
        return len(letters)

    async def set_aside(self, held: Held, after: Place, letter: DeadLetter) -> bool:
        """Note that an event is refused, and go on after it; False, and nothing, when ``held`` holds no more."""
        sinks = (await self._staging.begin()).sinks
        stored = _still(sinks, held)
        if stored is None:
            return False
        others = tuple(it for it in stored.letters if it[0].event_id != letter.event_id)
        sinks[held.sink.id] = replace(_moved(stored, after), letters=(*others, (letter, False)))
        return True

    async def is_full(self, sink: Sink) -> bool:
        """Say whether a sink has set aside as much as it may."""
        return len(self._staging.state.sinks[sink.id].letters) >= LETTERS_MAX

    async def behind(self, workspace_id: str) -> StrictLag | None:
        """Return a sink in strict mode that is further behind than it may be; None when there is none."""
        state, now_ms = self._staging.state, self._clock.now_ms()
        unplaced = [dated_ms(it.id) for it in state.unplaced if it.workspace_id == workspace_id]
        placed = _leaves(state, workspace_id)
        for stored in self._inside(workspace_id):
            first = [dated_ms(it.id) for it in placed if (it.leaf_index or 0) >= stored.place.next_index][:1]
            lag_ms = now_ms - min((*first, *unplaced), default=now_ms)
            if stored.sink.strict_lag_ms and lag_ms > stored.sink.strict_lag_ms:
                return StrictLag(stored.sink.name, lag_ms, stored.sink.strict_lag_ms)
        return None

    def _inside(self, workspace_id: str) -> list[StoredSink]:
        if not self._walls.admit(workspace_id):
            return []
        return [it for it in self._staging.state.sinks.values() if it.sink.workspace_id == workspace_id]

    def _demand_names(self, sink: Sink) -> None:
        for other in (it.sink for it in self._inside(sink.workspace_id) if it.sink.id != sink.id):
            if other.name == sink.name or _file(other) == _file(sink) != "":
                raise AlreadyExistsError("sink", sink.name)


class MemorySinkPlaces:
    """The ``SinkPlaces`` of one store."""

    def __init__(self, store: MemoryStore, clock: Clock) -> None:
        """Keep them in ``store``; its clock is ``clock``."""
        self._store = store
        self._clock = clock

    async def due(self, *, kinds: Collection[Kind], limit: int) -> Sequence[DueSink]:
        """Return sinks that have something to carry now and are held by nobody; those that do not fail first."""
        state, now_ms = self._store.committed, self._clock.now_ms()
        found = [
            it
            for it in state.sinks.values()
            if it.sink.state is SinkState.ACTIVE
            and it.sink.kind in kinds
            and max(it.due_at_ms, it.held_until_ms) <= now_ms
            and _something_waits(state, it)
        ]
        found.sort(key=_in_turn)
        return [DueSink(it.sink.id, it.sink.workspace_id, it.place.failures > 0) for it in found[:limit]]

    async def hold(self, sink_id: str, holder: str, *, lease_ms: int) -> Held | None:
        """Take or keep a sink for ``lease_ms``; None when another has it, or it is gone or paused."""
        async with self._sinks() as sinks:
            stored, now_ms = sinks.get(sink_id), self._clock.now_ms()
            if stored is None or stored.sink.state is not SinkState.ACTIVE:
                return None
            if stored.holder != holder and stored.held_until_ms > now_ms:
                return None
            sinks[sink_id] = replace(stored, holder=holder, held_until_ms=now_ms + lease_ms)
            return Held(stored.sink, stored.place, holder)

    async def let_go(self, holder: str, sink_id: str) -> None:
        """Give a sink back, if ``holder`` has it."""
        async with self._sinks() as sinks:
            stored = sinks.get(sink_id)
            if stored is not None and stored.holder == holder:
                sinks[sink_id] = replace(stored, holder="", held_until_ms=0)

    async def free(self, holder: str) -> None:
        """Give every sink back that ``holder`` has: it is dead."""
        async with self._sinks() as sinks:
            its = {name: stored for name, stored in sinks.items() if stored.holder == holder}
            sinks |= {name: replace(stored, holder="", held_until_ms=0) for name, stored in its.items()}

    async def checkpoints(self, workspace_id: str, *, after: int, to: int, limit: int) -> Sequence[KeptCheckpoint]:
        """Return the checkpoints of a size past ``after``, and up to ``to``: here at most the last one."""
        kept = self._store.committed.checkpoints.get(workspace_id)
        return [kept][:limit] if kept is not None and after < kept.size <= to else []

    async def again(self, sink_id: str, *, limit: int) -> Sequence[DeadLetter]:
        """Return what is to be sent again, in the log's order."""
        stored = self._store.committed.sinks.get(sink_id)
        letters = () if stored is None else stored.letters
        return sorted((it for it, again in letters if again), key=_in_order)[:limit]

    async def carried(self, held: Held, after: Place) -> bool:
        """Note that the sink stands at ``after`` and does not fail."""
        async with self._sinks() as sinks:
            return self._note(sinks, held, after, delivered=True) is not None

    async def taken(self, held: Held, event_ids: Collection[str]) -> bool:
        """Forget what was set aside and has been taken now."""
        async with self._sinks() as sinks:
            stored = self._note(sinks, held, held.place.past(None, None), delivered=True)
            if stored is None:
                return False
            letters = tuple(it for it in stored.letters if it[0].event_id not in event_ids)
            sinks[held.sink.id] = replace(stored, letters=letters)
            return True

    async def refused(self, held: Held, letter: DeadLetter) -> bool:
        """Set aside once more what was tried again."""
        async with self._sinks() as sinks:
            stored = self._note(sinks, held, held.place.past(None, None), delivered=False)
            if stored is None:
                return False
            letters = tuple((letter, False) if it[0].event_id == letter.event_id else it for it in stored.letters)
            sinks[held.sink.id] = replace(stored, letters=letters)
            return True

    async def failed(self, held: Held, failure: Failure) -> bool:
        """Note a failure, and when to try again."""
        async with self._sinks() as sinks:
            stored = _still(sinks, held)
            if stored is None:
                return False
            place = replace(stored.place, batch=failure.batch, refusals=failure.refusals, failures=failure.failures)
            due_at_ms = self._clock.now_ms() + failure.wait_ms if failure.wait_ms else 0
            sinks[held.sink.id] = replace(stored, place=place, last_error=failure.error, due_at_ms=due_at_ms)
            return True

    async def summary(self) -> Mapping[Kind, Summary]:
        """Say how the sinks do, by their kind."""
        found: dict[Kind, Summary] = {}
        state = self._store.committed
        for stored in state.sinks.values():
            before = found.get(stored.sink.kind, Summary())
            waiting = [
                it for it in _leaves(state, stored.sink.workspace_id) if it.leaf_index == stored.place.next_index
            ]
            lags_ms = [max(0, self._clock.now_ms() - dated_ms(it.id)) for it in waiting]
            letters = before.dead_letters + len(stored.letters)
            found[stored.sink.kind] = Summary(before.sinks + 1, max(before.lag_ms, *lags_ms, 0), letters)
        return found

    async def least_next_index(self, workspace_id: str) -> int | None:
        """Return the least index that a sink of the workspace carries next, or has set aside; None without sinks."""
        own = [it for it in self._store.committed.sinks.values() if it.sink.workspace_id == workspace_id]
        aside = [letter.index for it in own for letter, _ in it.letters if not letter.is_checkpoint]
        return min((*aside, *(it.place.next_index for it in own)), default=None)

    async def sealed_under_others(
        self, master_id: str, *, after: str = "", limit: int
    ) -> Sequence[tuple[str, SealedSecrets]]:
        """Return sinks past the id ``after`` whose secrets are sealed under another master, by id."""
        stored = self._store.committed.sinks.values()
        sealed = [(it.sink.id, it.sink.secrets) for it in stored if it.sink.id > after]
        return sorted((sink_id, it) for sink_id, it in sealed if it is not None and it.master_id != master_id)[:limit]

    async def seal_anew(self, sink_id: str, secrets: SealedSecrets, *, was: SealedSecrets) -> None:
        """Store the same secrets sealed anew, unless they have changed since."""
        async with self._sinks() as sinks:
            stored = sinks.get(sink_id)
            if stored is not None and stored.sink.secrets == was:
                sinks[sink_id] = replace(stored, sink=replace(stored.sink, secrets=secrets))

    def _note(self, sinks: dict[str, StoredSink], held: Held, after: Place, *, delivered: bool) -> StoredSink | None:
        stored = _still(sinks, held)
        if stored is None:
            return None
        stored = _moved(stored, after)
        if delivered:
            stored = replace(stored, delivered_at_ms=self._clock.now_ms())
        sinks[held.sink.id] = stored
        return stored

    @asynccontextmanager
    async def _sinks(self) -> AsyncIterator[dict[str, StoredSink]]:
        staging = Staging(self._store, read_only=False)
        try:
            yield (await staging.begin()).sinks
            staging.commit()
        finally:
            staging.rollback()


def _in_turn(stored: StoredSink) -> tuple[bool, int, str]:
    fails = stored.place.failures > 0
    return fails, stored.due_at_ms if fails else stored.delivered_at_ms or 0, stored.sink.id


def _still(sinks: Mapping[str, StoredSink], held: Held) -> StoredSink | None:
    """Return a sink that its holder has yet and that stands where it stood."""
    stored = sinks.get(held.sink.id)
    if stored is None or stored.holder != held.holder or _spot(stored.place) != _spot(held.place):
        return None
    return stored


def _spot(place: Place) -> tuple[int, int, int]:
    return place.epoch, place.next_index, place.checkpoint_size


def _moved(stored: StoredSink, after: Place) -> StoredSink:
    return replace(stored, place=replace(after, failures=0), last_error="", due_at_ms=0)


def _something_waits(state: State, stored: StoredSink) -> bool:
    workspace_id, place = stored.sink.workspace_id, stored.place
    kept = state.checkpoints.get(workspace_id)
    checkpoint = kept is not None and place.checkpoint_size < kept.size <= place.next_index
    return state.leaves.get(workspace_id, 0) > place.next_index or checkpoint or any(it[1] for it in stored.letters)


def _leaves(state: State, workspace_id: str) -> list[Event]:
    return [event for event in state.placed if event.workspace_id == workspace_id]


def _file(sink: Sink) -> str:
    return sink.destination.name if isinstance(sink.destination, FileDestination) else ""


def _in_order(letter: DeadLetter) -> tuple[int, str]:
    return letter.index, letter.event_id
