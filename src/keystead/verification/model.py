"""What a verification asks, what it knows of a key, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
