"""What verification reads: one statement for a key with everything a verdict depends on, straight on the driver.

One statement means one moment: a key is never seen with the secrets of another version of it, nor with limits of a plan
that did not apply then. Which plan applies is the rule of ``keys/tiers.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from keystead.adapters.limits import limits_from
from keystead.adapters.sql.database import Database
from keystead.kernel.clock import Clock
from keystead.kernel.limit import OutagePolicy
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment
from keystead.verification.model import KeySnapshot, SecretSnapshot

# Current first, then the newest, as everywhere. ``plan_ends_at_ms`` is given when an entitlement chose the plan.
_SNAPSHOT = """
SELECT k.id, k.workspace_id, w.brand, k.environment, k.kind, k.owner_id, o.suspended, k.name, k.state, k.scopes,
       k.metadata, k.allowed_ips, k.expires_at_ms, p.id, p.limits, o.limits, k.limits, p.on_limiter_outage,
       CASE WHEN k.plan_id = '' AND p.id = o.entitled_plan_id AND o.entitled_until_ms > ? THEN o.entitled_until_ms END,
       s.id, s.prefix, s.hash, s.master_id, s.retires_at_ms
  FROM keys k
  JOIN workspaces w ON w.id = k.workspace_id
  JOIN secrets s ON s.key_id = k.id
  LEFT JOIN owners o ON o.workspace_id = k.workspace_id AND o.owner_id = k.owner_id
  LEFT JOIN plans p ON p.workspace_id = k.workspace_id AND p.id = CASE
       WHEN k.kind NOT IN ('customer', 'service') THEN ''
       WHEN k.plan_id <> '' THEN k.plan_id
       WHEN o.entitled_plan_id <> '' AND COALESCE(o.entitled_until_ms > ?, TRUE) THEN o.entitled_plan_id
       WHEN o.plan_id <> '' THEN o.plan_id
       WHEN k.kind = 'customer' THEN w.default_plan_id
       ELSE '' END
"""
_ORDER = "ORDER BY s.retires_at_ms IS NOT NULL, s.created_at_ms DESC, s.id DESC"
_BY_PREFIX = f"{_SNAPSHOT} WHERE k.id = (SELECT key_id FROM secrets WHERE prefix = ?) {_ORDER}"  # noqa: S608 -- constants
_BY_KEY = f"{_SNAPSHOT} WHERE k.id = ? {_ORDER}"
_SECRET_COLUMNS_FROM = 19


class SqlSnapshots:
    """The ``SnapshotStore`` on the primary."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Read ``database``; which entitlements have ended is told by ``clock``, as verdicts are."""
        self._database = database
        self._clock = clock

    async def by_prefix(self, prefix: str) -> KeySnapshot | None:
        """Return the key that has a secret with this prefix, with all its secrets, or None."""
        return await self._read(_BY_PREFIX, prefix)

    async def by_key(self, key_id: str) -> KeySnapshot | None:
        """Return the key with all its secrets, or None."""
        return await self._read(_BY_KEY, key_id)

    async def _read(self, statement: str, which: str) -> KeySnapshot | None:
        now_ms = self._clock.now_ms()
        return _snapshot(await self._database.fetch(statement, now_ms, now_ms, which))


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
        plan_id,
        plan_limits,
        owner_limits,
        key_limits,
        on_limiter_outage,
        plan_end,
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
        plan_id=sys.intern(plan_id or ""),  # very many keys share one
        plan_limits=limits_from(plan_limits or "[]"),
        owner_limits=limits_from(owner_limits or "[]"),
        key_limits=limits_from(key_limits),
        on_limiter_outage=OutagePolicy(on_limiter_outage or OutagePolicy.DENY),
        plan_ends_at_ms=plan_end,
    )
