"""Looks after sinks, apart from carrying to them: what takes long here keeps no event waiting.

Every process sums up how all sinks do, and once in its life seals their secrets under the newest master key.
"""

from __future__ import annotations

import structlog

from keystead.sinks.errors import SinkSecretsLostError
from keystead.sinks.ports import SecretVault, SinkPlaces
from keystead.worker.sinks import SinkMeasures

_SEALED_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class SinkUpkeep:
    """Runs every 15 seconds."""

    def __init__(
        self, places: SinkPlaces, vault: SecretVault, measures: SinkMeasures, *, at_once: int = _SEALED_AT_ONCE
    ) -> None:
        """Sum up into ``measures``, and seal by ``vault``, reading ``at_once`` sinks at a time."""
        self._places = places
        self._vault = vault
        self._measures = measures
        self._at_once = at_once
        self._sealed_anew = False

    async def turn(self) -> None:
        """Sum up, and seal anew what is left; raise ``UnavailableError`` when the database is away."""
        self._measures.summary = dict(await self._places.summary())
        if not self._sealed_anew:
            await self._seal_anew()
            self._sealed_anew = True

    async def _seal_anew(self) -> None:
        """Seal all secrets under the newest master, so that older ones can go; it is begun again when cut off."""
        last = ""
        while found := await self._places.sealed_under_others(self._vault.current_id, after=last, limit=self._at_once):
            for sink_id, sealed in found:
                last = sink_id
                try:
                    secrets = self._vault.open(sink_id, sealed)
                except SinkSecretsLostError:
                    _log.warning("the secrets of a sink cannot be read", sink=sink_id)
                    continue
                await self._places.seal_anew(sink_id, self._vault.seal(sink_id, secrets), was=sealed)
