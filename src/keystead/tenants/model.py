"""What a tenant is: a workspace, its two environments, and the owners in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keystead.kernel.limit import Limit
from keystead.kernel.walls import BOTH_ENVIRONMENTS, Environment, TenantScope

__all__ = [
    "BOTH_ENVIRONMENTS",
    "RESERVED_BRAND",
    "SYSTEM_WORKSPACE_ID",
    "Environment",
    "Owner",
    "TenantScope",
    "Workspace",
]

SYSTEM_WORKSPACE_ID = "wsp_00000000000000000000000000"
RESERVED_BRAND = "keystead"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A platform. ``brand`` is 2 to 16 of ``[a-z0-9]``, unique in a deployment, and never changes.

    ``default_plan_id`` is the plan of customers' keys that neither they nor their owners have one; empty for none.
    Its events are kept for ``audit_retention_days``, for ever when that is 0.
    """

    id: str
    brand: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    version: int = 1
    default_plan_id: str = ""
    audit_retention_days: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """A customer of the platform, under the platform's own id.

    ``entitled_plan_id`` goes before ``plan_id`` until ``entitled_until_ms``, for ever when that is None; either may be
    empty. ``limits`` replace those of the same name of whichever plan applies to its keys.
    """

    workspace_id: str
    owner_id: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    suspended: bool = False
    version: int = 1
    plan_id: str = ""
    limits: tuple[Limit, ...] = ()
    entitled_plan_id: str = ""
    entitled_until_ms: int | None = None

    def plan_at(self, now_ms: int) -> tuple[str, int | None]:
        """Return the plan that it gives its keys at ``now_ms``, empty for none, and when an entitlement to it ends."""
        ends_at_ms = self.entitled_until_ms
        if self.entitled_plan_id and (ends_at_ms is None or ends_at_ms > now_ms):
            return self.entitled_plan_id, ends_at_ms
        return self.plan_id, None
