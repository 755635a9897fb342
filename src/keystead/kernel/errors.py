"""What every error of Keystead carries: a stable code, two texts and, where they help, details.

The public text says what to change and goes to the caller; the internal one goes to the log alone. How a code maps to
gRPC and HTTP is one table in ``transport/errors.py``, so an error raised here knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be taken as it is.

    ``field`` is the path in the proto's own spelling (``key.allowed_ips[2]``); ``description`` says what to change.
    """

    field: str
    description: str


class KeysteadError(Exception):
    """The base of everything Keystead refuses. ``code`` is stable, ``snake_case``, and has a page in the docs."""

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        *,
        public: str,
        internal: str = "",
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """Keep both texts; neither may hold a secret. ``retry_after_ms`` is a hint for calls worth repeating."""
        super().__init__(public)
        self.public = public
        self.internal = internal
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after_ms = retry_after_ms

    def inside(self, path: str) -> Self:
        """Return this error as one of a part of a request: ``path`` leads every field it names, and its text."""
        self.violations = tuple(FieldViolation(f"{path}.{it.field}", it.description) for it in self.violations)
        self.public = f"{path}: {self.public}"
        return self


class StartError(KeysteadError):
    """The base of what keeps a server, or a command that works on an installation, from starting; it never travels."""


class InvalidRequestError(KeysteadError):
    """Raised when a request breaks a bound or a form; every broken field is named."""

    code = "invalid_request"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        """Name every field in ``violations``; there must be at least one."""
        text = "; ".join(f"{item.field}: {item.description}" for item in violations[:10])
        super().__init__(public=text, violations=violations)


class NotFoundError(KeysteadError):
    """Raised when there is no such thing, or none that the caller may know of: the two answer alike (P8)."""

    code = "not_found"

    def __init__(self, what: str, name: str) -> None:
        """Say what was looked for and under which name."""
        super().__init__(public=f"There is no {what} {name}.", metadata={"resource": what})


class AlreadyExistsError(KeysteadError):
    """Raised when something of that name is there already."""

    code = "already_exists"

    def __init__(self, what: str, name: str) -> None:
        """Say what is there already and under which name."""
        super().__init__(public=f"There is already a {what} {name}.", metadata={"resource": what})


class EtagMismatchError(KeysteadError):
    """Raised when a change was based on a version that is no longer the latest."""

    code = "etag_mismatch"

    def __init__(self, what: str, name: str) -> None:
        """Say what has changed meanwhile."""
        super().__init__(
            public=f"The {what} {name} has changed since it was read: read it again, then repeat the change."
        )


class NotAvailableYetError(KeysteadError):
    """Raised when a request uses a field that a later version will understand: never silently ignored."""

    code = "not_available_yet"

    def __init__(self, fields: Sequence[str]) -> None:
        """Name the fields in their proto spelling."""
        violations = [FieldViolation(name, "is not available yet; leave it out") for name in fields]
        text = f"Not available yet: {', '.join(fields)}. Leave it out."
        super().__init__(public=text, violations=violations)


class UnavailableError(KeysteadError):
    """Raised when something needed is out of reach or too busy; the call may be repeated after ``retry_after_ms``."""

    code = "unavailable"

    def __init__(self, public: str, *, internal: str = "", retry_after_ms: int = 1_000) -> None:
        """Say what is out of reach, in words that give nothing of the inside away."""
        super().__init__(public=public, internal=internal, retry_after_ms=retry_after_ms)


def invalid(field: str, description: str) -> InvalidRequestError:
    """Make the error for one broken field."""
    return InvalidRequestError([FieldViolation(field, description)])
