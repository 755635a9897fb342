"""The one table from an error's code to gRPC's status and HTTP's, and the errors that only a transport can raise.

A code means the same wherever it comes from, so the table is keyed by code alone: an error class says what happened,
and this file says how it travels. HTTP statuses are those of the Connect protocol for the gRPC status, except for the
few answers that are given before Connect sees the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from grpc import StatusCode

from keystead.kernel.errors import FieldViolation, KeysteadError


@dataclass(frozen=True, slots=True)
class Statuses:
    """How one code travels, and one sentence of what it means to the caller."""

    grpc: StatusCode
    http: int
    meaning: str


TABLE = MappingProxyType(
    {
        "already_exists": Statuses(StatusCode.ALREADY_EXISTS, 409, "Something with that name is there already."),
        "audit_sink_behind": Statuses(
            StatusCode.UNAVAILABLE, 503, "A sink in strict mode is too far behind, so nothing is changed meanwhile."
        ),
        "bad_scope_expression": Statuses(
            StatusCode.INVALID_ARGUMENT, 400, "The scope expression cannot be read; the character is named."
        ),
        "count_mismatch": Statuses(
            StatusCode.FAILED_PRECONDITION, 400, "The call would have touched another number of things than expected."
        ),
        "deadline_exceeded": Statuses(StatusCode.DEADLINE_EXCEEDED, 504, "The deadline passed; ask with a longer one."),
        "etag_mismatch": Statuses(StatusCode.ABORTED, 409, "Somebody changed it since it was read; read it again."),
        # AIP-155 leaves the status open. Not ALREADY_EXISTS: callers read that as "my earlier attempt went through",
        # which is what an idempotency key is for; here it did not, and repeating the call will never help.
        "idempotency_conflict": Statuses(
            StatusCode.FAILED_PRECONDITION, 400, "The idempotency key was used for another request; take a new one."
        ),
        "idempotency_key_weak": Statuses(
            StatusCode.INVALID_ARGUMENT, 400, "The idempotency key guards a secret and needs 128 random bits."
        ),
        "internal": Statuses(
            StatusCode.INTERNAL, 500, "A fault of ours; the log holds it under the id in the message."
        ),
        "invalid_request": Statuses(
            StatusCode.INVALID_ARGUMENT, 400, "A field breaks a bound or a form; each is named."
        ),
        "key_expired": Statuses(StatusCode.FAILED_PRECONDITION, 400, "The key has expired; move its expires_at first."),
        "key_limit_reached": Statuses(
            StatusCode.FAILED_PRECONDITION, 400, "The owner has as many keys as its plan allows."
        ),
        "key_revoked": Statuses(StatusCode.FAILED_PRECONDITION, 400, "The key is revoked, which is final."),
        "log_rewritten": Statuses(
            StatusCode.DATA_LOSS, 500, "The event log is not the one that was signed; nothing is proven about it."
        ),
        "malformed_message": Statuses(
            StatusCode.INVALID_ARGUMENT, 400, "The bytes are no message of the type that the method takes."
        ),
        "message_too_large": Statuses(
            StatusCode.RESOURCE_EXHAUSTED, 429, "The message is larger than the server takes."
        ),
        "method_not_allowed": Statuses(StatusCode.UNIMPLEMENTED, 405, "The path is called by POST alone."),
        "method_not_found": Statuses(StatusCode.UNIMPLEMENTED, 404, "No service has a method of that name."),
        "no_rotation": Statuses(StatusCode.FAILED_PRECONDITION, 400, "The key is not being rotated."),
        "not_available_yet": Statuses(StatusCode.UNIMPLEMENTED, 501, "A later version will understand the field."),
        "not_found": Statuses(StatusCode.NOT_FOUND, 404, "It does not exist, or you may not know that it does."),
        "not_propagated": Statuses(
            StatusCode.DEADLINE_EXCEEDED, 504, "The change is made; not every process has said in time that it knows."
        ),
        "overloaded": Statuses(StatusCode.UNAVAILABLE, 503, "The server has more to do than it can; try again later."),
        "permission_denied": Statuses(
            StatusCode.PERMISSION_DENIED, 403, "The credential lacks a scope, which is named."
        ),
        "plan_in_use": Statuses(StatusCode.FAILED_PRECONDITION, 400, "Somebody still refers to the plan."),
        "request_timeout": Statuses(StatusCode.DEADLINE_EXCEEDED, 408, "The body did not arrive in time."),
        "stale": Statuses(
            StatusCode.UNAVAILABLE, 503, "The server cannot vouch for what it knows and does not guess; try again."
        ),
        "too_many_keys": Statuses(StatusCode.FAILED_PRECONDITION, 400, "One call would touch more keys than it may."),
        "too_many_secrets": Statuses(
            StatusCode.FAILED_PRECONDITION, 400, "The key has as many working secrets as it may."
        ),
        "too_many_sinks": Statuses(StatusCode.FAILED_PRECONDITION, 400, "The workspace has as many sinks as it may."),
        "unauthenticated": Statuses(StatusCode.UNAUTHENTICATED, 401, "The credential is missing or no good."),
        "unavailable": Statuses(StatusCode.UNAVAILABLE, 503, "Something that is needed is out of reach; try again."),
        "unknown_field": Statuses(StatusCode.INVALID_ARGUMENT, 400, "A field is none of the message's; it is named."),
        "unsupported_media_type": Statuses(
            StatusCode.INVALID_ARGUMENT, 415, "The content type, or its encoding, is none that is understood."
        ),
        "workspace_not_empty": Statuses(StatusCode.FAILED_PRECONDITION, 400, "The workspace still has active keys."),
    }
)
"""Every code that a caller can see, sorted. ``docs/reference/errors.md`` is made from it."""

BEFORE_CONNECT = frozenset({"method_not_allowed", "method_not_found", "request_timeout", "unsupported_media_type"})
"""Codes whose HTTP status is not Connect's for their gRPC status: they are answered before Connect sees the request."""


