"""What verification reads: one statement for a key with everything a verdict depends on, straight on the driver.

One statement means one moment: a key is never seen with the secrets of another version of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from keystead.adapters.sql.database import Database
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment
from keystead.verification.model import KeySnapshot, SecretSnapshot

# Current first, then the newest, as everywhere.
_SNAPSHOT = """
SELECT k.id, k.workspace_id, w.brand, k.environment, k.kind, k.owner_id, o.suspended, k.name, k.state, k.scopes,
       k.metadata, k.allowed_ips, k.expires_at_ms, s.id, s.prefix, s.hash, s.master_id, s.retires_at_ms
  FROM keys k
  JOIN workspaces w ON w.id = k.workspace_id
  JOIN secrets s ON s.key_id = k.id
  LEFT JOIN owners o ON o.workspace_id = k.workspace_id AND o.owner_id = k.owner_id
"""
_ORDER = "ORDER BY s.retires_at_ms IS NOT NULL, s.created_at_ms DESC, s.id DESC"
_BY_PREFIX = f"{_SNAPSHOT} WHERE k.id = (SELECT key_id FROM secrets WHERE prefix = ?) {_ORDER}"  # noqa: S608 -- constants
_BY_KEY = f"{_SNAPSHOT} WHERE k.id = ? {_ORDER}"
_SECRET_COLUMNS_FROM = 13


class SqlSnapshots:
    """The ``SnapshotStore`` on the primary."""

    def __init__(self, database: Database) -> None:
        """Read ``database``."""
        self._database = database

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key that has a secret with this prefix, with all its secrets, or None."""
        return _snapshot(await self._database.fetch(_BY_PREFIX, prefix))

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key with all its secrets, or None."""
        return _snapshot(await self._database.fetch(_BY_KEY, key_id))


def _snapshot(rows: Sequence[Sequence[Any]]) -> KeySnapshot | None:
    if not rows:
        return None
    (
        key_id,
        workspace_id,
        brand,
        environment,
        kind,
        owner_id,
        owner_suspended,
        name,
        state,
        scopes,
        metadata,
        ranges,
        end,
    ) = rows[0][:_SECRET_COLUMNS_FROM]
    return KeySnapshot(
        key_id=key_id,
        workspace_id=workspace_id,
        workspace_brand=brand,
        environment=Environment(environment),
        kind=KeyKind(kind),
        owner_id=owner_id,
        owner_suspended=bool(owner_suspended),
        name=name,
        state=KeyState(state),
        scopes=tuple(json.loads(scopes)),
        metadata=json.loads(metadata),
        allowed_ips=tuple(json.loads(ranges)),
        expires_at_ms=end,
        secrets=tuple([SecretSnapshot(*row[_SECRET_COLUMNS_FROM:]) for row in rows]),
    )
