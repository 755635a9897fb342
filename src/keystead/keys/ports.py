"""What the keys' services need of the world outside."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from keystead.events.ports import EventRepository
from keystead.idempotency.ports import ReplyRepository
from keystead.kernel.change import Origin
from keystead.kernel.paging import Page, PageRequest
from keystead.keys.model import Key, KeyFilter
from keystead.keys.overdue import Place, RotationNotice, Walked
from keystead.limits.ports import AllowanceRepository, PlanRepository
from keystead.sinks.ports import SinkRepository
from keystead.tenants.model import TenantScope
from keystead.tenants.ports import TenantUnit
from keystead.usage.ports import JournalRegister


class KeyRepository(Protocol):
    """The keys inside the unit's walls: its workspace and its environments."""

    async def add(self, key: Key) -> None:
        """Store a new key with its secrets, labels included."""
        ...

    async def get(self, key_id: str, *, lock: bool = False) -> Key | None:
        """Return one with its secrets, or None; ``lock`` keeps others from changing it until the unit ends."""
        ...

    async def by_prefix(self, prefix: str) -> Key | None:
        """Return the key with a secret of exactly this prefix, or None."""
        ...

    async def save(self, key: Key) -> None:
        """Store the new state of a key that was read with ``lock``: its fields, new secrets, and when each retires.

        Secrets that it no longer has are deleted.

        Never writes ``last_used_at_ms``, which belongs to ``LastUseStore``.
        """
        ...

    async def page(self, wanted: KeyFilter, request: PageRequest) -> Page[Key]:
        """Return one page by time of creation (which ids sort by); the position is ``(id,)``."""
        ...

    async def find(self, wanted: KeyFilter, *, limit: int, lock: bool = False) -> list[Key]:
        """Return at most ``limit`` keys, the newest first."""
        ...

    async def count(self, wanted: KeyFilter) -> int:
        """Return how many keys there are."""
        ...


class RotationRepository(Protocol):
    """What was done about secrets that are too old; whoever uses it holds the lock of the secret's key."""

    async def notice(self, secret_id: str) -> RotationNotice | None:
        """Return what was done about a secret; None when nothing was."""
        ...

    async def add(self, notice: RotationNotice) -> None:
        """Store the first thing that is done about a secret."""
        ...

    async def save(self, notice: RotationNotice) -> None:
        """Store what else was done."""
        ...


class OverdueKeys(Protocol):
    """Finds keys whose secrets are too old, outside the units of work."""

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether a turn is due, and note that it is begun: of all nodes one is told so, every ``every_ms``."""
        ...

    async def walk(self, *, now_ms: int, after: Place | None, at_most: int) -> Walked:
        """Look at the next ``at_most`` current secrets past ``after``, the oldest first; find those that are due."""
        ...


class Unit(TenantUnit, Protocol):
    """One unit of work: everything done through it happens, or nothing of it."""

    @property
    def keys(self) -> KeyRepository:
        """The keys."""
        ...

    @property
    def plans(self) -> PlanRepository:
        """The plans."""
        ...

    @property
    def allowances(self) -> AllowanceRepository:
        """What is left of quotas and credits."""
        ...

    @property
    def rotations(self) -> RotationRepository:
        """What was done about secrets that are too old."""
        ...

    @property
    def replies(self) -> ReplyRepository:
        """The remembered replies."""
        ...

    @property
    def events(self) -> EventRepository:
        """The events that have happened."""
        ...

    @property
    def sinks(self) -> SinkRepository:
        """The sinks of the event log."""
        ...

    @property
    def journals(self) -> JournalRegister:
        """The deployment's journals, which have no walls."""
        ...


class Units(Protocol):
    """Opens units of work. A scope of None is the system's own, without walls."""

    def begin(self, scope: TenantScope | None, origin: Origin) -> AbstractAsyncContextManager[Unit]:
        """Open a unit that commits when its block ends and rolls back when it raises.

        The transaction begins with the first statement, so slow work (hashing) belongs before it.
        """
        ...

    def read(self, scope: TenantScope | None) -> AbstractAsyncContextManager[Unit]:
        """Open a unit for reading alone; ``record`` and every write raise."""
        ...


class LastUseStore(Protocol):
    """Where the last use of keys and secrets is kept, apart from the keys' own versions."""

    async def save(self, used_at_ms: Mapping[str, tuple[str, int]]) -> None:
        """Store last uses, ``{secret_id: (key_id, used_at_ms)}``; an earlier time never replaces a later one."""
        ...


class Lane(StrEnum):
    """Who waits for bcrypt with whom: a flood in one lane never delays another."""

    VERIFY = "verify"
    MINT = "mint"
    IMPORT = "import"


class SecretHasher(Protocol):
    """bcrypt, off the event loop, in bounded lanes."""

    async def hash(self, material: bytes) -> str:
        """Hash at most 72 bytes without NUL in the lane for minting; raise ``OverloadedError`` when it is full."""
        ...

    async def check(self, material: bytes, stored: str, lane: Lane) -> bool:
        """Compare ``material`` with a stored hash; raise ``OverloadedError`` when the lane is full."""
        ...


class Keyring(Protocol):
    """The master keys and what is derived from them. Ids are 8 hex digits; the newest master mints."""

    @property
    def current_id(self) -> str:
        """The master that mints."""
        ...

    def tag(self, signed: bytes) -> bytes:
        """Return the HMAC-SHA256 of ``signed`` under the current master's tag subkey, 32 bytes."""
        ...

    def tags(self, signed: bytes) -> Mapping[str, bytes]:
        """Return the HMAC-SHA256 of ``signed`` under each master's tag subkey, by master id, the newest first."""
        ...

    def pepper(self, master_id: str, entropy: bytes) -> bytes:
        """Return base64 of HMAC-SHA256(pepper, entropy), 44 bytes; raise ``KeyError`` for an unknown master."""
        ...

    def distrusted(self, master_id: str) -> bool:
        """Say whether tags of this master no longer prove anything."""
        ...
