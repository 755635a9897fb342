"""Signed checkpoints in memory, and the sealed key that signs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.ports import SealedKey

_TURN = "checkpoints"


class MemoryCheckpoints:
    """The ``CheckpointStore`` of one store; of each workspace it keeps the last alone."""

    def __init__(self, store: MemoryStore) -> None:
        """Keep them in ``store``."""
        self._store = store

    async def latest(self, workspace_id: str) -> KeptCheckpoint | None:
        """Return the last checkpoint of a workspace."""
        return self._store.committed.checkpoints.get(workspace_id)

    async def keep(self, made: KeptCheckpoint, *, after: KeptCheckpoint | None) -> bool:
        """Store a checkpoint that extends ``after``; False, and nothing, when that is not the last."""
        staging = Staging(self._store, read_only=False)
        kept = (await staging.begin()).checkpoints
        last = kept.get(made.workspace_id)
        extends = _place(last) == _place(after) and made.size > (-1 if after is None else after.size)
        if extends:
            kept[made.workspace_id] = made
        staging.commit()
        return extends

    async def confirm(self, kept: KeptCheckpoint, *, at_ms: int) -> None:
        """Note that a checkpoint still held at ``at_ms``."""
        staging = Staging(self._store, read_only=False)
        checkpoints = (await staging.begin()).checkpoints
        last = checkpoints.get(kept.workspace_id)
        if last is not None and last.size == kept.size and last.made_at_ms < at_ms:
            checkpoints[kept.workspace_id] = replace(last, made_at_ms=at_ms)
        staging.commit()

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn over all workspaces is due, and note that it is begun."""
        staging = Staging(self._store, read_only=False)
        turns = (await staging.begin()).turns
        is_due = _TURN not in turns or turns[_TURN] <= now_ms - every_ms
        if is_due:
            turns[_TURN] = now_ms
        staging.commit()
        return is_due

    async def due(self, *, confirmed_to_ms: int, after: str, limit: int) -> Sequence[str]:
        """Return workspaces with news, or whose last checkpoint was confirmed at ``confirmed_to_ms`` or before."""
        state = self._store.committed
        found = []
        for workspace_id, size in sorted(state.leaves.items()):
            last = state.checkpoints.get(workspace_id)
            is_due = last is None or last.size != size or last.made_at_ms <= confirmed_to_ms
            if workspace_id > after and is_due:
                found.append(workspace_id)
        return found[:limit]


class MemoryAuditKeys:
    """The ``AuditKeyStore`` of one store."""

    def __init__(self, store: MemoryStore) -> None:
        """Keep the key in ``store``."""
        self._store = store

    async def get(self) -> SealedKey | None:
        """Return the key; None before the first process has made one."""
        return self._store.committed.audit_key

    async def add(self, key: SealedKey) -> None:
        """Store the key, unless there is one already."""
        staging = Staging(self._store, read_only=False)
        state = await staging.begin()
        state.audit_key = state.audit_key or key
        staging.commit()

    async def replace(self, key: SealedKey, *, sealed_under: str) -> None:
        """Store the same key sealed anew, unless it is no longer sealed under the master ``sealed_under``."""
        staging = Staging(self._store, read_only=False)
        state = await staging.begin()
        kept = state.audit_key
        if kept is not None and (kept.master_id, kept.public_key) == (sealed_under, key.public_key):
            state.audit_key = key
        staging.commit()


def _place(checkpoint: KeptCheckpoint | None) -> tuple[int, bytes] | None:
    return None if checkpoint is None else (checkpoint.size, checkpoint.frontier)
