"""Child spans of the cold way: the read of a key, and the hash that proves its secret. Each decorates a port.

They open a span only inside one, so a call that is not traced has none here either.
"""

from __future__ import annotations

from opentelemetry.trace import Tracer, get_current_span

from keystead.keys.ports import Lane, SecretHasher
from keystead.verification.model import KeySnapshot
from keystead.verification.ports import SnapshotStore


class TracedSnapshots:
    """``SnapshotStore`` whose reads are spans."""

    def __init__(self, store: SnapshotStore, tracer: Tracer) -> None:
        """Read ``store``."""
        self._store = store
        self._tracer = tracer

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key that has a secret with this prefix."""
        if not get_current_span().is_recording():
            return await self._store.by_prefix(prefix)
        with self._tracer.start_as_current_span("lookup", record_exception=False) as span:
            found = await self._store.by_prefix(prefix)
            span.set_attribute("keystead.found", found is not None)
            return found

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key."""
        return await self._store.by_key(key_id)


class TracedHasher:
    """``SecretHasher`` whose checks are spans."""

    def __init__(self, hasher: SecretHasher, tracer: Tracer) -> None:
        """Hash with ``hasher``."""
        self._hasher = hasher
        self._tracer = tracer

    async def hash(self, material: bytes) -> str:
        """Hash ``material`` in the lane for minting."""
        return await self._hasher.hash(material)

    async def check(self, material: bytes, stored: str, lane: Lane) -> bool:
        """Compare ``material`` with a stored hash."""
        if not get_current_span().is_recording():
            return await self._hasher.check(material, stored, lane)
        with self._tracer.start_as_current_span(
            "bcrypt", attributes={"keystead.lane": str(lane)}, record_exception=False
        ):
            return await self._hasher.check(material, stored, lane)
