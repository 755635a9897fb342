"""Carries the event log to its sinks: many at once, each in order, each by one process at a time.

A sink's place moves after its destination took what was sent and only from where it was read, so whatever is cut off,
frozen or overtaken is sent once more and never left out. One that hangs or fails takes part of the room, never all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import structlog

from keystead.events.errors import LogRewrittenError
from keystead.events.model import Event, EventFilter
from keystead.events.ports import AuditReader
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.errors import KeysteadError, UnavailableError
from keystead.kernel.walls import BOTH_ENVIRONMENTS, TenantScope
from keystead.sinks.envelopes import BATCH_BYTES, Envelope, checkpoint_envelope, event_envelope, merged
from keystead.sinks.model import (
    REFUSALS_MAX,
    DeadLetter,
    DueSink,
    Failure,
    Held,
    Kind,
    Place,
    SealedSecrets,
    Sink,
    SinkSecrets,
    Summary,
)
from keystead.sinks.ports import (
    Channel,
    Delivery,
    Destinations,
    Reception,
    SecretVault,
    SinkPlaces,
    SinkUnits,
)
from keystead.sinks.service import pause_if_full

ORIGIN = Origin(Actor(ActorType.SYSTEM, "sinks"))
"""Who sets events aside."""

AT_ONCE = 128
"""So many sinks are carried at once by a process; those that fail have half of the room at most."""

AT_ONCE_OF_ONE = 8
"""So many of one workspace, which might otherwise take all the room with services that answer slowly."""

FIRST_WAIT_MS = 1_000
WAIT_MAX_MS = 300_000
_LEASE_MARGIN_MS = 10_000
_SLICE_MS = 10_000
_INTERNAL_WAIT_MS = 30_000
_READ_AT_ONCE = 64

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SinkMeasures:
    """What this process carried, by the kind of destination; ``summary`` is of the whole deployment."""

    delivered: Counter[Kind] = field(default_factory=Counter)
    failures: Counter[Kind] = field(default_factory=Counter)
    set_aside: Counter[Kind] = field(default_factory=Counter)
    summary: dict[Kind, Summary] = field(default_factory=dict)


class SinkCarrier:
    """Runs twice a second: begins to carry what is due, and lets those go on that are under way."""

    def __init__(
        self,
        *,
        places: SinkPlaces,
        units: SinkUnits,
        reader: AuditReader,
        destinations: Destinations,
        vault: SecretVault,
        clock: Clock,
        holder: str,
        random: Random,
    ) -> None:
        """Carry from ``reader`` to ``destinations`` under this process's own name, ``holder``."""
        self._places = places
        self._destinations = destinations
        self._vault = vault
        self._clock = clock
        self._holder = holder
        self._tasks: dict[str, tuple[asyncio.Task[None], DueSink]] = {}
        self._random = random
        self.measures = SinkMeasures()
        self._way = SinkWay(
            places=places, units=units, reader=reader, clock=clock, random=random, measures=self.measures
        )

    async def turn(self) -> None:
        """Begin to carry what is due, as far as there is room."""
        for due in await self._places.due(kinds=self._destinations.kinds(), limit=2 * AT_ONCE):
            if due.id in self._tasks or not self._has_room(due):
                continue
            task = asyncio.create_task(self._carry(due.id), name=f"carry {due.id}")
            self._tasks[due.id] = (task, due)
            task.add_done_callback(partial(self._done, due.id))

    async def stop(self) -> None:
        """Carry no more; what is under way is given up, and is sent again by whoever comes next."""
        tasks = [task for task, _ in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_room(self, due: DueSink) -> bool:
        """Say whether one more may be carried: of all, of those that fail, and of its workspace."""
        under_way = [it for _, it in self._tasks.values()]
        failing = sum(it.fails for it in under_way)
        own = sum(it.workspace_id == due.workspace_id for it in under_way)
        return len(under_way) < AT_ONCE and own < AT_ONCE_OF_ONE and not (due.fails and failing >= AT_ONCE // 2)

    def _done(self, sink_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(sink_id, None)

    async def _carry(self, sink_id: str) -> None:
        """Carry one sink until nothing waits, something fails or its slice of time is over."""
        try:
            held = await self._places.hold(sink_id, self._holder, lease_ms=_LEASE_MARGIN_MS)
            if held is None:
                return
            try:
                await self._carry_held(held)
            finally:
                with suppress(KeysteadError):
                    await self._places.let_go(self._holder, sink_id)
        except UnavailableError as error:
            _log.warning("a sink was not carried", sink=sink_id, reason=error.internal or error.public)
        except Exception:  # noqa: BLE001 -- the other sinks must outlive whatever one of them raises
            _log.exception("a sink was not carried", sink=sink_id)

    async def _carry_held(self, held: Held) -> None:
        ends_ms = self._clock.monotonic_ms() + _SLICE_MS
        version = held.sink.version
        try:
            secrets = SinkSecrets.none() if held.sink.secrets is None else self._open(held.sink, held.sink.secrets)
            async with self._destinations.open(held.sink, secrets) as channel:
                while self._clock.monotonic_ms() < ends_ms:
                    lease_ms = held.sink.timeout_ms + _LEASE_MARGIN_MS
                    lasts_to_ms = self._clock.monotonic_ms() + lease_ms - held.sink.timeout_ms
                    again = await self._places.hold(held.sink.id, self._holder, lease_ms=lease_ms)
                    if again is None or again.sink.version != version:
                        return  # it was changed: the next turn begins with what it is now
                    held = again
                    if not await self._way.step(held, channel, lasts_to_ms=lasts_to_ms):
                        return
        except (ValueError, KeysteadError) as error:
            if isinstance(error, UnavailableError):
                raise
            reason = error.public if isinstance(error, KeysteadError) else str(error)
            failure = Failure(reason, _INTERNAL_WAIT_MS, held.place.failures + 1, held.place.batch)
            await self._places.failed(held, failure)
        except Exception as error:  # noqa: BLE001 -- whatever one raises, the others go on and it waits its time
            kind = type(error).__name__
            _log.exception("a sink was not carried", sink=held.sink.id, error=kind)
            # What it says may hold what is secret; the log of this process has it.
            reason = f"It could not be carried ({kind}); the server's log says more."
            wait = wait_ms(held.place, Delivery(Reception.FAILED), self._random)
            failure = Failure(reason, wait, held.place.failures + 1, held.place.batch, held.place.refusals)
            await self._places.failed(held, failure)

    def _open(self, sink: Sink, sealed: SealedSecrets) -> SinkSecrets:
        return self._vault.open(sink.id, sealed)


class SinkWay:
    """One step of one sink: what it sends next, and what follows from the answer."""

    def __init__(
        self,
        *,
        places: SinkPlaces,
        units: SinkUnits,
        reader: AuditReader,
        clock: Clock,
        random: Random,
        measures: SinkMeasures,
    ) -> None:
        """Read from ``reader`` and move in ``places``; waits are spread by ``random``."""
        self._places = places
        self._units = units
        self._reader = reader
        self._clock = clock
        self._random = random
        self._measures = measures

    async def step(self, held: Held, channel: Channel, *, lasts_to_ms: int) -> bool:
        """Send the next batch; say whether the sink goes on at once.

        Nothing is sent past ``lasts_to_ms`` on the monotonic clock, when another may have taken the sink over.
        """
        at_most = held.place.batch or held.sink.batch_max
        letters = await self._places.again(held.sink.id, limit=at_most)
        if letters:
            batch = await self._tried_again(held, letters)
        else:
            batch = await self._next(held, at_most)
        if not batch or self._clock.monotonic_ms() >= lasts_to_ms:
            return bool(letters)
        delivery = await channel.send(batch)
        if delivery.reception is Reception.ACCEPTED:
            return await self._taken(held, batch, tried_again=bool(letters))
        self._measures.failures[held.sink.kind] += 1
        if delivery.reception is Reception.REFUSED and len(batch) > 1:
            return await self._places.failed(held, _halved(held, batch, delivery))
        if delivery.reception is Reception.REFUSED and held.place.refusals + 1 >= REFUSALS_MAX:
            return await self._set_aside(held, batch[0], delivery, tried_again=bool(letters))
        return await self._wait(held, delivery)

    async def _next(self, held: Held, at_most: int) -> list[Envelope]:
        """Read what follows the sink's place: events, and checkpoints behind what they cover."""
        sink, place = held.sink, held.place
        walls = TenantScope(sink.workspace_id, BOTH_ENVIRONMENTS)
        first = max(place.next_index, await self._reader.first_index(sink.workspace_id))
        events: list[Event] = []
        size_bytes = 0
        while len(events) < at_most and size_bytes < BATCH_BYTES:
            wanted = min(_READ_AT_ONCE, at_most - len(events))
            read = await self._reader.since(walls, EventFilter(), first + len(events) - 1, wanted)
            events += read
            size_bytes += sum(len(it.record) + len(it.private) for it in read)
            if len(read) < wanted:
                break
            await asyncio.sleep(0)
        if [event.leaf_index for event in events] != list(range(first, first + len(events))):
            raise LogRewrittenError(sink.workspace_id, f"event {first} or a later one is missing")
        end = first + len(events)
        kept = await self._places.checkpoints(sink.workspace_id, after=place.checkpoint_size, to=end, limit=at_most)
        return merged(events, kept, sink.payload, next_index=first, at_most=at_most)

    async def _tried_again(self, held: Held, letters: Sequence[DeadLetter]) -> list[Envelope]:
        """Read what was set aside; what is no longer kept is set aside for good."""
        found: list[Envelope] = []
        sink = held.sink
        walls = TenantScope(sink.workspace_id, BOTH_ENVIRONMENTS)
        size_bytes = 0
        for letter in letters:
            envelope: Envelope | None = None
            if letter.is_checkpoint:
                size = letter.index
                kept = await self._places.checkpoints(sink.workspace_id, after=size - 1, to=size, limit=1)
                envelope = next((checkpoint_envelope(it) for it in kept), None)
            else:
                event = await self._reader.find(walls, letter.event_id)
                envelope = None if event is None else event_envelope(event, sink.payload)
            if envelope is None:
                await self._places.refused(held, replace(letter, error="It is no longer kept."))
                continue
            size_bytes += envelope.size_bytes
            if found and size_bytes > BATCH_BYTES:
                break
            found.append(envelope)
        return found

    async def _taken(self, held: Held, batch: list[Envelope], *, tried_again: bool) -> bool:
        self._measures.delivered[held.sink.kind] += len(batch)
        if held.place.failures:
            _log.info("a sink takes events again", sink=held.sink.id, workspace=held.sink.workspace_id)
        if tried_again:
            return await self._places.taken(held, [it.id for it in batch])
        grown = held.place.batch * 2
        after = replace(held.place.past(*_ends(batch)), batch=grown if grown < held.sink.batch_max else 0)
        return await self._places.carried(held, after)

    async def _set_aside(self, held: Held, refused: Envelope, delivery: Delivery, *, tried_again: bool) -> bool:
        """Put aside what is refused whenever it is sent, so that it holds up nothing else."""
        sink = held.sink
        letter = DeadLetter(
            index=refused.index if refused.index is not None else refused.size or 0,
            event_id=refused.id,
            at_ms=self._clock.now_ms(),
            error=delivery.reason,
            is_checkpoint=refused.size is not None,
        )
        _log.error(
            "a sink refuses an event; it is set aside", sink=sink.id, event_id=refused.id, reason=delivery.reason
        )
        self._measures.set_aside[sink.kind] += 1
        if tried_again:
            return await self._places.refused(held, letter)
        after = held.place.past(refused.index, refused.size)
        walls = TenantScope(sink.workspace_id, BOTH_ENVIRONMENTS)
        async with self._units.begin(walls, ORIGIN) as unit:
            if not await unit.sinks.set_aside(held, after, letter):
                return False
            # An event about an event about … would never end, and so with checkpoints, which follow every event.
            if refused.action not in {"", Action.SINK_EVENT_SET_ASIDE}:
                changes = {"index": (None, letter.index), "event_id": (None, letter.event_id)}
                unit.record(
                    Change(sink.workspace_id, Action.SINK_EVENT_SET_ASIDE, sink.id, touches=(), changes=changes)
                )
            await pause_if_full(unit, sink, now_ms=letter.at_ms)
        return True

    async def _wait(self, held: Held, delivery: Delivery) -> bool:
        """Try the same again later: twice as long as before, or as the destination asks, within the bound."""
        place, sink = held.place, held.sink
        if not place.failures:
            _log.warning("a sink takes no events", sink=sink.id, workspace=sink.workspace_id, reason=delivery.reason)
        refused = delivery.reception is Reception.REFUSED
        await self._places.failed(
            held,
            Failure(
                error=delivery.reason,
                wait_ms=wait_ms(place, delivery, self._random),
                failures=place.failures + 1,
                batch=place.batch,
                refusals=place.refusals + refused,
            ),
        )
        return False


def wait_ms(place: Place, delivery: Delivery, random: Random) -> int:
    """Return how long to wait: 1 s doubled with every failure up to 5 minutes, spread over its upper half."""
    before = place.refusals if delivery.reception is Reception.REFUSED else place.failures
    doubled = min(FIRST_WAIT_MS << min(before, 20), WAIT_MAX_MS)
    spread = doubled // 2 + random.randrange(doubled // 2 + 1)
    return min(max(spread, delivery.retry_after_ms or 0), WAIT_MAX_MS)


def _ends(batch: list[Envelope]) -> tuple[int | None, int | None]:
    """Return the last event's index and the last checkpoint's size in a batch."""
    index = max((it.index for it in batch if it.index is not None), default=None)
    size = max((it.size for it in batch if it.size is not None), default=None)
    return index, size


def _halved(held: Held, batch: list[Envelope], delivery: Delivery) -> Failure:
    """Have half as much sent at once: one of a batch may be at fault, and the others are let through."""
    return Failure(delivery.reason, wait_ms=0, failures=max(1, held.place.failures), batch=len(batch) // 2)
