"""Every store behind the ports, made alike so that one suite holds all three to the same guarantees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from keystead.adapters.memory.checkpoints import MemoryAuditKeys, MemoryCheckpoints
from keystead.adapters.memory.event_queries import MemoryAuditReader
from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.replies import MemoryReplyKeeper
from keystead.adapters.memory.rotations import MemoryOverdueKeys
from keystead.adapters.memory.sinks import MemorySinkPlaces
from keystead.adapters.memory.snapshots import MemoryMasters, MemorySnapshots
from keystead.adapters.memory.store import MemoryLastUse, MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.adapters.sql.checkpoints import SqlAuditKeys, SqlCheckpoints
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.event_queries import SqlAuditReader
from keystead.adapters.sql.events import SqlEventLog
from keystead.adapters.sql.last_use import SqlLastUse
from keystead.adapters.sql.masters import SqlMasters
from keystead.adapters.sql.replies import SqlReplyKeeper
from keystead.adapters.sql.rotations import SqlOverdueKeys
from keystead.adapters.sql.sink_places import SqlSinkPlaces
from keystead.adapters.sql.snapshots import SqlSnapshots
from keystead.adapters.sql.units import SqlUnits
from keystead.events.ports import AuditKeyStore, AuditReader, CheckpointStore, EventLog
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import Limit
from keystead.keys.model import Key, KeyKind, SecretRecord
from keystead.keys.ports import LastUseStore, OverdueKeys, Units
from keystead.limits.model import Plan
from keystead.sinks.ports import SinkPlaces
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, Owner, TenantScope, Workspace
from keystead.verification.ports import SnapshotStore
from tests.fakes import ManualClock

ORIGIN = Origin(Actor(ActorType.KEY, "key_caller"), client_ip="192.0.2.7", user_agent="curl/8", request_id="req_1")
# Quotes, wildcards, escapes, letters with case, an emoji and a text that runs from right to left.
HOSTILE = '\'; DROP TABLE keys; -- 100% \\_/ "q" Ünï \N{FOX FACE} \u200f\u05e9\u05dc\u05d5\u05dd'
HASH = "$2b$06$" + "h" * 53


class Masters(Protocol):
    """The registered master keys."""

    async def registered(self) -> dict[str, bytes]:
        """Return every check value by master id."""
        ...

    async def register(self, master_id: str, check_value: bytes) -> None:
        """Remember a master."""
        ...

    async def in_use(self) -> set[str]:
        """Return the masters of secrets that still work."""
        ...


class ReplyKeeper(Protocol):
    """Housekeeping of remembered replies."""

    async def forget(self, *, before_ms: int, secrets_before_ms: int) -> int:
        """Forget what is older."""
        ...


@dataclass
class Stores:
    """One kind of store: all its ports over the same data."""

    kind: str
    clock: ManualClock
    units: Units
    log: EventLog
    audit: AuditReader
    checkpoints: CheckpointStore
    audit_keys: AuditKeyStore
    snapshots: SnapshotStore
    last_use: LastUseStore
    masters: Masters
    reply_keeper: ReplyKeeper
    overdue_keys: OverdueKeys
    sink_places: SinkPlaces
    committed: list[Change]
    database: Database | None = None
    make: Maker = field(init=False)

    def __post_init__(self) -> None:
        """Make what tests store with the same clock."""
        self.make = Maker(self.clock)

    async def add(self, *items: Workspace | Owner | Plan | Key) -> None:
        """Store ``items`` in one unit without walls, and without events."""
        async with self.units.begin(None, ORIGIN) as unit:
            for item in items:
                if isinstance(item, Workspace):
                    await unit.workspaces.add(item)
                elif isinstance(item, Owner):
                    await unit.owners.add(item)
                elif isinstance(item, Plan):
                    await unit.plans.add(item)
                else:
                    await unit.keys.add(item)

    async def key(self, key_id: str) -> Key | None:
        """Return a key as everybody sees it."""
        async with self.units.read(None) as unit:
            return await unit.keys.get(key_id)

    async def happened(self, *changes: Change) -> None:
        """Store nothing but ``changes``, in one unit."""
        async with self.units.begin(None, ORIGIN) as unit:
            for change in changes:
                unit.record(change)


class Maker:
    """Makes things to store; each is a millisecond younger than the one before, so ids sort as they were made."""

    def __init__(self, clock: ManualClock) -> None:
        """Date them by ``clock``, which moves on."""
        self._clock = clock
        self._ids = IdSource(clock)
        self._count = 0

    def _next(self) -> int:
        self._count += 1
        return self._clock.advance(1)

    def workspace(self, brand: str = "") -> Workspace:
        """Make a workspace with a brand of its own."""
        now_ms = self._next()
        return Workspace(self._ids.new("wsp"), brand or f"brand{self._count}", "Acme GmbH", now_ms, now_ms)

    def owner(self, workspace: Workspace, owner_id: str = "", name: str = "An Owner") -> Owner:
        """Make an owner of ``workspace``."""
        now_ms = self._next()
        return Owner(workspace.id, owner_id or f"owner-{self._count}", name, now_ms, now_ms, {"tier": "gold"})

    def plan(self, workspace: Workspace, name: str = "", limits: tuple[Limit, ...] = ()) -> Plan:
        """Make a plan of ``workspace``."""
        now_ms = self._next()
        return Plan(self._ids.new("pln"), workspace.id, name or f"plan-{self._count}", now_ms, now_ms, "A plan", limits)

    def secret(self, prefix: str = "") -> SecretRecord:
        """Make a secret with a prefix of its own."""
        now_ms = self._next()
        return SecretRecord(self._ids.new("sec"), prefix or f"brand_live_{self._count:012d}", HASH, "0a0b0c0d", now_ms)

    def key(self, workspace: Workspace, environment: Environment = Environment.LIVE, owner_id: str = "") -> Key:
        """Make a customer's key in ``workspace``."""
        secret = self.secret()
        now_ms = self._next()
        return Key(
            id=self._ids.new("key"),
            workspace_id=workspace.id,
            environment=environment,
            kind=KeyKind.CUSTOMER,
            owner_id=owner_id,
            name="A key",
            created_at_ms=now_ms,
            created_by="key_caller",
            updated_at_ms=now_ms,
            secrets=(secret,),
            scopes=("read:invoices",),
            metadata={"team": "billing"},
            tags=("blue",),
            allowed_ips=("192.0.2.0/24",),
        )

    def change(self, workspace_id: str, target: str = "key_x", action: Action = Action.KEY_CREATED) -> Change:
        """Make a change that touches its target."""
        self._next()
        return Change(workspace_id, action, target, touches=(target,))


