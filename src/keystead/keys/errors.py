"""What can be refused about keys."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from keystead.kernel.errors import KeysteadError


class RefusedFor(StrEnum):
    """Why a call was refused, as the log tells it; who called is told less."""

    MISSING = "missing"
    NOT_BEARER = "not_bearer"
    AMBIGUOUS = "ambiguous"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    NOT_MANAGEMENT = "not_management"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    WRONG_ADDRESS = "wrong_address"
    SCOPE = "scope"
    ENVIRONMENT = "environment"
    GREATER_KEY = "greater_key"
    OPERATOR_ONLY = "operator_only"
    NOT_FOR_OPERATORS = "not_for_operators"
    COMMAND_LINE_ONLY = "command_line_only"
    FORBIDDEN = "forbidden"


class Proven(NamedTuple):
    """A key whose secret was presented, though it was refused."""

    key_id: str
    workspace_id: str
    environment: str


class KeyRevokedError(KeysteadError):
    """Raised when a change is asked of a key that was already revoked: revocation is final."""

    code = "key_revoked"

    def __init__(self, key_id: str) -> None:
        """Say which key."""
        super().__init__(public=f"Key {key_id} is revoked; create a new key instead.")


class KeyExpiredError(KeysteadError):
    """Raised when a rotation is asked of a key that has expired: rotation never lengthens a life (P7)."""

    code = "key_expired"

    def __init__(self, key_id: str) -> None:
        """Say which key."""
        super().__init__(public=f"Key {key_id} has expired; move its expires_at or create a new key.")


class NoRotationError(KeysteadError):
    """Raised when a rotation is finished or cancelled and none is under way."""

    code = "no_rotation"

    def __init__(self, key_id: str) -> None:
        """Say which key."""
        super().__init__(public=f"Key {key_id} has no rotation under way: none of its secrets is retiring.")


class TooManySecretsError(KeysteadError):
    """Raised when a key is rotated again and again within one overlap."""

    code = "too_many_secrets"

    def __init__(self, key_id: str, limit: int) -> None:
        """Say which key, and how many secrets may work at once."""
        super().__init__(public=f"Key {key_id} has {limit} working secrets; finish its rotation before the next.")


class CountMismatchError(KeysteadError):
    """Raised when another number of keys matches than was expected: nothing is revoked."""

    code = "count_mismatch"

    def __init__(self, expected: int, found: int) -> None:
        """Say both numbers."""
        super().__init__(
            public=f"{found} keys match, {expected} were expected; nothing was revoked.",
            metadata={"expected": str(expected), "found": str(found)},
        )


class TooManyKeysError(KeysteadError):
    """Raised when one call would revoke more keys than it may."""

    code = "too_many_keys"

    def __init__(self, limit: int) -> None:
        """Say how many one call may revoke."""
        super().__init__(public=f"More than {limit} keys match; narrow the filters and revoke in several calls.")


class KeyLimitReachedError(KeysteadError):
    """Raised when an owner has as many keys in one environment as the plan that would apply allows."""

    code = "key_limit_reached"

    def __init__(self, owner_id: str, *, plan: str, limit: int) -> None:
        """Say whose keys they are, which plan says so, and how many it allows."""
        super().__init__(
            public=f"Owner {owner_id} has {limit} keys that are not revoked, as many as plan {plan} allows in one "
            "environment; revoke one first.",
            metadata={"limit": str(limit)},
        )


class PermissionDeniedError(KeysteadError):
    """Raised when a caller lacks a right; decided before existence, so it tells nothing of what there is."""

    code = "permission_denied"

    def __init__(
        self, public: str, *, missing_scopes: Sequence[str] = (), refused_for: RefusedFor = RefusedFor.FORBIDDEN
    ) -> None:
        """Say which right is missing; missing scopes are the reason whatever else is said."""
        metadata = {"missing_scopes": " ".join(missing_scopes)} if missing_scopes else {}
        super().__init__(public=public, metadata=metadata)
        self.refused_for = RefusedFor.SCOPE if missing_scopes else refused_for


class UnauthenticatedError(KeysteadError):
    """Raised when a call carries no credential that authenticates it; every reason answers alike."""

    code = "unauthenticated"

    def __init__(self, refused_for: RefusedFor, proven: Proven | None = None) -> None:
        """Keep the reason for the counters, and whose secret it was; the caller is told only what is asked for."""
        super().__init__(
            public="Send a valid management key: `authorization: Bearer keystead_…`.",
            internal=refused_for.value,
        )
        self.refused_for = refused_for
        self.proven = proven


class OverloadedError(KeysteadError):
    """Raised when a bcrypt lane is full: the call may be repeated after the delay."""

    code = "overloaded"

    def __init__(self, lane: str, retry_after_ms: int) -> None:
        """Say which lane, and when to come back."""
        super().__init__(
            public="Too many keys are being checked for the first time; try again shortly.",
            internal=f"bcrypt lane {lane} is full",
            retry_after_ms=retry_after_ms,
        )
