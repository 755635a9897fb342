"""Sinks over the memory twin: a workspace with a log, and destinations that answer as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.sinks import SinkVault
from keystead.adapters.memory.checkpoints import MemoryCheckpoints
from keystead.adapters.memory.event_queries import MemoryAuditReader
from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.sinks import MemorySinkPlaces
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.adapters.outbound.certificates import CertificateContexts
from keystead.events.checkpoints import KeptCheckpoint
from keystead.kernel.change import Action, Change
from keystead.kernel.ids import IdSource
from keystead.sinks.drafts import Outbound, Rules, SinkDraft
from keystead.sinks.envelopes import Envelope
from keystead.sinks.model import HttpDestination, Kind, Progress, Sink, SinkSecrets
from keystead.sinks.ports import Channel, Delivery, Reception
from keystead.sinks.service import SinkService, Start
from keystead.tenants.model import BOTH_ENVIRONMENTS, TenantScope, Workspace
from keystead.worker.sink_upkeep import SinkUpkeep
from keystead.worker.sinks import SinkCarrier
from tests.fakes import FixedRandom, Gate, ManualClock
from tests.world import MASTER, ORIGIN

URL = "https://siem.example/events?key=7"
ACCEPTED = Delivery(Reception.ACCEPTED, http_status=204)
FAILED = Delivery(Reception.FAILED, "503 later", 503)
REFUSED = Delivery(Reception.REFUSED, "422 not that", 422)

Answering = Callable[[Sequence[Envelope]], Delivery]


class FakeDestination:
    """Takes what it is sent, or answers as ``answering`` says; what waits at ``gate`` hangs."""

    def __init__(self) -> None:
        """Take everything."""
        self.answering: Answering = lambda _: ACCEPTED
        self.gate = Gate()
        self.batches: list[list[Envelope]] = []
        self.tried = 0
        self.secrets: SinkSecrets | None = None

    @property
    def got(self) -> list[str]:
        """The ids of everything that was taken, in order."""
        return [envelope.id for batch in self.batches for envelope in batch]

    async def send(self, batch: Sequence[Envelope]) -> Delivery:
        """Take a batch, or do not."""
        self.tried += 1
        await self.gate.pass_by()
        delivery = self.answering(batch)
        if delivery.reception is Reception.ACCEPTED:
            self.batches.append(list(batch))
        return delivery


class FakeDestinations:
    """A destination for each sink, by its name; ``broken`` ones cannot be opened."""

    def __init__(self) -> None:
        """Know none yet."""
        self.by_name: dict[str, FakeDestination] = {}
        self.broken: set[str] = set()

    def __getitem__(self, name: str) -> FakeDestination:
        """Return what stands at the end of the sink ``name``."""
        return self.by_name.setdefault(name, FakeDestination())

    def kinds(self) -> Collection[Kind]:
        """Reach every kind."""
        return set(Kind)

    @asynccontextmanager
    async def open(self, sink: Sink, secrets: SinkSecrets) -> AsyncIterator[Channel]:
        """Open the way to a sink's destination."""
        if sink.name in self.broken:
            message = "the certificate cannot be read"
            raise ValueError(message)
        self[sink.name].secrets = secrets
        yield self[sink.name]


