"""The hot path over fakes: a store and a hash that count and can be held up, and secrets minted straight into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.kernel.ids import SequentialIds
from keystead.keys import secret_format
from keystead.keys.model import KeyKind
from keystead.keys.principal import Principal
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment
from keystead.verification.authentication import Authenticator
from keystead.verification.freshness import Lease, Touches
from keystead.verification.last_use import LastUses
from keystead.verification.model import KeySnapshot, SecretSnapshot
from keystead.verification.resolver import Limits, SecretResolver
from keystead.verification.service import Verdict, VerificationService, VerifyRequest
from tests.fakes import (
    WORKSPACE_ID,
    FakeAttempts,
    FakeHasher,
    FakeJournal,
    FakeRefusals,
    FakeSnapshotStore,
    FixedRandom,
    ManualClock,
    snapshot_of,
)
from tests.limiters import FakeLimiter

MASTER, OLD_MASTER = b"m" * 32, b"o" * 32
STALENESS_MS = 30_000


class Rig:
    """A process's verification, alive (its lease just renewed), with nothing cached and nothing stored."""

    def __init__(
        self, *, keyring: MasterKeyring | None = None, serve_stale: bool = False, cached_secrets: int = 1_000
    ) -> None:
        """Wire it as a server does."""
        self.clock = ManualClock()
        self.random = FixedRandom()
        self.keyring = keyring or MasterKeyring([MASTER])
        self.hasher = FakeHasher()
        self.store = FakeSnapshotStore()
        self.touches = Touches()
        self.lease = Lease(STALENESS_MS)
        self.resolver = SecretResolver(
            store=self.store,
            keyring=self.keyring,
            hasher=self.hasher,
            touches=self.touches,
            lease=self.lease,
            clock=self.clock,
            limits=Limits(cached_secrets=cached_secrets, serve_stale=serve_stale),
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
        self.caller = caller()
        self.renew()

    def renew(self) -> None:
        """Read the log: the process may vouch for what it knows."""
        self.lease.renew(self.clock.monotonic_ms())

    def wait(self, milliseconds: int) -> None:
        """Let time pass while the log is followed."""
        self.clock.advance(milliseconds)
        self.renew()

    def compose(self, *, brand: str = "acme", environment: str = "live", under: MasterKeyring | None = None) -> str:
        """Make a secret that the store does not know."""
        return secret_format.compose(
            brand=brand, environment=environment, tag=(under or self.keyring).tag, draw=self.random.text
        )

    def forge(self) -> str:
        """Make a secret of the right shape and CRC whose tag nobody made."""
        return secret_format.compose(
            brand="acme", environment="live", tag=lambda _: self.random.bytes(32), draw=self.random.text
        )

    def record_of(self, text: str, *, under: MasterKeyring | None = None) -> SecretSnapshot:
        """Return what a store holds of ``text``."""
        keyring = under or self.keyring
        parsed = secret_format.parse(text)
        assert parsed is not None
        pepper = keyring.pepper(keyring.current_id, parsed.entropy.encode())
        return SecretSnapshot(
            f"sec_{parsed.prefix[-12:]}", parsed.prefix, self.hasher.of(pepper), keyring.current_id, None
        )

    def mint(
        self, given: Mapping[str, object] | None = None, *, under: MasterKeyring | None = None, **more: object
    ) -> tuple[str, KeySnapshot]:
        """Store a key with a new secret; ``given`` and ``more`` are fields of its snapshot."""
        fields = {**(given or {}), **more}
        own = fields.get("kind") in {KeyKind.MANAGEMENT, KeyKind.OPERATOR}
        environment = "test" if fields.get("environment") is Environment.TEST else "live"
        text = self.compose(brand="keystead" if own else "acme", environment=environment, under=under)
        key = snapshot_of(self.record_of(text, under=under), key_id=f"key_{len(self.store.keys) + 1}")
        self.store.put(replace(key, **fields))  # type: ignore[arg-type] # the tests name real fields
        return text, self.store.keys[key.key_id]

    def change(self, key_id: str, **changes: object) -> None:
        """Change a stored key and let this process hear of it."""
        self.store.change(key_id, **changes)
        self.touches.touch([key_id])

    async def ask(
        self,
        text: str,
        *,
        by: Principal | None = None,
        environment: Environment = Environment.LIVE,
        scope: str = "",
        client_ip: str = "",
    ) -> Verdict:
        """Verify ``text``."""
        return await self.verification.verify(by or self.caller, VerifyRequest(text, environment, scope, client_ip))

    async def code(self, text: str) -> str:
        """Verify ``text`` and return the code alone."""
        return (await self.ask(text)).code.value

    @property
    def work(self) -> tuple[int, int]:
        """How many store reads and hash checks there were."""
        return self.store.reads, self.hasher.calls


def caller(
    environment: Environment = Environment.ALL, *, workspace_id: str = WORKSPACE_ID, brand: str = "acme"
) -> Principal:
    """Make a caller who may verify."""
    return Principal("key_9", KeyKind.MANAGEMENT, workspace_id, brand, environment, Grants(("*:*",)))
