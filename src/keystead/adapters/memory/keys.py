"""Keys in memory; what a filter means is written here in plain Python, and SQL has to agree with it."""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.memory.store import Staging, State
from keystead.adapters.memory.tenants import page_of
from keystead.adapters.texts import fold, in_order, searched_in_key
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest
from keystead.keys.model import Key, KeyFilter, KeyState, SecretRecord
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError


class MemoryKeys:
    """The ``KeyRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def add(self, key: Key) -> None:
        """Store a new key with its secrets."""
        self._walls.demand_key(key)
        state = await self._staging.begin()
        if key.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", key.workspace_id)
        if key.id in state.keys:
            raise AlreadyExistsError("key", key.id)
        for secret in key.secrets:
            _add_secret(state, key, secret)
        state.keys[key.id] = replace(key, secrets=in_order(key.secrets))

    async def get(self, key_id: str, *, lock: bool = False) -> Key | None:
        """Return one with its secrets, or None."""
        if lock:
            await self._staging.begin()
        key = self._staging.state.keys.get(key_id)
        return key if key is not None and self._walls.admit_key(key) else None

    async def by_prefix(self, prefix: str) -> Key | None:
        """Return the key with a secret of exactly this prefix, or None."""
        return await self.get(self._staging.state.key_of_prefix.get(prefix, ""))

    async def save(self, key: Key) -> None:
        """Store the new state, but for the last uses."""
        self._walls.demand_key(key)
        state = await self._staging.begin()
        stored = state.keys.get(key.id)
        if stored is None or not self._walls.admit_key(stored) or stored.version != key.version - 1:
            raise EtagMismatchError("key", key.id)
        state.keys[key.id] = _merged(state, stored, key)

    async def page(self, wanted: KeyFilter, request: PageRequest) -> Page[Key]:
        """Return one page by time of creation."""
        return page_of(self._matching(wanted), request, lambda key: (key.id,))

    async def find(self, wanted: KeyFilter, *, limit: int, lock: bool = False) -> list[Key]:
        """Return at most ``limit`` keys, the newest first."""
        if lock:
            await self._staging.begin()
        return sorted(self._matching(wanted), key=lambda key: key.id, reverse=True)[:limit]

    async def count(self, wanted: KeyFilter) -> int:
        """Return how many keys there are."""
        return len(self._matching(wanted))

    def _matching(self, wanted: KeyFilter) -> list[Key]:
        keys = self._staging.state.keys.values()
        return [key for key in keys if self._walls.admit_key(key) and matches(key, wanted)]


def matches(key: Key, wanted: KeyFilter) -> bool:
    """Say whether everything that ``wanted`` gives holds of ``key``."""
    return _has_fields(key, wanted) and _has_times(key, wanted) and _has_texts(key, wanted)


def _has_fields(key: Key, wanted: KeyFilter) -> bool:
    return (
        wanted.workspace_id in {"", key.workspace_id}
        and wanted.owner_id in {"", key.owner_id}
        and wanted.environment in {None, key.environment}
        and wanted.kind in {None, key.kind}
        and wanted.state in {None, key.state_at(wanted.now_ms)}
        and (not wanted.key_ids or key.id in wanted.key_ids)
        and not (wanted.not_revoked and key.state is KeyState.REVOKED)
    )


def _has_times(key: Key, wanted: KeyFilter) -> bool:
    used, since = key.last_used_at_ms, wanted.unused_since_ms
    ends, before = key.expires_at_ms, wanted.expires_before_ms
    unused = since is None or used is None or used < since
    return unused and (before is None or (ends is not None and ends < before))


def _has_texts(key: Key, wanted: KeyFilter) -> bool:
    return (
        (not wanted.scope or wanted.scope in key.scopes)
        and (not wanted.tag or wanted.tag in key.tags)
        and any(secret.prefix.startswith(wanted.prefix) for secret in key.secrets)
        and fold(wanted.query) in searched_in_key(key)
    )


def _merged(state: State, stored: Key, key: Key) -> Key:
    """Return ``key`` with what a change never writes as it was; secrets that it leaves out go."""
    before = {secret.id: secret for secret in stored.secrets}
    secrets = []
    for secret in key.secrets:
        known = before.pop(secret.id, None)
        if known is None:
            _add_secret(state, key, secret)
        secrets.append(secret if known is None else replace(known, retires_at_ms=secret.retires_at_ms))
    for gone in before.values():
        del state.key_of_prefix[gone.prefix]
    return replace(
        key,
        environment=stored.environment,
        kind=stored.kind,
        owner_id=stored.owner_id,
        created_at_ms=stored.created_at_ms,
        created_by=stored.created_by,
        last_used_at_ms=stored.last_used_at_ms,
        secrets=in_order(secrets),
    )


def _add_secret(state: State, key: Key, secret: SecretRecord) -> None:
    if secret.prefix in state.key_of_prefix:
        raise AlreadyExistsError("secret", secret.prefix)
    state.key_of_prefix[secret.prefix] = key.id
