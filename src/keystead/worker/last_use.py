"""Stores when secrets were last used, in bounded batches, off the verify path."""

from __future__ import annotations

from keystead.keys.ports import LastUseStore
from keystead.verification.last_use import LastUses

BATCH_USES = 1_000
_BATCHES_PER_TURN = 100


class LastUseSaver:
    """Carries uses from memory to the store; a batch that could not be stored is kept for the next turn."""

    def __init__(self, uses: LastUses, store: LastUseStore) -> None:
        """Take from ``uses``, write to ``store``."""
        self._uses = uses
        self._store = store
        self._pending: dict[str, tuple[str, int]] = {}

    async def turn(self) -> None:
        """Store up to 100,000 uses."""
        for _ in range(_BATCHES_PER_TURN):
            if not self._pending:
                self._pending = self._uses.take(BATCH_USES)
            if not self._pending:
                return
            await self._store.save(self._pending)
            self._pending = {}
