"""The walls around a unit of work, as every store holds them (P8).

A look-up that would reach past its walls finds nothing, exactly as if nothing were there; storing something outside
them is no caller's mistake but a defect of ours, and raises.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.keys.model import Key
from keystead.tenants.model import BOTH_ENVIRONMENTS, Environment, TenantScope


class OutsideWallsError(Exception):
    """Raised when code stores something outside its unit's walls, or looks for an owner without naming a workspace."""


class ReadOnlyUnitError(Exception):
    """Raised when code changes, locks or records something in a unit that was opened for reading alone."""


@dataclass(frozen=True, slots=True)
class Walls:
    """What a unit may see. ``workspace_id`` None means everything, ``environments`` None all of a workspace's."""

    workspace_id: str | None
    environments: frozenset[Environment] | None

    @classmethod
    def around(cls, scope: TenantScope | None) -> Walls:
        """Build the walls of ``scope``; None is the system's own, without walls."""
        if scope is None:
            return cls(None, None)
        return cls(scope.workspace_id, None if scope.environments >= BOTH_ENVIRONMENTS else scope.environments)

    def admit(self, workspace_id: str) -> bool:
        """Say whether ``workspace_id`` is inside."""
        return self.workspace_id is None or self.workspace_id == workspace_id

    def admit_key(self, key: Key) -> bool:
        """Say whether ``key`` is inside."""
        return self.admit(key.workspace_id) and (self.environments is None or key.environment in self.environments)

    def admit_in(self, workspace_id: str, environment: str) -> bool:
        """Say whether what belongs to one environment of ``workspace_id`` is inside."""
        return self.admit(workspace_id) and (self.environments is None or environment in self.environments)

    def demand(self, workspace_id: str) -> None:
        """Raise ``OutsideWallsError`` unless ``workspace_id`` is inside."""
        if not self.admit(workspace_id):
            raise OutsideWallsError(f"{workspace_id} is outside the walls of {self.workspace_id}")

    def demand_key(self, key: Key) -> None:
        """Raise ``OutsideWallsError`` unless ``key`` is inside."""
        if not self.admit_key(key):
            raise OutsideWallsError(f"{key.id} is outside the walls of {self.workspace_id}")

    def demand_in(self, workspace_id: str, environment: str) -> None:
        """Raise ``OutsideWallsError`` unless what belongs to one environment of ``workspace_id`` is inside."""
        if not self.admit_in(workspace_id, environment):
            raise OutsideWallsError(f"{workspace_id}/{environment} is outside the walls of {self.workspace_id}")

    def demand_workspace(self) -> str:
        """Return the one workspace inside; raise ``OutsideWallsError`` when there are no walls."""
        if self.workspace_id is None:
            raise OutsideWallsError("owners are looked up inside a workspace")
        return self.workspace_id


def reporting_environments(scope: TenantScope) -> list[str]:
    """Return in which environments the calls are that a reporter may tell of; an empty text stands for all of them."""
    environments = Walls.around(scope).environments
    return [""] if environments is None else sorted(environments)
