"""What the memory twin holds, and how a change becomes visible: all at once.

A committed state is never changed, only replaced. A unit reads the state that is committed, and with its first lock or
change it takes the store's one lock and works on a copy: that is all there is to isolation and rollback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from keystead.adapters.memory.sink_rows import StoredSink
from keystead.adapters.walls import ReadOnlyUnitError
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Event
from keystead.events.ports import SealedKey
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.keys.model import Key
from keystead.keys.overdue import RotationNotice
from keystead.limits.model import AllowanceRow, Plan
from keystead.tenants.model import Owner, Workspace
from keystead.usage.journals import KnownJournal

OwnerName = tuple[str, str]


@dataclass(slots=True)
class State:
    """Everything that is stored. ``placed`` is the log in order; ``unplaced`` is committed and not numbered yet."""

    workspaces: dict[str, Workspace] = field(default_factory=dict)
    owners: dict[OwnerName, Owner] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    key_of_prefix: dict[str, str] = field(default_factory=dict)
    replies: dict[ReplySlot, StoredReply] = field(default_factory=dict)
    placed: list[Event] = field(default_factory=list)
    unplaced: list[Event] = field(default_factory=list)
    leaves: dict[str, int] = field(default_factory=dict)
    masters: dict[str, bytes] = field(default_factory=dict)
    journals: dict[str, KnownJournal] = field(default_factory=dict)
    allowances: dict[tuple[str, int], AllowanceRow] = field(default_factory=dict)
    rotation_notices: dict[str, RotationNotice] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, KeptCheckpoint] = field(default_factory=dict)
    audit_key: SealedKey | None = None
    log_cuts: dict[str, int] = field(default_factory=dict)
    sinks: dict[str, StoredSink] = field(default_factory=dict)

    def copy(self) -> State:
        """Return one that can be changed without this one noticing; what is in it is immutable."""
        return State(
            workspaces=dict(self.workspaces),
            owners=dict(self.owners),
            keys=dict(self.keys),
            plans=dict(self.plans),
            key_of_prefix=dict(self.key_of_prefix),
            replies=dict(self.replies),
            placed=list(self.placed),
            unplaced=list(self.unplaced),
            leaves=dict(self.leaves),
            masters=dict(self.masters),
            journals=dict(self.journals),
            allowances=dict(self.allowances),
            rotation_notices=dict(self.rotation_notices),
            turns=dict(self.turns),
            checkpoints=dict(self.checkpoints),
            audit_key=self.audit_key,
            log_cuts=dict(self.log_cuts),
            sinks=dict(self.sinks),
        )


class MemoryStore:
    """The one store that every memory adapter of a process shares."""

    def __init__(self) -> None:
        """Begin empty."""
        self.committed = State()
        self.lock = asyncio.Lock()


class Staging:
    """One unit's view of the store, and its changes before they count."""

    def __init__(self, store: MemoryStore, *, read_only: bool) -> None:
        """Read what is committed; a unit that only reads keeps the state of its beginning."""
        self._store = store
        self._read_only = read_only
        self._frozen = store.committed if read_only else None
        self._staged: State | None = None

    @property
    def state(self) -> State:
        """What the unit sees now."""
        return self._staged or self._frozen or self._store.committed

    async def begin(self) -> State:
        """Return the copy that this unit alone may change, waiting for the unit before it."""
        self.demand_writable()
        if self._staged is None:
            await self._store.lock.acquire()
            self._staged = self._store.committed.copy()
        return self._staged

    def demand_writable(self) -> None:
        """Raise ``ReadOnlyUnitError`` when the unit was opened for reading alone."""
        if self._read_only:
            raise ReadOnlyUnitError("this unit of work was opened for reading alone")

    def commit(self) -> None:
        """Make the copy what everybody sees."""
        if self._staged is not None:
            self._store.committed = self._staged
            self.rollback()

    def rollback(self) -> None:
        """Drop the copy, and let the next unit begin."""
        if self._staged is not None:
            self._staged = None
            self._store.lock.release()


class MemoryLastUse:
    """The ``LastUseStore`` of the memory twin."""

    def __init__(self, store: MemoryStore) -> None:
        """Write to ``store``."""
        self._store = store

    async def save(self, used_at_ms: Mapping[str, tuple[str, int]]) -> None:
        """Store the last use by secret id, ``{secret_id: (key_id, used_at_ms)}``."""
        staging = Staging(self._store, read_only=False)
        keys = (await staging.begin()).keys
        for secret_id, (key_id, at_ms) in used_at_ms.items():
            key = keys.get(key_id)
            if key is not None:
                keys[key_id] = _used(key, secret_id, at_ms)
        staging.commit()


def _used(key: Key, secret_id: str, at_ms: int) -> Key:
    used = [
        replace(secret, last_used_at_ms=max(at_ms, secret.last_used_at_ms or 0)) if secret.id == secret_id else secret
        for secret in key.secrets
    ]
    return replace(key, secrets=tuple(used), last_used_at_ms=max(at_ms, key.last_used_at_ms or 0))


def sort_events(events: Sequence[Event]) -> list[Event]:
    """Return events in the order in which they are placed."""
    return sorted(events, key=lambda event: (event.occurred_at_ms, event.id))
