"""The one key of a deployment that signs checkpoints: made by whoever needs it first, the same for every process.

A process that reads it sealed under an older master key seals it anew, so an older one is soon needed by nobody.
"""

from __future__ import annotations

from keystead.events.notes import Signer
from keystead.events.ports import AuditKeyStore, KeyVault


class CheckpointKey:
    """Opens the key once in the life of a process."""

    def __init__(self, store: AuditKeyStore, vault: KeyVault) -> None:
        """Find it in ``store``, sealed by ``vault``."""
        self._store = store
        self._vault = vault
        self._signer: Signer | None = None

    async def signer(self) -> Signer:
        """Return what signs checkpoints; raise a ``StartError`` when no configured master key opens it."""
        if self._signer is None:
            self._signer = await self._open()
        return self._signer

    async def _open(self) -> Signer:
        kept = await self._store.get()
        if kept is None:
            made = self._vault.make()
            await self._store.add(made)
            kept = await self._store.get() or made  # another process may have been first
        signer = self._vault.open(kept)
        if (newer := self._vault.sealed_anew(kept)) is not None:
            await self._store.replace(newer, sealed_under=kept.master_id)
        return signer
