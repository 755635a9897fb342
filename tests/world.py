"""A whole Keystead without transports: every domain service over one kind of store, in the hands of a test.

Which store is the caller's choice, so that the same behaviour is shown on memory, SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.memory.snapshots import MemorySnapshots
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.ids import IdSource, SequentialIds
from keystead.kernel.secret import Secret
from keystead.keys.installation import Installation
from keystead.keys.minting import Minter
from keystead.keys.model import Key, KeyKind
from keystead.keys.ports import Unit, Units
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft, KeyService
from keystead.keys.tenancy import TenancyService
from keystead.keys.tiers import TierService
from keystead.limits.service import PlanService
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment, Workspace
from keystead.tenants.service import OwnerDraft, OwnerService, WorkspaceService
from keystead.verification.authentication import Authenticator
from keystead.verification.freshness import Lease, Touches
from keystead.verification.last_use import LastUses
from keystead.verification.ports import SnapshotStore
from keystead.verification.resolver import Limits, SecretResolver
from keystead.verification.service import VerificationService, VerifyRequest
from tests.fakes import FakeAttempts, FakeHasher, FakeJournal, FakeRefusals, ManualClock
from tests.limiters import FakeLimiter

ORIGIN = Origin(Actor(ActorType.SYSTEM, "test"))
MASTER = b"m" * 32
STALENESS_MS = 30_000

Result = TypeVar("Result")
OnCommit = Callable[[Sequence[Change]], None]


class Ports(NamedTuple):
    """What a store lends a world."""

    units: Units
    snapshots: SnapshotStore


OpenPorts = Callable[[ManualClock, IdSource, OnCommit], Ports]


def memory_ports(clock: ManualClock, ids: IdSource, on_commit: OnCommit) -> Ports:
    """Open an empty store in memory."""
    store = MemoryStore()
    return Ports(MemoryUnits(store, clock=clock, ids=ids, on_commit=on_commit), MemorySnapshots(store, clock=clock))


class World:
    """Services over one store, wired as a server wires them; ``changes`` is everything that was committed."""

    def __init__(self, open_ports: OpenPorts = memory_ports, *, keyring: MasterKeyring | None = None) -> None:
        """Wire everything; ``begin`` makes the first workspace."""
        self.clock = ManualClock()
        self.ids = IdSource(self.clock)
        self.hasher = FakeHasher()
        self.keyring = keyring or MasterKeyring([MASTER])
        self.changes: list[Change] = []
        self.units, self.snapshots = open_ports(self.clock, self.ids, self._committed)
        self.owners = OwnerService(self.clock)
        self.workspaces = WorkspaceService(self.clock)
        self.plans = PlanService(ids=self.ids, clock=self.clock)
        minter = Minter(keyring=self.keyring, hasher=self.hasher, ids=self.ids, clock=self.clock)
        self.keys = KeyService(minter=minter, owners=self.owners, ids=self.ids, clock=self.clock)
        self.tenancy = TenancyService(
            minter=minter,
            keys=self.keys,
            owners=self.owners,
            workspaces=self.workspaces,
            plans=self.plans,
            ids=self.ids,
            clock=self.clock,
        )
        self.tiers = TierService(plans=self.plans, owners=self.owners, workspaces=self.workspaces)
        self.installation = Installation(tenancy=self.tenancy, keys=self.keys, clock=self.clock)
        self.restart()

    def restart(self) -> None:
        """Begin a new process over the same store: nothing is cached, and the log has just been read."""
        self.touches = Touches()
        self.lease = Lease(STALENESS_MS)
        self.lease.renew(self.clock.monotonic_ms())
        self.resolver = SecretResolver(
            store=self.snapshots,
            keyring=self.keyring,
            hasher=self.hasher,
            touches=self.touches,
            lease=self.lease,
            clock=self.clock,
            limits=Limits(cached_secrets=1_000),
        )
        self.uses = LastUses()
        self.journal = FakeJournal()
        self.attempts = FakeAttempts()
        self.refusals = FakeRefusals()
        self.limits = FakeLimiter()
        self.verification = VerificationService(
            self.resolver,
            self.uses,
            self.journal,
            self.clock,
            ids=SequentialIds("ver"),
            attempts=self.attempts,
            refusals=self.refusals,
            limiter=self.limits.limiter,
        )
        self.authenticator = Authenticator(self.resolver, self.uses, self.clock)

    def _committed(self, changes: Sequence[Change]) -> None:
        self.changes += changes
        for change in changes:
            self.touches.touch(change.touches)

    async def workspace(self, brand: str = "acme") -> tuple[Workspace, Principal, Secret]:
        """Make a workspace; return it with its first management key as a caller."""
        async with self.units.begin(None, ORIGIN) as unit:
            workspace, key, secret = await self.tenancy.create_workspace(
                unit, brand=brand, name="Acme", created_by="test"
            )
        return workspace, principal_of(key, brand), secret

    async def change(self, caller: Principal, work: Callable[[Unit], Awaitable[Result]]) -> Result:
        """Do ``work`` in one unit inside the caller's walls."""
        async with self.units.begin(caller.scope, ORIGIN) as unit:
            return await work(unit)

    async def owner(self, caller: Principal, owner_id: str = "customer-1") -> None:
        """Make an owner."""
        await self.change(caller, lambda unit: self.owners.create(unit, caller.workspace_id, OwnerDraft(owner_id)))

    async def create(self, caller: Principal, draft: KeyDraft) -> tuple[Key, Secret]:
        """Make a key."""
        return await self.change(caller, lambda unit: self.keys.create(unit, caller, draft))

    async def get(self, caller: Principal, key_id: str) -> Key:
        """Return a key as it is stored."""
        async with self.units.read(caller.scope) as unit:
            return await self.keys.get(unit, key_id)

    async def code(self, caller: Principal, secret: Secret, environment: Environment = Environment.LIVE) -> str:
        """Verify ``secret`` and return the code."""
        verdict = await self.verification.verify(caller, VerifyRequest(secret.reveal(), environment))
        return verdict.code.value

    def wait(self, milliseconds: int) -> None:
        """Let time pass while the log is followed."""
        self.clock.advance(milliseconds)
        self.lease.renew(self.clock.monotonic_ms())

    def recorded(self, *, after: int = 0) -> list[Action]:
        """Return the actions that were committed, from the ``after``-th on."""
        return [change.action for change in self.changes[after:]]


def principal_of(key: Key, brand: str) -> Principal:
    """Return the caller that a management or operator key authenticates."""
    return Principal(key.id, key.kind, key.workspace_id, brand, key.environment, Grants(key.scopes))


def narrowed(
    caller: Principal, scopes: Iterable[str] | None = None, environment: Environment | None = None
) -> Principal:
    """Return a caller of the same workspace who holds less."""
    return Principal(
        "key_narrow",
        KeyKind.MANAGEMENT,
        caller.workspace_id,
        caller.brand,
        environment or caller.environment,
        caller.grants if scopes is None else Grants(scopes),
    )