def walls(workspace: Workspace, *environments: Environment) -> TenantScope:
    """Stand around ``workspace``, or only around some of its environments."""
    return TenantScope(workspace.id, frozenset(environments) or BOTH_ENVIRONMENTS)


def changed(key: Key, **changes: object) -> Key:
    """Return the next version of ``key``."""
    return replace(key, version=key.version + 1, **changes)  # type: ignore[arg-type] # the names are checked at run time


def memory_stores() -> Stores:
    """Make the memory twin."""
    clock, store = ManualClock(), MemoryStore()
    committed: list[Change] = []
    return Stores(
        kind="memory",
        clock=clock,
        units=MemoryUnits(store, clock=clock, ids=IdSource(clock), on_commit=committed.extend),
        log=MemoryEventLog(store),
        audit=MemoryAuditReader(store),
        checkpoints=MemoryCheckpoints(store),
        audit_keys=MemoryAuditKeys(store),
        snapshots=MemorySnapshots(store, clock=clock),
        last_use=MemoryLastUse(store),
        masters=MemoryMasters(store, clock=clock),
        reply_keeper=MemoryReplyKeeper(store),
        overdue_keys=MemoryOverdueKeys(store),
        sink_places=MemorySinkPlaces(store, clock),
        committed=committed,
    )


def sql_stores(database: Database) -> Stores:
    """Make the SQL stores over ``database``, whose schema is there."""
    clock = ManualClock()
    committed: list[Change] = []
    return Stores(
        kind=database.kind,
        clock=clock,
        units=SqlUnits(database, clock=clock, ids=IdSource(clock), on_commit=committed.extend),
        log=SqlEventLog(database),
        audit=SqlAuditReader(database),
        checkpoints=SqlCheckpoints(database),
        audit_keys=SqlAuditKeys(database, clock),
        snapshots=SqlSnapshots(database, clock=clock),
        last_use=SqlLastUse(database),
        masters=SqlMasters(database, clock=clock),
        reply_keeper=SqlReplyKeeper(database),
        overdue_keys=SqlOverdueKeys(database),
        sink_places=SqlSinkPlaces(database),
        committed=committed,
        database=database,
    )


def ids_of(keys: Sequence[Key]) -> list[str]:
    """Name keys."""
    return [key.id for key in keys]
