"""What a verification asks, what it knows of a key, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from keystead.kernel.limit import Limit, OutagePolicy
from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.model import Environment


class Code(StrEnum):
    """Why a verdict is what it is; codes may be added, so callers branch on ``valid``."""

    VALID = "VALID"
    MALFORMED = "MALFORMED"
    NOT_FOUND = "NOT_FOUND"
    REVOKED = "REVOKED"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    WRONG_ENVIRONMENT = "WRONG_ENVIRONMENT"
    IP_NOT_ALLOWED = "IP_NOT_ALLOWED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    FORBIDDEN = "FORBIDDEN"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class SecretSnapshot:
    """One secret as a store holds it, for verification."""

    id: str
    prefix: str
    hash: str
    master_id: str
    retires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """One key with everything that a verdict depends on, read in one consistent read from the primary."""

    key_id: str
    workspace_id: str
    workspace_brand: str
    environment: Environment
    kind: KeyKind
    owner_id: str
    owner_suspended: bool
    name: str
    state: KeyState
    scopes: tuple[str, ...]
    metadata: Mapping[str, str]
    allowed_ips: tuple[str, ...]
    expires_at_ms: int | None
    secrets: tuple[SecretSnapshot, ...]
    plan_id: str = ""
    """The plan that applies: the key's, else its owner's (entitled before chosen), else a customer's default one."""
    plan_limits: tuple[Limit, ...] = ()
    owner_limits: tuple[Limit, ...] = ()
    key_limits: tuple[Limit, ...] = ()
    on_limiter_outage: OutagePolicy = OutagePolicy.DENY
    plan_ends_at_ms: int | None = None
    """When an entitlement that chose the plan ends: from then on the snapshot must be read again."""