class UnknownFieldError(KeysteadError):
    """Raised when a message holds fields that the contract does not know."""

    code = "unknown_field"

    def __init__(self, paths: Sequence[str]) -> None:
        """Name the fields; a path ends in a name (JSON) or a number (binary)."""
        self.paths = tuple(paths)
        super().__init__(
            public=f"Unknown field: {', '.join(paths)}. Check the spelling, or the version of the server.",
            violations=[FieldViolation(path, "is not a field of the message") for path in paths],
        )


class MalformedMessageError(KeysteadError):
    """Raised when the bytes of a request are no message at all."""

    code = "malformed_message"

    def __init__(self, public: str) -> None:
        """Say what was expected; never what came, which may be a secret."""
        super().__init__(public=public)


class MessageTooLargeError(KeysteadError):
    """Raised when a message, as sent or unpacked, is larger than the server takes."""

    code = "message_too_large"

    def __init__(self, maximum_bytes: int) -> None:
        """Name the limit."""
        super().__init__(
            public=f"The message is larger than the {maximum_bytes} bytes that the server takes.",
            metadata={"maximum_bytes": str(maximum_bytes)},
        )


class MethodNotFoundError(KeysteadError):
    """Raised when no service has the method."""

    code = "method_not_found"

    def __init__(self, path: str) -> None:
        """Name the path."""
        super().__init__(public=f"There is no method {path[:200]}.", metadata={"method": path[:200]})


class GrpcOnlyError(KeysteadError):
    """Raised when a method whose client streams is called over HTTP, where it is none."""

    code = "method_not_found"

    def __init__(self, path: str, instead: str) -> None:
        """Name the path, and say what to call ``instead``, or nothing."""
        super().__init__(public=f"{path} streams both ways and is for gRPC alone{instead}.", metadata={"method": path})


class MethodNotAllowedError(KeysteadError):
    """Raised when a method is called by anything but POST."""

    code = "method_not_allowed"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(public="Call methods by POST.")


class UnsupportedMediaTypeError(KeysteadError):
    """Raised when a body is of a type, or packed in a way, that is not understood."""

    code = "unsupported_media_type"

    def __init__(self, public: str) -> None:
        """Say what to send."""
        super().__init__(public=public)


class RequestTimeoutError(KeysteadError):
    """Raised when a client announces a body and does not send it."""

    code = "request_timeout"

    def __init__(self, timeout_ms: int) -> None:
        """Name the time it had."""
        super().__init__(public=f"The body did not arrive within {timeout_ms} ms.")


class DeadlineExceededError(KeysteadError):
    """Raised when the caller's deadline passes before there is an answer."""

    code = "deadline_exceeded"

    def __init__(self) -> None:
        """Say so."""
        super().__init__(public="The deadline passed before there was an answer.")


class OverloadedError(KeysteadError):
    """Raised when as many calls are under way as the server allows at once."""

    code = "overloaded"

    def __init__(self, public: str = "The server has as many calls under way as it takes; try again.") -> None:
        """Ask the caller to come back."""
        super().__init__(public=public, retry_after_ms=1_000)
