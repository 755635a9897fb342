"""Who calls Keystead's own API, and what he may do there.

Rights are asked here and nowhere else: a handler names the scope, a service the key that is about to change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keystead.keys.errors import PermissionDeniedError
from keystead.keys.model import Key, KeyKind
from keystead.scopes.model import Grants
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller: a management or operator key, and the walls around it."""

    key_id: str
    kind: KeyKind
    workspace_id: str
    brand: str
    environment: Environment
    grants: Grants

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
            raise PermissionDeniedError(f"This management key is for the {self.environment} environment alone.")

    def demand_cover(self, scopes: Iterable[str], environment: Environment) -> None:
        """Raise unless the caller himself holds everything that a management key holds (P8): nobody gains a right."""
        self.demand_environment(environment)
        if lacking := self.grants.lacking(scopes):
            raise PermissionDeniedError(
                "A management key can be given, shown or changed only by one that holds all its scopes; "
                f"this one lacks {', '.join(lacking)}.",
                missing_scopes=lacking,
            )

    def demand_may_change(self, key: Key) -> None:
        """Raise unless the caller may change ``key`` or be told a secret of it."""
        if key.kind is KeyKind.OPERATOR:
            raise PermissionDeniedError("Operator keys are changed by the command line alone.")
        if key.kind is KeyKind.MANAGEMENT:
            self.demand_cover(key.scopes, key.environment)
