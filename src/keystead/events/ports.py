"""Where the log is kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Cursor, Erasure, Event, EventFilter, Retained
from keystead.events.notes import Signer
from keystead.kernel.change import Change, Origin
from keystead.kernel.paging import Page, PageRequest
from keystead.kernel.walls import TenantScope

UNPLACED_MAX = 5_000
"""So many events that touch something are read before they have their places; more wait only for a frozen sequencer."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """What one poll sees, in one consistent read: placed events after the cursor, and those not placed yet.

    Unplaced events are seen so that a reader never depends on the sequencer; they come again once they are placed. Of
    those that touch nothing one is seen at most, which says that there are some. ``more`` says that more are placed
    than the page holds, ``hidden`` that more are unplaced: those are seen only when others have got their places.
    """

    placed: Sequence[Event]
    unplaced: Sequence[Event]
    more: bool
    hidden: bool = False


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

    async def first_index(self, workspace_id: str) -> int:
        """Return the index of the first event that is kept: 0 until the log is cut."""
        ...


class EventRepository(Protocol):
    """What may be done to events that have happened: less is kept of them, and their hashes never change."""

    async def erase(self, workspace_id: str, wanted: Erasure, *, limit: int) -> int:
        """Erase what is private beside at most ``limit`` events, the oldest first; return beside how many."""
        ...

    async def cut(self, point: KeptCheckpoint, *, now_ms: int) -> int | None:
        """Declare gone what ``point`` covers, and return the first index until now; None when as much is gone."""
        ...


class EventUnit(Protocol):
    """The part of a unit of work in which events themselves are changed."""

    @property
    def events(self) -> EventRepository:
        """The events."""
        ...

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits, in the same transaction (P6)."""
        ...


class EventUnits(Protocol):
    """Opens such units."""

    def begin(self, scope: TenantScope | None, origin: Origin) -> AbstractAsyncContextManager[EventUnit]:
        """Open a unit that commits when its block ends and rolls back when it raises."""
        ...


class LogShelf(Protocol):
    """The logs of all workspaces as what takes room, outside the units of work."""

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn over all workspaces is due, and note that it is begun: one node alone is told so."""
        ...

    async def workspaces(self, *, after: str, limit: int) -> Sequence[Retained]:
        """Return at most ``limit`` workspaces past the id ``after``, in their order."""
        ...

    async def cut_point(self, workspace_id: str, *, before_ms: int) -> KeptCheckpoint | None:
        """Return the last checkpoint that covers events from before ``before_ms`` alone, which all sinks have carried.

        None when there is none beyond the last cut.
        """
        ...

    async def sweep(self, workspace_id: str, *, limit: int) -> int:
        """Delete at most ``limit`` events that are declared gone, and keep their hashes; return how many.

        Raises ``LogRewrittenError``, and deletes nothing, where some are missing already.
        """
        ...

    async def thin_checkpoints(self, workspace_id: str, *, before_ms: int) -> int:
        """Of the checkpoints from before ``before_ms`` keep the last of each day (UTC); return how many went."""
        ...