class SinkWorld:
    """One workspace, its log, its sinks and the processes that carry; call ``begin`` first."""

    def __init__(self, rules: Rules | None = None) -> None:
        """Wire everything over an empty store."""
        self.clock = ManualClock()
        self.ids = IdSource(self.clock)
        self.store = MemoryStore()
        self.changes: list[Change] = []
        self.units = MemoryUnits(self.store, clock=self.clock, ids=self.ids, on_commit=self.changes.extend)
        self.log = MemoryEventLog(self.store)
        self.reader = MemoryAuditReader(self.store)
        self.checkpoints = MemoryCheckpoints(self.store)
        self.places = MemorySinkPlaces(self.store, self.clock)
        self.keyring = MasterKeyring([MASTER])
        self.vault = SinkVault(self.keyring)
        self.destinations = FakeDestinations()
        self.service = self.service_with(rules or Rules(Outbound.PUBLIC, files=True))
        self.workspace_id = self.ids.new("wsp")

    def service_with(self, rules: Rules) -> SinkService:
        """Return the service of a server with other rules."""
        return SinkService(
            ids=self.ids,
            clock=self.clock,
            vault=self.vault,
            examiner=CertificateContexts(),
            rules=rules,
            random_bytes=FixedRandom().bytes,
        )

    @property
    def scope(self) -> TenantScope:
        """The walls of the workspace."""
        return TenantScope(self.workspace_id, BOTH_ENVIRONMENTS)

    async def begin(self, brand: str = "acme") -> SinkWorld:
        """Make the workspace."""
        now_ms = self.clock.now_ms()
        async with self.units.begin(None, ORIGIN) as unit:
            await unit.workspaces.add(Workspace(self.workspace_id, brand, "Acme", now_ms, now_ms))
        return self

    async def happen(self, count: int, action: Action = Action.KEY_CREATED, *, place: bool = True) -> list[str]:
        """Have so much happen, a millisecond apart; return the ids of the events."""
        before = len(self.store.committed.placed) + len(self.store.committed.unplaced)
        for number in range(count):
            self.clock.advance(1)
            async with self.units.begin(self.scope, ORIGIN) as unit:
                unit.record(Change(self.workspace_id, action, f"key_{number}", touches=()))
        if place:
            await self.log.place(limit=1_000)
        state = self.store.committed
        return [event.id for event in (*state.placed, *state.unplaced)][before:]

    async def checkpoint(self) -> KeptCheckpoint:
        """Keep a checkpoint of the log as it is."""
        await self.log.place(limit=1_000)
        size, frontier = await self.reader.head(self.workspace_id)
        last = await self.checkpoints.latest(self.workspace_id)
        made = KeptCheckpoint(self.workspace_id, size, frontier, f"note of {size}", self.clock.now_ms())
        assert await self.checkpoints.keep(made, after=last)
        return made

    async def create(self, name: str = "siem", start: Start | None = None, **fields: Any) -> Sink:
        """Make a sink to a service over HTTP, unless told; its own event has its place."""
        draft = SinkDraft(**{"name": name, "destination": HttpDestination(URL, batch_max=4), **fields})
        async with self.units.begin(self.scope, ORIGIN) as unit:
            sink, self.signing_secret = await self.service.create(unit, self.workspace_id, draft, start or Start())
        await self.log.place(limit=1_000)
        return sink

    async def update(self, sink: Sink, mask: set[str], etag: str = "", **fields: Any) -> Sink:
        """Change a sink."""
        async with self.units.begin(self.scope, ORIGIN) as unit:
            return await self.service.update(
                unit, self.workspace_id, sink.id, SinkDraft(**fields), mask=mask, etag=etag
            )

    async def progress(self, sink: Sink) -> Progress:
        """Say how far a sink has come."""
        async with self.units.read(self.scope) as unit:
            return await unit.sinks.progress(sink)

    def carrier(self, holder: str = "nod_1") -> SinkCarrier:
        """Return a process that carries."""
        return SinkCarrier(
            places=self.places,
            units=self.units,
            reader=self.reader,
            destinations=self.destinations,
            vault=self.vault,
            clock=self.clock,
            holder=holder,
            random=Random(7),
        )

    def upkeep(self, carrier: SinkCarrier | None = None) -> SinkUpkeep:
        """Return what looks after the sinks in the process of ``carrier``."""
        return SinkUpkeep(self.places, self.vault, (carrier or self.carrier()).measures)

    def event_ids(self) -> list[str]:
        """Return the ids of all events in the log's order."""
        return [event.id for event in self.store.committed.placed]

    def moved(self, sink: Sink, **place: Any) -> None:
        """Put a sink somewhere else, behind everybody's back."""
        stored = self.store.committed.sinks[sink.id]
        self.store.committed.sinks[sink.id] = replace(stored, **place)


async def settled(carrier: SinkCarrier) -> None:
    """Take a turn, and let everything that is not waiting for somebody come to its end."""
    await carrier.turn()
    for _ in range(200):
        await asyncio.sleep(0)
