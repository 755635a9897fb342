"""Where the log is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Cursor, Event, EventFilter
from keystead.events.notes import Signer
from keystead.kernel.paging import Page, PageRequest
from keystead.kernel.walls import TenantScope


@dataclass(frozen=True, slots=True)
class LogPage:
    """What one poll sees, in one consistent read: placed events after the cursor, and those not placed yet.

    Unplaced events are seen so that a reader never depends on the sequencer; they come again once they are placed.
    ``more`` says that there is more than the page holds of either.
    """

    placed: Sequence[Event]
    unplaced: Sequence[Event]
    more: bool


class EventLog(Protocol):
    """The log as its readers and its one sequencer see it. Events enter it only with a unit of work."""

    async def head(self) -> Cursor:
        """Return the cursor of the last placed event; the zero cursor for an empty log."""
        ...

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Read from the primary what came after ``cursor``.

        Raise ``CursorLostError`` when the cursor's event is not there with its hash.
        """
        ...

    async def place(self, *, limit: int) -> int:
        """Give at most ``limit`` committed events their gap-free ``seq`` and leaf index, and return how many.

        One process at a time does it (an advisory lock); returns 0 at once when another holds the lock.
        """
        ...


class Leaves(Protocol):
    """The leaves of the workspaces' trees: events that have their place."""

    async def head(self, workspace_id: str) -> tuple[int, bytes]:
        """Return how many leaves a tree has, and its frontier; 0 and nothing for one that has none."""
        ...

    async def leaf_hashes(self, workspace_id: str, start: int, limit: int) -> Sequence[bytes]:
        """Return the hashes of at most ``limit`` leaves from the index ``start`` on, in order, without a gap."""
        ...

    async def find(self, scope: TenantScope, event_id: str) -> Event | None:
        """Return an event inside the walls, or of both environments of their workspace; None when there is none."""
        ...


class CheckpointStore(Protocol):
    """The checkpoints of all workspaces: in each one chain, of which every one extends the one before."""

    async def latest(self, workspace_id: str) -> KeptCheckpoint | None:
        """Return the last checkpoint of a workspace; None before the first."""
        ...

    async def keep(self, made: KeptCheckpoint, *, after: KeptCheckpoint | None) -> bool:
        """Store a checkpoint that extends ``after``, and say so; False, and nothing, when that is not the last."""
        ...

    async def confirm(self, kept: KeptCheckpoint, *, at_ms: int) -> None:
        """Note that a checkpoint still held at ``at_ms``; a later moment stands."""
        ...

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn over all workspaces is due, and note that it is begun: one node alone is told so."""
        ...

    async def due(self, *, confirmed_to_ms: int, after: str, limit: int) -> Sequence[str]:
        """Return workspaces with news, or whose last checkpoint was confirmed at ``confirmed_to_ms`` or before.

        At most ``limit`` ids past ``after``, in their order.
        """
        ...


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The key that signs checkpoints as it is stored: encrypted under a subkey of the master ``master_id``."""

    public_key: bytes
    master_id: str
    sealed: bytes


class AuditKeyStore(Protocol):
    """Where the one key that signs checkpoints is kept."""

    async def get(self) -> SealedKey | None:
        """Return the key; None before the first process has made one."""
        ...

    async def add(self, key: SealedKey) -> None:
        """Store the key, unless there is one already."""
        ...

    async def replace(self, key: SealedKey, *, sealed_under: str) -> None:
        """Store the same key sealed anew, unless it is no longer sealed under the master ``sealed_under``."""
        ...


class KeyVault(Protocol):
    """Makes and opens the key that signs checkpoints; never lends its private half."""

    def make(self) -> SealedKey:
        """Make a random key, sealed under the newest master."""
        ...

    def open(self, key: SealedKey) -> Signer:
        """Return what signs with the key; raise a ``StartError`` when no configured master opens it."""
        ...

    def sealed_anew(self, key: SealedKey) -> SealedKey | None:
        """Return the key sealed under the newest master; None when it is already."""
        ...


class AuditReader(Leaves, Protocol):
    """The log as its tenants see it: inside their walls, and by leaf index, never by ``seq``."""

    async def page(self, scope: TenantScope, wanted: EventFilter, request: PageRequest) -> Page[Event]:
        """Return events by (``occurred_at_ms``, id), also those that have no place yet.

        Placing moves none of them, so pages show each event once, also while others arrive.
        """
        ...

    async def since(self, scope: TenantScope, wanted: EventFilter, after_index: int, limit: int) -> Sequence[Event]:
        """Return at most ``limit`` placed events after ``after_index``, by leaf index; -1 is before the first."""
        ...
