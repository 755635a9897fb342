"""A key, its secrets, and what can be told of them at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from keystead.kernel.limit import Limit
from keystead.tenants.model import Environment


class KeyKind(StrEnum):
    """What a key is for; never changes."""

    CUSTOMER = "customer"
    SERVICE = "service"
    MANAGEMENT = "management"
    OPERATOR = "operator"


VERIFIED_KINDS = frozenset({KeyKind.CUSTOMER, KeyKind.SERVICE})
"""The kinds that get verdicts, and so have usage; the others call Keystead itself."""


class KeyState(StrEnum):
    """Whether a key works; ``EXPIRED`` is derived from the time and never stored."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"


class SecretStatus(StrEnum):
    """Where a secret is in its life; derived from when it retires."""

    CURRENT = "current"
    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """One credential of a key, as it is stored: everything but the secret itself.

    ``prefix`` is ``<brand>_<env>_<lookup>``, unique in a deployment; ``hash`` is bcrypt's 60 characters; ``master_id``
    says which master key made its tag and its pepper; ``retires_at_ms`` is None for the current one.
    """

    id: str
    prefix: str
    hash: str = field(repr=False)
    master_id: str
    created_at_ms: int
    retires_at_ms: int | None = None
    last_used_at_ms: int | None = None

    def status(self, now_ms: int) -> SecretStatus:
        """Say where the secret is in its life at ``now_ms``."""
        if self.retires_at_ms is None:
            return SecretStatus.CURRENT
        return SecretStatus.RETIRING if now_ms < self.retires_at_ms else SecretStatus.RETIRED


@dataclass(frozen=True, slots=True)
class Key:
    """An owner's permission to call.

    Times are milliseconds since the epoch; ``secrets`` has the current one first, then the newest. ``plan_id`` is empty
    when its owner's plan applies, or the default one; ``limits`` replace those of the same name of owner and plan.
    """

    id: str
    workspace_id: str
    environment: Environment
    kind: KeyKind
    owner_id: str
    name: str
    created_at_ms: int
    created_by: str
    updated_at_ms: int
    secrets: tuple[SecretRecord, ...]
    description: str = ""
    state: KeyState = KeyState.ACTIVE
    state_reason: str = ""
    scopes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    last_used_at_ms: int | None = None
    version: int = 1
    plan_id: str = ""
    limits: tuple[Limit, ...] = ()

    def state_at(self, now_ms: int) -> KeyState:
        """Say whether the key works at ``now_ms``: revocation and suspension outrank expiry."""
        if self.state is KeyState.ACTIVE and self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return KeyState.EXPIRED
        return self.state


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys are meant; everything given must hold. Times are milliseconds since the epoch.

    ``state`` is compared with the derived state at ``now_ms``; ``query`` is looked for in name, description, id and
    owner, whatever its case, every character taken literally; ``prefix`` is the beginning of any secret's prefix.
    ``workspace_id`` narrows a unit without walls; inside walls it changes nothing but must not reach past them.
    """

    now_ms: int
    owner_id: str = ""
    environment: Environment | None = None
    state: KeyState | None = None
    kind: KeyKind | None = None
    scope: str = ""
    tag: str = ""
    prefix: str = ""
    unused_since_ms: int | None = None
    expires_before_ms: int | None = None
    query: str = ""
    key_ids: tuple[str, ...] = ()
    not_revoked: bool = False
    workspace_id: str = ""
