"""Who calls Keystead's own API, and what he may do there.

Rights are asked here and nowhere else: a handler names the scope, a service the key that is about to change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keystead.keys.addresses import Network, within
from keystead.keys.errors import PermissionDeniedError, RefusedFor
from keystead.keys.model import Key, KeyKind
from keystead.scopes.model import Grants
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope

NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Held:
    """What a management key holds: its scopes, where, from which addresses (any when empty) and until when."""

    scopes: tuple[str, ...]
    environment: Environment
    allowed_ips: tuple[str, ...]
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller: a management or operator key, and the walls around it."""

    key_id: str
    kind: KeyKind
    workspace_id: str
    brand: str
    environment: Environment
    grants: Grants
    expires_at_ms: int | None = None
    networks: tuple[Network, ...] = ()

    @property
    def scope(self) -> TenantScope | None:
        """The walls that stores are given; None for an operator, who sees every workspace and no key."""
        if self.kind is KeyKind.OPERATOR:
            return None
        if self.environment is Environment.ALL:
            return TenantScope(self.workspace_id, BOTH_ENVIRONMENTS)
        return TenantScope(self.workspace_id, frozenset({self.environment}))

    def demand(self, scope: str) -> None:
        """Raise ``PermissionDeniedError`` unless ``scope`` was granted."""
        if not self.grants.allow(scope):
            raise PermissionDeniedError(f"This call needs the scope {scope}.", missing_scopes=[scope])

    def demand_environment(self, environment: Environment) -> None:
        """Raise ``PermissionDeniedError`` unless the caller's walls include ``environment``."""
        if self.environment is not Environment.ALL and environment is not self.environment:
            text = f"This management key is for the {self.environment} environment alone."
            raise PermissionDeniedError(text, refused_for=RefusedFor.ENVIRONMENT)

    def demand_cover(self, held: Held) -> None:
        """Raise unless the caller himself holds everything that a management key holds (P8): nobody gains a right.

        That is its scopes and its environment, and, for a caller who is bound to an end or to addresses, no longer life
        and no other addresses.
        """
        self.demand_environment(held.environment)
        if self.expires_at_ms is not None and (held.expires_at_ms or NEVER_MS) > self.expires_at_ms:
            text = "This management key expires; it cannot act for one that lives longer."
            raise PermissionDeniedError(text, refused_for=RefusedFor.GREATER_KEY)
        if self.networks and not within(held.allowed_ips, self.networks):
            text = "This management key is bound to addresses; the other one must be bound to them too."
            raise PermissionDeniedError(text, refused_for=RefusedFor.GREATER_KEY)
        self._demand_scopes(held.scopes)

    def _demand_scopes(self, scopes: Iterable[str]) -> None:
        if lacking := self.grants.lacking(scopes):
            raise PermissionDeniedError(
                "A management key can be given, shown or changed only by one that holds all its scopes; "
                f"this one lacks {', '.join(lacking)}.",
                missing_scopes=lacking,
            )

    def demand_may_change(self, key: Key) -> None:
        """Raise unless the caller may change ``key`` or be told a secret of it."""
        if key.kind is KeyKind.OPERATOR:
            text = "Operator keys are changed by the command line alone."
            raise PermissionDeniedError(text, refused_for=RefusedFor.COMMAND_LINE_ONLY)
        if key.kind is KeyKind.MANAGEMENT:
            self.demand_cover(Held(key.scopes, key.environment, key.allowed_ips, key.expires_at_ms))
