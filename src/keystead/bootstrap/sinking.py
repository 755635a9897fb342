"""Sinks on their adapters: what makes and changes them, and what carries to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from random import SystemRandom

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.cryptography.sinks import SinkVault
from keystead.adapters.outbound.sink_files import SinkFiles
from keystead.adapters.outbound.sinks import SinkDestinations
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.sink_places import SqlSinkPlaces
from keystead.config import Settings
from keystead.events.ports import AuditReader
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.sinks.drafts import Outbound, Rules
from keystead.sinks.ports import SinkUnits
from keystead.sinks.service import SinkService
from keystead.worker.loop import Loop
from keystead.worker.sink_upkeep import SinkUpkeep
from keystead.worker.sinks import SinkCarrier

_SINKS_INTERVAL_MS = 500
_UPKEEP_INTERVAL_MS = 15_000
_SINKS_APART_MS = 50
"""However many events get their places, sinks are looked at this often at most."""


class Sinking:
    """The sinks of a process."""

    def __init__(
        self, settings: Settings, database: Database, keyring: MasterKeyring, *, ids: IdSource, clock: Clock
    ) -> None:
        """Wire; nothing is connected to yet."""
        self._clock = clock
        outbound = Outbound(settings.outbound)
        files = None if settings.sink_files is None else SinkFiles(settings.sink_files, clock)
        self.places = SqlSinkPlaces(database)
        self.destinations = SinkDestinations(outbound=outbound, clock=clock, files=files)
        self._vault = SinkVault(keyring)
        self.placed: Callable[[], None] = lambda: None
        """Called when events have got their places: there may be something to carry."""
        self.service = SinkService(
            ids=ids,
            clock=clock,
            vault=self._vault,
            examiner=self.destinations.contexts,
            rules=Rules(outbound=outbound, files=files is not None),
            random_bytes=secrets.token_bytes,
        )

    async def start(
        self, stack: AsyncExitStack, units: SinkUnits, reader: AuditReader, *, holder: str, dead: Sequence[str]
    ) -> tuple[list[Loop], SinkCarrier]:
        """Begin to carry as ``holder``, until ``stack`` ends; what the ``dead`` held is free at once."""
        for name in dead:
            await self.places.free(name)
        carrier = SinkCarrier(
            places=self.places,
            units=units,
            reader=reader,
            destinations=self.destinations,
            vault=self._vault,
            clock=self._clock,
            holder=holder,
            random=SystemRandom(),
        )
        loop = Loop("carry to sinks", carrier.turn, interval_ms=_SINKS_INTERVAL_MS, apart_ms=_SINKS_APART_MS)
        self.placed = loop.wake
        stack.push_async_callback(carrier.stop)
        upkeep = SinkUpkeep(self.places, self._vault, carrier.measures)
        loops = [loop, Loop("look after sinks", upkeep.turn, interval_ms=_UPKEEP_INTERVAL_MS)]
        for each in loops:
            each.start()
            stack.push_async_callback(each.stop)
        return loops, carrier
