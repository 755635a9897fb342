"""The real core in the test's own process, without transports: for what must be counted, or interrupted at one exact
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystead.adapters.files import data_directory
from keystead.adapters.sql import migration
from keystead.bootstrap.core import Core, core
from keystead.config import load_settings
from keystead.keys.installation import SYSTEM_ORIGIN
from keystead.keys.model import Key
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.scopes.model import Grants
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope
from keystead.verification.model import KeySnapshot
from keystead.verification.ports import SnapshotStore
from keystead.verification.service import VerifyRequest
from keystead.worker.follower import LogFollower


@dataclass
class Bench:
    """One core, its follower of the log, and a caller who may do everything in one workspace."""

    core: Core
    follower: LogFollower
    caller: Principal

    async def make(self, **fields: Any) -> tuple[Key, str]:
        """Make a key."""
        draft = KeyDraft(name="Key", owner_id="owner", create_owner=True, environment=Environment.LIVE, **fields)
        async with self.core.units.begin(self.caller.scope, SYSTEM_ORIGIN) as unit:
            key, secret = await self.core.keys.create(unit, self.caller, draft)
        return key, secret.reveal()

    async def revoke(self, key: Key) -> None:
        """Revoke a key."""
        async with self.core.units.begin(self.caller.scope, SYSTEM_ORIGIN) as unit:
            await self.core.keys.revoke(unit, self.caller, key.id, reason="")

    async def verify(self, secret: str) -> str:
        """Return the verdict's code."""
        verdict = await self.core.verification.verify(self.caller, VerifyRequest(secret, Environment.LIVE))
        return verdict.code.value


@asynccontextmanager
async def bench(data_dir: Path, *, joins: Bench | None = None, **settings: Any) -> AsyncIterator[Bench]:
    """Lend a core on the embedded database in ``data_dir``, as a process of its own would be; ``joins`` is another one
    on the same database, whose workspace it serves.
    """
    chosen = load_settings(data_dir=data_dir, **settings)
    data_directory.prepare(data_dir)
    await migration.migrate(chosen.database_url)
    async with core(chosen, create=True, serving=True) as made:
        follower = LogFollower(log=made.log, touches=made.touches, lease=made.lease, clock=made.clock)
        caller = joins.caller if joins is not None else await _first_caller(made)
        await follower.turn()
        yield Bench(made, follower, caller)


async def _first_caller(made: Core) -> Principal:
    workspace_id = made.ids.new("wsp")
    async with made.units.begin(TenantScope(workspace_id, BOTH_ENVIRONMENTS), SYSTEM_ORIGIN) as unit:
        workspace, key, _ = await made.tenancy.create_workspace(
            unit, brand="acme", name="Acme", created_by="tests", workspace_id=workspace_id
        )
    return Principal(key.id, key.kind, workspace.id, workspace.brand, Environment.ALL, Grants(key.scopes))


class WatchedStore:
    """A ``SnapshotStore`` that counts reads, and can keep what it has read back until it is told to let go."""

    def __init__(self, inner: SnapshotStore) -> None:
        """Read ``inner``."""
        self._inner = inner
        self.reads = 0
        self.has_read = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Read, and wait when told to."""
        return await self._kept_back(await self._inner.by_prefix(prefix))

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Read, and wait when told to."""
        return await self._kept_back(await self._inner.by_key(key_id))

    async def _kept_back(self, found: KeySnapshot | None) -> KeySnapshot | None:
        self.reads += 1
        self.has_read.set()
        await self.let_go.wait()
        return found


def watch(made: Core) -> WatchedStore:
    """Put a watched store under the core's resolver."""
    watched = WatchedStore(made.resolver._store)
    made.resolver._store = watched
    return watched
