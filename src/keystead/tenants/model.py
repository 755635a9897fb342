"""What a tenant is: a workspace, its two environments, and the owners in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """A platform. ``brand`` is 2 to 16 of ``[a-z0-9]``, unique in a deployment, and never changes."""

    id: str
    brand: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """A customer of the platform, under the platform's own id."""

    workspace_id: str
    owner_id: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    suspended: bool = False
    version: int = 1
