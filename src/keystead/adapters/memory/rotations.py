"""Secrets that are too old, in memory: found by the rule itself, and SQL has to agree with it."""

from __future__ import annotations

from keystead.adapters.memory.store import MemoryStore, Staging, State
from keystead.keys.model import Key
from keystead.keys.overdue import Due, OverdueKey, Place, RotationNotice, Walked, current_secret, due
from keystead.keys.tiers import plan_of

_TURN = "rotations"


class MemoryRotations:
    """The ``RotationRepository`` of one unit."""

    def __init__(self, staging: Staging) -> None:
        """Work in ``staging``."""
        self._staging = staging

    async def notice(self, secret_id: str) -> RotationNotice | None:
        """Return what was done about a secret; None when nothing was."""
        return self._staging.state.rotation_notices.get(secret_id)

    async def add(self, notice: RotationNotice) -> None:
        """Store the first thing that is done about a secret."""
        (await self._staging.begin()).rotation_notices[notice.secret_id] = notice

    save = add


class MemoryOverdueKeys:
    """The ``OverdueKeys`` of one store."""

    def __init__(self, store: MemoryStore) -> None:
        """Look in ``store``."""
        self._store = store

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn is due, and note that it is begun."""
        staging = Staging(self._store, read_only=False)
        turns = (await staging.begin()).turns
        is_due = _TURN not in turns or turns[_TURN] <= now_ms - every_ms
        if is_due:
            turns[_TURN] = now_ms
        staging.commit()
        return is_due

    async def walk(self, *, now_ms: int, after: Place | None, at_most: int) -> Walked:
        """Look at the next ``at_most`` current secrets past ``after``, the oldest first; find those that are due."""
        state = self._store.committed
        places = sorted((_place(key), key.id) for key in state.keys.values() if current_secret(key) is not None)
        ahead = [(place, key_id) for place, key_id in places if after is None or place > after][:at_most]
        keys = [state.keys[key_id] for _, key_id in ahead]
        found = tuple(OverdueKey(key.id, key.workspace_id) for key in keys if _is_due(state, key, now_ms))
        return Walked(found, ahead[-1][0] if len(ahead) == at_most else None)


def _place(key: Key) -> Place:
    secret = current_secret(key)
    return (0, "") if secret is None else (secret.created_at_ms, secret.id)


def _is_due(state: State, key: Key, now_ms: int) -> bool:
    _, secret_id = _place(key)
    owner = state.owners.get((key.workspace_id, key.owner_id))
    plan_id, _ = plan_of(key, owner, state.workspaces[key.workspace_id].default_plan_id, now_ms)
    return due(key, state.plans.get(plan_id), state.rotation_notices.get(secret_id), now_ms) is not Due.NOTHING
