"""What keys were granted and did not use: scopes to take away, keys to revoke.

A grant counts as used when an admitted call named a scope that it covers, even where another grant would have done or
the call named alternatives: what is called unused can be taken away without a call that was admitted being refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keystead.kernel.clock import Clock
from keystead.kernel.paging import Page, PageRequest
from keystead.keys.model import VERIFIED_KINDS, Key, KeyFilter, KeyState
from keystead.keys.ports import Unit
from keystead.scopes.errors import ScopeExpressionError
from keystead.scopes.expression import asked
from keystead.scopes.model import covering
from keystead.tenants.model import Environment, TenantScope
from keystead.usage.ports import UsageStore


@dataclass(frozen=True, slots=True)
class UnusedGrant:
    """What ``key`` did not use; ``idle`` when that is all of it."""

    key: Key
    idle: bool
    scopes: tuple[str, ...]


class UnusedGrants:
    """Keys inside one caller's walls, held against what their calls asked for."""

    def __init__(self, store: UsageStore, clock: Clock) -> None:
        """Ask ``store`` for uses."""
        self._store = store
        self._clock = clock

    async def page(
        self,
        unit: Unit,
        scope: TenantScope,
        request: PageRequest,
        *,
        unused_for_ms: int,
        owner_id: str,
        environment: Environment | None,
    ) -> Page[UnusedGrant]:
        """Return what is unused in one page of keys, in the order of their ids: fewer than asked for, and maybe none.

        Looked at are active keys for customers and services that were made more than ``unused_for_ms`` ago. ``scope``
        are the walls of ``unit``.
        """
        now_ms = self._clock.now_ms()
        since_ms = now_ms - unused_for_ms
        wanted = KeyFilter(now_ms, owner_id=owner_id, environment=environment, state=KeyState.ACTIVE)
        keys = await unit.keys.page(wanted, request)
        old = [key for key in keys.items if key.created_at_ms < since_ms and key.kind in VERIFIED_KINDS]
        used = await self._store.used_expressions(scope, [key.id for key in old], since_ms=since_ms) if old else {}
        found = [unused(key, used.get(key.id), since_ms=since_ms) for key in old]
        # Ids are in the order of creation, so past a key that is too young there is none that is not.
        ended = bool(keys.items) and keys.items[-1].created_at_ms >= since_ms
        return Page([it for it in found if it is not None], None if ended else keys.next_position)


def unused(key: Key, expressions: Iterable[str] | None, *, since_ms: int) -> UnusedGrant | None:
    """Say what of ``key`` is unused when its calls asked for ``expressions`` since then; None when nothing is.

    ``expressions`` is None when no call was counted. A key that was used and whose calls are still to be counted is
    left out, for nobody knows yet what they asked for.
    """
    if expressions is None:
        idle = key.last_used_at_ms is None or key.last_used_at_ms < since_ms
        return UnusedGrant(key, idle=True, scopes=key.scopes) if idle else None
    try:
        used = frozenset().union(*[covering(scope) for text in expressions for scope in asked(text)])
    except ScopeExpressionError:  # another version reads more than this one, and may tell what this one must not guess
        return None
    scopes = tuple(scope for scope in key.scopes if scope not in used)
    return UnusedGrant(key, idle=False, scopes=scopes) if scopes else None
