"""Stores when secrets were last used, off the verify path and never more than a share of the processor allows.

When more secrets are in use than a turn may store, each waits its turn: the figure comes later, the verdicts do not.
"""

from __future__ import annotations

from keystead.keys.ports import LastUseStore
from keystead.verification.last_use import LastUses

USES_PER_TURN = 1_000


class LastUseSaver:
    """Carries uses from memory to the store; a batch that could not be stored is kept for the next turn."""

    def __init__(self, uses: LastUses, store: LastUseStore) -> None:
        """Take from ``uses``, write to ``store``."""
        self._uses = uses
        self._store = store
        self._pending: dict[str, tuple[str, int]] = {}

    async def turn(self) -> None:
        """Store up to 1,000 uses."""
        if not self._pending:
            self._pending = self._uses.take(USES_PER_TURN)
        if self._pending:
            await self._store.save(self._pending)
            self._pending = {}
