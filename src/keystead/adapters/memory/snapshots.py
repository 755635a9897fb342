"""What verification reads, from memory; and which master keys are known."""

from __future__ import annotations

from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.kernel.clock import Clock
from keystead.kernel.limit import OutagePolicy
from keystead.keys.model import Key, KeyState, SecretRecord, SecretStatus
from keystead.keys.tiers import plan_of
from keystead.tenants.errors import AlreadyExistsError
from keystead.verification.model import KeySnapshot, SecretSnapshot


class MemorySnapshots:
    """The ``SnapshotStore`` of one memory store."""

    def __init__(self, store: MemoryStore, *, clock: Clock) -> None:
        """Read ``store``; which entitlements have ended is told by ``clock``."""
        self._store = store
        self._clock = clock

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key that has a secret with this prefix, with all its secrets, or None."""
        return await self.by_key(self._store.committed.key_of_prefix.get(prefix, ""))

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key with all its secrets, or None."""
        key = self._store.committed.keys.get(key_id)
        return None if key is None else self._snapshot(key)

    def _snapshot(self, key: Key) -> KeySnapshot:
        state = self._store.committed
        owner = state.owners.get((key.workspace_id, key.owner_id))
        workspace = state.workspaces[key.workspace_id]
        plan_id, plan_ends_at_ms = plan_of(key, owner, workspace.default_plan_id, self._clock.now_ms())
        plan = state.plans.get(plan_id)
        return KeySnapshot(
            key_id=key.id,
            workspace_id=key.workspace_id,
            workspace_brand=workspace.brand,
            environment=key.environment,
            kind=key.kind,
            owner_id=key.owner_id,
            owner_suspended=owner is not None and owner.suspended,
            name=key.name,
            state=key.state,
            scopes=key.scopes,
            metadata=key.metadata,
            allowed_ips=key.allowed_ips,
            expires_at_ms=key.expires_at_ms,
            secrets=tuple([_secret(secret) for secret in key.secrets]),
            plan_id="" if plan is None else plan.id,
            plan_limits=() if plan is None else plan.limits,
            owner_limits=() if owner is None else owner.limits,
            key_limits=key.limits,
            on_limiter_outage=OutagePolicy.DENY if plan is None else plan.on_limiter_outage,
            plan_ends_at_ms=plan_ends_at_ms,
        )


class MemoryMasters:
    """The registered master keys of one memory store."""

    def __init__(self, store: MemoryStore, *, clock: Clock) -> None:
        """Keep them in ``store``; what still works is judged by ``clock``."""
        self._store = store
        self._clock = clock

    async def registered(self) -> dict[str, bytes]:
        """Return the check value of every master ever registered, by its id."""
        return dict(self._store.committed.masters)

    async def register(self, master_id: str, check_value: bytes) -> None:
        """Remember a master; again is no change, with another check value raises ``AlreadyExistsError``."""
        staging = Staging(self._store, read_only=False)
        try:
            state = await staging.begin()
            if state.masters.setdefault(master_id, check_value) != check_value:
                raise AlreadyExistsError("master key", master_id)
            staging.commit()
        finally:
            staging.rollback()

    async def in_use(self) -> set[str]:
        """Return the masters of secrets that still work or may again, and of the key that signs checkpoints."""
        now_ms = self._clock.now_ms()
        kept = self._store.committed.audit_key
        return ({kept.master_id} if kept else set()) | {
            secret.master_id
            for key in self._store.committed.keys.values()
            if key.state is not KeyState.REVOKED
            for secret in key.secrets
            if secret.status(now_ms) is not SecretStatus.RETIRED
        }


def _secret(secret: SecretRecord) -> SecretSnapshot:
    return SecretSnapshot(secret.id, secret.prefix, secret.hash, secret.master_id, secret.retires_at_ms)
